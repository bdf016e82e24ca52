"""What ``twistd`` runs: it starts, tells systemd, and stops in good time. Floor 6."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred, succeed

from stickyproxy.config.process import Process
from stickyproxy.control.onsignal import OnSignal
from stickyproxy.control.signals import on_second_signal
from stickyproxy.control.sockets import Sockets
from stickyproxy.control.systemd import Notifier, Watchdog
from stickyproxy.control.takeover import Store
from stickyproxy.control.upgrading import Upgrading
from stickyproxy.errors import StickyproxyError
from stickyproxy.listening import Listen, listen_on
from stickyproxy.service import Proxy


@contextmanager
def _in_a_sentence() -> Iterator[None]:
    try:
        yield
    except StickyproxyError as error:
        raise SystemExit(f"stickyproxy: {error}") from error


class Program(MultiService):
    """A port or a file that it cannot have ends it with a sentence, not with a traceback.

    It stops as its parts do, which may take a while; a second SIGTERM or SIGINT has those that can ``hurry()``.
    """

    def __init__(self, reactor: Any, environment: MutableMapping[str, str]) -> None:
        super().__init__()
        self._reactor = reactor
        self.notifier = Notifier.of(environment)
        self.upgrading: Upgrading | None = None
        self.serving: Deferred[None] = succeed(None)  #: fires, once all has started, when clients are served
        self._sockets: Sockets | None = None
        self._watchdog = Watchdog(self.notifier, environment, reactor)

    def listen(self, process: Process) -> Listen:
        """How this process listens: so that its sockets can be handed over, if that is wanted."""
        if process.takeover is None:
            return listen_on(self._reactor)
        self._sockets = Sockets(self._reactor, accepting=True, opening=True)
        return self._sockets.listen

    def can_upgrade(self, proxy: Proxy, sockets: Sockets | None = None) -> None:
        """If it is to: take over ``sockets`` and the sessions of ``proxy``, and give them away in its turn.

        ``sockets`` None: those of ``listen``.
        """
        path, sockets = proxy.configuration.process.takeover, sockets or self._sockets
        if path is None or sockets is None:
            return

        def stores() -> Mapping[str, Store]:
            return {f"{'group' if group else 'cluster'} {name}": each for (group, name), each in proxy.stores.items()}

        def leaving() -> None:
            proxy.stopping.succeeded = True

        self.upgrading = Upgrading(path, proxy, sockets, stores, leaving, self._reactor, self.notifier)
        OnSignal(signal.SIGUSR2, self.upgrading.start, self._reactor).setServiceParent(self)

    def privilegedStartService(self) -> None:
        with _in_a_sentence():
            if self.upgrading is not None:
                self.upgrading.find()
            super().privilegedStartService()

    def startService(self) -> None:
        with _in_a_sentence():
            super().startService()
            if self.upgrading is not None:
                self.upgrading.take()
        self._watchdog.startService()
        self._reactor.callWhenRunning(self.serving.addCallback, self._serves)

    def _serves(self, _: object) -> None:
        if self.upgrading is not None:
            self.upgrading.serve()
        self.notifier.tell(READY=1, STATUS="Serving")

    def reloads(self, begins: bool) -> None:
        """Another configuration is being loaded, or was, or not."""
        if begins:
            self.notifier.reloading()
        else:
            self.notifier.tell(READY=1, STATUS="Serving")

    def stopService(self) -> Deferred[Any]:
        self.notifier.tell(STOPPING=1, STATUS="Draining")
        undo = on_second_signal(self._reactor, self.hurry)

        def ended(result: Any) -> Any:
            self._watchdog.stopService()  # until here it was alive
            undo()
            return result

        return Deferred.fromCoroutine(self._stop()).addBoth(ended)

    async def _stop(self) -> None:
        await maybeDeferred(super().stopService)
        if self.upgrading is not None:  # who has taken over has heard of all sessions
            await self.upgrading.stop()

    def hurry(self) -> None:
        """Whoever is there has no more time."""
        for service in self:
            if hasattr(service, "hurry"):
                service.hurry()
