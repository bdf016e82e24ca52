"""``twistd stickyproxy --demo``: the backends and the proxy in one process, on loopback alone. Floor 6."""

from __future__ import annotations

import datetime
import secrets
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.web.server import Site

from stickyproxy.config.admin import Admin
from stickyproxy.config.named import Named
from stickyproxy.config.specs import Cluster, Configuration, Frontend, FrontendTLS
from stickyproxy.control.controls import LocalControls
from stickyproxy.control.service import AdminService
from stickyproxy.demo.backends import LineEchoFactory, make_root
from stickyproxy.demo.certificate import write_certificate
from stickyproxy.extensions import find_extensions
from stickyproxy.model import Backend
from stickyproxy.service import Proxy, build

NAMES = ("amber", "jade", "violet")
COOKIE = "SRV"
_LOOPBACK = "127.0.0.1"
_PORTS = {"http": 8080, "tcp": 8081, "https": 8443, "admin": 9900}
# Longer than the proxy keeps an idle connection, so that it is the proxy that closes it.
_KEEP_ALIVE = 120.0


class DemoService(MultiService):
    """Opens the backends at start, and configures a proxy for the ports that the system gave them."""

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self._reactor = reactor
        self._ports: list[IListeningPort] = []
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    def startService(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="stickyproxy-demo-")
        certificate = write_certificate(Path(self._directory.name), datetime.datetime.now(datetime.UTC))
        ports = _choose_ports(_PORTS)
        facts: dict[str, Any] = {"backends": NAMES, "cookie": COOKIE, "ports": ports}
        roots = {name: make_root(name, facts, self._reactor) for name in NAMES}
        pages = {
            name: self._listen(_Site(root, timeout=_KEEP_ALIVE, reactor=self._reactor)) for name, root in roots.items()
        }
        echoes = {name: self._listen(LineEchoFactory(name)) for name in NAMES}
        admin = Admin((_listening(ports["admin"]),), _write_token(Path(self._directory.name)))
        configuration = _configure(ports, pages, echoes, certificate, admin)
        proxy = build(configuration, self._reactor, find_extensions())
        proxy.setServiceParent(self)
        AdminService(admin, LocalControls(proxy, self._reactor), self._reactor).setServiceParent(self)
        super().startService()
        _announce(ports, admin)

    async def _stop(self) -> None:
        await super().stopService()
        for service in list(self):
            service.disownServiceParent()
        while self._ports:
            await maybeDeferred(self._ports.pop().stopListening)
        if self._directory is not None:
            self._directory.cleanup()

    def stopService(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._stop())

    def hurry(self) -> None:
        """It stops, and that is to be over now."""
        for service in self:
            if isinstance(service, Proxy):
                service.hurry()

    def _listen(self, factory: IProtocolFactory) -> int:
        port = self._reactor.listenTCP(0, factory, interface=_LOOPBACK)
        self._ports.append(port)
        return int(port.getHost().port)


def make_service(reactor: Any) -> IService:
    """The whole demo as one service; it prints where it is to be found when it starts."""
    return DemoService(reactor)


class _Site(Site):
    """One of the backends; the access log of the proxy tells of its requests, and tells more."""

    noisy = False
    displayTracebacks = False

    def log(self, request: Any) -> None:
        pass


def _configure(
    ports: dict[str, int], pages: dict[str, int], echoes: dict[str, int], certificate: Path, admin: Admin
) -> Configuration:
    """The configuration that a file would have."""
    frontends = (
        Frontend("web", (_listening(ports["http"]),), "app"),
        Frontend("secure", (_listening(ports["https"]),), "app", tls=FrontendTLS((certificate,))),
        Frontend("echo", (_listening(ports["tcp"]),), "echo", protocol="tcp"),
    )
    # A browser keeps one cookie for both ports. Were it Secure when set over TLS, the plain page could not renew it.
    affinity = Named("cookie", {"name": COOKIE, "secure": False})
    clusters = (
        Cluster("app", _backends(pages), affinity=affinity, keys=(secrets.token_bytes(32),)),
        Cluster("echo", _backends(echoes), affinity=Named("source")),
    )
    return Configuration(frontends, clusters, admin=admin)


def _write_token(directory: Path) -> Path:
    """A token for this run, in a file that nobody else may read; a terminal's output goes to who knows where."""
    path = directory / "admin.token"
    path.touch(0o600)
    path.write_text(f"{secrets.token_hex(32)}\n")
    return path


def _backends(ports: dict[str, int]) -> tuple[Backend, ...]:
    return tuple(Backend(name, f"tcp:{_LOOPBACK}:{port}") for name, port in ports.items())


def _listening(port: int) -> str:
    return f"tcp:{port}:interface={_LOOPBACK}"


def _choose_ports(wanted: dict[str, int]) -> dict[str, int]:
    """The ports that are wanted, or free ones where they are taken."""
    return {name: _free_port(port) or _free_port(0) for name, port in wanted.items()}


def _free_port(port: int) -> int:
    """``port`` (0: any) if it can be listened on now, else 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return 0
        return int(probe.getsockname()[1])


def _announce(ports: dict[str, int], admin: Admin) -> None:
    """To the terminal itself: twistd makes log lines of what goes to ``sys.stdout``."""
    if sys.__stdout__ is not None:
        sys.__stdout__.write(
            "\nThe stickyproxy demo:\n"
            f"  HTTP   http://{_LOOPBACK}:{ports['http']}/\n"
            f"  HTTPS  https://{_LOOPBACK}:{ports['https']}/   (the certificate is self-made: your browser asks)\n"
            f"  TCP    nc {_LOOPBACK} {ports['tcp']}\n"
            f"  Admin  http://{_LOOPBACK}:{ports['admin']}/   (to change anything: the token in {admin.token_file})\n\n"
        )
        sys.__stdout__.flush()
