"""Every case of the corpus, whole and byte by byte, in memory: the same bytes come to the same end."""

from __future__ import annotations

import pytest
from cases import Case
from corpus import REQUESTS
from house import House
from judge import check, judge

from stickyproxy.config import specs
from stickyproxy.model import Backend

PROBE = b"GET /probe HTTP/1.1\r\nHost: example.org\r\n\r\n"
CLIENT = b"198.51.100.7"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CASES = [pytest.param(case, id=f"{subject}: {case.name}") for subject, cases in REQUESTS.items() for case in cases]


class Conversation:
    """One client of a proxy with one backend, which answers what it has read as a whole."""

    def __init__(self) -> None:
        self.house = House(
            specs.Frontend("web", ("tcp:8080",), "app"), specs.Cluster("app", (Backend("a", "tcp:127.0.0.1:9001"),))
        )
        self.client = self.house.client()
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

    def check(self, case: Case, *, pieces: bool) -> None:
        """The judgement, and is the connection closed if it is to be."""
        judged = [(judge(each.written, CLIENT), each) for each in self.house.endpoints["a"].transports]
        assert not any(rest and each.connected and not each.disconnecting for (_, rest), each in judged)
        requests = [request for (found, _), _ in judged for request in found]
        check(case, requests, sum(bool(rest) for (_, rest), _ in judged), self.client.written, pieces=pieces)
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


def test_names_are_unique() -> None:
    """A case is known by its subject and name."""
    assert len({case.id for case in CASES}) == len(CASES)
