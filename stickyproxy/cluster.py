"""Clusters and their members while they run: state, counts, idle connections, and the way to a backend. Floor 3."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from collections.abc import Set as AbstractSet
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.application.service import IService
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

from stickyproxy.config.named import Named
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.health import PATIENCE, AroundSelection, ClusterHealth
from stickyproxy.interfaces import (
    IAffinity,
    IAnsweringAffinity,
    IBalancer,
    ICandidate,
    IRankingAffinity,
    IReadingAffinity,
    ISessionStore,
    ISettingAffinity,
    ITimedBalancer,
)
from stickyproxy.model import Arrival, Backend, BackendState, Outcome, ResponseHead
from stickyproxy.sansio.affinity.chain import ChainAffinity, hiding
from stickyproxy.sansio.policy import Policies, PolicySelection
from stickyproxy.sansio.selection import Choice, Selected, select
from stickyproxy.sansio.steering import Steering, steering

if TYPE_CHECKING:
    from stickyproxy.exchange.connection import BackendConnection
    from stickyproxy.health import MemberHealth

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
        "cluster",
        "health",
        "id",
        "since",
        "state",
        "tunnels",
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
        self._endpoint = endpoint
        self._clock = clock
        self._connect_timeout = connect_timeout
        self._pool_size = pool_size
        self._wrap_tls = wrap_tls
        self._idle: list[BackendConnection] = []
        self._reached = True  # the last time that somebody tried
        self.cluster = ""  #: the name of the cluster, which sets it
        self.health: MemberHealth | None = None  #: set by the cluster, where somebody looks at it

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

    def set_state(self, state: BackendState) -> None:
        """An operator wants it so. In maintenance nobody needs its idle connections."""
        if state is not self.state:
            self.state = state
            self.since = self._clock.seconds()
            if state is BackendState.MAINTENANCE:
                self.close_idle()

    @property
    def idle_connections(self) -> int:
        """How many connections to it have nothing to do."""
        return len(self._idle)

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

    def tunnel_ended(self, _: object) -> None:
        """A tunnel that it served is over."""
        self.active -= 1

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


_NONE, _KEPT, _AWAY = Outcome.NONE, Outcome.KEPT, Outcome.AWAY
T = TypeVar("T")


class Cluster:
    """A running cluster: its members, and what chooses among them."""

    def __init__(self, spec: ClusterSpec, members: Iterable[Member], affinity: IAffinity, balancer: IBalancer) -> None:
        self.name = spec.name
        self.timeouts = spec.timeouts
        self.pool = spec.pool
        self.limits = spec.limits
        self.send_proxy_protocol = spec.send_proxy_protocol
        self.members = {member.id: member for member in members}
        for member in self.members.values():
            member.cluster = spec.name
        self.affinity = affinity
        self.sessions: ISessionStore | None = None  #: where its affinity keeps them, if it does; set by who made that
        self.members_changed()
        self.balancer = balancer
        self.balancer_name = spec.balance.name
        parts = affinity.links if spec.affinity.links and isinstance(affinity, ChainAffinity) else (affinity,)
        #: The affinities of the chain, or the one that there is, with their names.
        names = [_name(named) for named in spec.affinity.links or (spec.affinity,)]
        self.links = tuple(zip(names, parts, strict=False))  # one of a program's own is not in the configuration
        policies = spec.sessions.policies
        #: Called with an arrival, and the ids that were tried: who serves it, or None when nobody may; or an awaitable.
        self.select: Callable[..., Selected[Member]] = partial(select, self.members, affinity, balancer)
        if policies != Policies():
            self.select = PolicySelection(self.members, affinity, balancer, policies, self._seconds).select
        self._grace = policies.grace if policies.when_down == "wait" else 0.0
        #: What a backend is to see of the value of a Cookie field, if not all of it.
        self.hide = hiding(affinity)
        self._answered = affinity.answered if IAnsweringAffinity.providedBy(affinity) else None
        #: What gives a reader of an answer's content, if anything does (``IReadingAffinity.reader``).
        self.reader = affinity.reader if IReadingAffinity.providedBy(affinity) else None
        self._steered = spec.sessions.steering
        self._setting = affinity.setting if ISettingAffinity.providedBy(affinity) else None
        #: Is told how long a member took to answer, None: it did not, if the balancer wants to know.
        self.timed = balancer.answered if ITimedBalancer.providedBy(balancer) else None
        self.probing: IService | None = None  #: in ``api.cluster_of``: what probes it, to be started
        #: What probes and clients find of the members, where the configuration asks for that.
        self.health: ClusterHealth | None = None
        if spec.probe is not None or spec.eject is not None:
            self._watch(spec)

    def _watch(self, spec: ClusterSpec) -> None:
        rules = spec.eject.rules if spec.eject is not None else None
        self.health = ClusterHealth(spec.name, self.members, rules, self._changed)
        self._select = self.select
        fail_open = spec.when_all_down == "try"
        self._select_around = AroundSelection(self.health, self.select, self._grace, fail_open).select
        if rules is not None:
            self.settle = self._settle_watched  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return f"<Cluster {self.name}: {', '.join(map(repr, self.members.values()))}>"

    def members_changed(self) -> None:
        """One of ``members`` was added or removed, or has another weight: the affinity wants to know."""
        self.affinity.members(self.members)
        if IRankingAffinity.providedBy(self.affinity):
            self.affinity.weights({id: member.weight for id, member in self.members.items()})

    async def choose(self, arrival: Arrival, tried: AbstractSet[str] = frozenset()) -> Choice[Member] | None:
        """Who serves ``arrival``, or None when nobody may; as ``select``, for those who can wait."""
        selected = self.select(arrival, tried)
        return selected if selected is None or isinstance(selected, Choice) else await selected

    async def reach(self, choice: Choice[Member], connect: Callable[[], Awaitable[T]]) -> T:
        """What ``connect`` gives, tried again for a while where it is the policy to wait for one's own backend."""
        until = self._seconds() + self._grace if self._grace and choice.outcome is _KEPT else 0.0
        while True:
            try:
                return await connect()
            except (CancelledError, ConnectingCancelledError):
                raise
            except Exception:
                if self._seconds() + PATIENCE > until:
                    raise
            await choice.candidate.pause(PATIENCE)

    def _changed(self, down: frozenset[str]) -> None:
        """These are down from now on; nothing of it is in the way while none is."""
        self.select = self._select_around if down else self._select

    def _settle_watched(
        self, arrival: Arrival, choice: Choice[Member], head: ResponseHead
    ) -> tuple[ResponseHead, bytes | None]:
        if choice.candidate.health is not None:
            choice.candidate.health.answered(head.status)
        return Cluster.settle(self, arrival, choice, head)

    def settle(self, arrival: Arrival, choice: Choice[Member], head: ResponseHead) -> tuple[ResponseHead, bytes | None]:
        """``choice`` answers with ``head``: remember it. Returns the head for the client, and what ``bind`` does."""
        if self._answered is not None:
            head = self._answered(arrival, choice.candidate.id, head)
        wish = steering(head, choice.candidate.id, self.members) if self._steered else None
        set_cookie = self.bind(arrival, choice) if wish is None else self._steer(arrival, choice, wish)
        return (head, set_cookie) if self._setting is None else self._setting(arrival, head, set_cookie)

    def bind(self, arrival: Arrival, choice: Choice[Member]) -> bytes | None:
        """The backend of ``choice`` was reached: remember it. Returns the value of a Set-Cookie field, or None."""
        outcome = choice.outcome
        if outcome is _NONE or outcome is _AWAY or (outcome is _KEPT and not self.affinity.renews):
            return None
        return self.affinity.bind(arrival, choice.candidate.id)

    def _steer(self, arrival: Arrival, choice: Choice[Member], wish: Steering) -> bytes | None:
        if wish.to == "":
            return self.affinity.forget(arrival)
        if wish.to is None and choice.outcome is _AWAY:  # for as long as its own backend says, which is another
            return None
        return self.affinity.bind(arrival, wish.to or choice.candidate.id, wish.lifetime)

    def _seconds(self) -> float:
        """The reactor's time, by the clock of any member."""
        return next(iter(self.members.values())).seconds() if self.members else 0.0

    def close_idle(self) -> None:
        """Close every idle backend connection."""
        for member in self.members.values():
            member.close_idle()

    def stop(self) -> None:
        """It is not used any more."""
        self.close_idle()
        if self.health is not None:
            self.health.stop()


def _nothing(_: object) -> None:
    """What a factory builds that has built."""


def _name(named: Named) -> str:
    """As one would say it: ``header X-User``."""
    first = next(iter(named.options.values()), "")
    return f"{named.name} {first}" if isinstance(first, str) and first else named.name


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
