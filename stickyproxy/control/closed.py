"""Frontends that listen no more since an operator drains them, until the drain is cancelled. Floor 5."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from twisted.internet.defer import Deferred, DeferredLock

from stickyproxy.listening import Listener


class Closed:
    """Which frontends are closed: ``what`` has their names, and None where the whole process is.

    ``listeners()`` are those of all frontends. ``changing`` is held by whoever else opens and closes them (a reload).
    """

    def __init__(self, listeners: Callable[[], Collection[Listener]], changing: DeferredLock) -> None:
        self.what: frozenset[str | None] = frozenset()
        self._listeners = listeners
        self._changing = changing

    def __contains__(self, frontend: str) -> bool:
        return None in self.what or frontend in self.what

    def close(self, name: str | None) -> Deferred[None]:
        """Nobody new comes to this frontend, None: to the process. Fires when connections to it are refused."""
        return self._run(lambda: self.what | {name})

    def open(self, name: str | None) -> Deferred[None]:
        """It listens again. Fails with ``CannotListen``; then nothing has changed."""
        return self._run(lambda: self.what - {name})

    def become(self, what: Iterable[str | None]) -> Deferred[None]:
        """Exactly these are closed. Fails as ``open`` does."""
        wanted = frozenset(what)
        return self._run(lambda: wanted)

    def keep(self, frontends: Collection[str]) -> None:
        """There are no others any more; one of the same name that comes later is another."""
        self.what = frozenset(name for name in self.what if name is None or name in frontends)

    def _run(self, wanted: Callable[[], frozenset[str | None]]) -> Deferred[None]:
        return self._changing.run(lambda: Deferred.fromCoroutine(self._become(wanted())))

    async def _become(self, what: frozenset[str | None]) -> None:
        before, self.what = self.what, what
        opened: list[Listener] = []
        try:
            for listener in self._listeners():
                if listener.closed and listener.frontend not in self:
                    await listener.open()
                    opened.append(listener)
        except BaseException:
            self.what = before
            for listener in opened:
                await listener.close()
            raise
        for listener in self._listeners():
            if not listener.closed and listener.frontend in self:
                await listener.close()
