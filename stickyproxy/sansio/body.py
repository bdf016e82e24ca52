"""Message bodies: bytes to content, and where they end. Floor 2, pure. RFC 9112 sections 6 and 7.

Each reader has ``feed(data)`` that returns the content in ``data`` (bytes, maybe empty), and then ``ended``, ``rest``
(the bytes behind the end) and ``trailers``. Content is re-framed on the way out: no framing byte is ever passed on.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from typing import Protocol

from stickyproxy.errors import StickyproxyError
from stickyproxy.model import CHUNKED, UNTIL_CLOSE, Field

#: One line of a chunk's size with its extensions; by default a whole body's extensions, and its trailers. Bytes.
SIZE_LINE = 256
EXTENSIONS = 16 * 1024
TRAILERS = 8 * 1024

_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\Z")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)\Z")


class MalformedBody(StickyproxyError):
    """The framing of a body is broken; where it ends can not be known."""


class BodyReader(Protocol):
    """What takes a body apart."""

    ended: bool
    rest: bytes
    trailers: list[Field]

    def feed(self, data: bytes) -> bytes: ...

    def complete_at_close(self) -> bool: ...


def read_body(body: int, extensions: int = EXTENSIONS, trailers: int = TRAILERS) -> BodyReader:
    """The reader for a head's ``body``, which is not 0; the others are limits of ``ChunkedReader``."""
    if body == CHUNKED:
        return ChunkedReader(extensions, trailers)
    if body == UNTIL_CLOSE:
        return CloseReader()
    return LengthReader(body)


def chunk(content: bytes) -> bytes:
    """``content``, which is not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def last_chunk(trailers: Sequence[Field]) -> bytes:
    """The end of a chunked body."""
    if not trailers:
        return b"0\r\n\r\n"
    return b"0\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % (name, value) for _, name, value in trailers)


class LengthReader:
    """Content-Length."""

    __slots__ = ("_left", "ended", "rest", "trailers")

    def __init__(self, length: int) -> None:
        self._left = length
        self.ended = length == 0
        self.rest = b""
        self.trailers: list[Field] = []

    def feed(self, data: bytes) -> bytes:
        left = self._left = self._left - len(data)
        if left > 0:
            return data
        self.ended = True
        if left == 0:
            return data
        self.rest = data[left:]
        return data[:left]

    def complete_at_close(self) -> bool:
        return self.ended


class CloseReader:
    """An answer without a length: it ends with its connection."""

    __slots__ = ("ended", "rest", "trailers")

    def __init__(self) -> None:
        self.ended = False
        self.rest = b""
        self.trailers: list[Field] = []

    def feed(self, data: bytes) -> bytes:
        return data

    def complete_at_close(self) -> bool:
        return True


class _Part(enum.Enum):
    SIZE = "size line"
    CONTENT = "content"
    CONTENT_END = "the line end behind the content"
    TRAILER = "trailer"


_SIZES, _CONTENT, _CONTENT_END, _TRAILER = _Part  # a look-up in an enumeration costs ten times one in a module


class ChunkedReader:
    """Transfer-Encoding: chunked. ``feed`` raises ``MalformedBody``; extensions are dropped, trailers kept.

    ``extensions`` and ``trailers`` are the bytes that there may be of each, in all.
    """

    __slots__ = ("_extensions_left", "_left", "_line", "_part", "_trailers_left", "ended", "rest", "trailers")

    def __init__(self, extensions: int = EXTENSIONS, trailers: int = TRAILERS) -> None:
        self._part = _SIZES
        self._left = 0
        self._line = b""  # an incomplete line
        self._extensions_left = extensions
        self._trailers_left = trailers
        self.ended = False
        self.rest = b""
        self.trailers: list[Field] = []

    def feed(self, data: bytes) -> bytes:
        if self._line:
            data = self._line + data
            self._line = b""
        content: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if self._part is _CONTENT:
                piece = data[at : at + self._left]
                content.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if self._left == 0:
                    self._part = _CONTENT_END
                continue
            end = data.find(b"\r\n", at, at + (self._trailers_left if self._part is _TRAILER else SIZE_LINE) + 2)
            if end < 0:
                self._keep_line(data[at:])
                break
            line = data[at:end]
            at = end + 2
            if self._part is _SIZES:
                self._read_size(line)
                stop = at + self._left
                if self._left and data.startswith(b"\r\n", stop):  # it is here as a whole, as many small ones are
                    content.append(data[at:stop])
                    at, self._left, self._part = stop + 2, 0, _SIZES
            elif self._part is _TRAILER:
                if not line:
                    self.ended = True
                    self.rest = data[at:]
                    break
                self._read_trailer(line)
            elif line:
                raise MalformedBody("a chunk is longer than its size")
            else:
                self._part = _SIZES
        return content[0] if len(content) == 1 else b"".join(content)

    def complete_at_close(self) -> bool:
        return self.ended

    def _keep_line(self, line: bytes) -> None:
        """An incomplete line: refused at once if no more bytes can mend it."""
        longest = {_SIZES: SIZE_LINE, _CONTENT_END: 1, _TRAILER: self._trailers_left + 1}[self._part]
        bare = line.removesuffix(b"\r")
        if len(line) > longest or b"\r" in bare or b"\n" in bare:
            raise MalformedBody(f"bad {self._part.value} in a chunked body")
        if self._part is _CONTENT_END and bare:
            raise MalformedBody("a chunk is longer than its size")
        self._line = line

    def _read_size(self, line: bytes) -> None:
        match = _SIZE.match(line) if len(line) <= SIZE_LINE else None
        if match is None:
            raise MalformedBody("bad size line in a chunked body")
        self._extensions_left -= len(line) - len(match[1])
        if self._extensions_left < 0:
            raise MalformedBody("too many chunk extensions")
        self._left = int(match[1], 16)
        self._part = _CONTENT if self._left else _TRAILER

    def _read_trailer(self, line: bytes) -> None:
        self._trailers_left -= len(line) + 2
        match = _FIELD.match(line) if self._trailers_left >= 0 else None
        if match is None:
            raise MalformedBody("bad or too large trailer section")
        self.trailers.append((match[1].lower(), match[1], match[2].strip(b" \t")))
