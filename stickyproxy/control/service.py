"""The admin API while it runs: its listeners. Floor 5."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from stickyproxy.config.admin import Admin
from stickyproxy.control.api import api_routes
from stickyproxy.control.controls import Controls
from stickyproxy.control.door import Door
from stickyproxy.control.operators import Operators
from stickyproxy.control.snapshot import address_text
from stickyproxy.control.web import Site
from stickyproxy.errors import StickyproxyError
from stickyproxy.tls import CertificateStore, server_connection_creator, tls_factory


class CannotAdminister(StickyproxyError):
    """An endpoint of the admin API is taken, or not for us to take."""


class AdminService(Service):
    """Listens as ``spec`` says. ``listening`` are the addresses, once it does. Raises ``TokenFileError``."""

    _log = Logger()

    def __init__(self, spec: Admin, controls: Controls, reactor: Any) -> None:
        self.spec = spec
        self.listening: list[IAddress] = []
        self._reactor = reactor
        self._table = api_routes(controls)
        operators = Operators(spec.token_file) if spec.token_file is not None else None
        self._door = Door(spec.hosts, operators, reactor.seconds)
        self._sites: list[Site] = []
        self._ports: list[Deferred[IListeningPort | None]] = []

    def privilegedStartService(self) -> None:
        """Listen, while we may still have the privileges for it. Raises ``CannotAdminister``."""
        for description in self.spec.listen:
            site = Site(self._table, self._door, self._reactor, self._pause, local=False)
            self._sites.append(site)
            factory: Any = site
            if (tls := self.spec.tls) is not None:
                creator = server_connection_creator(
                    CertificateStore.load(tls.certificates),
                    alpn=(b"http/1.1",),
                    minimum_version=tls.minimum_version,
                    client_ca=tls.client_ca,
                    client_certificates=tls.client_certificates,
                )
                factory = tls_factory(creator, site, clock=self._reactor, handshake_timeout=10.0)
            refusals: list[Failure] = []
            port = serverFromString(self._reactor, description).listen(factory)
            port.addCallback(self._listens, description, site)
            port.addErrback(refusals.append)
            self._ports.append(port)
            if refusals:
                reason = getattr(refusals[0].value, "socketError", None) or refusals[0].value
                reason = getattr(reason, "strerror", None) or reason
                raise CannotAdminister(f"admin cannot listen on {description}: {reason}") from refusals[0].value

    def startService(self) -> None:
        super().startService()
        if not self._ports:
            self.privilegedStartService()

    def stopService(self) -> Deferred[None]:
        """Stop listening, and end every connection."""
        super().stopService()
        return Deferred.fromCoroutine(self._stop()) if self._ports else succeed(None)

    async def _stop(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            listening = await port
            if listening is not None:
                await maybeDeferred(listening.stopListening)
        for site in self._sites:
            for channel in list(site.channels):
                channel.forceAbortClient()
        self._sites.clear()
        self.listening.clear()

    def _listens(self, port: IListeningPort, description: str, site: Site) -> IListeningPort:
        address = port.getHost()
        self.listening.append(address)
        site.local = _is_local(address)
        self._reactor.callWhenRunning(self._tell, description, address, site.local)
        return port

    def _tell(self, description: str, address: IAddress, local: bool) -> None:
        where = address_text(address)
        self._log.info("Admin API listens on {endpoint}: {address}", endpoint=description, address=where)
        if not local:
            self._log.warn(
                "The admin API can be reached from elsewhere on {address}{how}: everything there needs a token",
                address=where,
                how="" if self.spec.tls is not None else ", without TLS",
            )

    def _pause(self) -> Deferred[None]:
        return deferLater(self._reactor, 0)


def _is_local(address: Any) -> bool:
    """Whether only this machine reaches it."""
    host = getattr(address, "host", None)
    return host is None or ip_address(host.partition("%")[0]).is_loopback
