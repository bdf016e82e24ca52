"""Reading bytes that are not all there yet. Floor 2, pure.

An inspector reads its protocol from the beginning as if everything were there. Where bytes are missing the cursor says
``MoreNeeded``; where there can be no key any more, whatever else comes, ``NoKey``. ``look`` makes these the answers of
``IStreamInspector.inspect``. Since each call begins anew, an inspector skips by announced lengths, and does not go over
what it skips.
"""

from __future__ import annotations

from collections.abc import Callable


class MoreNeeded(Exception):
    """The bytes end too early to say."""


class NoKey(Exception):
    """It is another protocol, or a client that does not say who it is."""


class Cursor:
    """Reads ``data`` from ``at`` on; what is read has to end at ``end``, where the protocol has announced that."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data = data
        self.at = at
        self.end = end

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        self.skip(size)
        return self.data[self.at - size : self.at]

    def skip(self, size: int) -> None:
        """Go over ``size`` bytes, which have to be there."""
        after = self.at + size
        if self.end is not None and after > self.end:
            raise NoKey
        if after > len(self.data):
            raise MoreNeeded
        self.at = after

    def number(self, size: int) -> int:
        """The next ``size`` bytes as an unsigned number, the most significant first."""
        return int.from_bytes(self.take(size))

    def field(self, size: int) -> bytes:
        """Bytes whose length stands before them in ``size`` bytes."""
        return self.take(self.number(size))

    def within(self, size: int) -> Cursor:
        """A cursor of its own for the next ``size`` bytes, complete or not."""
        if self.end is not None and self.at + size > self.end:
            raise NoKey
        return Cursor(self.data, self.at, self.at + size)

    def line(self) -> bytes:
        """The bytes before the next CRLF."""
        found = self.data.find(b"\r\n", self.at, self.end)
        if found < 0:
            raise NoKey if self.ended else MoreNeeded
        line = self.data[self.at : found]
        self.at = found + 2
        return line

    @property
    def left(self) -> int:
        """Bytes up to the announced end."""
        return 0 if self.end is None else self.end - self.at

    @property
    def ended(self) -> bool:
        """Whether everything up to the announced end has come."""
        return self.end is not None and len(self.data) >= self.end


def look(find: Callable[[Cursor], bytes], data: bytes) -> bytes | None:
    """What ``find`` finds in ``data``; None: more is needed; b"": there is no key."""
    try:
        return find(Cursor(data))
    except MoreNeeded:
        return None
    except NoKey:
        return b""
