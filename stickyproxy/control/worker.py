"""One of several processes that serve: it does what its parent asks. Floor 5.

It listens on the sockets that it is given, and is told what the probes of its parent find. Its parent alone obeys
signals; when that is gone, nobody is served who could not be steered, and it ends.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from stickyproxy.config import Configuration
from stickyproxy.control.asking import Asking
from stickyproxy.control.controls import LocalControls, Running
from stickyproxy.control.refusal import Refusal
from stickyproxy.control.sockets import Sockets
from stickyproxy.control.stopping import Stopping
from stickyproxy.control.wellbeing import Told, Wellbeing
from stickyproxy.errors import StickyproxyError
from stickyproxy.model import BackendState
from stickyproxy.recording import Recording

#: The descriptors of a worker: its socket to the parent, that for sessions, and the memory of all.
PARENT, SESSIONS, MEMORY = 3, 4, 5
#: A backend that is not as the file says: cluster, backend, state, weight.
Changed = tuple[str, str, str, int]


class Serving(Running, Protocol):
    """What a worker needs of a running configuration: ``service.Proxy``."""

    share: tuple[int, int]
    stopping: Stopping

    def privilegedStartService(self) -> object: ...

    def startService(self) -> object: ...

    def stopService(self) -> object: ...

    def hurry(self) -> None: ...
    def reconfigure(self, configuration: Configuration) -> Deferred[None]: ...

    @property
    def recording(self) -> Recording: ...


class Worker:
    """What the parent can ask.

    ``read(document, path)`` makes a configuration, ``make(configuration, sockets, share)`` its service; both may raise.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        read: Callable[[bytes, Path], Configuration],
        make: Callable[[Configuration, Sockets, tuple[int, int]], Serving],
    ) -> None:
        self._reactor = reactor
        self._read = read
        self._make = make
        self._sockets = Sockets(reactor, accepting=True, opening=False)
        self._parent = Asking(self.answer, self._lost, self._sockets.give)
        self._serving: Serving | None = None
        self._stopping: Serving | None = None
        self._controls: LocalControls
        self._wellbeing = Wellbeing(self._found, probing=False)
        self._methods: dict[str, Callable[..., Awaitable[Any]]] = {
            "ping": self.ping,
            "serve": self.serve,
            "hear": self.hear,
            "plan": self.plan,
            "accept": self.accept,
            "control": self.control,
            "change": self.change,
            "close": self.close,
            "reopen": self.reopen,
            "stop": self.stop,
            "hurry": self.hurry,
        }

    def connect(self, parent: socket.socket) -> None:
        """Begin to answer the parent at the other end of a Unix socket."""
        with parent:
            parent.setblocking(False)
            factory = Factory.forProtocol(lambda: self._parent)
            self._reactor.adoptStreamConnection(parent.fileno(), socket.AF_UNIX, factory)

    async def answer(self, method: str, arguments: list[Any]) -> Any:
        """What ``method`` answers. Raises ``Refusal``."""
        known = self._methods.get(method)
        if known is None:
            raise Refusal("unknown", f"a worker knows no {method}")
        return await known(*arguments)

    async def ping(self) -> None:
        """It is there, and gets to do what it is asked."""

    async def serve(
        self,
        document: str,
        path: str,
        known: list[Told],
        changed: list[Changed],
        closed: list[str | None],
        number: int,
        workers: list[int],
        count: int,
    ) -> None:
        """Serve ``document``, read from ``path``, as worker ``number``. ``workers``, ``count``: as for ``accept``.

        ``known`` is known of the backends, ``changed`` are those that are not as the file says, ``closed`` is as
        ``Closed.what``.
        """
        self._sockets.act_for(workers, count)
        share = number - 1, count
        try:
            configuration = self._read(document.encode(), Path(path))
            if self._serving is None:
                serving = self._make(configuration, self._sockets, share)
                await serving.closed.become(closed)
                self._begin(serving)
            else:
                self._serving.share = share
                await self._serving.reconfigure(configuration)
                await self._serving.closed.become(closed)
        except (StickyproxyError, ValueError, OSError) as error:
            raise Refusal("invalid", str(error)) from error
        assert self._serving is not None
        self._sockets.forget()
        await self.change(changed)
        self._wellbeing.watch(self._serving.clusters)
        self._wellbeing.hear(known)

    def _begin(self, serving: Serving) -> None:
        serving.privilegedStartService()
        serving.startService()
        self._serving = serving
        self._controls = LocalControls(serving, self._reactor)

    async def hear(self, told: list[Told]) -> None:
        """What probes found, or clients of another worker met."""
        self._wellbeing.hear(told)

    async def accept(self, workers: list[int], count: int) -> None:
        """Accept what is there for these workers of ``count``."""
        self._sockets.act_for(workers, count)

    async def control(self, method: str, arguments: list[Any]) -> Any:
        """What ``Controls`` answers here."""
        return await getattr(self._controls, method)(*arguments)

    async def change(self, changed: list[Changed]) -> None:
        """These backends are otherwise from now on; it is in the log of the parent."""
        assert self._serving is not None
        for cluster, backend, state, weight in changed:
            running = self._serving.clusters[cluster]
            member = running.members[backend]
            if member.state is not BackendState(state):
                member.set_state(BackendState(state))
            if member.weight != weight:
                member.weight = weight
                running.members_changed()

    async def close(self, closed: list[str | None]) -> None:
        """These frontends listen no more (``Closed.what``), the others do, on the sockets that were given."""
        assert self._serving is not None
        try:
            await self._serving.closed.become(closed)
        except StickyproxyError as error:
            raise Refusal("conflict", str(error)) from error
        self._sockets.forget()

    async def plan(self, document: str, path: str) -> Any:
        """What ``document`` would do to the connections here: a report of ``planning.plan``."""
        assert self._serving is not None
        return self._controls.plan_for(self._read(document.encode(), Path(path)))

    async def reopen(self) -> None:
        """Open the access logs again, which were rotated."""
        if self._serving is not None:
            self._serving.recording.reopen()

    async def stop(self) -> None:
        """Stop listening, and drain; then this process ends."""
        serving, self._serving = self._serving, None
        if serving is not None:
            self._stopping = serving
            await maybeDeferred(serving.stopService)

    async def hurry(self) -> None:
        """It stops, and that is to be over now."""
        if self._stopping is not None:
            self._stopping.hurry()

    def _found(self, told: Told) -> None:
        Deferred.fromCoroutine(self._parent.ask("found", told)).addErrback(lambda _: None)

    def _lost(self) -> None:
        """The parent is gone, or wants no more."""
        if self._serving is not None:
            self._log.error("The parent is gone: this worker listens no more, and ends")
            self._serving.stopping.succeeded = True  # or about to be: the next one wants the port
        ended = Deferred.fromCoroutine(self.stop())
        ended.addErrback(lambda failure: self._log.failure("It does not stop in order", failure))
        ended.addBoth(lambda _: self._reactor.stop())
