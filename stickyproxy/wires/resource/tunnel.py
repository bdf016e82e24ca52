"""A WebSocket that came as a request of twisted.web: its connection is taken from the channel. Floor 4. RFC 6455."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from zope.interface import implementer

from stickyproxy.errors import HTTPError
from stickyproxy.exchange.connection import BackendConnection
from stickyproxy.exchange.exchange import Exchange
from stickyproxy.relay import Relay
from stickyproxy.tunnel import WebSocketTunnel

if TYPE_CHECKING:
    from stickyproxy.wires.resource.resource import AffinityResource


class Seat(NamedTuple):
    """Where a transport has its protocol, which is ``channel`` or what Twisted puts around it."""

    channel: Any
    transport: Any
    name: str


def find_seat(channel: Any) -> Seat:
    """The seat of ``channel``. Raises ``HTTPError`` (501) where there is something between it and its transport."""
    if isinstance(channel, HTTPChannel):
        transport: Any = channel.transport
        # TLS of Twisted or of ours, and every other ProtocolWrapper; else a transport of the reactor.
        for name in ("wrappedProtocol", "protocol"):
            protocol = getattr(transport, name, None)
            if protocol is channel or getattr(protocol, "_channel", None) is channel:
                return Seat(channel, transport, name)
    raise HTTPError("WebSockets are not served on this kind of connection", status=501)


@implementer(IHalfCloseableProtocol)
class Tunnel(Protocol):
    """What the transport has instead of the channel from the 101 on."""

    def __init__(self, seat: Seat, exchange: Exchange, resource: AffinityResource) -> None:
        self._seat = seat
        self._exchange = exchange
        self._resource = resource
        self._relay: Relay

    def begin(self, request: Any, head: bytes, connection: BackendConnection, early: bytes, reserved: int) -> None:
        """Write the 101 and join both connections. ``early`` came from the backend behind its own."""
        channel, transport, name = self._seat
        channel.factory.log(request)
        transport.unregisterProducer()
        setattr(transport, name, self)
        self.transport = transport
        transport.write(head)
        choice, resource = self._exchange.choice, self._resource
        assert choice is not None
        self._relay = WebSocketTunnel(
            transport,
            connection.transport,
            idle=resource.tunnel_timeout,
            sweep=resource.sweep,
            ended=choice.candidate.tunnel_ended,
            among=(resource.connections, choice.candidate.tunnels),
            reserved=reserved,
            care=resource.websocket,
        )
        connection.become_tunnel(self._relay)
        buffered, channel._dataBuffer = channel._dataBuffer, []
        self._relay.start(from_client=b"".join(buffered), from_backend=early)

    def dataReceived(self, data: bytes) -> None:
        self._relay.client_data(data)

    def readConnectionLost(self) -> None:
        """The client will send no more."""
        self._relay.client_half_closed()

    def writeConnectionLost(self) -> None:
        """Only the relay closes a writing side, and knows it."""

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008 (Twisted's own default)
        self._relay.client_lost(reason)
        self._seat.channel.connectionLost(reason)
