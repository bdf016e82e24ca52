"""One of the two sides of a WebSocket that passes through us. Floor 3. RFC 6455 section 7."""

from __future__ import annotations

from stickyproxy.model import Side
from stickyproxy.relay import Duplex, Half, half_close
from stickyproxy.sansio.frames import Frames
from stickyproxy.sansio.ratelimit import Bucket
from stickyproxy.sweep import NEVER


class Leg(Half):
    """One of the two sides: its frames, and how far its closing handshake with us has come."""

    __slots__ = (
        "awaited",
        "bucket",
        "due",
        "farewell",
        "frames",
        "held",
        "left",
        "refused",
        "said",
        "seen",
        "shut",
        "told",
    )

    frames: Frames

    def __init__(self, side: Side, transport: Duplex) -> None:
        super().__init__(side, transport)
        self.held = b""  # the beginning of a frame, not passed on yet
        self.shut = False  # nothing of the other side's is written to it any more
        self.told = False  # a Close was written to it
        self.said = False  # its Close has come, or nothing more is wanted of it
        self.refused = False  # that is so since it broke a rule
        self.left = False  # we have closed our side of it
        self.farewell = b""  # our Close frame for it
        self.bucket: Bucket | None = None
        self.due = NEVER  # when it is to be pinged
        self.awaited = NEVER  # until when it is to have answered
        self.seen = 0  # bytes that had come from it then

    @property
    def between(self) -> bool:
        """Of what was passed on of its bytes no frame is unfinished."""
        return not self.frames.left or self.said

    @property
    def unfinished(self) -> bool:
        """It has begun a message, and may still end it."""
        return self.frames.within and not (self.said or self.ended)

    def hang_up(self) -> None:
        """Nothing more comes from us; but closing at once could take back what is under way."""
        self._ready_to_leave()
        half_close(self.transport)

    def leave(self) -> None:
        """Close it, after what was written."""
        self._ready_to_leave()
        self.transport.loseConnection()

    def _ready_to_leave(self) -> None:
        self.left = True
        self.unfeed()
        if self.paused:  # its end is to be read
            self.resumeProducing()
