"""The life of one worker's process, as its parent sees it: started, asked, watched, ended. Floor 5."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

from stickyproxy.control.asking import Answers, Asking, Gone
from stickyproxy.control.refusal import Refusal
from stickyproxy.control.worker import MEMORY, PARENT, SESSIONS
from stickyproxy.control.workerlog import Reading
from stickyproxy.replication import ParentSessions
from stickyproxy.sharing import SharedMemory

#: How often a worker is asked whether it is there, in the time after which it is stuck.
TICKS = 10
#: After so many of these times another worker accepts for one that does not answer.
SILENT = 2
#: What the environment says to one process only: systemd's sockets, readiness and watchdog.
_NOT_INHERITED = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """What a worker gets of the parent's environment ``own``: it finds the modules that the parent has found."""
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    return {key: value for key, value in own.items() if key not in _NOT_INHERITED} | {"PYTHONPATH": path}


@attrs.frozen
class Common:
    """What the processes have in common."""

    memory: SharedMemory
    sessions: ParentSessions


class Life(ProcessProtocol):
    """A process. ``ended`` fires with the reason when it is over.

    ``common`` is what all processes have in common, ``slot`` its place in their memory, which no other living one has.
    ``answers`` is asked what the worker asks. ``changed`` is called when it goes silent, answers again, or is gone.
    """

    def __init__(
        self,
        name: str,
        slot: int,
        reactor: Any,
        common: Common,
        answers: Answers,
        changed: Callable[[], object],
    ) -> None:
        self.name = name
        self.slot = slot
        self.pid: int | None = None
        self.serving = False  #: it was given what it needs, and accepts connections
        self.silent = False  #: it did not answer of late
        self.ended: Deferred[str] = Deferred()
        self.refused = False  #: it cannot serve what it was given
        self._late: IDelayedCall | None = None
        self._reactor = reactor
        self._common = common
        self._changed = changed
        self._asking = Asking(answers, self._gone)
        self._log = Reading(name)
        self._reason = ""
        self._process: Any = None
        self._watch = LoopingCall(self._tick)
        self._watch.clock = reactor
        self._unanswered = 0

    def start(self) -> None:
        """Start it. Raises ``OSError`` where the system has no room for another."""
        ours, theirs = socket.socketpair()
        sessions, of_sessions = socket.socketpair()
        module = type(self._reactor).__module__
        with ours, theirs, sessions, of_sessions:
            self._process = self._reactor.spawnProcess(
                self,
                sys.executable,
                [sys.executable, "-P", "-m", "stickyproxy.worker", module, str(self.slot)],
                env=environment(os.environ),
                childFDs={
                    0: 0,
                    1: 1,
                    2: "r",
                    PARENT: theirs.fileno(),
                    SESSIONS: of_sessions.fileno(),
                    MEMORY: self._common.memory.fd,
                },
            )
            self.pid = self._process.pid
            ours.setblocking(False)
            factory = Factory.forProtocol(lambda: self._asking)
            self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)
            self._common.sessions.connect(sessions)

    async def ask(self, method: str, *arguments: Any) -> Any:
        """What the worker answers. Raises ``Refusal`` and ``Gone``."""
        return await self._asking.ask(method, *arguments)

    async def ask_in(self, seconds: float, method: str, *arguments: Any) -> Any:
        """As ``ask``; a worker that takes longer is killed."""
        reason = f"it has not done within {seconds:g} s what it was asked: {method}"
        late = self._reactor.callLater(seconds, self.kill, reason)
        try:
            return await self.ask(method, *arguments)
        finally:
            if late.active():
                late.cancel()

    async def send(self, description: str, sock: socket.socket) -> None:
        """Give it a listening socket. Raises ``Gone``."""
        await self._asking.send(description, sock)

    def watch(self, stuck: float) -> None:
        """It serves. From now on it is killed if it does not answer for ``stuck`` seconds."""
        self.serving = True
        self._watch.start(stuck / TICKS, now=False)

    def kill(self, reason: str) -> None:
        """End it at once, for that reason."""
        self._reason = self._reason or reason
        self.spare()
        with suppress(ProcessExitedAlready):
            self._process.signalProcess(signal.SIGKILL)

    def kill_in(self, seconds: float, reason: str) -> None:
        """End it, if it has not ended until then, nor is spared."""
        self.spare()
        if not self.ended.called:
            self._late = self._reactor.callLater(seconds, self.kill, reason)

    def spare(self) -> None:
        """``kill_in`` no more."""
        if self._late is not None and self._late.active():
            self._late.cancel()
        self._late = None

    def let_go(self) -> None:
        """It is to end: a worker does that when its parent is gone."""
        transport: Any = self._asking.transport
        if transport is not None:
            transport.loseConnection()

    def _tick(self) -> None:
        """Count questions, not seconds: if it was this process that stood still, none was put meanwhile."""
        if self._unanswered >= TICKS:
            self.kill(f"it was stuck: it has not answered for {TICKS * (self._watch.interval or 0):g} s")
            return
        self._unanswered += 1
        if self._unanswered == 1:
            Deferred.fromCoroutine(self._ping()).addErrback(_nothing)
        elif self._unanswered == SILENT:
            self.silent = True
            self._changed()

    async def _ping(self) -> None:
        await self._asking.ask("ping")
        self._unanswered = 0
        if self.silent:
            self.silent = False
            self._changed()

    def _gone(self) -> None:
        """It has nothing more to say: it has ended, or its end is near."""
        if self.serving:
            self.serving = False
            self._changed()

    # ProcessProtocol

    def errReceived(self, data: bytes) -> None:
        self._log.received(data)

    def processEnded(self, reason: Failure) -> None:
        self._log.ended()
        self._gone()
        self.spare()
        if self._watch.running:
            self._watch.stop()
        self.let_go()
        self.ended.callback(self._reason or _words(reason.value))


def _nothing(failure: Failure) -> None:
    failure.trap(Gone, Refusal)


def _words(ended: Any) -> str:
    """How a process has ended."""
    if ended.signal is not None:
        return f"it was killed by {signal.Signals(ended.signal).name}"
    return f"it ended with status {ended.exitCode}"
