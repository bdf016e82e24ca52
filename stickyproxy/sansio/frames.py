"""Where the frames of a WebSocket begin and end, in one direction. Floor 2, pure. RFC 6455 section 5, RFC 7692.

Headers only: payload is neither copied nor unmasked, but for the few bytes of a control frame that somebody asks for.
A follower sees every byte from the first, since nothing in the stream would tell it later where a frame begins. What
it does not look at is left to the two sides: UTF-8, what a close code means, what is within a compressed message.
"""

from __future__ import annotations

from typing import NamedTuple

from stickyproxy.errors import StickyproxyError

#: Opcodes of control frames: RFC 6455 section 5.5.
CLOSE, PING, PONG = 0x8, 0x9, 0xA

#: Close codes that the proxy sends: RFC 6455 section 7.4.1, and IANA's registry for 1012 and 1014.
GOING_AWAY, PROTOCOL_ERROR, POLICY_VIOLATION, TOO_BIG, SERVICE_RESTART, BAD_GATEWAY = 1001, 1002, 1008, 1009, 1012, 1014
#: What stands for a Close frame without a code; it is never sent.
NO_CODE = 1005

#: The reserved bits that may be set, by what was agreed upon in the handshake: nothing, that the first frame of a
#: message says whether it is compressed (RSV1), or an extension that we do not know.
PLAIN, DEFLATE, UNKNOWN = 0x00, 0x40, 0x70
#: No limit.
ANY_SIZE = 1 << 63

_FIN = 0x80


