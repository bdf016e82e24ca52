"""A parent and its workers: it holds the sockets and probes, and serves nobody; they serve. Floor 5.

The parent runs the same configuration as its workers, but for accepting connections. So what is wrong with it is found
there, once; and a worker that takes the place of another gets what the parent has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import partial
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import CancelledError, Deferred, DeferredLock, gatherResults, maybeDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from stickyproxy.control.asking import Gone
from stickyproxy.control.cores import worker_count
from stickyproxy.control.life import Common, Life
from stickyproxy.control.refusal import Refusal
from stickyproxy.control.reloading import Loaded
from stickyproxy.control.sockets import Sockets
from stickyproxy.control.wellbeing import Told, Wellbeing
from stickyproxy.control.worker import Changed, Serving
from stickyproxy.errors import StickyproxyError
from stickyproxy.sharing import regions_of

#: Seconds before a process follows one that died soon, if that was not the first: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
#: Seconds after which a process did not die soon.
WELL = 60.0
#: Seconds for a worker to make ready, to stop, and then to end.
PATIENCE, FAREWELL = 60.0, 5.0
#: Workers that may die before any has served.
STILLBORN = 3


class CannotResize(StickyproxyError):
    """So many workers cannot be had without a restart."""


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


class Fleet(MultiService):
    """``proxy``, which holds the ``sockets``, and the workers that serve what ``document`` says as it does.

    ``fail`` is called, once, with the reason, if no worker can serve.
    """

    _log = Logger()

    def __init__(
        self,
        proxy: Serving,
        document: bytes,
        sockets: Sockets,
        common: Common,
        reactor: Any,
        fail: Callable[[str], object],
    ) -> None:
        super().__init__()
        self.proxy = proxy
        self.lives: dict[int, Life] = {}  #: processes by the numbers of workers, from 1 on
        self._document = document
        self.sockets = sockets
        self._common = common
        self._reactor = reactor
        self._fail = fail
        self._count = 0
        self._places: dict[int, Deferred[None]] = {}
        self._acting: dict[int, list[int]] = {}
        self._stillborn = 0
        self.serving: Deferred[None] = Deferred()  #: fires when the first worker does
        self._served = self._given_up = False
        self._reloading = DeferredLock()
        self._wellbeing = Wellbeing(self._found, probing=True)

    def startService(self) -> None:
        super().startService()
        self._wellbeing.watch(self.proxy.clusters)
        self._reactor.callWhenRunning(self._resize)

    def stopService(self) -> Deferred[Any]:
        self.running = 0
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        workers = [Deferred.fromCoroutine(self._leave(number)) for number in list(self._places)]
        await gatherResults([*workers, maybeDeferred(super().stopService)])

    def hurry(self) -> None:
        """They stop, and that is to be over now."""
        self.proxy.hurry()
        for life in self.lives.values():
            _in_vain(life.ask_in(FAREWELL, "hurry"))

    def _resize(self) -> None:
        """As many workers as the configuration says; those that are too many end."""
        self._count = worker_count(self.proxy.configuration.process.workers)
        for number in range(1, self._count + 1):
            if number not in self._places:
                self._places[number] = Deferred.fromCoroutine(self._fill(number))
                self._places[number].addErrback(lambda failure: failure.trap(CancelledError) and None)
        for number in [number for number in self._places if number > self._count]:
            Deferred.fromCoroutine(self._leave(number))
        self._share()

    async def _leave(self, number: int) -> None:
        """Empty the place of a worker."""
        place, life = self._places.pop(number), self.lives.get(number)
        if life is None:  # it waits for its next one
            place.cancel()
        else:
            process = self.proxy.configuration.process
            with suppress(Gone, Refusal):
                if process.drain is None:
                    await life.ask("stop")
                else:
                    await life.ask_in((process.drain_delay or 0.0) + process.drain + FAREWELL, "stop")
            life.let_go()
            life.kill_in(FAREWELL, "it did not end")
        await place

    async def _fill(self, number: int) -> None:
        """A process in the place of a worker, and another when that has died."""
        soon = 0
        while self._wanted(number):
            begun = self._reactor.seconds()
            reason = await self._live(number)
            if not self._wanted(number):
                return
            soon = soon + 1 if self._reactor.seconds() - begun < WELL else 1
            wait = pause(soon)
            when = f"in {wait:g} s" if wait else "at once"
            self._log.error(
                "Worker {number} has died: {reason}; another follows {when}", number=number, reason=reason, when=when
            )
            await deferLater(self._reactor, wait)

    def _wanted(self, number: int) -> bool:
        return bool(self.running) and not self._given_up and number <= self._count

    async def _live(self, number: int) -> str:
        """A process from its start to its end, and why it ended."""
        name, answers = f"worker {number}", partial(self._answer, number)
        life = self.lives[number] = Life(name, number - 1, self._reactor, self._common, answers, self._share)
        try:
            life.start()
            equipped = Deferred.fromCoroutine(self._equip(number, life))
            equipped.addErrback(lambda failure: failure.trap(Gone) and None)  # how, its end tells
            reason = await life.ended
        except OSError as error:
            reason = f"it cannot be started: {error.strerror}"
        del self.lives[number]
        self._acting.pop(number, None)
        self._common.memory.clear(life.slot)
        self._share()
        if self.running and not self._served:  # nor will that change by itself
            self._stillborn += 1
            if (self._stillborn >= STILLBORN or life.refused) and not self._given_up:
                self._given_up = True
                self._fail(f"no worker can serve: {reason}")
        return reason

    async def _equip(self, number: int, life: Life) -> None:
        """Give a process what it needs, and have it serve."""
        life.kill_in(PATIENCE, "it did not begin to serve")
        served = b""
        while served != self._document:  # it may have been another one meanwhile
            served = self._document
            if not await self._tell(number, life):
                return
        life.spare()
        if self._wanted(number):
            if not self._served:
                self._served = True
                self.serving.callback(None)
            life.watch(self.proxy.configuration.process.stuck)
            self._log.info("Worker {number} serves, as process {pid}", number=number, pid=life.pid)
            self._share()

    async def _tell(self, number: int, life: Life) -> bool:
        """Have a worker serve what the parent has. One that cannot is killed."""
        try:
            for description, sock in self.sockets.held():
                await life.send(description, sock)
            document, path = self._document.decode(), str(self.proxy.configuration.path)
            known, changed = self._wellbeing.known(), self._changed()
            share = number, self._acting.get(number, [number]), self._count
            closed = list(self.proxy.closed.what)
            await life.ask_in(PATIENCE, "serve", document, path, known, changed, closed, *share)
        except Refusal as refusal:
            life.refused = True
            life.kill(str(refusal))
            return False
        return True

    def _changed(self) -> list[Changed]:
        """The backends that are not as the file says."""
        changed = []
        for spec in self.proxy.configuration.clusters:
            members = self.proxy.clusters[spec.name].members
            for backend in spec.backends:
                member = members[backend.id]
                if (member.state, member.weight) != (backend.state, backend.weight):
                    changed.append((spec.name, backend.id, member.state.value, member.weight))
        return changed

    def _share(self) -> None:
        """Somebody accepts what is there for workers that do not."""
        if not self.running:
            return
        ready = {number for number, life in self.lives.items() if life.serving and not life.silent}
        for number, acting in acting_for(ready, self._count).items():
            if acting != self._acting.get(number):
                _in_vain(self.lives[number].ask("accept", acting, self._count))
            self._acting[number] = acting

    # What all are told, and asked.

    def reload(self, loaded: Loaded) -> Deferred[None]:
        """Serve ``loaded``. Fires when all workers do; fails as ``build`` does, and then nothing has changed.

        A worker that cannot is replaced.
        """
        return self._reloading.run(lambda: Deferred.fromCoroutine(self._reload(loaded)))

    async def _reload(self, loaded: Loaded) -> None:
        document, configuration = loaded
        wanted, most = worker_count(configuration.process.workers), self._common.memory.slots
        if wanted == 1:
            raise CannotResize("process.workers: from several to one process it takes a restart")
        if wanted > most:
            raise CannotResize(f"process.workers: more than {most} take a restart")
        await self.proxy.reconfigure(configuration)
        self._common.memory.provide(regions_of(configuration))
        self._document = document
        self._wellbeing.watch(self.proxy.clusters)
        told = [Deferred.fromCoroutine(self._again(number)) for number, life in self.lives.items() if life.serving]
        await gatherResults(told)
        self._resize()

    async def _again(self, number: int) -> None:
        with suppress(Gone):  # its successor will
            await self._tell(number, self.lives[number])

    def open(self) -> Deferred[None]:
        """Have the workers listen on all that the parent listens on again, and on nothing else. Fires when they do."""
        return self._reloading.run(lambda: Deferred.fromCoroutine(self._open()))

    async def _open(self) -> None:
        lives = [life for life in self.lives.values() if life.serving]
        await gatherResults([Deferred.fromCoroutine(self._open_at(life)) for life in lives])

    async def _open_at(self, life: Life) -> None:
        with suppress(Gone):  # its successor will
            try:
                for description, sock in self.sockets.held():
                    await life.send(description, sock)
                await life.ask("close", list(self.proxy.closed.what))
            except Refusal as refusal:
                life.kill(str(refusal))

    async def ask_all(self, method: str, *arguments: Any, among: Collection[Life] | None = None) -> dict[Life, Any]:
        """What all workers that serve answer, or those ``among`` them; who is gone meanwhile does not."""
        lives = [life for life in self.lives.values() if life.serving and (among is None or life in among)]
        asked = [Deferred.fromCoroutine(_or_gone(life.ask(method, *arguments))) for life in lives]
        answers = await gatherResults(asked)
        return {life: answer[0] for life, answer in zip(lives, answers, strict=True) if answer}

    @property
    def awake(self) -> list[Life]:
        """Those that answered of late: who only looks does not wait for one that is stuck."""
        return [life for life in self.lives.values() if not life.silent]

    def reopen(self) -> None:
        """Open all access logs again, which were rotated."""
        self.proxy.recording.reopen()
        _in_vain(self.ask_all("reopen"))

    async def _answer(self, number: int, method: str, arguments: list[Any]) -> Any:
        if method != "found":
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


async def _or_gone(asked: Coroutine[Any, Any, Any]) -> tuple[Any, ...]:
    try:
        return (await asked,)
    except (Gone, Refusal):  # it is not as far as the others
        return ()


def _in_vain(asked: Coroutine[Any, Any, Any]) -> None:
    """Nothing follows from it where that worker is gone."""
    Deferred.fromCoroutine(asked).addErrback(lambda failure: failure.trap(Gone, Refusal) and None)
