"""Independent judges of what the proxy lets through: h11, as a strict server and as a strict client."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import h11

from stickyproxy.testing import MemoryTransport

#: What a recording backend says to every request.
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#: Fields that name the client or the proxy: what is in them may differ between two runs.
_OURS = re.compile(rb"x-request-id|via|date")


class Message(NamedTuple):
    """A request or an answer as h11 reads it; ``whole``: it has ended."""

    start: tuple[object, ...]
    fields: tuple[tuple[bytes, bytes], ...]
    content: bytes
    whole: bool


class Backend:
    """A backend on a ``MemoryTransport`` that reads as h11 does, and answers every whole request.

    What h11 refuses is an error: nothing ambiguous or malformed may reach a backend.
    """

    def __init__(self, transport: MemoryTransport) -> None:
        self.requests: list[Message] = []
        self._transport = transport
        self._judge = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        self._seen = 0

    def look(self) -> bool:
        """Read on, and answer; whether there was something new."""
        data = self._transport.written
        if len(data) == self._seen:
            return False
        self._judge.receive_data(data[self._seen :])
        self._seen = len(data)
        while True:
            event = self._judge.next_event()
            if isinstance(event, h11.Request):
                fields = tuple((name, value) for name, value in event.headers if not _OURS.fullmatch(name))
                self.requests.append(Message((event.method, event.target, event.http_version), fields, b"", False))
            elif isinstance(event, h11.Data):
                request = self.requests[-1]
                self.requests[-1] = request._replace(content=request.content + bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                request = self.requests[-1]
                trailers = tuple((b"trailer " + name, value) for name, value in event.headers)
                self.requests[-1] = request._replace(whole=True, fields=request.fields + trailers)
                self._reply()
            else:
                return True

    def _reply(self) -> None:
        self._judge.send(h11.Response(status_code=200, headers=[(b"Content-Length", b"2")]))
        is_head = self.requests[-1].start[0] == b"HEAD"
        self._judge.send(h11.Data(b"" if is_head else b"ok"))
        self._judge.send(h11.EndOfMessage())
        if self._judge.our_state is h11.DONE and self._judge.their_state is h11.DONE:
            self._judge.start_next_cycle()
        if self._transport.connected:
            self._transport.deliver(ANSWER.removesuffix(b"ok") if is_head else ANSWER)


def read_answers(data: bytes, methods: list[bytes], *, ended: bool) -> list[Message]:
    """The answers in ``data``, to requests with ``methods`` in their order (more of them: as to GET).

    ``ended``: the connection has ended behind ``data``, in order. Raises ``h11.RemoteProtocolError`` where they are not
    such answers. Interim ones are left out.
    """
    if not data:
        return []
    judge = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    answers: list[Message] = []
    remaining = list(methods)

    def ask() -> None:
        method = remaining.pop(0) if remaining else b"GET"
        judge.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"x"), (b"Content-Length", b"0")]))
        judge.send(h11.EndOfMessage())

    ask()
    judge.receive_data(data)
    if ended:
        judge.receive_data(b"")
    while True:
        event = judge.next_event()
        if isinstance(event, h11.Response):
            start = (event.status_code, bytes(event.reason))
            answers.append(Message(start, tuple(event.headers), b"", False))
        elif isinstance(event, h11.Data):
            answers[-1] = answers[-1]._replace(content=answers[-1].content + bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            answers[-1] = answers[-1]._replace(whole=True)
            if judge.their_state is h11.DONE and judge.our_state is h11.DONE:
                judge.start_next_cycle()
                if not judge.trailing_data[0]:
                    return answers
                ask()
        elif not isinstance(event, h11.InformationalResponse):
            return answers


def pieces(data: bytes, size: int) -> list[bytes]:
    """``data`` in pieces of ``size`` bytes; 0: whole."""
    size = size or len(data) or 1
    return [data[at : at + size] for at in range(0, len(data), size)]


def steady(run: Callable[[bytes, int], object], data: bytes, size: int) -> object:
    """What ``run(data, 0)`` gives; it must be what ``run(data, size)`` gives, too: no split may matter."""
    whole = run(data, 0)
    if size:
        split = run(data, size)
        assert split == whole, f"in pieces of {size}: {split!r}\nwhole: {whole!r}"
    return whole
