"""Every case of the corpus, whole and byte by byte, in memory: the same bytes come to the same end."""

from __future__ import annotations

import re

import pytest
from cases import Case, Reached
from corpus import REQUESTS
from house import House
from judge import judge

from stickyproxy.config import specs
from stickyproxy.model import Backend

PROBE = b"GET /probe HTTP/1.1\r\nHost: example.org\r\n\r\n"
CLIENT = b"198.51.100.7"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_ANSWER = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*\r\n(?:[!-9;-~]+: [^\r\n]*\r\n)*\r\n")
CASES = [pytest.param(case, id=f"{subject}: {case.name}") for subject, cases in REQUESTS.items() for case in cases]


class Conversation:
    """One client of a proxy with one backend, which answers what it has read as a whole."""

    def __init__(self) -> None:
        self.house = House(
            specs.Frontend("web", ("tcp:8080",), "app"), specs.Cluster("app", (Backend("a", "tcp:127.0.0.1:9001"),))
        )
        self.client = self.house.client()
        self._answered: dict[int, int] = {}

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
            found, rest = judge(transport.written, CLIENT)
            for request in found[self._answered.get(number, 0) :]:
                served = True
                self._answered[number] = self._answered.get(number, 0) + 1
                transport.deliver(OK[:-2] if request.method == b"HEAD" else OK)
        return served

    @property
    def reached(self) -> tuple[list[Reached], list[bytes]]:
        """The whole requests that the backend saw, and what there is besides on each of its connections."""
        judged = [(judge(each.written, CLIENT), each) for each in self.house.endpoints["a"].transports]
        requests = [request for (found, _), _ in judged for request in found]
        assert not any(rest and each.connected and not each.disconnecting for (_, rest), each in judged)
        return requests, [rest for (_, rest), _ in judged if rest]

    def answers(self, methods: list[bytes]) -> list[int]:
        """The statuses of the answers that the client has read."""
        data, found = self.client.written, []
        for method in [*methods, b"GET", b"GET"]:
            if not data:
                break
            match = _ANSWER.match(data)
            assert match, data
            found.append(int(match[1]))
            length = re.search(rb"\r\nContent-Length: ([0-9]+)\r\n", match[0])
            data = data[match.end() + (int(length[1]) if length and method != b"HEAD" else 0) :]
        assert not data
        return found


def check(case: Case, conversation: Conversation, *, pieces: bool) -> None:
    """What is to come of ``case``, and of a good request behind it."""
    expected = [*case.reaches] if case.closes else [*case.reaches, Reached(b"GET", b"/probe")]
    requests, begun = conversation.reached
    assert [_bare(each, case) for each in requests] == [_bare(each, case) for each in expected]
    assert case.begins or not begun
    answers = conversation.answers([each.method for each in expected])
    assert answers[: len(expected)] == [200] * len(expected)
    if case.refused:
        # In pieces a line may be refused before it is whole: then nobody knows yet what else is wrong with it.
        assert answers[len(expected) :] in [[case.refused], *([[400]] if pieces else [])]
    else:
        assert answers[len(expected) :] == []
    assert conversation.client.half_closed is case.closes or not conversation.client.connected


def _bare(request: Reached, case: Case) -> Reached:
    """Without a Host where the client sent none."""
    return request if all(each.host for each in case.reaches) else request._replace(host=b"")


@pytest.mark.parametrize("case", CASES)
def test_in_one_piece(case: Case) -> None:
    """A backend sees what the table says, the client gets that status, and nobody sees a boundary elsewhere."""
    conversation = Conversation()
    conversation.send(case.raw + PROBE)
    check(case, conversation, pieces=False)


@pytest.mark.parametrize("case", CASES)
def test_byte_by_byte(case: Case) -> None:
    """However the network cuts it, it is the same request, or as little of one."""
    conversation = Conversation()
    for at in range(len(case.raw)):
        conversation.send(case.raw[at : at + 1])
    conversation.send(PROBE)
    check(case, conversation, pieces=True)
