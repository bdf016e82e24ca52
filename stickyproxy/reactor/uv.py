"""The reactor: Twisted's asyncio reactor on a loop of uvloop, with TCP of its own. Floor 2."""

from __future__ import annotations

import os
import socket
import weakref
from asyncio import TimerHandle
from collections.abc import Callable
from math import ceil
from typing import Any

import uvloop
from twisted.internet._signals import SignalHandling, _MultiSignalHandling
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.base import DelayedCall, ReactorBase
from twisted.internet.main import installReactor
from twisted.python import context
from twisted.python.failure import Failure
from twisted.python.log import ILogContext

from stickyproxy.reactor.ports import Connector, Port, adopt_connection
from stickyproxy.reactor.signals import ChildSignals
from stickyproxy.reactor.speaking import Speaking
from stickyproxy.reactor.stream import LOST, Stream
from stickyproxy.reactor.turn import Turn

INTERNET = (socket.AF_INET, socket.AF_INET6)


class UVReactor(AsyncioSelectorReactor):
    """``listenTCP``, ``connectTCP`` and adopted TCP sockets are libuv's; all else is Twisted's, on the same loop.

    ``loop`` is the asyncio loop, for asyncio's libraries beside Twisted's. A child that is forked before the reactor
    runs (``twistd`` does it) gets another, with everything registered in it that was in the old one.
    """

    loop: uvloop.Loop
    _scheduledAt: float | None  # type: ignore[assignment] # noqa: N815
    _timerHandle: TimerHandle | None  # type: ignore[assignment] # noqa: N815

    def __init__(self) -> None:
        self.streams: set[Stream] = set()
        self.speaking = Speaking()
        self.turn = Turn(lambda call: self.loop.call_soon(call))  # the loop is another one after a fork
        self._loops_of_parents: list[uvloop.Loop] = []
        self._make_loop()
        super().__init__(self.loop)
        _reactors.add(self)

    def _make_loop(self) -> None:
        self.loop = self._asyncioEventloop = uvloop.new_event_loop()
        self.loop.set_exception_handler(self._log_unhandled)

    def _log_unhandled(self, loop: Any, context: dict[str, Any]) -> None:
        """What uvloop's callbacks raise: those of a stream end it."""
        error, stream = context.get("exception"), context.get("protocol")
        if isinstance(stream, Stream) and error is not None:
            stream.raised(error)
            return
        failure = Failure(error, type(error), error.__traceback__) if error is not None else None
        self._log.failure("{message}", failure, message=context.get("message", "Unhandled error in the loop"))

    # IReactorTCP, IReactorSocket

    def listenTCP(self, port: Any, factory: Any, backlog: int = 50, interface: str = "") -> Port:
        listening = Port(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30,
        bindAddress: Any = None,
    ) -> Connector:
        connector = Connector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def adoptStreamPort(self, descriptor: int, family: int, factory: Any) -> Any:
        if family not in INTERNET:
            return super().adoptStreamPort(descriptor, family, factory)
        listening = Port._fromListeningDescriptor(self, descriptor, family, factory)
        listening.startListening()
        return listening

    def adoptStreamConnection(self, descriptor: int, family: int, factory: Any) -> Any:
        if family not in INTERNET:
            return super().adoptStreamConnection(descriptor, family, factory)
        return adopt_connection(descriptor, family, factory, self)

    # IReactorFDSet: streams are no descriptors of ours, but answer like them

    def addReader(self, reader: Any) -> None:
        if isinstance(reader, Stream):
            reader.startReading()
        else:
            super().addReader(reader)

    def removeReader(self, reader: Any) -> None:
        if isinstance(reader, Stream):
            reader.stopReading()
        else:
            super().removeReader(reader)

    def getReaders(self) -> list[Any]:
        return [*super().getReaders(), *(stream for stream in self.streams if stream.reading)]

    def getWriters(self) -> list[Any]:
        return [*super().getWriters(), *(stream for stream in self.streams if stream.writing)]

    def removeAll(self) -> list[Any]:
        streams = [stream for stream in self.streams if stream.reading or stream.writing]
        for stream in streams:
            stream.stopReading()
            self.streams.discard(stream)
        return [*super().removeAll(), *streams]

    def disconnectAll(self) -> None:  # noqa: N802 - Twisted's name
        """Also those that neither read nor write at the moment."""
        streams = list(self.streams)
        super().disconnectAll()
        for stream in streams:
            stream.connectionLost(LOST)

    # IReactorTime, IReactorFromThreads. Loop time counts here, which nobody sets back.

    def callLater(self, delay: float, callable: Callable[..., Any], *args: object, **kw: object) -> DelayedCall:  # noqa: A002
        call = ReactorBase.callLater(self, delay, callable, *args, **kw)
        if self._scheduledAt is None or self.loop.time() + delay < self._scheduledAt:
            self._reschedule()
        return call

    def _reschedule(self) -> None:
        timeout = self.timeout()
        if timeout is None:
            return
        if self._timerHandle is not None:
            self._timerHandle.cancel()
        # uvloop rounds to milliseconds: rounded down, we would turn idly until the call is due
        delay = ceil(timeout * 1000) / 1000
        self._scheduledAt = self.loop.time() + timeout
        self._timerHandle = self.loop.call_later(delay, self._onTimer)

    def callFromThread(self, f: Callable[..., Any], *args: object, **kwargs: object) -> None:  # type: ignore[override]
        self.threadCallQueue.append((f, args, kwargs))
        self.loop.call_soon_threadsafe(self._onTimer)

    # IReactorCore

    def run(self, installSignalHandlers: bool = True) -> None:
        try:
            context.call({ILogContext: self.speaking}, super().run, installSignalHandlers)
        finally:
            self._signals.uninstall()

    def iterate(self, delay: float = 0) -> None:
        """One turn; with ``delay`` (seconds) as many as there are in that time."""
        self.loop.call_later(delay, self.loop.stop)
        self.loop.run_forever()

    def _signalsFactory(self) -> SignalHandling:
        return _MultiSignalHandling((ReactorBase._signalsFactory(self), ChildSignals(self)))

    def after_fork(self) -> None:
        """In the child: kqueue is not inherited, and what epoll and io_uring know is shared with the parent.

        The parent's loop is kept as it is, since closing it would take the parent's descriptors from its epoll.
        """
        if self.loop.is_running():  # the child of a running reactor will call exec, or have nothing of it
            return
        self._loops_of_parents.append(self.loop)
        self._make_loop()
        readers, writers = list(self._readers), list(self._writers)
        self._readers.clear()
        self._writers.clear()
        for reader in readers:
            self.addReader(reader)
        for writer in writers:
            self.addWriter(writer)
        self._timerHandle = self._scheduledAt = None
        self.loop.call_soon(self._onTimer)


_reactors: weakref.WeakSet[UVReactor] = weakref.WeakSet()


def _after_fork() -> None:
    for reactor in list(_reactors):
        reactor.after_fork()


os.register_at_fork(after_in_child=_after_fork)


def install() -> None:
    """Make a ``UVReactor`` the reactor of this process. Raises ``ReactorAlreadyInstalledError``."""
    installReactor(UVReactor())
