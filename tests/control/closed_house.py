"""A proxy that runs in memory, told by what it listens on."""

from __future__ import annotations

import copy
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock

from stickyproxy.config import from_tables
from stickyproxy.control.controls import LocalControls
from stickyproxy.control.settings import restore_settings
from stickyproxy.extensions import find_extensions
from stickyproxy.service import build

EXTENSIONS = find_extensions()
TABLES: dict[str, Any] = {
    "frontend": {
        "web": {"listen": ["tcp:8080", "tcp:8081"], "cluster": "app"},
        "raw": {"listen": "tcp:8082", "cluster": "app", "protocol": "tcp"},
    },
    "cluster": {"app": {"backends": {"a": "tcp:127.0.0.1:9001"}}},
}


class Port:
    """A port that listens, in memory."""

    def __init__(self, house: House, endpoint: str) -> None:
        self.house, self.endpoint = house, endpoint
        house.open.append(endpoint)

    def getHost(self) -> str:
        return self.endpoint

    def stopListening(self) -> None:
        self.house.open.remove(self.endpoint)


class Guest:
    """A connection that ends when it is asked to, if ``polite``."""

    def __init__(self, among: set[Any], polite: bool = True) -> None:
        self.among, self.polite = among, polite
        self.told: list[int | None] = []
        among.add(self)

    def drain(self, code: int | None = None) -> None:
        self.told.append(code)
        if self.polite:
            self.abort()

    def abort(self) -> None:
        self.among.discard(self)


class House:
    """A proxy that runs, and what it listens on."""

    def __init__(self, settings: dict[str, Any] | None = None, tables: dict[str, Any] | None = None) -> None:
        """``settings``: of the process from which it takes over."""
        self.tables = copy.deepcopy(tables or TABLES)
        self.open: list[str] = []
        self.taken: set[str] = set()
        self.clock = MemoryReactorClock()
        self.proxy = build(self.configuration(), self.clock, EXTENSIONS, listen=self._listen)
        self.controls = LocalControls(self.proxy, self.clock)
        if settings is not None:
            restore_settings(self.proxy, settings)
        self.proxy.privilegedStartService()
        self.proxy.startService()

    def configuration(self) -> Any:
        return from_tables(self.tables, EXTENSIONS)

    def _listen(self, endpoint: str, factory: Any) -> Deferred[Any]:
        if endpoint in self.taken:
            return fail(CannotListenError("", 1, OSError("taken")))
        return succeed(Port(self, endpoint))

    def result(self, awaitable: Any) -> Any:
        got: list[Any] = []
        Deferred.fromCoroutine(awaitable).addBoth(got.append)
        for _ in range(20):
            self.clock.advance(0.05)
        if hasattr(got[0], "raiseException"):
            got[0].raiseException()
        return got[0]

    def drain(self, **wanted: Any) -> Any:
        return self.result(self.controls.drain(wanted, "alice"))

    def cancel(self, drain: str) -> Any:
        return self.result(self.controls.cancel_drain(drain, "alice"))

    def reload(self) -> None:
        self.result(self._reconfigure())

    async def _reconfigure(self) -> None:
        await self.proxy.reconfigure(self.configuration())
