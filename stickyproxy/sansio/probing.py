"""What probes say to a backend, and what they make of its answer. Floor 2, pure.

HTTP by RFC 9110 and 9112, as strict as with every answer; WebSockets by RFC 6455: the handshake judged as a client's
(``sansio.upgrade``), and the few frames that a ping and a pong take (section 5.5).
"""

from __future__ import annotations

import re
import struct
from base64 import b64encode

from stickyproxy.errors import ProbeFailed
from stickyproxy.model import ResponseHead
from stickyproxy.sansio.body import BodyReader, read_body
from stickyproxy.sansio.http1 import HeadCollector, parse_response_head
from stickyproxy.sansio.upgrade import Offer, check_answer

#: Bytes of a head, and of the frames before a pong.
LIMIT = 64 * 1024
PING, PONG, CLOSE = 0x9, 0xA, 0x8
#: Ranges of status codes, both ends included.
Statuses = tuple[tuple[int, int], ...]


class HeadReader:
    """Reads the head of an answer; the interim ones (1xx) before it are passed over, a 101 is not."""

    def __init__(self, method: bytes) -> None:
        self._method = method
        self._collector = HeadCollector(is_request=False, limit=LIMIT)
        self._size = 0

    def feed(self, data: bytes) -> tuple[ResponseHead, bytes] | None:
        """The head and the bytes behind it; None: more is needed. Raises ``BadAnswer`` and ``ProbeFailed``."""
        self._size += len(data)
        while (split := self._collector.feed(data)) is not None:
            head = parse_response_head(split[0], self._method, LIMIT)
            if head.status == 101 or head.status >= 200:
                return head, split[1]
            data = split[1]
            self._collector = HeadCollector(is_request=False, limit=LIMIT)
        if self._size > LIMIT:
            raise ProbeFailed("it sends interim answers without end")
        return None


class AnswerJudge:
    """Is this the answer that is wanted? ``content`` is searched in its first ``limit`` bytes; None: it is not read."""

    def __init__(self, method: bytes, statuses: Statuses, content: re.Pattern[bytes] | None, limit: int) -> None:
        self._head = HeadReader(method)
        self._statuses = statuses
        self._pattern = content
        self._limit = limit
        self._reader: BodyReader | None = None
        self._content = b""

    def feed(self, data: bytes) -> bool:
        """Whether it is; False: more is needed. Raises ``ProbeFailed``, ``BadAnswer``, ``MalformedBody``."""
        if self._reader is None:
            found = self._head.feed(data)
            if found is None:
                return False
            head, data = found
            if not any(first <= head.status <= last for first, last in self._statuses):
                raise ProbeFailed(f"it answers {head.status}")
            if self._pattern is None:
                return True
            self._reader = read_body(head.body)
        self._content += self._reader.feed(data)
        return self._matches(whole=self._reader.ended)

    def ended(self) -> bool:
        """The backend closed. Raises ``ProbeFailed``, as it answered."""
        if self._reader is None or not self._reader.complete_at_close():
            raise ProbeFailed("it closes before its answer is complete")
        return self._matches(whole=True)

    def _matches(self, *, whole: bool) -> bool:
        assert self._pattern is not None
        full = whole or len(self._content) >= self._limit
        if self._pattern.search(self._content[: self._limit]):
            return True
        if full:
            raise ProbeFailed("the content of its answer is not what is expected")
        return False


def http_request(method: str, path: str, host: str) -> bytes:
    """A request, and the last one on its connection."""
    return (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: stickyproxy\r\nAccept: */*\r\n"
        "Connection: close\r\n\r\n"
    ).encode("ascii")


def websocket_request(path: str, host: str, offer: Offer, origin: str | None) -> bytes:
    """The client's opening handshake for ``offer``."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "User-Agent: stickyproxy",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {offer.key.decode()}",
        *([f"Origin: {origin}"] if origin else []),
        *(f"Sec-WebSocket-Protocol: {protocol.decode()}" for protocol in offer.protocols),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def make_offer(entropy: bytes, protocol: str | None) -> Offer:
    """``entropy`` is 16 random bytes."""
    return Offer(b64encode(entropy), (protocol.encode(),) if protocol else (), ())


def check_switch(offer: Offer, head: ResponseHead) -> None:
    """Raises ``ProbeFailed`` for another status than 101, ``BadAnswer`` for a handshake that is wrong."""
    if head.status != 101:
        raise ProbeFailed(f"it answers {head.status}, no WebSocket")
    check_answer(offer, head)


def client_frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """A whole frame of at most 125 bytes of payload; ``mask`` is 4 bytes (RFC 6455 section 5.3)."""
    masked = bytes(byte ^ mask[position % 4] for position, byte in enumerate(payload))
    return bytes((0x80 | opcode, 0x80 | len(payload))) + mask + masked


class PongReader:
    """Awaits the pong with ``payload``; messages that come before it are passed over."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._buffer = b""
        self._size = 0

    def feed(self, data: bytes) -> bool:
        """Whether it is there; False: more is needed. Raises ``ProbeFailed``."""
        self._buffer += data
        self._size += len(data)
        while (frame := self._next()) is not None:
            opcode, payload = frame
            if opcode == PONG and payload == self._payload:
                return True
            if opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
                raise ProbeFailed(f"it closes the WebSocket with {code}")
        if self._size > LIMIT:
            raise ProbeFailed("it sends messages, but no pong")
        return False

    def _next(self) -> tuple[int, bytes] | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, start = buffer[1], 2
        if length & 0x80:
            raise ProbeFailed("it masks its frames, as only clients do")
        if length >= 126:
            start = 4 if length == 126 else 10
            if len(buffer) < start:
                return None
            length = int.from_bytes(buffer[2:start], "big")
        if len(buffer) < start + length:
            return None
        self._buffer = buffer[start + length :]
        return buffer[0] & 0x0F, buffer[start : start + length]
