"""What a client has seen, by h11 as an independent judge; and what a case of the corpus is."""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

import attrs
import h11

#: Stands in all that no client may ever see.
EVIL = b"EVIL"


class Then(enum.Enum):
    """What the backend does when it has said its piece."""

    WAITS = "waits"
    CLOSES = "closes"
    RESETS = "resets"


class Ended(enum.Enum):
    """How the client's connection ended, as far as the client can tell."""

    NOT = "not"
    CLEANLY = "cleanly"
    ABRUPTLY = "abruptly"


class Seen(NamedTuple):
    """An answer as h11 read it. ``content`` and ``whole`` are None and False before there was a status."""

    status: int
    content: bytes
    whole: bool
    interim: tuple[int, ...] = ()
    fields: tuple[tuple[bytes, bytes], ...] = ()
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    rest: bytes = b""


_FRAMING = re.compile("Content-Length|Transfer-Encoding")


def judge(data: bytes, method: bytes, ended: Ended, *, trailers_frame: bool = False) -> Seen:
    """Read ``data`` as the answer to one request. Raises ``h11.RemoteProtocolError`` for what is no answer.

    ``trailers_frame``: h11 need not be content with fields among the trailers that would frame a head.
    """
    judged = h11.Connection(h11.CLIENT, max_incomplete_event_size=10_000_000)
    judged.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    judged.send(h11.EndOfMessage())
    if data:  # b"" is the end
        judged.receive_data(data)
    status, content, interim = 0, b"", ()
    fields: tuple[tuple[bytes, bytes], ...] = ()
    ending = ended is Ended.CLEANLY
    while True:
        try:
            event = judged.next_event()
        except h11.RemoteProtocolError as error:
            if ended is Ended.CLEANLY and not ending and _is_truncation(error):
                event = h11.ConnectionClosed()
            elif status and trailers_frame and _FRAMING.search(str(error)):
                event = h11.EndOfMessage()
            else:
                raise
        if event is h11.NEED_DATA and ending:
            ending = False
            judged.receive_data(b"")
        elif isinstance(event, h11.InformationalResponse):
            interim += (event.status_code,)
        elif isinstance(event, h11.Response):
            status, fields = event.status_code, tuple(event.headers)
        elif isinstance(event, h11.Data):
            content += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return Seen(status, content, True, interim, fields, tuple(event.headers), judged.trailing_data[0])
        else:
            return Seen(status, content, False, interim, fields)


def _is_truncation(error: h11.RemoteProtocolError) -> bool:
    return any(
        words in str(error) for words in ("without sending complete message body", "event type ConnectionClosed")
    )


@attrs.frozen
class Sees:
    """What the client may see. ``content`` None: a page of ours.

    Of an answer that is not ``whole``: any beginning of it and then an abrupt end; or a 502, if it was not begun.
    """

    status: int
    content: bytes | None = None
    whole: bool = True
    interim: tuple[int, ...] = ()

    def check(self, seen: Seen, ended: Ended, name: str = "") -> None:
        """Raise ``AssertionError`` for anything else."""
        assert EVIL not in b"".join((seen.content, *sum(seen.fields + seen.trailers, ()))), seen
        if not self.whole and seen.status != 502:
            assert ended is Ended.ABRUPTLY and not seen.whole and seen.status in (0, self.status), (name, seen, ended)
            assert self.content is not None and self.content.startswith(seen.content), seen
            return
        status = self.status if self.whole else 502
        assert seen.whole and (seen.status, seen.interim, seen.rest) == (status, self.interim, b""), (name, seen, ended)
        assert self.content is None or not self.whole or seen.content == self.content, seen


@attrs.frozen
class Case:
    """An answer, and what becomes of it.

    ``said`` is what the backend says, in pieces; ``later`` what it says when the client has its answer, ``then`` what
    it does at last. ``kept``: its connection may serve the next request. ``fields`` are more of the request's.
    """

    name: str
    said: tuple[bytes, ...]
    sees: Sees
    method: bytes = b"GET"
    minor: int = 1
    then: Then = Then.WAITS
    later: bytes = b""
    kept: bool = False
    fields: bytes = b""

    @property
    def request(self) -> bytes:
        """As the client sends it. Its path names the case."""
        content = b"hello" if self.method == b"POST" else b""
        length = b"Content-Length: %d\r\n" % len(content) if content else b""
        keep = b"" if self.minor else b"Connection: keep-alive\r\n"
        return b"%b /case/%b HTTP/1.%d\r\nHost: x\r\n%b%b\r\n%b" % (
            self.method,
            self.name.encode().replace(b" ", b"_"),
            self.minor,
            length + self.fields,
            keep,
            content,
        )


REFUSED = Sees(502)
SILENT = Sees(504)
OK = Sees(200, b"ok")


def ok(number: int | bytes) -> bytes:
    """The answer that a next request gets; nobody else may."""
    content = b"own %b" % (number if isinstance(number, bytes) else b"%d" % number)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)
