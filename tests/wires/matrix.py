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
    """A way to stick: keys of ``[cluster.app]``; by HTTP or by TCP; and the kind of clients, if that counts."""

    cluster: Mapping[str, Any]
    tcp: bool = False
    client: str = ""


class Visitor:
    """A client with an address, a name, a token, an identifier in its paths, and a jar for cookies."""

    def __init__(self, number: int) -> None:
        self.peer = IPv4Address("TCP", f"198.51.{number >> 8}.{number & 255}", 40000)
        self.user = b"user-%d" % number
        claims = base64.urlsafe_b64encode(json.dumps({"sub": f"user-{number}"}).encode()).rstrip(b"=")
        self._token = b"e30." + claims + b".c2ln"
        self.cookies: dict[bytes, bytes] = {}
        self.session: bytes | None = None

    def request(self, client: str) -> bytes:
        lines = [b"Cookie: " + b"; ".join(b"%s=%s" % pair for pair in self.cookies.items())] if self.cookies else []
        target = b"/room/%s/0/%s/xhr?client=%s" % (self.user, self.user, self.user)
        if client == "engine.io":
            target = b"/socket.io/?transport=polling" + (b"&sid=" + self.session if self.session else b"")
        elif client == "mcp" and self.session:
            lines.append(b"Mcp-Session-Id: " + self.session)
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

    def read(self, answer: bytes) -> bool:
        """Whether all is well; else it has no session any more, and begins anew."""
        self.cookies.update(re.findall(rb"Set-Cookie: ([^=]+)=([^;\r]*)", answer))
        named = re.search(rb'(?:Mcp-Session-Id: |"sid":")([\w-]+)', answer)
        well = not answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404"))
        self.session = named[1] if named else self.session if well else None
        return well


class Application:
    """What runs on a backend: it makes sessions, knows its own, and tells in a cookie what it is called."""

    def __init__(self, id: str) -> None:
        self._id = id.encode()
        self._sessions: set[bytes] = set()

    def _new(self) -> bytes:
        session = b"%s-%d" % (self._id, len(self._sessions))
        self._sessions.add(session)
        return session

    def answer(self, request: bytes) -> bytes:
        shown = re.search(rb"(?:Mcp-Session-Id: |sid=)([\w-]+)", request)
        if shown is not None and shown[1] not in self._sessions:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        session = shown[1] if shown is not None else self._new()
        fields = b"Set-Cookie: NODE=here; Path=/\r\nMcp-Session-Id: %s\r\n" % session
        cookie = re.search(rb"APP=([^;\r]+)", request)
        if cookie is None or cookie[1] not in self._sessions:
            fields += b"Set-Cookie: APP=%s; Path=/\r\n" % self._new()
        if b"ROUTE=" + self._id not in request:
            fields += b"Set-Cookie: ROUTE=%s; Path=/\r\n" % self._id
        content = b'0{"sid":"%s"}' % session
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s" % (len(content), fields, content)


class Server:
    """A backend's machine at one port."""

    def __init__(self) -> None:
        self.application = Application("")
        self.dead = False
        self.connections: list[MemoryTransport] = []

    def answer(self) -> bool:
        """Whether anybody has said something; requests are answered."""
        self.connections = [one for one in self.connections if one.connected]
        for connection in self.connections:
            said = connection.take()
            if said.startswith(b"GET"):
                connection.deliver(self.application.answer(said))
            if said:
                return True
        return False


class Reactor(Clock):
    """A clock, and backends to connect to."""

    def __init__(self) -> None:
        super().__init__()
        self.advance(1_700_000_000)
        self.servers = {port: Server() for port in range(9001, 9020)}

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
        self._applications: dict[str, Application] = {}
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
        for id, port in ports.items():
            server = self._reactor.servers[port]
            server.application = self._applications.setdefault(id, Application(id))
            server.connections.clear()
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
        """Who serves it, at the second try if its session is gone; None: nobody."""
        served, well = self._try(visitor)
        return served if well else self._try(visitor)[0]

    def _try(self, visitor: Visitor) -> tuple[str | None, bool]:
        factory: IProtocolFactory = self._factory
        protocol = factory.buildProtocol(visitor.peer)
        assert protocol is not None
        client = MemoryTransport(protocol, peer=visitor.peer)
        client.deliver(visitor.greeting() if self._mode.tcp else visitor.request(self._mode.client))
        served = [id for id, port in self._ports.items() if self._reactor.servers[port].answer()]
        well = visitor.read(client.take())
        if client.connected:
            client.lose()
        assert len(served) < 2
        return served[0] if served else None, well

    def visits(self, visitors: Iterable[Visitor]) -> list[str | None]:
        return [self.visit(visitor) for visitor in visitors]
