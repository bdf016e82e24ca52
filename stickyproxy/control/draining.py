"""Drain that a deploy can wait for: connections come to an orderly end, over a window, until a deadline. Floor 5.

A backend drains in two stages. First nobody new comes and who is bound to it stays (``state = "drain"``), for a while
or until nobody is left. Then it closes: nobody comes at all (``"maintenance"``, for who is sent away would be back at
once), its WebSockets get Close frames one after another, so that they do not all connect again in the same moment, and
what is left at the deadline is cut. Frontends, and the process as a whole, have only the second stage.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterator
from collections.abc import Set as AbstractSet
from random import Random
from typing import Any, NamedTuple, Protocol

import attrs
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

#: Seconds between two looks at what is left.
TICK = 0.05
#: Tunnels that are told in a second, where no window is given; more, if that would take half of the time there is.
RATE = 100
#: Seconds between two counts of sessions, each of which looks at all of them.
COUNTING = 2.0
#: Drains that are over and are still told of.
KEPT = 100
_NEVER = float("inf")


class Connection(Protocol):
    """What can be drained; one that closes is soon in no set any more."""

    def drain(self, code: int | None = None) -> object:
        """Come to an orderly end as soon as what is under way allows it: a WebSocket by Close frames with ``code``.

        None: with the code that its frontend has for that.
        """

    def abort(self) -> object:
        """End now."""


class Stage(enum.Enum):
    """How far a drain has come."""

    STAYING = "staying"  # no new clients; who is bound stays
    CLOSING = "closing"  # who is there is asked to go
    DONE = "done"  # nobody is left
    CUT = "cut"  # who was left at the deadline was cut off
    LEFT = "left"  # who was left at the deadline is left alone
    CANCELLED = "cancelled"


_OPEN = (Stage.STAYING, Stage.CLOSING)


@attrs.frozen
class Manner:
    """How something drains. Times are in seconds."""

    stay: float | None = (
        0.0  #: for how long bound clients stay with a backend; None: until they have gone by themselves
    )
    window: float | None = None  #: over which tunnels are told; None: ``RATE`` a second, in half of the time there is
    deadline: float | None = 30.0  #: after which the rest is cut, from the moment it closes; None: there is none
    code: int | None = None  #: of the Close frames (RFC 6455 section 7.4.1), None: as each frontend says
    cut: bool = True  #: False: what is left at the deadline is left alone


class Left(NamedTuple):
    """What is still there. ``sessions`` is None where nobody knows: clients keep their cookies themselves."""

    sessions: int | None
    sockets: int


class Progress(NamedTuple):
    """How far a drain is, for others to read; times in seconds."""

    name: str
    stage: str
    sessions: int | None
    sockets: int
    told: int  #: connections that were asked to end
    cut: int
    running: float  #: for how long, to its end if that has come
    remaining: float | None  #: until the deadline of this stage, None: there is none


class Subject(Protocol):
    """What is drained."""

    @property
    def name(self) -> str: ...

    def stay(self) -> None:
        """No new clients from now on."""

    def close(self) -> None:
        """No clients at all from now on."""

    def restore(self) -> None:
        """The drain is cancelled."""

    def given_up(self) -> bool:
        """Whether somebody else has decided otherwise meanwhile."""

    def connections(self) -> AbstractSet[Connection]:
        """All that shall end."""

    def tunnels(self) -> AbstractSet[Connection]:
        """Of these, what a client will open anew at once: told over the window, and the rest at the beginning."""

    def remainder(self) -> Collection[Connection]:
        """All that is cut at the deadline."""

    def sockets(self) -> int:
        """How many requests, tunnels and connections are left."""

    def sessions(self) -> int | None:
        """How many sessions are left, if that is known."""


class Drain:
    """One subject on its way to silence. ``done`` may be waited for, by several; ``cancel`` and ``hurry`` change it."""

    _log = Logger()

    def __init__(self, subject: Subject, manner: Manner, clock: IReactorTime, random: Random) -> None:
        self.subject = subject
        self.manner = manner
        self.stage = Stage.STAYING
        self.told = 0
        self.cut = 0
        self._clock = clock
        self._random = random
        self._began: float = clock.seconds()
        self._ends = _NEVER  # of the stage
        self._over: float | None = None  # since when, if it is
        self._hurried = False
        self._due: dict[Connection, float] = {}  # when to tell it, or never again
        self._counted: tuple[float, int | None] = (-_NEVER, None)  # when, and how many sessions
        self._waiting: list[Deferred[Progress]] = []
        self._running = Deferred.fromCoroutine(self._run())
        self._running.addErrback(self._failed)

    def __repr__(self) -> str:
        return f"<Drain of {self.subject.name}: {self.stage.value}, {self.subject.sockets()} sockets left>"

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.stage not in _OPEN

    @property
    def done(self) -> Deferred[Progress]:
        """Fires at the end, whichever it is. Each is one's own: to cancel it ends the waiting, not the drain."""
        waiter: Deferred[Progress] = Deferred(self._waiting.remove)
        if self.ended:
            waiter.callback(self.progress())
        else:
            self._waiting.append(waiter)
        return waiter

    def left(self) -> Left:
        """What is still there; sessions as they were counted a moment ago."""
        when, sessions = self._counted
        now = self._clock.seconds()
        if not self.ended and now - when >= COUNTING:
            self._counted = (now, self.subject.sessions())
            sessions = self._counted[1]
        return Left(sessions, self.subject.sockets())

    def progress(self) -> Progress:
        now = self._clock.seconds()
        remaining = None if self.ended or self._ends == _NEVER else max(0.0, self._ends - now)
        running = (now if self._over is None else self._over) - self._began
        return Progress(self.subject.name, self.stage.value, *self.left(), self.told, self.cut, running, remaining)

    def cancel(self) -> None:
        """Everything is as before; who was told to end already ends all the same."""
        if not self.ended:
            self.subject.restore()
            self._end(Stage.CANCELLED)
            self._running.cancel()

    def hurry(self) -> None:
        """Its deadline is now."""
        self._hurried = True

    async def _run(self) -> None:
        if self.manner.stay != 0:
            await self._stay()
        await self._close()

    async def _stay(self) -> None:
        self.subject.stay()
        self._ends = _NEVER if self.manner.stay is None else self._began + self.manner.stay
        while not self._hurried and self._clock.seconds() < self._ends and self.left() != (0, 0):
            await self._tick()

    async def _close(self) -> None:
        self.stage = Stage.CLOSING
        self.subject.close()
        began = self._clock.seconds()
        deadline = self.manner.deadline
        self._ends = _NEVER if deadline is None else began + deadline
        window_ends = None if self.manner.window is None else began + self.manner.window
        while self.subject.sockets():
            now = self._clock.seconds()
            if self._hurried or now >= self._ends:
                self._at_deadline()
                return
            if window_ends is None:
                window_ends = now + min(len(self.subject.tunnels()) / RATE, (deadline or 60.0) / 2)
            self._tell(now, max(0.0, window_ends - now))
            await self._tick()
        self._end(Stage.DONE)

    async def _tick(self) -> None:
        await deferLater(self._clock, TICK)
        if self.subject.given_up():
            self._end(Stage.CANCELLED)
            raise CancelledError

    def _tell(self, now: float, window: float) -> None:
        """Ask those to end whose time it is; who has come since has a place in the rest of the window."""
        present = self.subject.connections()
        due = self._due = {connection: when for connection, when in self._due.items() if connection in present}
        new = present - due.keys()
        if new:
            tunnels = list(new & self.subject.tunnels())
            due.update(dict.fromkeys(new, now))
            self._random.shuffle(tunnels)
            due.update(zip(tunnels, spread(now, window, len(tunnels), self._random), strict=True))
        for connection in [one for one, when in due.items() if when <= now]:
            due[connection] = _NEVER
            self.told += 1
            self._try(connection.drain, self.manner.code)

    def _at_deadline(self) -> None:
        if not self.manner.cut:
            self._end(Stage.LEFT)
            return
        for connection in list(self.subject.remainder()):
            self.cut += 1
            self._try(connection.abort)
        self._end(Stage.CUT)

    def _try(self, ask: Callable[..., object], *arguments: object) -> None:
        """One that goes wrong keeps nobody else from his end."""
        try:
            ask(*arguments)
        except Exception:
            self._log.failure("A connection of {name} cannot be ended", name=self.subject.name)

    def _end(self, stage: Stage) -> None:
        self.stage = stage
        self._ends = _NEVER
        self._over = self._clock.seconds()
        self._due.clear()
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(self.progress())

    def _failed(self, failure: Any) -> None:
        if failure.check(CancelledError) is None:
            self._log.failure("The drain of {name} has failed", failure, name=self.subject.name)
            self._end(Stage.CANCELLED)


def spread(now: float, window: float, count: int, random: Random) -> list[float]:
    """``count`` times in the ``window`` seconds after ``now``: evenly, each somewhere in its own part of it."""
    return [now + (place + random.random()) * window / count for place in range(count)]


class Drains:
    """All that drains in a process, by name, and what has lately."""

    def __init__(self, clock: IReactorTime, random: Random) -> None:
        self._clock = clock
        self._random = random
        self._drains: dict[str, Drain] = {}

    def start(self, subject: Subject, manner: Manner) -> Drain:
        """Drain ``subject``; an older drain of the same name is over with that, and who waits for it is told."""
        older = self._drains.pop(subject.name, None)
        if older is not None and not older.ended:
            older.cancel()
        for name in [name for name, drain in self._drains.items() if drain.ended][:-KEPT]:
            del self._drains[name]
        drain = self._drains[subject.name] = Drain(subject, manner, self._clock, self._random)
        return drain

    def find(self, name: str) -> Drain | None:
        """The drain of this name, or the last that there was."""
        return self._drains.get(name)

    def __iter__(self) -> Iterator[Drain]:
        return iter(list(self._drains.values()))
