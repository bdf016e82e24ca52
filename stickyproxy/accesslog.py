"""A line for each request and each tunnel, written by the batch in one blocking write. Floor 3.

What a line is like: ``sansio.loglines``. Where it goes: ``logfile``. When: ``recording``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import random

from twisted.application.service import Service
from twisted.logger import Logger

from stickyproxy.config.logs import AccessLog as Spec
from stickyproxy.errors import StickyproxyError
from stickyproxy.logfile import LogFile
from stickyproxy.model import Entry, HTTPEntry, OpenEntry, Outcome
from stickyproxy.sansio.loglines import line_of
from stickyproxy.sansio.masking import mask_of

_BROKEN = frozenset((Outcome.REBOUND, Outcome.AWAY))


class CannotLog(StickyproxyError):
    """The file of an access log cannot be opened."""


class AccessLog(Service):
    """Writes entries as ``spec`` wants it. ``chance`` gives numbers below 1, for the sample.

    An error of the disk loses lines, is told in the log once, and never reaches the request. Starting raises
    ``CannotLog`` where the file can not be opened. After the end it is opened for each batch that still comes.
    """

    _log = Logger()

    def __init__(self, spec: Spec, chance: Callable[[], float] = random) -> None:
        self.path = spec.path
        self._file = LogFile(spec.path, spec.size, spec.keep)
        self._line = line_of(spec.format, mask_of(spec.mask_query))
        self._share = spec.sample
        self._opens = spec.opens
        self._chance = chance
        self._lost = 0
        self._stuck = False  # it is full, and can not be rotated

    def privilegedStartService(self) -> None:
        """Open the file, while we may still have the privileges for it."""
        super().privilegedStartService()
        try:
            self._file.open()
        except OSError as error:
            raise CannotLog(f"the access log {self.path} cannot be opened: {error.strerror}") from error

    def startService(self) -> None:
        """Open the file, if it is not open yet."""
        self.privilegedStartService()
        super().startService()

    def stopService(self) -> None:
        """Let go of the file."""
        super().stopService()
        self._file.close()

    def write(self, entries: Sequence[Entry]) -> None:
        """Write a line for each of ``entries`` that is wanted."""
        if self._share < 1:
            entries = [entry for entry in entries if self._wanted(entry)]
        elif not self._opens:
            entries = [entry for entry in entries if type(entry) is not OpenEntry]
        if not entries:
            return
        try:
            self._file.write("\n".join([*map(self._line, entries), ""]).encode("ascii", "backslashreplace"))
        except OSError as error:
            if not self._lost:
                self._log.error("Lines of the access log {path} are lost: {error}", path=self.path, error=error)
            self._lost += len(entries)
        else:
            if self._lost:
                self._log.warn("The access log {path} goes on, {lost} lines are lost", path=self.path, lost=self._lost)
            self._lost = 0
            if self._file.full():
                self._rotate()
        if not self.running:
            self._file.close()

    def reopen(self) -> None:
        """Go on in a new file of the same name, the old one having been moved away (logrotate)."""
        try:
            self._file.reopen()
        except OSError as error:
            self._log.error("The access log {path} can not be opened again: {error}", path=self.path, error=error)

    def _rotate(self) -> None:
        try:
            self._file.rotate()
        except OSError as error:
            if not self._stuck:
                self._log.error("The access log {path} can not be rotated: {error}", path=self.path, error=error)
            self._stuck = True
        else:
            self._stuck = False

    def _wanted(self, entry: Entry) -> bool:
        """The share that is sampled, and all that should be rare."""
        if isinstance(entry, HTTPEntry):
            rare = entry.status >= 500 or entry.status == 101 or entry.outcome in _BROKEN
            return rare or self._chance() < self._share
        return self._opens or not isinstance(entry, OpenEntry)
