"""The running process hands over: what a new one is given, and that it is gone then. Floor 5.

``takeover`` has the other side, and what the two say.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet import tcp, unix
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from stickyproxy import __version__
from stickyproxy.control.takeover import BATCH, PROTOCOL, CannotTakeOver, Store, user_of, written
from stickyproxy.sansio.replicas import Authority


class Handover(Service):
    """In the running process: gives all that it has to a new one that comes to ``path``, and then calls ``leave``.

    ``sockets`` are those that it listens on, ``stores`` its sessions by their names, ``settings`` what its operators
    have set; all are asked when one comes.
    """

    _log = Logger()

    def __init__(
        self,
        path: Path,
        reactor: Any,
        sockets: Callable[[], Iterable[tuple[str, socket.socket]]],
        stores: Callable[[], Mapping[str, Store]],
        leave: Callable[[int], object],
        settings: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.path = path
        self.reactor = reactor
        self.sockets = sockets
        self.stores = stores
        self.settings = settings
        self.successor: Successor | None = None  #: who is taking over
        self._leave = leave
        self._port: _Door | None = None

    def startService(self) -> None:
        """Whoever was to be met at the path before is not any more. Raises ``CannotTakeOver``."""
        super().startService()
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        factory = Factory.forProtocol(lambda: Successor(self))
        factory.noisy = False
        port = _Door(os.fsencode(beside), factory, 5, 0o600, self.reactor)
        if self.path.exists() and not self.path.is_socket():
            raise CannotTakeOver(f"{self.path}: it is there, and no socket")
        umask = os.umask(0o177)
        try:
            with suppress(FileNotFoundError):
                beside.unlink()
            port.startListening()
            beside.rename(self.path)
            port.file = self.path, self.path.stat().st_ino
        except CannotListenError as error:
            raise CannotTakeOver(f"{self.path}: {error.socketError.strerror}") from None
        except OSError as error:
            raise CannotTakeOver(f"{self.path}: {error.strerror}") from None
        finally:
            os.umask(umask)
        self._port = port

    def stopService(self) -> Deferred[Any]:
        """Nobody can come any more, and who has taken over has heard all that there was."""
        super().stopService()
        if self.successor is not None:
            self.successor.transport.loseConnection()
        port, self._port = self._port, None
        return maybeDeferred(port.stopListening) if port is not None else succeed(None)

    def left_to(self, pid: int) -> None:
        """The process ``pid`` serves now."""
        self._log.info("Process {pid} has taken over", pid=pid)
        self._leave(pid)


class _Door(unix.Port):
    """A port whose file has another name by now, and may be another's."""

    file: tuple[Path, int] | None = None

    def connectionLost(self, reason: Failure) -> None:
        if self.file is not None:
            path, inode = self.file
            with suppress(OSError):
                if path.stat().st_ino == inode:
                    path.unlink()
        tcp.Port.connectionLost(self, reason)


class Successor(LineOnlyReceiver):
    """In the running process: a new one, on its way to take over."""

    _log = Logger()
    transport: Any
    delimiter = b"\n"
    MAX_LENGTH = 4096

    def __init__(self, handover: Handover) -> None:
        self._handover = handover
        self._pid = 0
        self._sending: Deferred[None] | None = None
        self._following: list[Callable[[], None]] = []

    def connectionMade(self) -> None:
        user = user_of(self.transport.getHandle())
        if user not in (None, 0, os.geteuid()):
            self._log.warn("A process of user {user} wants to take over, and may not", user=user)
            self._refuse("it belongs to another user")
        elif self._handover.successor is not None:
            self._refuse("another process is taking over already")
        else:
            self._handover.successor = self

    def lineReceived(self, line: bytes) -> None:
        try:
            match json.loads(line):
                case {"want": "sockets", "protocol": 1, "version": str(version), "pid": int(pid)}:
                    self._pid = pid
                    self._log.info("Process {pid}, version {version}, takes over", pid=pid, version=version)
                    self._give_sockets()
                case {"want": "sessions"} if self._pid:
                    self._sending = Deferred.fromCoroutine(self._send_sessions())
                    self._sending.addErrback(self._failed)
                case {"serving": True} if self._pid:
                    pid, self._pid = self._pid, 0
                    self._handover.left_to(pid)
                case _:
                    self._refuse(f"version {__version__} speaks protocol {PROTOCOL}")
        except ValueError:
            self._refuse("that is not JSON")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._sending is not None:
            self._sending.cancel()
        for unfollow in self._following:
            unfollow()
        if self._handover.successor is self:
            self._handover.successor = None
        if self._pid:
            self._log.warn("Process {pid} has not taken over; this one goes on", pid=self._pid)

    def _give_sockets(self) -> None:
        sockets = list(self._handover.sockets())
        for _, sock in sockets:
            self.transport.sendFileDescriptor(sock.fileno())
        listening = [description for description, _ in sockets]
        settings = self._handover.settings()
        self._say({"listening": listening, "version": __version__, "pid": os.getpid(), "settings": settings})

    async def _send_sessions(self) -> None:
        stores = self._handover.stores()
        self._following = [follow(store, partial(self._tell, name, store)) for name, store in stores.items()]
        for name, store in stores.items():
            keys = list(store.all_keys())
            for place in range(0, len(keys), BATCH):
                self._tell(name, store, keys[place : place + BATCH])
                await deferLater(self._handover.reactor, 0)
        self._say({"sessions": None})

    def _tell(self, name: str, store: Store, keys: Sequence[bytes]) -> None:
        """What is known under ``keys``: the sessions, each once, and keys that have none any more."""
        found = {key: store.session(key) for key in keys}
        known = {session.keys: session for session in found.values() if session is not None}
        gone = [key.decode("latin-1") for key, session in found.items() if session is None]
        self._say({"sessions": name, "known": [written(session) for session in known.values()], "forgotten": gone})

    def _say(self, message: Mapping[str, Any]) -> None:
        self.sendLine(json.dumps(message).encode())

    def _refuse(self, reason: str) -> None:
        self._say({"refused": reason})
        self.transport.loseConnection()

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("The sessions cannot be handed over", failure)
            self.transport.loseConnection()


def follow(store: Any, tell: Callable[[Sequence[bytes]], object]) -> Callable[[], None]:
    """Have ``tell`` called with the keys of each session of ``store`` that changes. Returns what ends that."""
    if isinstance(store, Authority):  # its children change it, too
        store.followers.add(tell)
        return partial(store.followers.discard, tell)
    bind, forget = store.bind, store.forget

    def bind_and_tell(keys: Sequence[bytes], backend_id: str, lifetime: float | None = None) -> None:
        bind(keys, backend_id, lifetime)
        tell(keys)

    def forget_and_tell(key: bytes) -> None:
        forget(key)
        tell((key,))

    def unfollow() -> None:
        del store.bind, store.forget

    store.bind, store.forget = bind_and_tell, forget_and_tell
    return unfollow
