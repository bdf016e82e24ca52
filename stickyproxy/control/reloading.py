"""Reload: another configuration takes the place of the one that runs, or nothing at all happens. Floor 5."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from stickyproxy.config.difference import difference
from stickyproxy.config.specs import Configuration
from stickyproxy.control.onsignal import OnSignal

_log = Logger()


class Reloading(MultiService):
    """Reloads on SIGHUP, when ``reload`` is called, and when a file has changed, if it is to watch.

    ``read`` gives the configuration as it is in the file now, tried, or raises; ``current`` what runs; ``apply`` makes
    it run, or fails and changes nothing. ``told``: called with True before and False after it (``sd_notify``).
    """

    def __init__(
        self,
        read: Callable[[], Configuration],
        current: Callable[[], Configuration],
        apply: Callable[[Configuration], Deferred[None]],
        reactor: Any,
        told: Callable[[bool], object] = lambda begins: None,
    ) -> None:
        super().__init__()
        self._read = read
        self._current = current
        self._apply = apply
        self._told = told
        self._reactor = reactor
        self.done = 0  #: how often a file was loaded
        self.failed = 0  #: and how often one was not
        self._watched: tuple[Any, ...] | None = None
        self._refused: tuple[Any, ...] | None = None  #: what was there when it was told to be wrong
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        OnSignal(signal.SIGHUP, self._hangup, reactor).setServiceParent(self)

    def startService(self) -> None:
        super().startService()
        self._follow()

    def stopService(self) -> Deferred[Any]:
        if self._looking.running:
            self._looking.stop()
        return maybeDeferred(super().stopService)

    async def reload(self) -> list[str]:
        """Load the file. Returns what has changed, a line each. Raises as ``read`` and ``apply``: all is as it was."""
        self._told(True)
        try:
            before, new = self._current(), self._read()
            changes = [str(change) for change in difference(before, new)]
            await self._apply(new)
        except BaseException:
            self.failed += 1
            raise
        finally:
            self._told(False)
        self.done += 1
        _log.info("{path} is loaded: {count} changes", path=str(new.path), count=len(changes))
        for change in changes:
            _log.info("  {change}", change=change)
        self._follow()
        return changes

    def _hangup(self) -> None:
        Deferred.fromCoroutine(self.reload()).addErrback(_refused)

    # Files that change.

    def _follow(self) -> None:
        """Look at the files as the configuration says."""
        configuration = self._current()
        watch = configuration.process.watch
        self._watched = state_of(configuration)
        if self._looking.running and self._looking.interval != watch:
            self._looking.stop()
        if watch is not None and not self._looking.running and self.running:
            self._looking.start(watch, now=False)

    def _look(self) -> None:
        """Reload what has changed, and has not changed any more since the last look: it may still be being written."""
        now = state_of(self._current())
        if now != self._watched and now != self._refused:
            if now == self._seen:
                self._refused = now
                self._hangup()
            self._seen = now


def _refused(failure: Failure) -> None:
    """To the log, and nothing else has happened."""
    _log.error("The configuration is not loaded, the one before goes on: {reason}", reason=failure.getErrorMessage())


def files_of(configuration: Configuration) -> Iterable[Path]:
    """Every file and directory that a configuration reads when it is loaded."""
