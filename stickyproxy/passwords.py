"""Names and passwords, verified without holding anyone else up. Floor 3. RFC 7617, bcrypt.

A verification takes a tenth of a second on purpose, so it happens in threads of its own (bcrypt lets go of Python's
lock), only a few wait for one, and what has been verified is remembered for a while by a keyed hash of name and
password. A name that nobody has costs what a wrong password does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import bcrypt
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from stickyproxy.errors import HTTPError
from stickyproxy.sansio.basicauth import PASSWORD_BYTES, UsersFileError, read_users
from stickyproxy.sansio.ratelimit import bucket_of

#: Threads that verify, and different credentials that may be with them or wait for them: in all, and from one address.
THREADS, WAITING, WAITING_OF_ONE = 2, 64, 8
#: Credentials that are remembered, and for how many seconds.
REMEMBERED, MEMORY = 1024, 300.0

_SOON = b"Retry-After: 1\r\n"

#: ``run(function, *arguments)``: its result, from another thread.
Run = Callable[..., Deferred[Any]]


class VerifyingThreads(Service):
    """The threads of one process in which passwords are verified."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, THREADS, "passwords")

    def run(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """The result of ``function(*arguments)``."""
        return deferToThreadPool(self._reactor, self._pool, function, *arguments)

    def startService(self) -> None:
        super().startService()
        self._pool.start()

    def stopService(self) -> None:
        """Wait for the verification that is going on."""
        super().stopService()
        self._pool.stop()


def load_users(path: Path) -> dict[bytes, bytes]:
    """The users of the file at ``path``. Raises ``UsersFileError``."""
    try:
        return read_users(path.read_bytes())
    except OSError as error:
        raise UsersFileError(f"{path}: cannot be read: {error.strerror}") from None
    except UsersFileError as error:
        raise UsersFileError(f"{path}: {error}") from None


class Passwords:
    """Knows the hashes of ``users``. ``secret`` is random and kept by nobody else; ``seconds`` is a clock."""

    _log = Logger()

    def __init__(self, users: Mapping[bytes, bytes], run: Run, secret: bytes, seconds: Callable[[], float]) -> None:
        self._users = users
        self._dearest = max(users.values(), key=lambda hashed: hashed[4:6])  # for whom nobody knows
        self._run = run
        self._secret = secret
        self._seconds = seconds
        self._known: dict[bytes, float] = {}  # until when
        self._pending: dict[bytes, list[Deferred[bool]]] = {}
        self._waiting: Counter[str] = Counter()  # by address

    def verify(self, name: bytes, password: bytes, client: str) -> bool | Deferred[bool]:
        """Whether ``password`` is the one of ``name``: True at once if that is known, else when it has been verified.

        Raises ``HTTPError`` when too many are waiting: of the address ``client`` (429), so that one who guesses leaves
        room for others, or in all (503).
        """
        digest = self._digest(name, password)
        until = self._known.get(digest)
        if until is not None and self._seconds() < until:
            return True
        answer: Deferred[bool] = Deferred()
        if digest in self._pending:  # a browser asks for many things at once
            self._pending[digest].append(answer)
            return answer
        bucket = bucket_of(client)
        if self._waiting[bucket] >= WAITING_OF_ONE:
            raise HTTPError("too many passwords from this address are being verified", status=429, fields=_SOON)
        if len(self._pending) >= WAITING:
            raise HTTPError("too many passwords are being verified", status=503, fields=_SOON)
        self._pending[digest] = [answer]
        self._waiting[bucket] += 1
        hashed = self._users.get(name)
        verified = self._run(bcrypt.checkpw, password[:PASSWORD_BYTES], hashed or self._dearest)
        verified.addCallbacks(lambda right: right and hashed is not None, self._broken)
        verified.addCallback(self._tell, digest, bucket)
        return answer

    def _digest(self, name: bytes, password: bytes) -> bytes:
        return blake2b(b"%d:%b%b" % (len(name), name, password), key=self._secret).digest()

    def _tell(self, right: bool, digest: bytes, bucket: str) -> None:
        self._waiting[bucket] -= 1
        if not self._waiting[bucket]:
            del self._waiting[bucket]
        if right:
            self._known.pop(digest, None)
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]  # the one that was verified first
            self._known[digest] = self._seconds() + MEMORY
        for answer in self._pending.pop(digest):
            answer.callback(right)

    def _broken(self, failure: Failure) -> bool:
        self._log.failure("A password could not be verified", failure)
        return False
