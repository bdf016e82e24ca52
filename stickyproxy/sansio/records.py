"""What processes tell each other of sessions, as bytes. Floor 2, pure.

A message is a version, the name of a table, and records: a byte that says which, then its fields, each with its length.
Numbers are big-endian, times are doubles in seconds since the epoch: all processes have one clock. Both ends are of one
version, since a parent starts its children from the same installation.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from stickyproxy.sansio.sessions import Session

VERSION = 1
#: Bytes of the records in a message, about: AMP takes 65,535 in one value.
CHUNK = 32 * 1024
_DOUBLE, _TWO_DOUBLES, _SHORT = struct.Struct(">d"), struct.Struct(">dd"), struct.Struct(">H")


class Bind(NamedTuple):
    """To the parent: a client that shows ``keys`` was bound. ``expected``: the backend that it had before; empty: none.

    ``others`` are the keys that their sessions had beside these.
    """

    keys: tuple[bytes, ...]
    others: tuple[bytes, ...]
    backend: str
    expected: str
    lifetime: float | None


class Forget(NamedTuple):
    """To the parent: the session with ``key`` ended, which had ``others``, too."""

    key: bytes
    others: tuple[bytes, ...]


class Ask(NamedTuple):
    """To the parent: which session has ``key``? It is put, if there is one, and then ``Answered``."""

    key: bytes


class Enter(NamedTuple):
    """To the parent: from now on I want to know all."""


class Answered(NamedTuple):
    """To a child: what there is to know of ``key`` was told."""

    key: bytes


class Gone(NamedTuple):
    """To a child: no session has ``keys``."""

    keys: tuple[bytes, ...]


class Seen(NamedTuple):
    """Either way: the session with ``key`` was seen then."""

    key: bytes
    seen: float


#: A ``Session`` is one, too, to a child: it has these keys and no others.
Record = Bind | Forget | Ask | Enter | Answered | Gone | Seen | Session


def encode(record: Record) -> bytes:
    """A record as bytes."""
    match record:
        case Session(keys, backend, seen, until):
            return b"P" + _texts(keys) + _text(backend.encode()) + _TWO_DOUBLES.pack(seen, until)
        case Bind(keys, others, backend, expected, lifetime):
            names = _text(backend.encode()) + _text(expected.encode())
            return b"B" + _texts(keys) + _texts(others) + names + _DOUBLE.pack(-1.0 if lifetime is None else lifetime)
        case Seen(key, seen):
            return b"S" + _text(key) + _DOUBLE.pack(seen)
        case Ask(key):
            return b"?" + _text(key)
        case Answered(key):
            return b"!" + _text(key)
        case Forget(key, others):
            return b"F" + _text(key) + _texts(others)
        case Gone(keys):
            return b"G" + _texts(keys)
        case Enter():
            return b"E"


def message(table: str, records: bytes | bytearray) -> bytes:
    """Records, encoded, of ``table``."""
    return bytes((VERSION,)) + _text(table.encode()) + records


def table_of(data: bytes) -> str:
    """The table that a message is of. Raises ``ValueError`` for what is none of this version."""
    if data[:1] != bytes((VERSION,)):
        raise ValueError("not a message of this version about sessions")
    return _Reader(data, 1).text().decode()


def records_of(data: bytes) -> Iterator[Record]:
    """The records of a message. Raises ``ValueError`` where it is not whole."""
    reader = _Reader(data, 1)
    reader.text()
    while reader.at < len(data):
        yield reader.record()


class _Reader:
    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def record(self) -> Record:
        kind = self.data[self.at]
        self.at += 1
        if kind == 0x50:  # P
            return Session(self.texts(), self.text().decode(), self.number(), self.number())
        if kind == 0x42:  # B
            keys, others, backend, expected = self.texts(), self.texts(), self.text().decode(), self.text().decode()
            lifetime = self.number()
            return Bind(keys, others, backend, expected, None if lifetime < 0 else lifetime)
        if kind == 0x53:  # S
            return Seen(self.text(), self.number())
        if kind == 0x3F:  # ?
            return Ask(self.text())
        if kind == 0x21:  # !
            return Answered(self.text())
        if kind == 0x46:  # F
            return Forget(self.text(), self.texts())
        if kind == 0x47:  # G
            return Gone(self.texts())
        if kind == 0x45:  # E
            return Enter()
        raise ValueError(f"no record about sessions begins with {kind:#x}")

    def number(self) -> float:
        number: float = _DOUBLE.unpack(self.take(8))[0]
        return number

    def text(self) -> bytes:
        return self.take(int.from_bytes(self.take(2), "big"))

    def texts(self) -> tuple[bytes, ...]:
        return tuple([self.text() for _ in range(int.from_bytes(self.take(2), "big"))])

    def take(self, size: int) -> bytes:
        start = self.at
        self.at = start + size
        if self.at > len(self.data):
            raise ValueError("a message about sessions is not whole")
        return self.data[start : self.at]


def _text(text: bytes) -> bytes:
    return _SHORT.pack(len(text)) + text


def _texts(texts: Sequence[bytes]) -> bytes:
    return _SHORT.pack(len(texts)) + b"".join(map(_text, texts))
