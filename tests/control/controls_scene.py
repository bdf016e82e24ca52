"""A proxy in memory, its controls, and a site of the admin API to ask."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping
from email.parser import BytesParser
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater

from stickyproxy.config import from_tables
from stickyproxy.control.api import api_routes
from stickyproxy.control.controls import LocalControls
from stickyproxy.control.door import Door
from stickyproxy.control.events import Events
from stickyproxy.control.operators import Operators
from stickyproxy.control.web import Site
from stickyproxy.extensions import find_extensions
from stickyproxy.service import Proxy, build
from stickyproxy.testing import MemoryTransport

T = TypeVar("T")
TOKEN = "0123456789abcdef0123456789abcdef"
TABLES: dict[str, Any] = {
    "frontend": {
        "web": {"listen": "tcp:0", "cluster": "app", "routes": [{"path": "/api/", "cluster": "api"}]},
    },
    "cluster": {
        "app": {
            "affinity": "source",
            "eject": {"failures": 1, "time": "10s"},
            "backends": {"a": "tcp:127.0.0.1:1", "b": {"endpoint": "tcp:127.0.0.1:2", "weight": 3}},
        },
        "api": {"probe": "tcp", "backends": {f"n{number}": f"tcp:127.0.0.1:{number + 1}" for number in range(8)}},
    },
}


class Told(NamedTuple):
    """An answer of the API."""

    status: int
    fields: Mapping[str, str]
    data: bytes

    def json(self) -> Any:
        return json.loads(self.data)


class Scene:
    """A proxy that nobody is connected to, with time that stands still."""

    def __init__(self, token_file: Path | None = None, tables: dict[str, Any] | None = None) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.proxy: Proxy = build(from_tables(tables or TABLES, find_extensions()), self.clock, find_extensions())
        self.controls = LocalControls(self.proxy, self.clock, self.clock.seconds)
        operators = Operators(token_file) if token_file is not None else None
        door = Door(["admin.example.org"], operators, self.clock.seconds)
        self.events = Events(self.controls, self.clock)
        table = api_routes(self.controls, self.events)
        self.site = Site(table, door, self.clock, lambda: deferLater(self.clock, 0), local=True)

    def result(self, awaitable: Awaitable[T]) -> T:
        """What a coroutine gives, others having their turn meanwhile."""
        got: list[Any] = []
        Deferred.fromCoroutine(awaitable).addBoth(got.append)  # type: ignore[arg-type]
        for _ in range(1000):
            if got:
                break
            self.clock.advance(0)
        if hasattr(got[0], "raiseException"):
            got[0].raiseException()
        answer: T = got[0]
        return answer

    def snapshot(self) -> dict[str, Any]:
        """As it comes out of JSON."""
        answer: dict[str, Any] = json.loads(json.dumps(self.result(self.controls.snapshot())))
        return answer

    def connect(self, host: str = "127.0.0.1", high_water: int | None = None) -> MemoryTransport:
        peer = IPv4Address("TCP", host, 40000)
        return MemoryTransport(self.site.buildProtocol(peer), peer=peer, high_water=high_water)

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        *,
        token: str | None = None,
        fields: Mapping[str, str | None] | None = None,
        peer: str = "127.0.0.1",
    ) -> Told:
        """One request on a connection of its own."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body or b""
        all_fields: dict[str, str | None] = {"Host": "localhost:9900", "Connection": "close"}
        if body is not None:
            all_fields |= {"Content-Type": "application/json", "Content-Length": str(len(data))}
        if token is not None:
            all_fields["Authorization"] = f"Bearer {token}"
        all_fields |= fields or {}
        lines = [f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in all_fields.items() if v is not None), "", ""]
        transport = self.connect(peer)
        transport.deliver("\r\n".join(lines).encode() + data)
        for _ in range(200):
            if transport.disconnecting:
                break
            self.clock.advance(0)
        return told(transport.written)


def told(data: bytes) -> Told:
    """The one answer in what was written."""
    head, _, content = data.partition(b"\r\n\r\n")
    line, _, fields = head.partition(b"\r\n")
    return Told(int(line.split()[1]), dict(BytesParser().parsebytes(fields + b"\r\n\r\n").items()), content)
