"""Every case of the corpus, whole and byte by byte, in memory: the same bytes come to the same end."""

from __future__ import annotations

import pytest
from answers_scene import FACES, Face, open_house, quiet
from cases import Case, Reached
from corpus import REQUESTS
from judge import check, judge

PROBE = b"GET /probe HTTP/1.1\r\nHost: example.org\r\n\r\n"
CLIENT = b"198.51.100.7"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CASES = [pytest.param(case, id=f"{subject}: {case.name}") for subject, cases in REQUESTS.items() for case in cases]


class Conversation:
    """One client of a proxy with one backend, which answers what it has read as a whole."""

    def __init__(self, face: str = "HTTPFrontend") -> None:
        self.house = open_house()
        self._face: Face = FACES[face](self.house)
        self.client = self._face.client()
        self._read: list[int] = []  # bytes of each connection to the backend that were looked at
        self._answered: list[int] = []  # requests

    def send(self, data: bytes) -> None:
        """Bytes of the client, as far as it is still listened to; then the backend's turn."""
        if self.client.connected and not self.client.disconnecting:
            self.client.deliver(data)
        while self._serve():
            pass
        self.client.turn()

    def _serve(self) -> bool:
        served = False
        for number, transport in enumerate(self.house.endpoints["a"].transports):
            if number == len(self._read):
                self._read.append(0)
                self._answered.append(0)
            if len(transport.written) > self._read[number]:
                self._read[number] = len(transport.written)
                found, _ = judge(transport.written, CLIENT)
                for request in found[self._answered[number] :]:
                    served = True
                    self._answered[number] += 1
                    transport.deliver(OK[:-2] if request.method == b"HEAD" else OK)
        return served

    @property
    def reached(self) -> list[Reached]:
        """The whole requests that the backend saw."""
        connections = self.house.endpoints["a"].transports
        return [request for each in connections for request in judge(each.written, CLIENT)[0]]

    def check(self, case: Case, *, pieces: bool) -> None:
        """The judgement, and is the connection closed if it is to be."""
        judged = [(judge(each.written, CLIENT), each) for each in self.house.endpoints["a"].transports]
        assert not any(rest and each.connected and not each.disconnecting for (_, rest), each in judged)
        check(case, self.reached, sum(bool(rest) for (_, rest), _ in judged), self.client.written, pieces=pieces)
        assert self.client.half_closed is case.closes or not self.client.connected


@pytest.mark.parametrize("case", CASES)
def test_in_one_piece(case: Case) -> None:
    """A backend sees what the table says, the client gets that status, and nobody sees a boundary elsewhere."""
    conversation = Conversation()
    conversation.send(case.raw + PROBE)
    conversation.check(case, pieces=False)


@pytest.mark.parametrize("case", CASES)
def test_byte_by_byte(case: Case) -> None:
    """However the network cuts it, it is the same request, or as little of one."""
    conversation = Conversation()
    for at in range(len(case.raw)):
        conversation.send(case.raw[at : at + 1])
    conversation.send(PROBE)
    conversation.check(case, pieces=True)


@pytest.mark.parametrize("face", ["AffinityRequest", "Request"])
@pytest.mark.parametrize("subject", REQUESTS)
def test_through_a_site(subject: str, face: str) -> None:
    """Before an ``AffinityResource`` twisted.web reads, and knows less; what it lets through is canonical, too."""
    for case in REQUESTS[subject]:
        with quiet():
            conversation = Conversation(face)
            conversation.send(case.raw + PROBE)
            reached = conversation.reached
        if reached and case.reaches and case.reaches[0].target != b"*":
            assert _of_site(reached[0]) == _of_site(case.reaches[0]), case.name


def _of_site(request: Reached) -> Reached:
    """twisted.web gathers fields by name, answers Expect itself, and drops trailers."""
    fields = tuple(sorted(field for field in request.fields if field[0] != b"expect"))
    return request._replace(fields=fields, trailers=())


def test_names_are_unique() -> None:
    """A case is known by its subject and name."""
    assert len({case.id for case in CASES}) == len(CASES)
