"""Fuzz targets of WebSockets: any bytes behind a handshake."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock

from stickyproxy.relay import RelayEnd
from stickyproxy.sansio.frames import CLOSE, DEFLATE, PLAIN, UNKNOWN, Breach, Frames, close_frame, control_frame, mask
from stickyproxy.sweep import Sweep
from stickyproxy.testing import MemoryTransport
from stickyproxy.tunnel import WebSocketTunnel

RESERVED = (PLAIN, DEFLATE, UNKNOWN)


def _followed(pieces: list[bytes], masked: bool, reserved: int) -> tuple[Any, ...]:
    """What a follower has seen: control frames, messages, where it stands, what is wrong."""
    frames, controls, held = Frames(masked, reserved), [], b""
    try:
        for piece in pieces:
            data, at = held + piece, 0
            while at < len(data) and (end := frames.step(data, at)) > at:
                at = end
                if frames.control is not None:
                    controls.append((frames.control.opcode, frames.control.payload))
            held = data[at:]
            assert len(held) <= 130
    except Breach as breach:
        return controls, frames.messages, breach.code, str(breach)
    return controls, frames.messages, frames.within, frames.left, held


def frames(data: bytes) -> None:
    """Whole and byte by byte are one, and no byte that is wrong, or cut within a header, is passed on; all ends."""
    kind, stream = data[0] if data else 0, data[1:]
    masked, reserved = bool(kind & 1), RESERVED[kind >> 1 & 3 if kind >> 1 & 3 < 3 else 0]
    assert _followed([stream], masked, reserved) == _followed([bytes((b,)) for b in stream], masked, reserved)
    clock, ends = Clock(), list[RelayEnd]()
    client, backend = MemoryTransport(Protocol()), MemoryTransport(Protocol())
    tunnel = WebSocketTunnel(client, backend, idle=5, sweep=Sweep(clock, 0.5), ended=ends.append, reserved=reserved)
    for transport in (client, backend):
        tunnel.replace(transport.protocol)
    tunnel.start()
    side, other = (client, backend) if masked else (backend, client)
    size = 1 + (kind >> 3)
    for at in range(0, len(stream), size):
        if kind & 4 and at > len(stream) // 2:
            tunnel.drain()
        side.deliver(stream[at : at + size])
        side.turn()
    passed = _followed([other.written], masked or other is backend, reserved)
    assert len(passed) == 5 and not passed[-1], passed
    assert sum(opcode == CLOSE for opcode, _ in passed[0]) <= 1
    if kind & 8 and other.connected:
        other.lose(ConnectionDone())
    for _ in range(60):
        clock.advance(0.5)
        client.turn()
        backend.turn()
    assert len(ends) == 1 and not (client.connected or backend.connected)


_KEY = b"keyz"
_MASKED = b"\x81\x85" + _KEY + mask(b"hello", _KEY)
FRAMES = [
    b"\x01" + _MASKED * 3 + close_frame(1000, "bye", _KEY),
    b"\x00\x01\x03Hel\x89\x00\x80\x02lo" + close_frame(1001),
    b"\x05" + b"\x02\x84" + _KEY + b"aaaa" + control_frame(0x9, b"ping", _KEY) + b"\x80\x84" + _KEY + b"bbbb",
    b"\x09\x82\xfe\x01\x00" + _KEY + bytes(256) + _MASKED,
    b"\x02\xc1\x07" + bytes(7) + b"\x82\x7f" + (1 << 16).to_bytes(8) + bytes(40),
    b"\x00\x82\x7e\x00\x7d" + bytes(125),
    b"\x11\x8a\x80" + _KEY + b"\x88\x80" + _KEY,
]
