"""A backend of a cluster while it runs: state, counts, idle connections, and the way to it. Floor 3."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from stickyproxy.interfaces import ICandidate
from stickyproxy.model import Backend, BackendState, Outcome, Side
from stickyproxy.relay import EndReason, RelayEnd
from stickyproxy.sansio.frames import BAD_GATEWAY
from stickyproxy.sansio.selection import Choice

if TYPE_CHECKING:
    from stickyproxy.exchange.connection import BackendConnection
    from stickyproxy.health import MemberHealth
    from stickyproxy.waiting import LimitedSelection

#: What puts TLS around a factory for connections to a backend.
WrapTLS = Callable[[IProtocolFactory], IProtocolFactory]


@implementer(ICandidate)
class Member:
    """A backend of a running cluster: what the configuration says of it, and what it is doing."""

    _log = Logger()
    __slots__ = (
        "_clock",
        "_connect_timeout",
        "_endpoint",
        "_idle",
        "_pool_size",
        "_reached",
        "_wrap_tls",
        "active",
        "awaited",
        "backup",
        "cluster",
        "counts",
        "health",
        "id",
        "kept",
        "limit",
        "since",
        "slow_start",
        "state",
        "tunnels",
        "warming",
        "weight",
    )

    def __init__(
        self,
        backend: Backend,
        endpoint: IStreamClientEndpoint,
        clock: IReactorTime,
        *,
        connect_timeout: float,
        pool_size: int = 64,
        wrap_tls: WrapTLS | None = None,
    ) -> None:
        self.id = backend.id
        self.weight = backend.weight
        self.state = backend.state
        self.since: float = clock.seconds()  #: when its state was set
        self.active = 0  #: requests and tunnels that it serves right now
        self.tunnels: set[Any] = set()  #: the open tunnels and TCP relays among these: they can ``drain`` and ``abort``
        #: How often what has happened: ``connections``, ``connect_errors``, ``retries``, ``ejections``, ``probes_well``
        #: and ``probes_failed``.
        self.counts: Counter[str] = Counter()
        self.limit: int | None = None  #: of ``active``, in this process
        self.backup = backend.backup  #: it is there for when nobody else is
        self.slow_start = 0.0  #: seconds that it takes to its whole weight, when it comes up
        self.warming: float | None = None  #: since when it does
        #: Told when it serves one less or is in another state, where somebody may wait for that.
        self.awaited: LimitedSelection | None = None
        self.kept = Choice(self, Outcome.KEPT)
        self._clock = clock
        self._idle: list[BackendConnection] = []
        self._reached = True  # the last time that somebody tried
        self.cluster = ""  #: the name of the cluster, which sets it
        self.health: MemberHealth | None = None  #: set by the cluster, where somebody looks at it
        self.configure(endpoint, connect_timeout=connect_timeout, pool_size=pool_size, wrap_tls=wrap_tls)

    def configure(
        self, endpoint: IStreamClientEndpoint, *, connect_timeout: float, pool_size: int, wrap_tls: WrapTLS | None
    ) -> None:
        """How it is reached from now on; connections that are open stay so."""
        self._endpoint = endpoint
        self._connect_timeout = connect_timeout
        self._pool_size = pool_size
        self._wrap_tls = wrap_tls

    def set_state(self, state: BackendState) -> None:
        """It is in ``state`` from now on, if it was not. In maintenance nobody needs its idle connections."""
        if state is not self.state:
            self.state = state
            self.since = self.seconds()
            if state is BackendState.UP:
                self.came_up()
            if self.awaited is not None:
                self.awaited.changed()
            if state is BackendState.MAINTENANCE:
                self.close_idle()

    def came_up(self) -> None:
        """It may have new clients from now on, as it might not before."""
        self.warming = self.seconds() if self.slow_start else None

    @property
    def idle_connections(self) -> int:
        """How many connections to it have nothing to do."""
        return len(self._idle)

    def retire(self) -> None:
        """It is no member any more: what it does it may end, and nothing is kept for later."""
        self._pool_size = 0
        self.close_idle()
        if self.health is not None:
            self.health.stop()
            self.health = None

    def __repr__(self) -> str:
        state = self.state.value if self.health is None else f"{self.state.value}, {self.health}"
        return f"<Member {self.id} {state}, active {self.active}, idle connections {len(self._idle)}>"

    def seconds(self) -> float:
        """The reactor's time."""
        return self._clock.seconds()

    def pause(self, seconds: float) -> Deferred[None]:
        """A while."""
        return deferLater(self._clock, seconds, lambda: None)

    def later(self, seconds: float, call: Callable[[], object]) -> IDelayedCall:
        """``call`` in a while."""
        return self._clock.callLater(seconds, call)

    def take(self, key: bytes) -> BackendConnection | None:
        """The idle connection that was used last, of those that ``key`` may use."""
        idle = self._idle
        if not key:
            return idle.pop() if idle else None
        for connection in reversed(idle):
            if connection.key == key:
                idle.remove(connection)
                return connection
        return None

    def keep(self, connection: BackendConnection) -> None:
        """``connection`` has nothing to do. Past the pool's size the one that was idle longest is closed."""
        self._idle.append(connection)
        if len(self._idle) > self._pool_size:
            self._idle[0].close()

    def forget(self, connection: BackendConnection) -> None:
        """``connection`` is closed."""
        if connection in self._idle:
            self._idle.remove(connection)

    def tunnel_ended(self, end: RelayEnd) -> None:
        """A tunnel that it served is over."""
        told = end.code is not None and end.code != BAD_GATEWAY  # which is ours: it went without a word
        if self.health is not None and told and end.reason in (EndReason.CLOSED, EndReason.LOST):
            self.health.closed(end.code if end.first is Side.BACKEND else None)
        self.leave()

    def leave(self) -> None:
        """It serves one client less."""
        self.active -= 1
        if self.awaited is not None:
            self.awaited.freed(self)

    def close_idle(self) -> None:
        """Close every idle connection."""
        for connection in list(self._idle):
            connection.close()

    async def connect(self, protocol: IProtocol, opened: Deferred[None] | None = None, preface: bytes = b"") -> None:
        """Connect ``protocol`` and wait for ``opened`` (its TLS handshake, say), in the time allowed.

        ``preface`` is written before everything else, TLS included: a PROXY header. Raises ``ConnectError``,
        ``twisted.internet.error.TimeoutError`` and what ``opened`` fails with.
        """
        attempt = Deferred.fromCoroutine(self.open(protocol, opened, preface))
        attempt.addTimeout(self._connect_timeout, self._clock, _too_late)
        try:
            await attempt
        except (CancelledError, ConnectingCancelledError):  # nobody wants it any more
            raise
        except Exception as error:
            self._tell(error)
            raise
        self._tell(None)

    def _tell(self, error: Exception | None) -> None:
        """Log that it cannot be reached, or can again: once, not for every client."""
        self.counts["connections" if error is None else "connect_errors"] += 1
        if self.health is not None:
            self.health.connected() if error is None else self.health.unreached(_reason(error))
        if (error is None) is self._reached:
            return
        self._reached = error is None
        if error is None:
            self._log.info("Backend {member.id} of {member.cluster} is reached again", member=self)
        else:
            self._log.warn(
                "Backend {member.id} of {member.cluster} cannot be reached: {reason}",
                member=self,
                reason=_reason(error),
            )

    async def open(self, protocol: IProtocol, opened: Deferred[None] | None = None, preface: bytes = b"") -> None:
        """As ``connect``, but without its time limit, and nothing follows from how it ends."""
        factory: IProtocolFactory = _OneFactory(lambda addr: protocol)
        if self._wrap_tls is not None:
            factory = self._wrap_tls(factory)
        # Also without a preface: it takes the wrapper of Twisted's endpoints out of the data path, which does not pass
        # a half-close on to a protocol that listens for handshakes as well.
        await self._endpoint.connect(_OneFactory(lambda addr: _Preface(factory.buildProtocol(addr), preface)))
        if opened is not None:
            await opened


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def _too_late(_: object, __: float) -> None:
    raise ConnectTimeout


def _nothing(_: object) -> None:
    """What a factory builds that has built."""


class _OneFactory(Factory):
    """Builds what one connection is made for, and then keeps nothing: a connection keeps its factory."""

    noisy = False

    def __init__(self, build: Callable[[Any], IProtocol | None]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> Any:
        build, self._build = self._build, _nothing
        return build(addr)


class _Preface(Protocol):
    """Writes ``preface`` on the new connection, and hands it over for good."""

    def __init__(self, inner: IProtocol | None, preface: bytes) -> None:
        self._inner = inner
        self._preface = preface

    def connectionMade(self) -> None:
        transport = self.transport
        assert transport is not None and self._inner is not None
        if self._preface:
            transport.write(self._preface)
        transport.protocol = self._inner  # type: ignore[attr-defined]
        self._inner.makeConnection(transport)
