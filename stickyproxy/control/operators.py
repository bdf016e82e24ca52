"""Who may change things: the file of tokens, and how often somebody may be wrong. Floor 5.

A token is a bearer token (RFC 6750 section 2.1). It is compared with every one that there is, by keyed hashes of equal
length (``hmac.compare_digest``), so that the time tells nothing.
"""

from __future__ import annotations

import os
import re
import stat
from hashlib import blake2b
from hmac import compare_digest
from pathlib import Path

from twisted.logger import Logger

from stickyproxy.errors import StickyproxyError

#: Characters of a token: with fewer it is warned of, since it can be guessed; with more it is none.
SHORT, LONGEST = 16, 512
#: A larger file is none of tokens.
_LARGEST = 64 * 1024
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750: b64token
#: What a token is called that has no name.
NAMELESS = "operator"


class TokenFileError(StickyproxyError):
    """A file of tokens that cannot be read or trusted; the text names it, and says what to do."""


class Operators:
    """Those who have a token of the file at ``path``. Raises ``TokenFileError``; one that goes wrong later ends all."""

    _log = Logger()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._key = os.urandom(32)
        self._seen = _state(path)
        self._names = self._read()

    def name_of(self, token: bytes) -> str | None:
        """Whose token that is; None: nobody's."""
        self._refresh()
        digest, found = self._digest(token), None
        for known, name in self._names:
            if compare_digest(known, digest):
                found = name
        return found

    @property
    def wrong(self) -> bool:
        """Whether the file is such that nobody has a token; the log says why."""
        return self._seen is None

    def _refresh(self) -> None:
        """Read the file again if it is another. Until a wrong one is right again, nobody has a token."""
        try:
            state = _state(self.path)
            if state == self._seen:
                return
            self._seen = state
            self._names = self._read()
            self._log.info("The tokens in {path} are read again: {count}", path=self.path, count=len(self._names))
        except TokenFileError as error:
            if self._names or self._seen is not None:
                self._log.error("Nobody may change anything: {error}", error=str(error))
            self._names, self._seen = [], None

    def _read(self) -> list[tuple[bytes, str]]:
        tokens = read_tokens(self.path)
        for name, token in tokens:
            if len(token) < SHORT:
                text = "{path}: the token of {name} can be guessed: make a longer one by: openssl rand -hex 32"
                self._log.warn(text, path=self.path, name=name)
        return [(self._digest(token.encode()), name) for name, token in tokens]

    def _digest(self, token: bytes) -> bytes:
        return blake2b(token, key=self._key, digest_size=32).digest()


def _state(path: Path) -> tuple[int, ...] | None:
    """What changes when the file does."""
    try:
        found = path.stat()
    except OSError as error:
        raise TokenFileError(f"{path}: the tokens cannot be read: {error.strerror}") from error
    return (found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size)


def read_tokens(path: Path, *, trusted: bool = True) -> list[tuple[str, str]]:
    """Names and tokens of a file: a token in a line, with or without a name before it; ``#`` begins a comment.

    Raises ``TokenFileError``, also where others than the owner may use it, or (``trusted``) somebody else owns it.
    """
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            _check_owner(path, about, trusted)
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise TokenFileError(f"{path}: the tokens cannot be read: {error.strerror}") from error
    if len(data) > _LARGEST:
        raise TokenFileError(f"{path}: is larger than {_LARGEST} bytes: put a token in each line, and nothing else")
    tokens = []
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        *names, token = words
        if len(names) > 1 or not all(map(_NAME.fullmatch, names)) or not _TOKEN.fullmatch(token):
            raise TokenFileError(f"{path}: line {number}: expected a token, or a name and a token")
        if len(token) > LONGEST:
            raise TokenFileError(f"{path}: line {number}: expected a token of {LONGEST} characters at most")
        tokens.append((names[0] if names else NAMELESS, token))
    if not tokens:
        raise TokenFileError(f"{path}: holds no token; make one by: openssl rand -hex 32 > {path}")
    return tokens


def _check_owner(path: Path, about: os.stat_result, trusted: bool) -> None:
    mode = stat.S_IMODE(about.st_mode)
    if not stat.S_ISREG(about.st_mode):
        raise TokenFileError(f"{path}: is no plain file")
    if mode not in (0o600, 0o400):
        raise TokenFileError(f"{path}: the mode of this secret is {mode:04o}, not 0600 or 0400; run: chmod 600 {path}")
    if trusted and about.st_uid not in (0, os.geteuid()):
        raise TokenFileError(f"{path}: belongs to another user (uid {about.st_uid}): make it the proxy's, or root's")
