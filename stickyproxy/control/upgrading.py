"""Upgrade in place, from both sides: a program takes over from the running one, and hands over in turn. Floor 5."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from stickyproxy.control.handover import Handover
from stickyproxy.control.settings import Set, restore_settings, settings_of
from stickyproxy.control.sockets import Sockets
from stickyproxy.control.systemd import Notifier
from stickyproxy.control.takeover import CannotTakeOver, Predecessor, Store
from stickyproxy.listening import clear_left


class Upgrading:
    """What ``proxy`` has come from the process that is met at ``path``, and goes to the next that comes there.

    That are the ``sockets``, the sessions in ``stores()``, and what operators have set.

    ``leaving`` is called when they have gone; then the reactor is stopped.
    """

    _log = Logger()

    def __init__(
        self,
        path: Path,
        proxy: Set,
        sockets: Sockets,
        stores: Callable[[], Mapping[str, Store]],
        leaving: Callable[[], object],
        reactor: Any,
        notifier: Notifier,
    ) -> None:
        self._proxy = proxy
        self._sockets = sockets
        self._stores = stores
        self._leaving = leaving
        self._reactor = reactor
        self._notifier = notifier
        self._predecessor: Predecessor | None = None
        self._left: list[str] = []  #: files of sockets of his that are nobody's when he has gone
        self._handover = Handover(path, reactor, sockets.held, stores, self._leave, partial(settings_of, proxy))

    def find(self) -> None:
        """Before anything listens: its sockets, if somebody is there. Raises ``CannotTakeOver``."""
        self._predecessor = Predecessor.find(self._handover.path)
        if self._predecessor is not None:
            for description, sock in self._predecessor.sockets:
                self._sockets.give(description, sock)
            restore_settings(self._proxy, self._predecessor.settings)

    def take(self) -> None:
        """All has started, and nobody is served yet. Raises ``CannotTakeOver``."""
        self._left = self._sockets.forget()
        if self._predecessor is None:
            self._handover.startService()
            return
        count = self._predecessor.take_sessions(self._stores())
        version, pid = self._predecessor.version, self._predecessor.pid
        self._log.info(
            "Taken over from process {pid}, version {version}: {sockets} sockets, {count} sessions",
            pid=pid,
            version=version,
            sockets=len(self._predecessor.sockets),
            count=count,
        )

    def serve(self) -> None:
        """The reactor runs: the other may go."""
        if self._predecessor is not None:
            self._predecessor.serve_on(self._reactor, self._stores(), self._clear)
            try:
                self._handover.startService()
            except CannotTakeOver as error:
                self._log.critical("Nobody can take over from here: {error}", error=error)

    def start(self) -> None:
        """Start what this process was started with: the version that is installed now, which will take over."""
        program = [sys.executable, *sys.orig_argv[1:]]
        environment = {**os.environ, **self._notifier.environment}
        try:
            self._reactor.spawnProcess(_Started(), sys.executable, program, environment, childFDs={0: 0, 1: 1, 2: 2})
        except OSError as error:
            self._log.error("A new process cannot be started: {error}", error=error)

    def stop(self) -> Deferred[Any]:
        """It is over."""
        return self._handover.stopService()

    def _clear(self) -> None:
        for address in self._left:
            clear_left(address)

    def _leave(self, pid: int) -> None:
        self._notifier.tell(MAINPID=pid)
        self._notifier.address = None  # from here on the other speaks
        self._sockets.release()
        self._leaving()
        with suppress(ReactorNotRunning):  # it stops already
            self._reactor.stop()


class _Started(ProcessProtocol):
    """A new process. If all goes well, it lives longer than this one."""

    _log = Logger()

    def processEnded(self, reason: Failure) -> None:
        self._log.error("The new process has ended: {reason}", reason=reason.getErrorMessage())
