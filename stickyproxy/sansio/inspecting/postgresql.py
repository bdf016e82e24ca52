"""PostgreSQL: the user or the database of the startup message. Floor 2, pure.

Specification: PostgreSQL's documentation, "Message Formats": StartupMessage, SSLRequest, GSSENCRequest, CancelRequest.

A client that asks for encryption first (SSLRequest, GSSENCRequest) waits for the server's answer, which who passes
bytes through cannot give, so it has no key. A CancelRequest comes on a connection of its own and names a process of
the server alone: it has none, either.
"""

from __future__ import annotations

from typing import Literal

from zope.interface import implementer

from stickyproxy.interfaces import IStreamInspector
from stickyproxy.sansio.inspecting.cursor import Cursor, NoKey, look

_MOST = 10_000  # bytes of a startup packet that a server takes


@implementer(IStreamInspector)
class PostgreSQLInspector:
    """``key`` says which of the two it is. A client that names no database wants the one of its user's name."""

    peek_bytes = 4096
    peek_timeout = 5.0

    def __init__(self, key: Literal["user", "database"] = "user") -> None:
        self._key = key.encode()

    def inspect(self, data: bytes) -> bytes | None:
        return look(self._find, data)

    def _find(self, stream: Cursor) -> bytes:
        size = stream.number(4)
        if not 8 <= size <= _MOST or stream.number(2) != 3:  # the major version; requests have another there
            raise NoKey
        stream.skip(2)
        words = stream.take(size - 8).split(b"\0")
        parameters = dict(zip(words[::2], words[1::2], strict=False))
        return parameters.get(self._key) or parameters.get(b"user", b"")
