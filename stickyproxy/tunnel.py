"""A WebSocket between a client and a backend: a relay that follows its frames. Floor 3. RFC 6455 sections 5 and 7.

Bytes are passed on as they come, but for a header or a control frame that is not whole yet; so at any time either side
is at the boundary of a frame, or within the payload of one. That makes three things possible: a WebSocket that we end
gets a Close frame where one may stand, never within a frame and not within a message that its sender may still finish;
pings of our own; and a side that breaks the protocol, or a limit, is told so.

Each side (``leg``) has its own closing handshake with us when we end it: it is ``told`` once a Close was written to it,
ours or the other side's, and gets nothing after that; it has ``said`` its word when its own Close has come, and is not
listened to after that. The client's connection is then closed by us, the backend's by the backend (section 7.1.1).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.python.failure import Failure

from stickyproxy.config.websocket import WebSocket
from stickyproxy.leg import Leg
from stickyproxy.relay import GRACE, Duplex, EndReason, Half, Relay, RelayEnd
from stickyproxy.sansio.frames import (
    ANY_SIZE,
    BAD_GATEWAY,
    CLOSE,
    GOING_AWAY,
    PING,
    PLAIN,
    POLICY_VIOLATION,
    PONG,
    Breach,
    Frames,
    close_frame,
    control_frame,
)
from stickyproxy.sansio.ratelimit import Bucket
from stickyproxy.sweep import NEVER, Sweep

_NO_CARE = WebSocket()
#: Bytes of a client's frame that has no payload: in a message it is as good as one, or nothing would bound it.
_EMPTY = 6
_NOT_NOW: frozenset[int] = frozenset()


class WebSocketTunnel(Relay):
    """As ``Relay``, for a WebSocket. ``reserved`` (``sansio.frames``) is what the handshake allows; ``care`` is what
    its frontend does for it.
    """

    __slots__ = (
        "_bounded", "_care", "_code", "_mark", "_whole_backend", "_whole_client", "_wholes_to_backend",
        "_wholes_to_client",
    )  # fmt: skip

    _make_half = Leg
    _client: Leg
    _backend: Leg

    def __init__(
        self,
        client: Duplex,
        backend: Duplex,
        *,
        idle: float,
        sweep: Sweep,
        ended: Callable[[RelayEnd], object],
        among: tuple[set[Any], ...] = (),
        reserved: int = PLAIN,
        care: WebSocket = _NO_CARE,
    ) -> None:
        super().__init__(client, backend, idle=idle, sweep=sweep, ended=ended, among=among)
        self._care = care
        self._code: int | None = None
        self._bounded = False  # the closing handshake of the two has a deadline
        limits = [ANY_SIZE if limit is None else limit for limit in (care.frame, care.message)]
        self._client.frames = Frames(True, reserved, *limits)
        self._backend.frames = Frames(False, reserved)
        #: First bytes of frames that are whole messages, where such a frame may begin now and needs no care.
        self._whole_client, self._whole_backend = self._client.frames.whole, self._backend.frames.whole
        self._wholes_to_backend = self._wholes_to_client = 0  # messages that were such frames
        self._mark = b""  # the payload of our pings
        if care.rate is not None:
            self._client.bucket = Bucket(care.rate.messages, care.rate.per, care.rate.burst)
            self._whole_client = _NOT_NOW

    # Bytes.

    def start(self, from_client: bytes = b"", from_backend: bytes = b"") -> None:
        """As ``Relay.start``; what is read before may end it already, and answers to that have to be read."""
        if self._care.ping is not None:
            self._client.due = self._backend.due = self._sweep.after(self._care.ping)
        super().start(from_client, from_backend)
        self._look_at_pings()
        for leg in (self._client, self._backend):
            if leg.farewell and not leg.lost:
                leg.resumeProducing()

    def client_data(self, data: bytes) -> None:
        """Bytes from the client."""
        size = len(data)
        self.to_backend += size
        if 5 < size < 132 and data[1] == size + 122 and data[0] in self._whole_client:  # noqa: SIM114
            self._wholes_to_backend += 1
            self._write_backend(data)
        elif size > 133 and data[1] == 254 and data[0] in self._whole_client and size == (data[2] << 8 | data[3]) + 8:
            self._wholes_to_backend += 1
            self._write_backend(data)
        else:
            self._whole_client = self._follow(self._client, data)

    def backend_data(self, data: bytes) -> None:
        """Bytes from the backend."""
        size = len(data)
        self.to_client += size
        if 1 < size < 128 and data[1] == size - 2 and data[0] in self._whole_backend:  # noqa: SIM114
            self._wholes_to_client += 1
            self._write_client(data)
        elif size > 129 and data[1] == 126 and data[0] in self._whole_backend and size == (data[2] << 8 | data[3]) + 4:
            self._wholes_to_client += 1
            self._write_client(data)
        else:
            self._whole_backend = self._follow(self._backend, data)

    def _follow(self, leg: Leg, data: bytes) -> frozenset[int]:
        """Pass on what may be passed on. Returns the first bytes of frames that need no following after it."""
        if leg.said:
            return _NOT_NOW
        if leg.held:
            data, leg.held = leg.held + data, b""
        frames, at, begin, size = leg.frames, 0, 0, len(data)
        step, bucket = frames.step, leg.bucket
        while at < size:
            begins, within = not frames.left, frames.within
            try:
                end = step(data, at)
                if bucket is not None and begins and end > at:
                    _count(bucket, self._sweep, frames, within, end - at)
            except Breach as breach:
                self._pass(leg, data[begin:at])
                self._refuse(leg, breach.code, str(breach))
                return _NOT_NOW
            if end == at:
                leg.held = data[at:]
                break
            control = frames.control
            if control is not None:
                if control.opcode == CLOSE:
                    self._pass(leg, data[begin:end])
                    self._hear(leg, control.code)
                    return _NOT_NOW
                if control.opcode == PONG and self._mark and control.payload == self._mark:
                    self._pass(leg, data[begin:at])
                    self._answered(leg, end - at)
                    begin = end
            at = end
            if self._reason is not None and leg.between and not leg.unfinished:
                self._pass(leg, data[begin:at])
                begin = at
                self._tell(self._other(leg))
                self._tell(leg)
        self._pass(leg, data[begin:at] if begin or at < size else data)
        if frames.left or frames.within or leg.held or bucket is not None or self._reason is not None:
            return _NOT_NOW
        return frames.whole

    def _pass(self, leg: Leg, data: bytes) -> None:
        """``data`` came from ``leg`` and is for the other, if that has not been told goodbye."""
        if leg is self._client:
            if data and not self._backend.shut:
                self._write_backend(data)
        elif data and not self._client.shut:
            self._write_client(data)

    def _other(self, half: Half) -> Leg:
        return self._backend if half is self._client else self._client

    def _hear(self, leg: Leg, code: int) -> None:
        """``leg`` has sent its Close, which the other was passed unless it gets ours."""
        other = self._other(leg)
        leg.said = True
        if not other.shut:
            other.shut = other.told = True
        if self._code is None:
            self._code = code
            self._first = self._first or leg.side
        if self._reason is None:
            if other.said:
                self._bound()
            return
        for one in (leg, other):
            if one.told and one.said and one.farewell:
                self._shaken(one)
            else:
                self._tell(one)

    # The end.

    def drain(self, code: int | None = None) -> None:
        """End it with Close frames: each goes out when no message that has begun is in its way, or after a while."""
        if self._reason is not None:
            return
        if self._client.said or self._backend.said:
            self._bound()
        else:
            code = code or self._care.drain_code
            self._part(EndReason.DRAINED, code, code, self._care.drain_reason)

    def _refuse(self, leg: Leg, code: int, reason: str) -> None:
        """``leg`` did what it may not: it learns which, and the other that there is nobody any more."""
        leg.said = leg.refused = True
        self._first = self._first or leg.side
        if leg is self._client:
            self._part(EndReason.BREACH, code, GOING_AWAY, reason)
        else:
            self._part(EndReason.BREACH, BAD_GATEWAY, code, reason)

    def _part(self, why: EndReason, to_client: int, to_backend: int, reason: str = "") -> None:
        """Begin to end it, with these codes. ``reason`` goes to both; who broke nothing can read it in a log."""
        if self._reason is not None:
            return
        self._reason = why
        self._code = self._code or to_client
        self._whole_client = self._whole_backend = _NOT_NOW
        self.deadline = self._sweep.after(self._care.close)
        self._client.farewell = close_frame(to_client, reason)
        self._backend.farewell = close_frame(to_backend, reason, os.urandom(4))
        self._tell(self._client)
        self._tell(self._backend)

    def _tell(self, leg: Leg, *, now: bool = False) -> None:
        """Write our Close to ``leg`` if it may stand there. ``now``: a message may be left without its end."""
        other = self._other(leg)
        if leg.told or leg.lost or not leg.farewell or not other.between or (other.unfinished and not now):
            return
        leg.shut = True  # a message that begins now comes too late
        if leg.unfinished and not now:  # who is told answers at once, and leaves the message that it was sending
            return
        leg.told = True
        if not leg.left:
            (self._write_client if leg is self._client else self._write_backend)(leg.farewell)
        leg.unfeed()  # what the other still says is read and thrown away
        if other.paused and not other.lost:
            other.resumeProducing()
        if leg.said or leg.ended:
            self._shaken(leg)

    def _shaken(self, leg: Leg) -> None:
        """The closing handshake with ``leg`` is over. We close a client's connection, and wait for it to follow."""
        if leg.lost or leg.left:
            return
        if leg.ended:
            leg.leave()
        elif leg is self._client or leg.refused:
            leg.hang_up()

    def _bound(self) -> None:
        """What is left of the closing handshake of the two has its time."""
        self._bounded = True
        self.deadline = self._sweep.after(self._care.close)

    def _end_of_stream(self, half: Half) -> None:
        if self._reason is None:
            if half is self._backend and self._can_part():
                half.ended = True
                self._first = self._first or half.side
                self._part(EndReason.LOST, BAD_GATEWAY, GOING_AWAY)
            else:
                super()._end_of_stream(half)
                self._other(half).left = half.ended
        elif not half.ended and self._client.farewell:
            half.ended = True
            leg, other = (self._client, self._backend) if half is self._client else (self._backend, self._client)
            if leg.told:
                leg.leave()
            self._tell(other)
            self._tell(leg)

    def _gone(self, half: Half, reason: Failure) -> None:
        if half.lost:
            return
        if self._reason is None and half is self._backend and self._can_part():
            half.ended = True
            self._first = self._first or half.side
            self._part(EndReason.LOST, BAD_GATEWAY, GOING_AWAY)
        super()._gone(half, reason)
        other = self._other(half)
        if other.farewell and not other.lost:
            self._tell(other, now=True)
            if not other.told:
                other.transport.abortConnection()

    def _can_part(self) -> bool:
        """The backend is gone without a Close, and the client can be told."""
        return self._backend.between and not (self._backend.said or self._client.said or self._client.lost)

    def expired(self) -> None:
        """The sweep's word: it was silent for too long, or its end has taken its time."""
        if self._bounded and self._reason is None:
            self._close(EndReason.CLOSED)
            self._end_by(self._sweep.after(GRACE))
        elif self._reason is None:
            if self._is_idle():
                self._part(EndReason.IDLE, GOING_AWAY, GOING_AWAY)
            else:
                self._look_at_pings()
        elif self._client.farewell and not self._bounded:
            self._bounded = True
            self.deadline = self._sweep.after(GRACE)
            for leg in (self._client, self._backend):
                self._tell(leg, now=True)
                if not leg.told and not leg.lost:
                    leg.transport.abortConnection()
                elif not (leg.left or leg.lost):
                    leg.hang_up()
        else:
            super().expired()

    # Pings.

    def _look_at_pings(self) -> None:
        """Who is to be pinged is, and who has not answered is gone."""
        if self._care.ping is None or self._reason is not None or self._first is not None:
            return
        now = self._sweep.now
        for leg in (self._client, self._backend):
            received = self.to_backend if leg is self._client else self.to_client
            if leg.awaited <= now:
                if not leg.paused and received == leg.seen:
                    self._miss(leg)
                    return
                leg.awaited, leg.seen = now + self._care.pong, received
            elif leg.due <= now and leg.awaited == NEVER and self._other(leg).between:
                leg.due, leg.awaited, leg.seen = now + self._care.ping, now + self._care.pong, received
                self._mark = self._mark or os.urandom(8)
                if leg is self._client:
                    self._write_client(control_frame(PING, self._mark))
                else:
                    self._write_backend(control_frame(PING, self._mark, os.urandom(4)))
            self.deadline = min(self.deadline, leg.due if leg.awaited == NEVER else leg.awaited)

    def _answered(self, leg: Leg, size: int) -> None:
        """Our pong of ``size`` bytes is nobody's word: it is not passed on, and ends no silence."""
        leg.awaited = NEVER
        if leg is self._client:
            self.to_backend -= size
        else:
            self.to_client -= size

    def _miss(self, leg: Leg) -> None:
        """``leg`` does not answer. Where it has left a frame unfinished, the other side cannot be told."""
        leg.said = not leg.frames.left
        self._first = self._first or leg.side
        self._part(EndReason.SILENT, BAD_GATEWAY, GOING_AWAY)
        leg.transport.abortConnection()

    # What is told of it.

    def _end(self) -> RelayEnd:
        to_backend, to_client = self._messages()
        end = super()._end()
        return end._replace(code=self._code, messages_to_backend=to_backend, messages_to_client=to_client)

    def _messages(self) -> tuple[int, int]:
        client, backend = self._client.frames.messages, self._backend.frames.messages
        return self._wholes_to_backend + client, self._wholes_to_client + backend

    def _activity(self) -> object:
        if self._care.idle_by == "frame":
            return super()._activity()
        within = self._client.frames.within or self._backend.frames.within
        return self._messages(), super()._activity() if within else 0


def _count(bucket: Bucket, sweep: Sweep, frames: Frames, within: bool, size: int) -> None:
    """A frame begins, of which ``size`` bytes are there; ``within``: in a message. Raises ``Breach``."""
    counts = not within or frames.control is not None or (size == _EMPTY and not frames.left)
    if counts and not bucket.take(sweep.seconds()):
        raise Breach("there are more messages than allowed", POLICY_VIOLATION)
