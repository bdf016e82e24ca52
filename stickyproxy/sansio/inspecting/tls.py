"""TLS that is passed through: the server's name or the protocols that the ClientHello asks for. Floor 2, pure.

Specifications: RFC 8446 sections 4.1.2 and 5.1 (the same layout since TLS 1.0), RFC 6066 section 3 (server_name), RFC
7301 section 3.1 (ALPN), RFC 8701 (GREASE). With Encrypted Client Hello (RFC 9849) the names are those of the outer
hello. HAProxy: ``req.ssl_sni``, ``req.ssl_alpn``.
"""

from __future__ import annotations

import struct
from typing import Literal

from zope.interface import implementer

from stickyproxy.interfaces import IStreamInspector
from stickyproxy.sansio.inspecting.cursor import Cursor, MoreNeeded, NoKey, look

_RECORD = b"\x16\x03"  # of a handshake, in any version
_CLIENT_HELLO = 1
_EXTENSION = struct.Struct("!HH")  # type and size
_SERVER_NAME, _ALPN = 0, 16
_MOST_RECORDS = 64  # that a hello may be cut into
_MOST_RECORD = 1 << 14
_LONGEST = 255  # bytes of a key, as of a name in the DNS


@implementer(IStreamInspector)
class TLSInspector:
    """``key``: the server's name in lower case, or the protocols in the client's order, with commas between them."""

    peek_bytes = 16_384
    peek_timeout = 5.0

    def __init__(self, key: Literal["sni", "alpn"] = "sni") -> None:
        self._wanted, self._read = (_SERVER_NAME, _server_name) if key == "sni" else (_ALPN, _protocols)

    def inspect(self, data: bytes) -> bytes | None:
        return look(self._find, data)

    def _find(self, stream: Cursor) -> bytes:
        hello = _client_hello(stream.data)
        hello.skip(34)  # version and random
        hello.skip(hello.number(1))  # session id
        hello.skip(hello.number(2))  # cipher suites
        hello.skip(hello.number(1))  # compression methods
        key = self._read(_extension(hello, self._wanted))
        return key if len(key) <= _LONGEST else b""


def _client_hello(data: bytes) -> Cursor:
    """The message, put together from its records. It is not read before it is complete, so only once."""
    message, at = b"", 0
    for _ in range(_MOST_RECORDS):
        head = data[at : at + 5]
        if not _RECORD.startswith(head[:2]):
            raise NoKey
        if len(head) < 5:
            raise MoreNeeded
        size = int.from_bytes(head[3:])
        if not 0 < size <= _MOST_RECORD:
            raise NoKey
        at += 5 + size
        message += data[at - size : at]
        if message and message[0] != _CLIENT_HELLO:
            raise NoKey
        end = 4 + int.from_bytes(message[1:4])
        if len(message) >= max(4, end):
            return Cursor(message, 4, end)
        if at > len(data):
            raise MoreNeeded
    raise NoKey


def _extension(hello: Cursor, wanted: int) -> Cursor:
    """The content of the first extension of that type."""
    block = hello.within(hello.number(2))
    at, end = block.at, block.at + block.left
    while at + _EXTENSION.size <= end:
        kind, size = _EXTENSION.unpack_from(block.data, at)
        at += _EXTENSION.size
        if kind == wanted:
            block.at = at
            return block.within(size)
        at += size
    raise NoKey


def _server_name(content: Cursor) -> bytes:
    names = content.within(content.number(2))
    if names.number(1) != 0:  # host_name, the one type that there is
        raise NoKey
    return names.field(2).lower().rstrip(b".")


def _protocols(content: Cursor) -> bytes:
    names = content.within(content.number(2))
    found = []
    while names.left:
        name = names.field(1)
        if not _is_grease(name):
            found.append(name)
    return b",".join(found)


def _is_grease(name: bytes) -> bool:
    """RFC 8701 section 2: two equal bytes that end in A."""
    return len(name) == 2 and name[0] == name[1] and name[0] & 0x0F == 0x0A
