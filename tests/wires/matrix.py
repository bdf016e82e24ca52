"""Clusters as a configuration makes them, with clients and backends in memory: who moves when something happens.

``World`` is a proxy before backends ``a`` to ``d``, ``Visitor`` a client that shows all that it could be known by.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from stickyproxy.config import from_tables
from stickyproxy.config.specs import Frontend
from stickyproxy.extensions import find_extensions, make
from stickyproxy.interfaces import ISessionStore, IStreamInspector
from stickyproxy.sansio.inspecting import BoundedInspector
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.service import build_cluster
from stickyproxy.sweep import Sweep
from stickyproxy.testing import MemoryTransport
from stickyproxy.wires.http import HTTPFrontendFactory
from stickyproxy.wires.tcp import TCPFrontendFactory

EXTENSIONS = find_extensions()
PORTS = {"a": 9001, "b": 9002, "c": 9003, "d": 9004}


class Mode(NamedTuple):
    """A way to stick: keys of ``[cluster.app]``; by HTTP or by TCP."""

    cluster: Mapping[str, Any]
    tcp: bool = False


class Visitor:
    """A client with an address, a name, a token, an identifier in its paths, and a jar for cookies."""

    def __init__(self, number: int) -> None:
        self.peer = IPv4Address("TCP", f"198.51.{number >> 8}.{number & 255}", 40000)
        self.user = b"user-%d" % number
        claims = base64.urlsafe_b64encode(json.dumps({"sub": f"user-{number}"}).encode()).rstrip(b"=")
        self._token = b"e30." + claims + b".c2ln"
        self.cookies: dict[bytes, bytes] = {}
        self.fields: dict[bytes, bytes] = {}

    def request(self) -> bytes:
        cookies = b"; ".join(b"%s=%s" % pair for pair in self.cookies.items())
        fields = {b"Cookie": cookies, **self.fields} if cookies else self.fields
        lines = [b"%s: %s" % pair for pair in fields.items()]
        target = b"/room/%s?client=%s" % (self.user, self.user)
        return b"\r\n".join(
            (
                b"GET %s HTTP/1.1\r\nHost: example.org" % target,
                b"X-User: " + self.user,
                b"Authorization: Bearer " + self._token,
                *lines,
                b"\r\n",
            )
        )

    def greeting(self) -> bytes:
        """As a client of Redis logs in."""
        return b"*3\r\n$4\r\nAUTH\r\n$%d\r\n%s\r\n$2\r\npw\r\n" % (len(self.user), self.user)

    def read(self, answer: bytes) -> None:
        for name, value in re.findall(rb"Set-Cookie: ([^=]+)=([^;\r]*)", answer):
            self.cookies[name] = value
        for value in re.findall(rb"Mcp-Session-Id: (\S+)", answer):
            self.fields[b"Mcp-Session-Id"] = value


class Server:
    """A backend's machine at one port; its answers give who has none a session of the application's."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.dead = False
        self.connections: list[MemoryTransport] = []
        self._count = 0

    def answer(self) -> bool:
        """Whether anybody has said something, or has just connected; requests are answered."""
        self.connections = [one for one in self.connections if one.connected]
        for connection in self.connections:
            said = connection.take()
            if said.startswith(b"GET"):
                self._count += 1
                session = b"%d-%d" % (self.port, self._count)
                fields = b"" if b"APP=" in said else b"Set-Cookie: APP=%s\r\n" % session
                if b"Mcp-Session-Id:" not in said:
                    fields += b"Mcp-Session-Id: %s\r\n" % session
                connection.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%s\r\nok" % fields)
            if said:
                return True
        return False


class Reactor(Clock):
    """A clock, and backends to connect to."""

    def __init__(self) -> None:
        super().__init__()
        self.advance(1_700_000_000)
        self.servers = {port: Server(port) for port in range(9001, 9020)}

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: object = None) -> None:
        server = self.servers[port]
        if server.dead:
            factory.clientConnectionFailed(None, Failure(Refused()))
            return
        transport = MemoryTransport(factory.buildProtocol(IPv4Address("TCP", host, port)))
        server.connections.append(transport)


class World:
    """A proxy that sticks as ``mode`` says. ``directory`` is where it keeps its key."""

    def __init__(self, mode: Mode, directory: Path) -> None:
        self._mode = mode
        self._directory = directory
        self._reactor = Reactor()
        self.restart()

    def restart(self) -> None:
        """A new process: what was in memory is gone."""
        self._sessions: ISessionStore = SessionTable(self._reactor.seconds)
        self.configure(PORTS)

    def configure(self, ports: Mapping[str, int], **changed: Mapping[str, Any]) -> None:
        """Backends by id at these ports, in this order; ``changed`` has more of what the configuration says of one."""
        backends = {id: {"endpoint": f"tcp:127.0.0.1:{port}", **changed.get(id, {})} for id, port in ports.items()}
        frontend: dict[str, Any] = {"listen": "tcp:0", "cluster": "app"}
        if self._mode.tcp:
            frontend |= {"protocol": "tcp", "inspect": "redis"}
        tables = {"frontend": {"web": frontend}, "cluster": {"app": {"backends": backends, **self._mode.cluster}}}
        configuration = from_tables(tables, EXTENSIONS)
        self._ports = ports
        cluster = build_cluster(
            configuration.clusters[0],
            self._reactor,
            EXTENSIONS,
            random=Random(1),
            directory=self._directory,
            sessions=self._sessions,
        )
        for member in cluster.members.values():
            self._reactor.servers[ports[member.id]].connections.clear()
        self._factory = (
            self._tcp(configuration.frontends[0], cluster)
            if self._mode.tcp
            else HTTPFrontendFactory(
                configuration.frontends[0], {"app": cluster}, Sweep(self._reactor), Random(1), self._reactor.seconds
            )
        )

    def _tcp(self, spec: Frontend, cluster: Any) -> TCPFrontendFactory:
        assert spec.inspect is not None
        inspector = make(EXTENSIONS.of(IStreamInspector)[spec.inspect.name], spec.inspect.options)
        bounded = BoundedInspector(inspector, spec.inspect.bytes, spec.inspect.timeout)
        return TCPFrontendFactory(cluster, Sweep(self._reactor), idle=60, handshake=60, inspector=bounded)

    def kill(self, id: str, *, dead: bool = True) -> None:
        """The backend cannot be reached any more, or can again."""
        server = self._reactor.servers[self._ports[id]]
        server.dead = dead
        for connection in server.connections:
            if connection.connected:
                connection.lose()
        server.connections.clear()

    def visit(self, visitor: Visitor) -> str | None:
        """Who serves it; None: nobody."""
        factory: IProtocolFactory = self._factory
        protocol = factory.buildProtocol(visitor.peer)
        assert protocol is not None
        client = MemoryTransport(protocol, peer=visitor.peer)
        client.deliver(visitor.greeting() if self._mode.tcp else visitor.request())
        served = [id for id, port in self._ports.items() if self._reactor.servers[port].answer()]
        visitor.read(client.take())
        if client.connected:
            client.lose()
        assert len(served) < 2
        return served[0] if served else None

    def visits(self, visitors: Iterable[Visitor]) -> list[str | None]:
        return [self.visit(visitor) for visitor in visitors]
