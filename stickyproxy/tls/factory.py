"""The factory and the endpoint that put TLS under the protocols of another factory. Floor 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.reactor.turn import Turn
from stickyproxy.tls.transport import TLSTransport

#: Seconds for a handshake, from the TCP connection on.
HANDSHAKE_TIMEOUT = 10.0
#: Seconds that a peer has to close after we did.
CLOSE_TIMEOUT = 5.0


class TLSFactory(WrappingFactory[Any]):
    """TLS for the protocols of ``wrapped_factory``, which get a ``TLSTransport``. For servers and clients.

    ``creator`` provides the creator interface of the side that ``is_client`` says. ``handshake_timeout`` is in seconds,
    and so is ``close_timeout``, for which ``loseConnection`` waits for the peer to close too.
    With ``await_handshake`` a protocol is connected (``makeConnection``) when the handshake is done, and never if it
    fails; without, as Twisted does, when TCP is, and then it hears of the failure (``connectionLost``).
    ``handshake_ended`` is called once for each connection, with what went wrong or None; the default logs failures.
    ``turn`` is where records are sent; give one to all that shares the reactor ``clock``. None: one of its own.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        creator: IOpenSSLClientConnectionCreator | IOpenSSLServerConnectionCreator,
        is_client: bool,
        wrapped_factory: IProtocolFactory,
        clock: IReactorTime,
        handshake_timeout: float = HANDSHAKE_TIMEOUT,
        *,
        close_timeout: float = CLOSE_TIMEOUT,
        await_handshake: bool = False,
        handshake_ended: Callable[[TLSTransport, Failure | None], object] | None = None,
        turn: Turn | None = None,
    ) -> None:
        super().__init__(wrapped_factory)
        self.clock = clock
        self.handshake_timeout = handshake_timeout
        self.close_timeout = close_timeout
        self.await_handshake = await_handshake
        self.handshake_ended = handshake_ended or self._log_failure
        self.turn = turn or Turn.of(clock)
        self._creator: Any = creator
        self._is_client = is_client

    def buildProtocol(self, addr: IAddress | None) -> IProtocol | None:
        wrapped = self.wrappedFactory.buildProtocol(addr)
        return None if wrapped is None else TLSTransport(self, wrapped)

    def new_connection(self, transport: TLSTransport) -> SSL.Connection:
        """OpenSSL's side of ``transport``, which the creator's callbacks find as its ``app_data``."""
        connection: SSL.Connection
        if self._is_client:
            connection = self._creator.clientConnectionForTLS(transport)
            connection.set_connect_state()
        else:
            connection = self._creator.serverConnectionForTLS(transport)
            connection.set_accept_state()
        connection.set_app_data(transport)
        return connection

    def _log_failure(self, transport: TLSTransport, failure: Failure | None) -> None:
        if failure is not None:
            self._log.info("No TLS with {peer}: {reason}", peer=transport.getPeer(), reason=failure.getErrorMessage())


def tls_factory(
    creator: IOpenSSLServerConnectionCreator,
    wrapped_factory: IProtocolFactory,
    clock: IReactorTime,
    *,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
    turn: Turn | None = None,
    shaken: Callable[[TLSTransport, Failure | None], object] | None = None,
) -> TLSFactory:
    """A factory of TLS servers: a protocol of ``wrapped_factory`` is connected when a client's handshake is done.

    ``shaken`` is called at the end of each handshake, with what went wrong or None, which is logged as well.
    """
    factory = TLSFactory(creator, False, wrapped_factory, clock, handshake_timeout, await_handshake=True, turn=turn)
    if shaken is not None:
        log = factory.handshake_ended

        def ended(transport: TLSTransport, failure: Failure | None) -> None:
            shaken(transport, failure)
            log(transport, failure)

        factory.handshake_ended = ended
    return factory


@implementer(IStreamClientEndpoint)
class TLSClientEndpoint:
    """Connects like another endpoint, and speaks TLS there. Make it with ``wrap_client_endpoint``."""

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        creator: IOpenSSLClientConnectionCreator,
        clock: IReactorTime,
        handshake_timeout: float,
    ) -> None:
        self._endpoint = endpoint
        self._creator = creator
        self._clock = clock
        self._handshake_timeout = handshake_timeout
        self._turn = Turn.of(clock)

    def connect(self, protocol_factory: IProtocolFactory) -> Deferred[IProtocol]:
        return Deferred.fromCoroutine(self._connect(protocol_factory))

    async def _connect(self, protocol_factory: IProtocolFactory) -> IProtocol:
        handshake: Deferred[None] = Deferred(lambda _: outer.abortConnection())

        def ended(transport: TLSTransport, failure: Failure | None) -> None:
            if not handshake.called:
                handshake.callback(None) if failure is None else handshake.errback(failure)

        factory = TLSFactory(
            self._creator,
            True,
            protocol_factory,
            self._clock,
            self._handshake_timeout,
            await_handshake=True,
            handshake_ended=ended,
            turn=self._turn,
        )
        outer: Any = await self._endpoint.connect(factory)
        await handshake
        return cast(IProtocol, outer.wrappedProtocol)


def wrap_client_endpoint(
    endpoint: IStreamClientEndpoint,
    creator: IOpenSSLClientConnectionCreator,
    clock: IReactorTime,
    *,
    handshake_timeout: float = HANDSHAKE_TIMEOUT,
) -> TLSClientEndpoint:
    """TLS over whatever ``endpoint`` connects to.

    ``connect`` fires when the handshake is done, and fails with what went wrong, ``PeerCertificateError`` for one. A
    protocol whose handshake failed is never connected.
    """
    return TLSClientEndpoint(endpoint, creator, clock, handshake_timeout)
