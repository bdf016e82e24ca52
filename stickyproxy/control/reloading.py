"""Reload: another configuration takes the place of the one that runs, or nothing at all happens. Floor 5."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from stickyproxy.config.difference import difference
from stickyproxy.config.specs import Configuration
from stickyproxy.control.onsignal import OnSignal
from stickyproxy.errors import StickyproxyError

_log = Logger()


class Loaded(NamedTuple):
    """What stood in a file, and what that means."""

    document: bytes
    configuration: Configuration


class Reloading(MultiService):
    """Reloads on SIGHUP, and when ``reload`` is called.

    ``read`` gives the configuration of a document, None: of the file as it is now; tried, or it raises. ``current`` is
    what runs; ``apply`` makes another run, or fails and changes nothing. ``told`` is called with True before all that
    and with False after it.
    """

    def __init__(
        self,
        read: Callable[[bytes | None], Loaded],
        current: Callable[[], Configuration],
        apply: Callable[[Loaded], Deferred[None]],
        reactor: Any,
        told: Callable[[bool], object] = lambda begins: None,
    ) -> None:
        super().__init__()
        self.read = read
        self._current = current
        self._apply = apply
        self._told = told
        self.done = 0  #: how often a file was loaded
        self.failed = 0  #: and how often one was not
        OnSignal(signal.SIGHUP, self._hangup, reactor).setServiceParent(self)

    async def reload(self) -> list[str]:
        """Load the file. Returns what has changed, a line each. Raises as ``read`` and ``apply``: all is as it was."""
        self._told(True)
        try:
            before, new = self._current(), self.read(None)
            changes = [str(change) for change in difference(before, new.configuration)]
            await self._apply(new)
        except BaseException:
            self.failed += 1
            raise
        finally:
            self._told(False)
        self.done += 1
        _log.info("{path} is loaded, {count} changes", path=str(new.configuration.path), count=len(changes))
        for change in changes:
            _log.info("  {change}", change=change)
        return changes

    def _hangup(self) -> None:
        Deferred.fromCoroutine(self.reload()).addErrback(_refused)


def _refused(failure: Failure) -> None:
    """To the log, and nothing else has happened."""
    if failure.check(StickyproxyError, ValueError, OSError) is None:
        _log.failure("Defect: the configuration is not loaded", failure)
        return
    _log.error("The configuration is not loaded, the one before goes on:\n{reason}", reason=failure.getErrorMessage())
