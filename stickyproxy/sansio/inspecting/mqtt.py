"""MQTT: the client identifier or the user name of the CONNECT packet. Floor 2, pure.

Specifications: MQTT 3.1.1 section 3.1, MQTT 5.0 section 3.1; 3.1 has the same layout under another protocol name. An
empty client identifier asks the broker for one (MQTT-3.1.3-6), and is no key.
"""

from __future__ import annotations

from typing import Literal

from zope.interface import implementer

from stickyproxy.interfaces import IStreamInspector
from stickyproxy.sansio.inspecting.cursor import Cursor, NoKey, look

_CONNECT = 0x10
_BRIDGE = 0x80  # mosquitto's bridges set it in the level
_LEVELS = {b"MQTT": (4, 5), b"MQIsdp": (3,)}
_USER, _WILL = 0x80, 0x04  # of the connect flags


@implementer(IStreamInspector)
class MQTTInspector:
    """``key`` says which of the two it is."""

    peek_bytes = 4096
    peek_timeout = 5.0

    def __init__(self, key: Literal["client-id", "user"] = "client-id") -> None:
        self._user = key == "user"

    def inspect(self, data: bytes) -> bytes | None:
        return look(self._find, data)

    def _find(self, stream: Cursor) -> bytes:
        if stream.number(1) != _CONNECT:
            raise NoKey
        packet = stream.within(_variable(stream))
        size = packet.number(2)
        if size not in (4, 6):
            raise NoKey
        name, level = packet.take(size), packet.number(1) & ~_BRIDGE
        if level not in _LEVELS.get(name, ()):
            raise NoKey
        flags = packet.number(1)
        packet.skip(2)  # keep alive
        if level == 5:
            packet.skip(_variable(packet))  # properties
        client = packet.field(2)
        if not self._user:
            return client
        if not flags & _USER:
            raise NoKey
        if flags & _WILL:
            if level == 5:
                packet.skip(_variable(packet))
            packet.skip(packet.number(2))  # topic
            packet.skip(packet.number(2))  # message
        return packet.field(2)


def _variable(cursor: Cursor) -> int:
    """A variable byte integer (MQTT 5.0 section 1.5.5): seven bits in each of at most four bytes, the lowest first."""
    value = 0
    for shift in (0, 7, 14, 21):
        byte = cursor.number(1)
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value
    raise NoKey
