"""The PROXY header in front of any protocol, TLS included: required from proxies, and then out of the way. Floor 4.

Once the header is read the transport belongs to the wrapped protocol, and nothing of this stays in the data path. So
``transport.getPeer()`` goes on naming the proxy: the client is whom ``buildProtocol(addr)`` was told of, always.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocol,
    IProtocolFactory,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.addresses import peer_of, proxied_address
from stickyproxy.sansio.networks import Networks
from stickyproxy.sansio.proxyprotocol import BadProxyHeader, HeaderParser, announces
from stickyproxy.sweep import NEVER, Sweep

_log = Logger()


@implementer(IProtocolFactory)
class ProxyProtocolFactory:
    """Require a PROXY header (v1 or v2) from the peers in ``networks``; everybody else is a client himself.

    ``networks``: addresses and networks as text (``"10.0.0.0/8"``), IPv4 ones for IPv4 peers of an IPv6 socket too. A
    peer whose header is not complete after ``timeout`` seconds, or is none, is dropped. ``wrapped.buildProtocol`` is
    called when the header is there, with the address that it names (without one: of the proxy). Put TLS behind this,
    as the wrapped factory: a proxy speaks before the handshake.

    A PROXY header from anyone else is a bad request. HTTP and TLS refuse it by themselves; in front of a protocol that
    would pass it on to a backend, which might believe it, goes a ``RefusingFactory``.
    """

    def __init__(self, wrapped: IProtocolFactory, networks: Iterable[str], sweep: Sweep, timeout: float) -> None:
        self.wrapped = wrapped
        self.sweep = sweep
        self.timeout = timeout
        self._networks = Networks(networks)

    def buildProtocol(self, addr: Any) -> IProtocol | None:
        if peer_of(addr).host in self._networks:
            return _Awaiting(self, addr)
        built: IProtocol | None = self.wrapped.buildProtocol(addr)
        return built

    def doStart(self) -> None:
        self.wrapped.doStart()

    def doStop(self) -> None:
        self.wrapped.doStop()


@implementer(IProtocolFactory)
class RefusingFactory:
    """Drops whoever begins with a PROXY header: a client himself, within TLS, or behind a proxy that has sent its own.

    It is the innermost factory around that of a protocol which passes bytes on as they are.
    """

    def __init__(self, wrapped: IProtocolFactory) -> None:
        self.wrapped = wrapped

    def buildProtocol(self, addr: Any) -> IProtocol | None:
        built: IProtocol | None = self.wrapped.buildProtocol(addr)
        return None if built is None else _Watched(built, addr)

    def doStart(self) -> None:
        self.wrapped.doStart()

    def doStop(self) -> None:
        self.wrapped.doStop()


class _Awaiting(Protocol):
    """A connection of a proxy whose header is not complete yet."""

    transport: Any

    def __init__(self, factory: ProxyProtocolFactory, addr: Any) -> None:
        self.deadline = NEVER
        self._factory = factory
        self._addr = addr
        self._parser = HeaderParser()
        self._refused = False

    def connectionMade(self) -> None:
        self._factory.sweep.watch(self)
        self.deadline = self._factory.sweep.after(self._factory.timeout)

    def dataReceived(self, data: bytes) -> None:
        if self._refused:
            return
        try:
            read = self._parser.feed(data)
        except BadProxyHeader as error:
            self._refuse(str(error))
            return
        if read is None:
            return
        self._factory.sweep.forget(self)
        header, rest = read
        transport = self.transport
        client = self._addr if header.source is None else proxied_address(header.source, header.tlvs)
        inner = self._factory.wrapped.buildProtocol(client)
        if inner is None:
            self._refused = True
            transport.loseConnection()
            return
        transport.protocol = inner
        inner.makeConnection(transport)
        if rest and not getattr(transport, "disconnecting", False):
            inner.dataReceived(rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._factory.sweep.forget(self)

    def expired(self) -> None:
        self._refuse("No complete PROXY header came in time")

    def _refuse(self, why: str) -> None:
        _log.info("{peer} is dropped: {why}", peer=self._addr, why=why)
        self._refused = True
        self._factory.sweep.forget(self)
        self.transport.abortConnection()


@implementer(IHalfCloseableProtocol, IHandshakeListener)
class _Watched(Protocol):
    """A client that may not send a PROXY header: his first bytes are looked at, and then this is out of the way."""

    transport: Any

    def __init__(self, inner: IProtocol, addr: Any) -> None:
        self._inner = inner
        self._addr = addr
        self._held = b""

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self._inner.makeConnection(transport)

    def handshakeCompleted(self) -> None:
        if IHandshakeListener.providedBy(self._inner):
            self._inner.handshakeCompleted()

    def dataReceived(self, data: bytes) -> None:
        self._held += data
        header = announces(self._held)
        if header:
            _log.info("{peer} is dropped: it sent a PROXY header, but is no proxy that may", peer=self._addr)
            self._held = b""
            self.transport.abortConnection()
        elif header is False:
            self._hand_over()

    def readConnectionLost(self) -> None:
        self._hand_over()
        if IHalfCloseableProtocol.providedBy(self._inner):
            self._inner.readConnectionLost()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        if IHalfCloseableProtocol.providedBy(self._inner):
            self._inner.writeConnectionLost()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._inner.connectionLost(reason)

    def _hand_over(self) -> None:
        self.transport.protocol = self._inner
        held, self._held = self._held, b""
        if held:
            self._inner.dataReceived(held)
