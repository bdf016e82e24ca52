"""Upgrade in place: a new process takes over the listening sockets and the sessions of the running one. Floor 5.

They meet at a Unix socket that only their user can open, and speak JSON by lines:

    new                                                  running
    {"want": "sockets", "version": …, "pid": …}    →
                                                   ←     {"listening": [endpoints …], "version": …, "pid": …,
                                                         "settings": as control.settings has them}, and the
                                                         descriptors beside it (SCM_RIGHTS), in the same order
    listens on them, and on all else that its configuration says
    {"want": "sessions"}                           →
                                                   ←     {"sessions": name, "known": [[keys, backend, seen, until] …]} …
                                                         {"sessions": null}, and from then on what changes
    {"serving": true}                              →
    serves                                               drains, ends

Until the last line the running one serves as if nothing were; if the new one does not get that far, nothing was.
Both have the same socket meanwhile, and a connection goes to whoever accepts it: nobody is refused.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from stickyproxy import __version__
from stickyproxy.errors import StickyproxyError
from stickyproxy.sansio.sessions import Session

#: Of what both say; one that says another is refused.
PROTOCOL = 1
#: Seconds that the new process waits for each answer of the running one.
PATIENCE = 10.0
#: Sessions in a line, and bytes that a line may have: eight keys of 4 KiB for each, written out.
BATCH = 200
LONGEST = BATCH * 64 * 1024
#: Descriptors in a message, and what they take there.
_MOST = 250
_PEER = struct.Struct("3i")


class CannotTakeOver(StickyproxyError):
    """The running process does not give what it has, or is not ours."""


class Store(Protocol):
    """Sessions, as ``sansio.sessions.SessionTable`` has them."""

    def all_keys(self) -> Iterable[bytes]: ...
    def session(self, key: bytes) -> Session | None: ...
    def restore(self, session: Session) -> None: ...
    def forget(self, key: bytes) -> None: ...


class Predecessor:
    """The process that runs already, as a new one meets it: by blocking calls, since nothing is served yet."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received = b""
        self._descriptors: list[int] = []
        self.version = ""
        self.pid = 0
        self.sockets: list[tuple[str, socket.socket]] = []  #: what it listens on, by endpoint strings
        self.settings: dict[str, Any] = {}  #: what its operators have set

    @classmethod
    def find(cls, path: Path) -> Predecessor | None:
        """The one that can be met at ``path``, with its sockets; None: nobody. Raises ``CannotTakeOver``."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE)
        try:
            connection.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            connection.close()
            return None
        except OSError as error:
            connection.close()
            raise CannotTakeOver(f"{path}: {error.strerror}") from None
        found = cls(connection)
        try:
            user = user_of(connection)
            if user not in (None, 0, os.geteuid()) and not (os.geteuid() == 0 and _is_place_of(path.parent, user)):
                raise CannotTakeOver(f"{path}: it belongs to another user ({user})")
            found._take_sockets()
        except BaseException:
            found.close()
            raise
        return found

    def _take_sockets(self) -> None:
        self._say({"want": "sockets", "protocol": PROTOCOL, "version": __version__, "pid": os.getpid()})
        told = self._hear()
        self.version, self.pid = str(told["version"]), int(told["pid"])
        self.settings = told.get("settings", {})  # an older version has none
        descriptors, self._descriptors = self._descriptors, []
        sockets = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        if len(sockets) != len(told["listening"]):
            raise CannotTakeOver(f"it listens on {len(told['listening'])} endpoints, and gave {len(sockets)} sockets")
        self.sockets = list(zip(told["listening"], sockets, strict=True))

    def take_sessions(self, stores: Mapping[str, Store]) -> int:
        """Fill ``stores`` with what it knows, by their names. Returns how many sessions that were."""
        self._say({"want": "sessions"})
        known: dict[str, list[Session]] = {name: [] for name in stores}
        while (told := self._hear())["sessions"] is not None:
            known.get(told["sessions"], []).extend(map(session_of, told.get("known", ())))
        for name, store in stores.items():
            for session in sorted(known[name], key=lambda session: session.seen):
                store.restore(session)
        return sum(map(len, known.values()))

    def serve_on(self, reactor: Any, stores: Mapping[str, Store], ended: Callable[[], object] = lambda: None) -> None:
        """Tell it that we serve now. What its clients are bound to until it has ``ended`` comes into ``stores``."""
        self._say({"serving": True})
        self._connection.setblocking(False)
        rest, self._received = self._received, b""
        factory = Factory.forProtocol(lambda: _Following(stores, rest, ended))
        factory.noisy = False
        reactor.adoptStreamConnection(self._connection.fileno(), socket.AF_UNIX, factory)
        self.close()

    def close(self) -> None:
        """Leave it alone."""
        self._connection.close()
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors.clear()

    def _say(self, message: Mapping[str, Any]) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # why it has hung up, it may have said
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def _hear(self) -> dict[str, Any]:
        """Its next line. Raises ``CannotTakeOver`` where it refuses, or says nothing."""
        while b"\n" not in self._received:
            try:
                data, descriptors, *_ = socket.recv_fds(self._connection, 1 << 16, _MOST)
            except OSError as error:
                raise CannotTakeOver(f"the running process does not answer: {error}") from None
            if not data:
                raise CannotTakeOver("the running process has hung up")
            self._descriptors += descriptors
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        if "refused" in told:
            raise CannotTakeOver(f"the running process refuses: {told['refused']}")
        return told


class _Following(LineOnlyReceiver):
    """In the new process: what is learned in the old one until its end."""

    delimiter = b"\n"
    MAX_LENGTH = LONGEST

    def __init__(self, stores: Mapping[str, Store], rest: bytes, ended: Callable[[], object]) -> None:
        self._stores = stores
        self._rest = rest
        self._ended = ended

    def connectionMade(self) -> None:
        self.dataReceived(self._rest)

    def lineReceived(self, line: bytes) -> None:
        told = json.loads(line)
        store = self._stores.get(told["sessions"])
        if store is not None:
            for session in map(session_of, told.get("known", ())):
                store.restore(session)
            for key in told.get("forgotten", ()):
                store.forget(key.encode("latin-1"))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._ended()


def user_of(connection: socket.socket) -> int | None:
    """The user who is at the other end; None where the system does not tell: there the file's mode keeps others out."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    _, user, _ = _PEER.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return int(user)


def _is_place_of(directory: Path, user: int) -> bool:
    """Whether nobody but ``user`` and root could put something there: root takes over from the user it has become."""
    about = directory.stat()
    return about.st_uid in (0, user) and not about.st_mode & stat.S_IWOTH


def written(session: Session) -> list[Any]:
    """As it stands in a line."""
    until = None if session.until == float("inf") else session.until
    return [[key.decode("latin-1") for key in session.keys], session.backend, session.seen, until]


def session_of(written: Sequence[Any]) -> Session:
    """What ``written`` has made of it."""
    keys, backend, seen, until = written
    return Session(
        tuple(key.encode("latin-1") for key in keys), backend, seen, float("inf") if until is None else until
    )
