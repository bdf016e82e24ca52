"""The admin API while it runs: its listeners, and what a reload changes of them. Floor 5."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocolFactory
from twisted.internet.task import deferLater
from twisted.logger import Logger

from stickyproxy.config.admin import Admin
from stickyproxy.control.api import api_routes
from stickyproxy.control.controls import Controls
from stickyproxy.control.door import Door
from stickyproxy.control.events import Events
from stickyproxy.control.operators import Operators
from stickyproxy.control.snapshot import address_text
from stickyproxy.control.web import Site
from stickyproxy.listening import Listen, Listener, listen_on
from stickyproxy.tls import CertificateStore, server_connection_creator, tls_factory


class _Listener(Listener):
    """One endpoint, and what is served there."""

    _log = Logger()

    def __init__(self, description: str, site: Site, made: _Made, listen: Listen, reactor: Any) -> None:
        place = f"{description}\n\nadmin"  # not one of a frontend's, though it may be written alike
        super().__init__("admin", place, listen, made.around(site, description), reactor)
        self.site = site
        self._made = made
        self.listening.addCallback(self._look)

    def adopt(self, made: _Made) -> None:
        """The next connection and the next request are treated as ``made`` says."""
        self.site.door = made.door
        self.switch.wrapped = made.around(self.site, self.description)
        self._made = made

    def _look(self, address: IAddress) -> IAddress:
        self.site.local = _is_local(address)
        return address

    def _tell(self, address: IAddress) -> None:
        where = address_text(address)
        self._log.info("Admin API listens on {endpoint}: {address}", endpoint=self.description, address=where)
        if not self.site.local:
            self._log.warn(
                "The admin API can be reached from elsewhere on {address}{how}: everything there needs a token",
                address=where,
                how="" if self._made.creator is not None else ", without TLS",
            )


class _Made:
    """What ``spec`` needs of files. Raises ``TokenFileError`` and ``TLSConfigurationError``."""

    def __init__(self, spec: Admin, reactor: Any) -> None:
        operators = Operators(spec.token_file) if spec.token_file is not None else None
        self.door = Door(spec.hosts, operators, reactor.seconds)
        self.creator: Any = None
        self._reactor = reactor
        if (tls := spec.tls) is not None:
            self.creator = server_connection_creator(
                CertificateStore.load(tls.certificates),
                alpn=(b"http/1.1",),
                minimum_version=tls.minimum_version,
                client_ca=tls.client_ca,
                client_certificates=tls.client_certificates,
            )

    def around(self, site: Site, description: str) -> IProtocolFactory:
        if self.creator is None or description.startswith("unix:"):  # no name is there that a certificate could be for
            return site
        return tls_factory(self.creator, site, clock=self._reactor, handshake_timeout=10.0)


class AdminService(MultiService):
    """Listens as ``spec`` says, None: nowhere. Raises ``TokenFileError`` and ``TLSConfigurationError``."""

    def __init__(self, spec: Admin | None, controls: Controls, reactor: Any, listen: Listen | None = None) -> None:
        super().__init__()
        self._listen = listen or listen_on(reactor)
        self.listeners: dict[str, _Listener] = {}  #: by their endpoint strings
        self._controls = controls
        self._reactor = reactor
        self._events = Events(controls, reactor)
        self._events.setServiceParent(self)
        self._table = api_routes(controls, self._events)
        if spec is not None:
            made = _Made(spec, reactor)
            for description in spec.listen:
                self._add(self._listener(description, made))

    async def reconfigure(self, spec: Admin | None, apply: Callable[[], Awaitable[object]]) -> None:
        """Be as ``spec`` says once ``apply`` has gone well. Raises as the constructor, and ``CannotListen``."""
        made = _Made(spec, self._reactor) if spec is not None else None
        wanted = spec.listen if spec is not None else ()
        opened: list[_Listener] = []
        try:
            for description in wanted:
                if made is not None and description not in self.listeners:
                    opened.append(self._listener(description, made))
                    await opened[-1].open()
            await apply()
        except BaseException:
            for listener in opened:
                await listener.stopService()
            raise
        for description in [each for each in self.listeners if each not in wanted]:
            listener = self.listeners.pop(description)
            await listener.disownServiceParent()
            listener.site.close()
        for listener in self.listeners.values():
            if made is not None:
                listener.adopt(made)
        for listener in opened:
            self._add(listener)

    def stopService(self) -> Deferred[Any]:
        """Stop listening, and end every connection."""
        for listener in self.listeners.values():
            for channel in list(listener.site.channels):
                channel.forceAbortClient()
        stopped: Deferred[Any] = super().stopService()
        return stopped

    def _listener(self, description: str, made: _Made) -> _Listener:
        site = Site(self._table, made.door, self._reactor, self._pause, local=False)
        return _Listener(description, site, made, self._listen, self._reactor)

    def _add(self, listener: _Listener) -> None:
        self.listeners[listener.description] = listener
        listener.setServiceParent(self)

    def _pause(self) -> Deferred[None]:
        return deferLater(self._reactor, 0)


def _is_local(address: Any) -> bool:
    """Whether only this machine reaches it."""
    host = getattr(address, "host", None)
    return host is None or ip_address(host.partition("%")[0]).is_loopback
