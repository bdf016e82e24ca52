"""The file that the keys of a cluster are kept in. Floor 3."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp

from stickyproxy.errors import StickyproxyError
from stickyproxy.sansio.tokens import format_key_file, generate_key, parse_key_file


class KeyFileError(StickyproxyError):
    """A key file that cannot be read, made or trusted; the text names it, and says what to do."""


def read_or_create(path: Path | str) -> tuple[bytes, ...]:
    """The keys in ``path``, newest first; where there is no such file it is made, with a new key and mode 0600.

    Processes that start at the same time get the same keys: the file appears whole, and only once. Raises
    ``KeyFileError``, also when others than the owner may read it.
    """
    path = Path(path)
    try:
        with suppress(FileNotFoundError):
            return _read(path)
        _create(path)
        return _read(path)
    except OSError as error:
        raise KeyFileError(f"{path}: the keys cannot be read or saved: {error.strerror}") from error


def _read(path: Path) -> tuple[bytes, ...]:
    with path.open(encoding="utf-8") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise KeyFileError(f"{path}: others may use this secret (mode {mode:04o}); run: chmod 600 {path}")
        try:
            return parse_key_file(file.read())
        except ValueError as error:
            raise KeyFileError(f"{path}: {error}; remove the file, and a new one is made") from None


def _create(path: Path) -> None:
    """Write a file beside it (mkstemp: mode 0600, O_EXCL), and give it the name unless somebody else was faster."""
    descriptor, temporary = mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(format_key_file([generate_key(os.urandom)]))
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        Path(temporary).unlink()
