"""One of several processes that serve: it does what its parent asks. Floor 5.

It listens on the sockets that it is given, and is told what the probes of its parent find. Its parent alone obeys
signals; when that is gone, nobody is served who could not be steered, and it ends.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from stickyproxy.control.asking import Asking
from stickyproxy.control.refusal import Refusal
from stickyproxy.control.sockets import Sockets
from stickyproxy.control.wellbeing import Told, Wellbeing
from stickyproxy.errors import StickyproxyError

#: The descriptor of a worker's socket to its parent.
PARENT = 3


class Serving(Protocol):
    """What a worker needs of a running configuration: ``service.Proxy``."""

    @property
    def clusters(self) -> Mapping[str, Any]: ...

    def privilegedStartService(self) -> object: ...

    def startService(self) -> object: ...

    def stopService(self) -> object: ...

    def hurry(self) -> None: ...


class Worker:
    """What the parent can ask. ``make(document, path, sockets)`` makes a configuration's service; it may raise."""

    _log = Logger()

    def __init__(self, reactor: Any, make: Callable[[bytes, Path, Sockets], Serving]) -> None:
        self._reactor = reactor
        self._make = make
        self._sockets = Sockets(reactor, accepting=True, opening=False)
        self._parent = Asking(self.answer, self._lost, self._sockets.give)
        self._serving: Serving | None = None
        self._stopping: Serving | None = None
        self._wellbeing = Wellbeing(self._ejected, probing=False)
        self._methods: dict[str, Callable[..., Awaitable[Any]]] = {
            "ping": self.ping,
            "serve": self.serve,
            "hear": self.hear,
            "accept": self.accept,
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

    async def serve(self, document: str, path: str, known: list[Told], *share: Any) -> None:
        """Serve ``document``, which was read from ``path``; ``known`` is known of the backends; see ``accept``."""
        self._sockets.act_for(*share)
        try:
            serving = self._make(document.encode(), Path(path), self._sockets)
            self._wellbeing.watch(serving.clusters)
            self._wellbeing.hear(known)
            serving.privilegedStartService()
        except (StickyproxyError, ValueError, OSError) as error:
            raise Refusal("invalid", str(error)) from error
        self._sockets.forget()
        serving.startService()
        self._serving = serving

    async def hear(self, told: list[Told]) -> None:
        """What probes found, or clients of another worker met."""
        self._wellbeing.hear(told)

    async def accept(self, workers: list[int], count: int) -> None:
        """Accept what is there for these workers of ``count``."""
        self._sockets.act_for(workers, count)

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

    def _ejected(self, told: Told) -> None:
        Deferred.fromCoroutine(self._parent.ask("ejected", told)).addErrback(lambda _: None)

    def _lost(self) -> None:
        """The parent is gone, or wants no more."""
        if self._serving is not None:
            self._log.error("The parent is gone: this worker ends")
        ended = Deferred.fromCoroutine(self.stop())
        ended.addErrback(lambda failure: self._log.failure("It does not stop in order", failure))
        ended.addBoth(lambda _: self._reactor.stop())
