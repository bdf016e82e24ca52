"""What ``twistd`` runs: it starts, tells systemd, and stops in good time. Floor 6."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred

from stickyproxy.control.signals import on_second_signal
from stickyproxy.control.systemd import Notifier, Watchdog
from stickyproxy.errors import StickyproxyError


class Program(MultiService):
    """A port or a file that it cannot have ends it with a sentence, not with a traceback.

    It stops as its parts do, which may take a while; a second SIGTERM or SIGINT has those that can ``hurry()``.
    """

    def __init__(self, reactor: Any, environment: MutableMapping[str, str]) -> None:
        super().__init__()
        self._reactor = reactor
        self.notifier = Notifier.of(environment)
        self._watchdog = Watchdog(self.notifier, environment, reactor)

    def privilegedStartService(self) -> None:
        try:
            super().privilegedStartService()
        except StickyproxyError as error:
            raise SystemExit(f"stickyproxy: {error}") from error

    def startService(self) -> None:
        try:
            super().startService()
        except StickyproxyError as error:
            raise SystemExit(f"stickyproxy: {error}") from error
        self._watchdog.startService()
        self._reactor.callWhenRunning(self.notifier.tell, READY=1, STATUS="Serving")

    def stopService(self) -> Deferred[Any]:
        self.notifier.tell(STOPPING=1, STATUS="Draining")
        undo = on_second_signal(self._reactor, self.hurry)

        def ended(result: Any) -> Any:
            self._watchdog.stopService()  # until here it was alive
            undo()
            return result

        stopped: Deferred[Any] = super().stopService()
        return stopped.addBoth(ended)

    def hurry(self) -> None:
        """Whoever is there has no more time."""
        for service in self:
            if hasattr(service, "hurry"):
                service.hurry()
