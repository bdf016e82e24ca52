"""A file that several processes append to, and rotate. Floor 3.

Each batch is one write with ``O_APPEND``, so that lines of several processes never mix. Rotating by size needs no lock
file: who rotates holds the lock of the very file that is full (``flock``), and looks, once he has it, whether that
still has the name. All others see before their next write that the name is another file's, and go on there.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

STANDARD_OUTPUT = "-"


class LogFile:
    """The file at ``path`` (made with mode 0640), or standard output for ``"-"``. All may raise ``OSError``.

    ``size``: bytes at which it becomes ``path.1``, that ``path.2`` and so on, as far as ``keep``; None: it stays.
    """

    def __init__(self, path: str, size: int | None = None, keep: int = 5) -> None:
        self.path = path
        self._size = size
        self._keep = keep
        self._file: int | None = None
        self._torn = False

    def open(self) -> None:
        """Open it, if it is not open yet."""
        if self._file is None:
            self._file = self._opened()

    def reopen(self) -> None:
        """Go on in a new file of the same name, the old one having been moved away; after an error, in the old one."""
        if self.path == STANDARD_OUTPUT:
            return
        fresh = self._opened()
        self.close()
        self._file = fresh

    def close(self) -> None:
        """Let go of it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def write(self, data: bytes) -> None:
        """Write whole lines."""
        self.open()
        if self._size is not None and not self._is_current():
            self.reopen()
        assert self._file is not None
        if self._torn:
            data = b"\n" + data
        while data:
            written = os.write(self._file, data)
            self._torn = data[written - 1] != 0x0A
            data = data[written:]

    def full(self) -> bool:
        """It has become too large, and ``rotate`` should be called."""
        return self._size is not None and self._file is not None and os.fstat(self._file).st_size >= self._size

    def rotate(self) -> None:
        """Move it away, unless another process has done so, and go on in a new one."""
        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # another process is about to
        if self._is_current():
            for number in range(self._keep - 1, 0, -1):
                with suppress(FileNotFoundError):
                    Path(f"{self.path}.{number}").replace(f"{self.path}.{number + 1}")
            Path(self.path).replace(f"{self.path}.1")
        self.reopen()  # and so let go of the lock

    def _is_current(self) -> bool:
        assert self._file is not None
        try:
            return os.path.samestat(Path(self.path).stat(), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def _opened(self) -> int:
        if self.path == STANDARD_OUTPUT:
            return os.dup(1)  # not sys.stdout, which twistd turns into log messages
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
