"""Redis: who a client says it is with its first command. Floor 2, pure.

Specification: Redis' protocol (RESP arrays of bulk strings, and inline commands), the commands AUTH, HELLO and CLIENT
SETNAME. The first command decides, since a client waits for its answer before it sends the next. A password is never
part of a key; ``AUTH password`` and the user ``default``, which is everyone who names none, are no key.
"""

from __future__ import annotations

from collections.abc import Iterator

from zope.interface import implementer

from stickyproxy.interfaces import IStreamInspector
from stickyproxy.sansio.inspecting.cursor import Cursor, MoreNeeded, NoKey, look

_COMMANDS = (b"AUTH ", b"HELLO ", b"CLIENT ")
_WORDS = 7  # HELLO 3 AUTH user password SETNAME name
_DIGITS = 5


@implementer(IStreamInspector)
class RedisInspector:
    """The user of AUTH or HELLO, else the name that HELLO or CLIENT SETNAME gives."""

    peek_bytes = 4096
    peek_timeout = 5.0

    def inspect(self, data: bytes) -> bytes | None:
        return look(self._find, data)

    def _find(self, stream: Cursor) -> bytes:
        begin = stream.data[:7].upper()
        if begin.startswith(b"*"):
            return _name(_array(stream))
        if any(begin.startswith(each) or each.startswith(begin) for each in _COMMANDS):
            return _name(_inline(stream))
        raise NoKey


def _array(stream: Cursor) -> Iterator[bytes]:
    """The words of a RESP array, as they come."""
    count = _count(stream, b"*")
    if count > _WORDS:
        raise NoKey
    for _ in range(count):
        size = _count(stream, b"$")
        word = stream.take(size)
        if stream.take(2) != b"\r\n":
            raise NoKey
        yield word


def _count(stream: Cursor, mark: bytes) -> int:
    """A number on a line of its own, behind ``mark``."""
    if stream.take(1) != mark:
        raise NoKey
    try:
        digits = stream.line()
    except MoreNeeded:
        if len(stream.data) - stream.at > _DIGITS + 1:
            raise NoKey from None
        raise
    if not digits.isdigit() or len(digits) > _DIGITS:
        raise NoKey
    return int(digits)


def _inline(stream: Cursor) -> Iterator[bytes]:
    """The words of a line. One with quotes is not taken apart: programs do not write such."""
    end = stream.data.find(b"\n")
    if end < 0:
        raise MoreNeeded
    line = stream.data[:end]
    if b'"' in line or b"'" in line:
        raise NoKey
    words = line.split()
    if len(words) > _WORDS:
        raise NoKey
    yield from words


def _name(words: Iterator[bytes]) -> bytes:
    """The client's name in a command."""
    command = next(words, b"").upper()
    if command == b"CLIENT":
        return next(words, b"") if next(words, b"").upper() == b"SETNAME" else b""
    if command == b"AUTH":
        user = next(words, b"")
        return _user(user) if next(words, None) is not None else b""
    if command != b"HELLO":
        return b""
    next(words, b"")  # the protocol's version
    for option in words:
        if option.upper() == b"SETNAME":
            return next(words, b"")
        if option.upper() != b"AUTH":
            break
        user = _user(next(words, b""))
        if user:
            return user
        next(words, b"")  # its password
    return b""


def _user(user: bytes) -> bytes:
    return b"" if user == b"default" else user
