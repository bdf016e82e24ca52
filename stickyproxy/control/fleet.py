"""A parent and its workers: it holds the sockets and probes, and serves nobody; they serve. Floor 5.

The parent runs the same configuration as its workers, but for accepting connections. So what is wrong with it is found
there, once; and a worker that takes the place of another gets what the parent has.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.logger import Logger

from stickyproxy.config import Configuration
from stickyproxy.control.asking import Gone
from stickyproxy.control.life import Life
from stickyproxy.control.refusal import Refusal
from stickyproxy.control.sockets import Sockets
from stickyproxy.control.wellbeing import Told, Wellbeing

#: Seconds before a process follows one that died soon, if that was not the first: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
#: Seconds after which a process did not die soon.
WELL = 60.0
#: Seconds for a worker to make ready, to stop, and then to end.
PATIENCE, FAREWELL = 60.0, 5.0
#: Workers that may die before any has served.
STILLBORN = 3


class Running(Protocol):
    """What is needed of a running configuration: ``service.Proxy``."""

    configuration: Configuration

    @property
    def clusters(self) -> Mapping[str, Any]: ...


def pause(soon: int) -> float:
    """Seconds to wait after so many processes in a row that died soon."""
    return 0.0 if soon < 2 else min(FIRST_PAUSE * 2.0 ** min(soon - 2, 30), LONGEST_PAUSE)


def acting_for(ready: AbstractSet[int], count: int) -> dict[int, list[int]]:
    """For whom of ``count`` each of the ``ready`` workers accepts: for itself, and its part of those that are not."""
    acting = {number: [number] for number in sorted(ready)}
    missing = [number for number in range(1, count + 1) if number not in ready]
    for place, number in enumerate(missing if acting else ()):
        acting[list(acting)[place % len(acting)]].append(number)
    return acting


class Fleet(Service):
    """``count`` workers, which serve ``document`` (read from ``path``) on the ``sockets`` that ``proxy`` listens on.

    ``stuck``: seconds after which a silent worker is replaced. ``fail`` is called, once, where none can be started.
    """

    _log = Logger()

    def __init__(
        self,
        proxy: Running,
        document: bytes,
        path: Path,
        sockets: Sockets,
        reactor: Any,
        *,
        count: int,
        stuck: float,
        fail: Callable[[str], object],
    ) -> None:
        self.document = document
        self.path = path
        self.lives: dict[int, Life] = {}
        self._proxy = proxy
        self._sockets = sockets
        self._reactor = reactor
        self._count = count
        self._stuck = stuck
        self._fail = fail
        self._places: dict[int, Deferred[None]] = {}
        self._acting: dict[int, list[int]] = {}
        self._stillborn = 0
        self.serving: Deferred[None] = Deferred()  #: fires when the first worker does
        self._served = self._given_up = False
        self._wellbeing = Wellbeing(self._found, probing=True)

    def startService(self) -> None:
        super().startService()
        self._wellbeing.watch(self._proxy.clusters)
        self._reactor.callWhenRunning(self._start)

    def _start(self) -> None:
        for number in range(1, self._count + 1):
            place = Deferred.fromCoroutine(self._fill(number))
            place.addErrback(lambda failure: failure.trap(CancelledError) and None)
            self._places[number] = place

    def stopService(self) -> Deferred[Any]:
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for number, place in self._places.items():
            if number not in self.lives:  # it waits for its next one
                place.cancel()
        await gatherResults([Deferred.fromCoroutine(self._end(life)) for life in self.lives.values()])
        await gatherResults(self._places.values())

    def hurry(self) -> None:
        """They stop, and that is to be over now."""
        for life in self.lives.values():
            _in_vain(life.ask_in(FAREWELL, "hurry"))

    async def _end(self, life: Life) -> None:
        process = self._proxy.configuration.process
        with suppress(Gone, Refusal):
            if process.drain is None:
                await life.ask("stop")
            else:
                await life.ask_in((process.drain_delay or 0.0) + process.drain + FAREWELL, "stop")
        life.let_go()
        life.kill_in(FAREWELL, "it did not end")

    # The places of workers.

    async def _fill(self, number: int) -> None:
        """A process in the place of a worker, and another when that has died."""
        soon = 0
        while self.running:
            begun = self._reactor.seconds()
            reason = await self._live(number)
            if not self.running or self._given_up:
                return
            soon = soon + 1 if self._reactor.seconds() - begun < WELL else 1
            wait = pause(soon)
            when = f"in {wait:g} s" if wait else "at once"
            self._log.error(
                "Worker {number} has died: {reason}; another follows {when}", number=number, reason=reason, when=when
            )
            await deferLater(self._reactor, wait)

    async def _live(self, number: int) -> str:
        """A process from its start to its end, and why it ended."""
        life = self.lives[number] = Life(f"worker {number}", self._reactor, partial(self._answer, number), self._share)
        try:
            life.start()
            equipped = Deferred.fromCoroutine(self._equip(number, life))
            equipped.addErrback(lambda failure: failure.trap(Gone) and None)  # how, its end tells
            reason = await life.ended
        except OSError as error:
            reason = f"it cannot be started: {error.strerror}"
        del self.lives[number]
        self._acting.pop(number, None)
        self._share()
        if self.running and not self._served:  # nor will that change by itself
            self._stillborn += 1
            if self._stillborn >= STILLBORN or life.refused:
                self._give_up(reason)
        return reason

    async def _equip(self, number: int, life: Life) -> None:
        """Give what it needs to a process, and have it serve."""
        for given in self._sockets.held():
            await life.send(*given)
        try:
            known = self._wellbeing.known()
            await life.ask_in(PATIENCE, "serve", self.document.decode(), str(self.path), known, [number], self._count)
        except Refusal as refusal:
            life.refused = True
            life.kill(str(refusal))
            return
        if not self._served:
            self._served = True
            self.serving.callback(None)
        life.watch(self._stuck)
        self._share()
        self._log.info("Worker {number} serves, as process {pid}", number=number, pid=life.pid)

    def _give_up(self, reason: str) -> None:
        """No worker has ever served."""
        if not self._given_up:
            self._given_up = True
            self._fail(f"no worker can serve: {reason}")

    def _share(self) -> None:
        """Somebody accepts what is there for workers that do not."""
        if not self.running:
            return
        ready = {number for number, life in self.lives.items() if life.serving and not life.silent}
        for number, acting in acting_for(ready, self._count).items():
            if acting != self._acting.get(number):
                _in_vain(self.lives[number].ask("accept", acting, self._count))
            self._acting[number] = acting

    # What workers tell, and are told.

    async def _answer(self, number: int, method: str, arguments: list[Any]) -> Any:
        if method != "ejected":
            raise Refusal("unknown", f"a parent knows no {method}")
        self._wellbeing.hear(arguments)
        self._spread(arguments, but=number)

    def _found(self, told: Told) -> None:
        """A probe of ours has."""
        self._spread([told])

    def _spread(self, told: list[Told], but: int = 0) -> None:
        for number, life in self.lives.items():
            if life.serving and number != but:
                _in_vain(life.ask("hear", told))


def _in_vain(asked: Coroutine[Any, Any, Any]) -> None:
    """Nothing follows from it where that worker is gone."""
    Deferred.fromCoroutine(asked).addErrback(lambda failure: failure.trap(Gone, Refusal) and None)
