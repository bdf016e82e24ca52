"""Reload: another configuration takes the place of the one that runs, or nothing at all happens. Floor 5."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import attrs
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredLock, maybeDeferred
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from stickyproxy.config.difference import difference
from stickyproxy.config.process import Process
from stickyproxy.config.specs import Configuration
from stickyproxy.control.onsignal import OnSignal
from stickyproxy.errors import StickyproxyError

_log = Logger()


#: What files were like: the path of each, its inode, size and time of change.
State = tuple[tuple[str, int, int, int], ...]


class Loaded(NamedTuple):
    """What stood in a file, and what that means."""

    document: bytes
    configuration: Configuration


class Reloading(MultiService):
    """Reloads on SIGHUP, when ``reload`` is called, and when a file has changed, where ``process.watch`` says so.

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
        self._seen: State = ()  #: at the last look
        self._judged: State = ()  #: what was loaded last, or refused
        self._turn = DeferredLock()
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        OnSignal(signal.SIGHUP, self._hangup, reactor).setServiceParent(self)

    def startService(self) -> None:
        super().startService()
        self._judged = state_of(self._current())
        self._watch()

    def stopService(self) -> Deferred[None]:
        if self._looking.running:
            self._looking.stop()
        return maybeDeferred(super().stopService)

    async def reload(self) -> list[str]:
        """Load the file. Returns what has changed, a line each. Raises as ``read`` and ``apply``: all is as it was.

        One at a time, each from what the one before it has made.
        """
        changes: list[str] = await self._turn.run(lambda: Deferred.fromCoroutine(self._reload()))
        return changes

    async def _reload(self) -> list[str]:
        self._told(True)
        try:
            before = self._current()
            self._judged = state_of(before)
            new = self.read(None)
            self._judged = state_of(new.configuration)
            changes = [str(change) for change in difference(before, new.configuration)]
            await self._apply(new)
        except BaseException as error:
            self.failed += 1
            if isinstance(error, Exception):
                _refused(Failure())
            raise
        finally:
            self._told(False)
        self.done += 1
        _log.info("{path} is loaded, {count} changes", path=str(new.configuration.path), count=len(changes))
        for change in changes:
            _log.info("  {change}", change=change)
        if new.configuration.process.takeover != before.process.takeover:
            _log.warn("process.takeover is of the next start: who takes over still comes to where it was at this one")
        self._watch()
        return changes

    def _hangup(self) -> None:
        """Another one, unless one waits for its turn already, which reads the file later than now."""
        if self._turn.waiting:
            return
        Deferred.fromCoroutine(self.reload()).addErrback(lambda failure: None)  # the log has it

    def _watch(self) -> None:
        """Look at the files as often as the configuration says."""
        interval = self._current().process.watch
        if self._looking.running and self._looking.interval != interval:
            self._looking.stop()
        if interval is not None and self.running and not self._looking.running:
            self._looking.start(interval, now=False)

    def _look(self) -> None:
        """Reload what has changed, once it is the same for two looks: it may still be being written."""
        before, self._seen = self._seen, state_of(self._current())
        if self._seen == before and self._seen != self._judged:
            self._hangup()


def _refused(failure: Failure) -> None:
    """To the log, and nothing else has happened."""
    if failure.check(StickyproxyError, ValueError, OSError) is None:
        _log.failure("Defect: the configuration is not loaded", failure)
        return
    _log.error("The configuration is not loaded, the one before goes on:\n{reason}", reason=failure.getErrorMessage())


def state_of(configuration: Configuration) -> State:
    """What the files of ``configuration`` are like now: its own and those that it names, also in directories."""
    found = []
    read = attrs.evolve(configuration, process=Process())  # what that names is made, not read
    for path in sorted(set(_paths(read))):
        for each in (path, *(sorted(path.iterdir()) if path.is_dir() else ())):
            with suppress(OSError):
                stat = each.stat()
                found.append((str(each), stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)


def _paths(value: Any) -> Iterator[Path]:
    """Every path in a specification."""
    if isinstance(value, Path):
        yield value
    elif attrs.has(type(value)):
        for field in attrs.fields(type(value)):
            yield from _paths(getattr(value, field.name))
    elif isinstance(value, Mapping):
        yield from _paths(tuple(value.values()))
    elif isinstance(value, tuple):
        for each in value:
            yield from _paths(each)