class Breach(StickyproxyError):
    """A frame that may not come. ``code`` is for the Close frame that answers it: 1002 or 1009."""

    def __init__(self, reason: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(reason)
        self.code = code


class Control(NamedTuple):
    """A whole control frame. ``key`` is what its payload is masked with, b"" where it is not."""

    opcode: int
    masked: bytes
    key: bytes

    @property
    def payload(self) -> bytes:
        """What was sent, unmasked."""
        return mask(self.masked, self.key) if self.key else self.masked

    @property
    def code(self) -> int:
        """Of a Close frame."""
        return int.from_bytes(mask(self.masked[:2], self.key) if self.key else self.masked[:2]) or NO_CODE


class _First(NamedTuple):
    """The first bytes that frames may have: where a message may begin, within one, and of a message in one frame."""

    starting: frozenset[int]
    within: frozenset[int]
    only: frozenset[int]


def _first(reserved: int) -> _First:
    bits = [bits for bits in range(0, 0x80, 0x10) if bits & reserved == bits]
    anything = reserved == UNKNOWN  # an extension may use opcodes, too: RFC 6455 section 9.2
    data, control = (range(1, 8), range(8, 16)) if anything else ((1, 2), (CLOSE, PING, PONG))
    controls = {_FIN | opcode | (bit if anything else 0) for opcode in control for bit in bits}
    only = {_FIN | bit | opcode for bit in bits for opcode in data}
    more = {fin | (bit if anything else 0) for fin in (0, _FIN) for bit in bits}
    return _First(
        frozenset(only | {first & 0x7F for first in only} | controls), frozenset(more | controls), frozenset(only)
    )


_FIRST = {reserved: _first(reserved) for reserved in (PLAIN, DEFLATE, UNKNOWN)}


class Frames:
    """Follows one direction. ``masked``: it is the client's. ``reserved``: ``PLAIN``, ``DEFLATE`` or ``UNKNOWN``.

    ``frame_limit`` and ``message_limit`` are bytes of payload, as they are on the wire: compressed if they are so.
    """

    __slots__ = (
        "_final", "_first", "_frame_limit", "_head", "_mask", "_masked", "_message_limit",
        "control", "left", "messages", "size", "whole", "within",
    )  # fmt: skip

    def __init__(
        self, masked: bool, reserved: int = PLAIN, frame_limit: int = ANY_SIZE, message_limit: int = ANY_SIZE
    ) -> None:
        self._masked = masked
        self._mask, self._head = (0x80, 6) if masked else (0, 2)  # of a frame of up to 125 bytes
        self._first = _FIRST[reserved]
        self._frame_limit = frame_limit
        self._message_limit = message_limit
        self._final = True  # the data frame that was begun last ends its message
        self.left = 0  #: bytes of payload that are to come of the frame in progress
        self.within = False  #: a message has begun and is not over
        self.size = 0  #: payload of the message in progress, with all of the frame in progress
        self.messages = 0  #: that are over
        #: First bytes of frames that are whole messages, and so small or medium (below 64 KiB) within every limit.
        self.whole = self._first.only if min(frame_limit, message_limit) > 0xFFFF else frozenset()
        self.control: Control | None = None  #: what the last step was, if it was one

    def step(self, data: bytes, at: int) -> int:
        """Go on in ``data`` from ``at``, and return where the step ends.

        A step is a data frame, or what there is of it, or a whole control frame. Where it ends at ``at``, more is
        needed to tell: come again with these bytes (at most 130) and others behind them. Raises ``Breach``; nothing can
        be followed then.
        """
        size, left = len(data), self.left
        self.control = None
        if left:
            if at + left > size:
                self.left = left - (size - at)
                return size
            self.left = 0
            if self._final:
                self._over()
            return at + left
        if size - at < 2:
            return at
        first, second = data[at], data[at + 1]
        if first in self.whole and not self.within:  # the quick way for nearly all
            length, end = second ^ self._mask, at + self._head
            if length == 126 and size >= at + 4:
                extended = data[at + 2] << 8 | data[at + 3]
                if extended > 125:
                    length, end = 0, end + 2 + extended
            if length < 126 and end + length <= size:
                self.messages += 1
                return end + length
        return self._begin_step(data, at)

    def _begin_step(self, data: bytes, at: int) -> int:
        size, first, second = len(data), data[at], data[at + 1]
        self._check(first, second)
        length, head = second & 0x7F, at + 2
        if length > 125:
            head += 2 if length == 126 else 8
            if head > size:
                return at
            length = _extended(data[at + 2 : head])
        payload = head + 4 if self._masked else head
        if payload > size:
            return at
        end = payload + length
        if first & 0x08:
            if end > size:
                return at
            self.control = Control(first & 0x0F, data[payload:end], data[head:payload])
            return end
        self._begin(first, length)
        if end > size:
            self.left = end - size
            return size
        if self._final:
            self._over()
        return end

    def _begin(self, first: int, length: int) -> None:
        self._final = first >= _FIN
        self.within = True
        self.size += length
        if length > self._frame_limit:
            raise Breach("a frame is larger than allowed", TOO_BIG)
        if self.size > self._message_limit:
            raise Breach("a message is larger than allowed", TOO_BIG)

    def _over(self) -> None:
        self.within = False
        self.size = 0
        self.messages += 1

    def _check(self, first: int, second: int) -> None:
        if first not in (self._first.within if self.within else self._first.starting):
            raise Breach(self._wrong(first))
        if (second > 0x7F) is not self._masked:
            raise Breach("a frame is not masked" if self._masked else "a frame is masked")
        if first & 0x08 and second & 0x7F > 125:
            raise Breach("a control frame has more than 125 bytes")
        if first & 0x0F == CLOSE and second & 0x7F == 1:
            raise Breach("a close code has two bytes")

    def _wrong(self, first: int) -> str:
        opcode = first & 0x0F
        if opcode in (0x3, 0x4, 0x5, 0x6, 0x7) or opcode > PONG:
            return "a frame has a reserved opcode"
        if opcode >= CLOSE and first < _FIN:
            return "a control frame is fragmented"
        allowed = self._first.within if self.within else self._first.starting
        if first & 0x8F in allowed:
            return "a frame has a reserved bit"
        return "a message begins within another" if self.within else "a frame continues no message"


def _extended(length: bytes) -> int:
    """The length in 2 or 8 bytes: as short as it can be, and below 2^63 (RFC 6455 section 5.2)."""
    value = int.from_bytes(length)
    if value < (126 if len(length) == 2 else 1 << 16):
        raise Breach("the length of a frame takes more bytes than it needs")
    if value >= 1 << 63:
        raise Breach("the length of a frame has its highest bit set")
    return value


def mask(payload: bytes, key: bytes) -> bytes:
    """``payload`` masked, or unmasked, with the 4 bytes ``key``: RFC 6455 section 5.3."""
    size = len(payload)
    pad = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(pad)).to_bytes(size)


def control_frame(opcode: int, payload: bytes, key: bytes = b"") -> bytes:
    """A control frame with up to 125 bytes. ``key``: 4 bytes that nobody can foretell, for one to a backend."""
    if key:
        return bytes((_FIN | opcode, 0x80 | len(payload))) + key + mask(payload, key)
    return bytes((_FIN | opcode, len(payload))) + payload


def close_frame(code: int, reason: str = "", key: bytes = b"") -> bytes:
    """A Close frame; ``reason`` has up to 123 bytes in UTF-8."""
    return control_frame(CLOSE, code.to_bytes(2) + reason.encode(), key)
