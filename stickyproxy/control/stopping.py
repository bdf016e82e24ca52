"""How a proxy comes to its end: it takes nobody any more, and those who are there have a while to go. Floor 5."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

from twisted.application.service import IService
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from stickyproxy.config import Configuration
from stickyproxy.control.drained import ConnectionsSubject
from stickyproxy.control.draining import Connection, Drain, Drains, Manner, Stage

#: Seconds that connections just accepted have to say who they are for (a PROXY header), before all are drained.
SETTLING = 0.25
#: Looks at whether connections that were cut are gone, a hundredth of a second apart: not all transports go at once.
TURNS = 20


class Stoppable(Protocol):
    """What is needed of a proxy."""

    configuration: Configuration
    drains: Drains

    def listening(self) -> Iterable[IService]: ...

    def connections(self) -> Iterable[Connection]: ...

    def tunnels(self) -> AbstractSet[Connection]: ...


class Stopping:
    """The end of ``proxy``, as ``[process]`` wants it. ``hurry`` may come at any time, before it has begun too."""

    _log = Logger()

    def __init__(self, proxy: Stoppable, clock: IReactorTime) -> None:
        self.begun = False  #: nobody new is to be sent here
        self.succeeded = False  #: another process listens already, on the same sockets
        self._proxy = proxy
        self._clock: Any = clock
        self._hurried = False
        self._pause: Deferred[None] | None = None
        self._drain: Drain | None = None

    def hurry(self) -> None:
        """It is to be over now."""
        self._hurried = True
        if self._pause is not None:
            self._pause.cancel()
        if self._drain is not None:
            self._drain.hurry()

    async def run(self) -> None:
        """Returns when nobody is left who may still be there."""
        self.begun = True
        process = self._proxy.configuration.process
        if process.drain_delay is not None and not self.succeeded:
            self._log.info("Stopping in {seconds} s; until then new connections are taken", seconds=process.drain_delay)
            await self._wait(process.drain_delay)
        for listener in list(self._proxy.listening()):
            await maybeDeferred(listener.stopService)
        if self.succeeded:
            await self._wait(SETTLING)
        manner = Manner(window=process.drain_window, deadline=0.0 if self._hurried else process.drain)
        subject = ConnectionsSubject("process", lambda: set(self._proxy.connections()), self._proxy.tunnels)
        self._drain = self._proxy.drains.start(subject, manner)
        if not self._drain.ended:
            self._log.info(
                "Draining {count} connections, {patience}; another signal ends them now",
                count=subject.sockets(),
                patience="without a deadline" if process.drain is None else f"for up to {process.drain:g} s",
            )
        progress = await self._drain.done
        if progress.stage == Stage.CUT.value and progress.cut:
            self._log.warn("{count} connections are cut", count=progress.cut)
            for _ in range(TURNS):  # a reactor that ends closes them in peace, which says that all was said
                if not subject.sockets():
                    break
                await deferLater(self._clock, 0.01)

    async def _wait(self, seconds: float) -> None:
        if not self._hurried:
            self._pause = deferLater(self._clock, seconds)
            try:
                await self._pause
            except CancelledError:
                if not self._hurried:
                    raise
            self._pause = None
