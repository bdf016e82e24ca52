"""Answers to a WebSocket's handshake: RFC 6455 sections 4.1 and 4.2.2, RFC 9110 section 7.8."""

from __future__ import annotations

from answers_judge import EVIL, OK, REFUSED, SILENT, Case, Sees, Then

_OFFER = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chat\r\n"
)
_UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
_ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

_WRONG = {
    "no accept": _UPGRADE,
    "the key for an accept": _UPGRADE + b"Sec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "an accept in other letters": _UPGRADE + _ACCEPT.replace(b"s3p", b"S3P"),
    "two accepts": _UPGRADE + _ACCEPT * 2,
    "a list of accepts": _UPGRADE + _ACCEPT.replace(b"=\r", b"=, " + EVIL + b"\r"),
    "no Upgrade": b"Connection: Upgrade\r\n" + _ACCEPT,
    "no Connection": b"Upgrade: websocket\r\n" + _ACCEPT,
    "Connection: close": b"Connection: close\r\nUpgrade: websocket\r\n" + _ACCEPT,
    "another protocol": b"Connection: Upgrade\r\nUpgrade: h2c\r\n" + _ACCEPT,
    "nothing": b"",
    "a subprotocol that was not offered": _UPGRADE + _ACCEPT + b"Sec-WebSocket-Protocol: " + EVIL + b"\r\n",
    "two subprotocols": _UPGRADE + _ACCEPT + b"Sec-WebSocket-Protocol: chat, " + EVIL + b"\r\n",
    "an extension that was not offered": _UPGRADE + _ACCEPT + b"Sec-WebSocket-Extensions: permessage-deflate\r\n",
    "a length": _UPGRADE + _ACCEPT + b"Content-Length: 4\r\n",
    "a length of 0": _UPGRADE + _ACCEPT + b"Content-Length: 0\r\n",
    "chunks": _UPGRADE + _ACCEPT + b"Transfer-Encoding: chunked\r\n",
    "a fold": _UPGRADE + _ACCEPT + b"X: a\r\n b\r\n",
    "a bare LF": _UPGRADE + _ACCEPT + b"X: a\nSet-Cookie: " + EVIL + b"\r\n",
}


def _case(name: str, said: bytes, sees: Sees, *, then: Then = Then.WAITS, kept: bool = False) -> Case:
    return Case(f"upgrade: {name}", (said,) if said else (), sees, then=then, kept=kept, fields=_OFFER)


CASES = [
    *(_case(name, b"HTTP/1.1 101 X\r\n" + fields + b"\r\n" + EVIL, REFUSED) for name, fields in _WRONG.items()),
    _case("in HTTP 1.0", b"HTTP/1.0 101 X\r\n" + _UPGRADE + _ACCEPT + b"\r\n" + EVIL, REFUSED),
    _case("a 200", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", OK, kept=True),
    _case(
        "a 200 with an accept",
        b"HTTP/1.1 200 OK\r\n" + _UPGRADE + _ACCEPT + b"Content-Length: 2\r\n\r\nok",
        OK,
        kept=True,
    ),
    _case("a 200 until the close", b"HTTP/1.1 200 OK\r\n\r\nok", OK, then=Then.CLOSES),
    _case("a 204", b"HTTP/1.1 204 X\r\n\r\n", Sees(204, b""), kept=True),
    _case(
        "a 103 and a 403",
        b"HTTP/1.1 103 X\r\n\r\nHTTP/1.1 403 X\r\nContent-Length: 2\r\n\r\nok",
        Sees(403, b"ok", interim=(103,)),
        kept=True,
    ),
    _case("frames without a head", b"\x81\x05hello", REFUSED),
    _case("cut off within the 101", b"HTTP/1.1 101 X\r\n" + _UPGRADE, REFUSED, then=Then.CLOSES),
    _case("closed", b"", REFUSED, then=Then.CLOSES),
    _case("silence", b"", SILENT),
]
