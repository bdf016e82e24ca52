r"""One line for each request, and one for each ended tunnel. Floor 3.

The Combined log format of Apache (httpd's mod_log_config), in UTC, and behind it what a balancer has to tell, as
``key=value``. What came over the wire is escaped as Apache does it, so that nobody can forge a line: ``\"``, ``\\`` and
``\xhh`` for all that is not printable ASCII.

Lines are made and written by the batch (``recording``), in one blocking write.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import lru_cache

from twisted.application.service import Service
from twisted.logger import Logger

from stickyproxy.errors import StickyproxyError
from stickyproxy.model import Entry, HTTPEntry, RelayEntry

_SAFE = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
_ESCAPES = [chr(byte) if byte in _SAFE else f"\\x{byte:02x}" for byte in range(256)]
_ESCAPES[0x22], _ESCAPES[0x5C] = '\\"', "\\\\"
_LOGGED = (b"referer", b"user-agent")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class CannotLog(StickyproxyError):
    """The file of an access log cannot be opened."""


def format_http(entry: HTTPEntry) -> str:
    """The line of a request, without its end."""
    client, head, status, sent, ended, duration, cluster, backend, outcome, request_id, _, _ = entry
    if head is None:
        request, referer, agent = "-", "-", "-"
    else:
        request = f"{head.method.decode()} {_escape(head.target)} HTTP/1.{head.minor}"
        referer, agent = (_escape(b", ".join(head.values(name))) or "-" for name in _LOGGED)
    return (
        f'{client} - - [{_stamp(int(ended))}] "{request}" {status} {sent} "{referer}" "{agent}" '
        f"cluster={_word(cluster)} backend={_word(backend)} ms={duration * 1000:.3f} affinity={outcome.value} "
        f"id={_escape(request_id) or '-'}"
    )


def format_relay(entry: RelayEntry) -> str:
    """The line of an ended relay, without its end: a request of its own kind, without a status."""
    target = f" {_escape(entry.head.target)}" if entry.head is not None else ""
    return (
        f'{entry.client} - - [{_stamp(int(entry.ended))}] "{entry.protocol.upper()}{target}" - {entry.sent} "-" "-" '
        f"cluster={_word(entry.cluster)} backend={_word(entry.backend)} ms={entry.duration * 1000:.3f} "
        f"affinity={entry.outcome.value} id={_escape(entry.request_id) or '-'} received={entry.received} "
        f"sent={entry.sent} closed={entry.closed_by.value if entry.closed_by else 'proxy'}"
    )


def format_entry(entry: Entry) -> str:
    """The line of an entry, without its end."""
    if isinstance(entry, HTTPEntry):
        return format_http(entry)
    if isinstance(entry, RelayEntry):
        return format_relay(entry)
    return (
        f'{entry.client} - - [{_stamp(int(entry.ended))}] "TCP" - 0 "-" "-" cluster={_word(entry.cluster)} '
        f"backend={_word(entry.backend)} ms=0.000 affinity={entry.outcome.value} id=-"
    )


class AccessLog(Service):
    """Writes entries to a file (made with mode 0640, appended to), or to standard output for ``"-"``.

    An error of the disk loses lines, is told in the log once, and never reaches the request. Starting raises
    ``CannotLog`` where the file can not be opened. After the end it is opened for each batch that still comes.
    """

    _log = Logger()

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: int | None = None
        self._lost = 0
        self._torn = False

    def privilegedStartService(self) -> None:
        """Open the file, while we may still have the privileges for it."""
        super().privilegedStartService()
        if self._file is None:
            try:
                self._file = self._open()
            except OSError as error:
                raise CannotLog(f"the access log {self.path} cannot be opened: {error.strerror}") from error

    def startService(self) -> None:
        """Open the file, if it is not open yet."""
        self.privilegedStartService()
        super().startService()

    def stopService(self) -> None:
        """Let go of the file."""
        super().stopService()
        self.close()

    def write(self, entries: Sequence[Entry]) -> None:
        """Write a line for each of ``entries``."""
        lines = [format_entry(entry) for entry in entries]
        try:
            self._write("\n".join([*lines, ""]).encode("ascii", "backslashreplace"))
        except OSError as error:
            if not self._lost:
                self._log.error("Lines of the access log {path} are lost: {error}", path=self.path, error=error)
            self._lost += len(lines)
        else:
            if self._lost:
                self._log.warn("The access log {path} goes on, {lost} lines are lost", path=self.path, lost=self._lost)
            self._lost = 0
        if not self.running:
            self.close()

    def reopen(self) -> None:
        """Go on in a new file of the same name, the old one having been moved away (logrotate)."""
        if self.path == "-":
            return
        try:
            fresh = self._open()
        except OSError as error:
            self._log.error("The access log {path} can not be opened again: {error}", path=self.path, error=error)
            return
        self.close()
        self._file = fresh

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        if self.path == "-":
            return os.dup(1)  # not sys.stdout, which twistd turns into log messages
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _write(self, data: bytes) -> None:
        if self._file is None:
            self._file = self._open()
        if self._torn:
            data = b"\n" + data
        while data:
            written = os.write(self._file, data)
            self._torn = data[written - 1] != 0x0A
            data = data[written:]


def _escape(value: bytes) -> str:
    if value.translate(None, _SAFE):
        return "".join([_ESCAPES[byte] for byte in value])
    return value.decode("ascii")


@lru_cache(maxsize=4096)
def _word(text: str) -> str:
    """A name from the configuration as one word."""
    return _escape(text.encode()).replace(" ", "\\x20") or "-"


@lru_cache(maxsize=16)
def _stamp(second: int) -> str:
    """``10/Oct/2000:13:55:36 +0000``, whatever the locale."""
    at = time.gmtime(second)
    return time.strftime(f"%d/{_MONTHS[at.tm_mon - 1]}/%Y:%H:%M:%S +0000", at)
