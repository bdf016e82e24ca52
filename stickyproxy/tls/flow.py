"""What the TLS transport leans on: its states, producers, and where records end. Floor 2."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

#: So much may be written in one turn before it is encrypted at once, and during the handshake before a producer pauses.
BUFFER = 65536
#: Room for tickets and alerts beside the records of one write.
SPARE = 4096
#: Records without data that a connection may bring, handshake included: renegotiations, which we refuse, and new keys
#: (RFC 8446 section 4.6.3). OpenSSL answers each, and a peer that reads no answer would have them pile up here.
EMPTY = 256


class Phase(enum.Enum):
    """How far TLS has come."""

    HANDSHAKE = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()  # nothing more is encrypted or delivered; the connection below is being closed


class Sending(enum.Enum):
    """How far our direction has come."""

    OPEN = enum.auto()
    ENDING = enum.auto()  # close_notify follows what was written, and the producer
    ENDED = enum.auto()  # it has been sent


class Turning(Protocol):
    """What does what is due when its turn comes."""

    def turn(self) -> None: ...


@implementer(IPushProducer)
class InnerProducer:
    """The producer of the protocol within TLS, as the transport below sees it."""

    __slots__ = ("_transport", "paused", "producer", "streaming")

    def __init__(self, transport: Turning, producer: Any, *, streaming: bool) -> None:
        self._transport = transport
        self.producer = producer
        self.streaming = streaming
        self.paused = False

    def pauseProducing(self) -> None:
        if not self.paused:
            self.paused = True
            self.producer.pauseProducing()

    def resumeProducing(self) -> None:
        if not self.streaming:
            self.producer.resumeProducing()
            self._transport.turn()  # the transport below asks again only when it has sent something
        elif self.paused:
            self.paused = False
            self.producer.resumeProducing()

    def stopProducing(self) -> None:
        self.paused = True
        self.producer.stopProducing()

    def start(self, below: Any, send: Callable[[], None]) -> None:
        """After the handshake: produce for ``below``, when what was kept so far is sent."""
        held, self.paused = self.paused, False
        below.registerProducer(self, self.streaming)
        if held:
            send()  # which may pause it again, or fail and stop it
            if not self.paused:
                self.producer.resumeProducing()


def count_records(data: bytes, ahead: int, header: bytes) -> tuple[int, int, bytes]:
    """How many TLS records (RFC 8446 section 5.1) end in ``data``, the next bytes of a stream.

    ``ahead`` is how many bytes of the record under way were still to come, or -1 where only the beginning of its header
    was there, which is ``header`` then. The second and third of what is returned are these two for the next call;
    begin with 0 and ``b""``.
    """
    if ahead < 0:
        data = header + data
        ahead = 0
    size = len(data)
    if ahead > size:
        return 0, ahead - size, b""
    ended = 1 if ahead else 0
    at = ahead
    while size - at >= 5:
        at += 5 + (data[at + 3] << 8 | data[at + 4])
        if at > size:
            return ended, at - size, b""
        ended += 1
    return (ended, -1, data[at:]) if at < size else (ended, 0, b"")
