"""Clusters while they run: their members, and what chooses among them. Floor 3."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, TypeVar

from twisted.application.service import IService
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectingCancelledError

from stickyproxy.config.named import Named
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.health import PATIENCE, ClusterHealth
from stickyproxy.interfaces import (
    IAffinity,
    IAnsweringAffinity,
    IBalancer,
    IRankingAffinity,
    IReadingAffinity,
    ISessionStore,
    ISettingAffinity,
    ITimedBalancer,
)
from stickyproxy.layers import Layers, Select
from stickyproxy.member import Member
from stickyproxy.model import GONE, Arrival, Outcome, ResponseHead
from stickyproxy.sansio.affinity.chain import ChainAffinity, hiding
from stickyproxy.sansio.selection import Broken, Choice
from stickyproxy.sansio.steering import Steering, steering

_NONE, _KEPT, _AWAY = Outcome.NONE, Outcome.KEPT, Outcome.AWAY
T = TypeVar("T")
#: Clients who were not served by their own backend, that a cluster remembers.
BREAKS = 20


class Break(NamedTuple):
    """A client who was not served by its own backend."""

    when: float  #: by the clock of the members
    client: str  #: its IP address
    own: str  #: the backend's id; ``GONE`` where that is not known
    served: str | None  #: who serves it instead
    why: str  #: a word of ``Cluster.broken``


class Cluster:
    """A running cluster: its members, and what chooses among them."""

    def __init__(
        self,
        spec: ClusterSpec,
        members: Iterable[Member],
        affinity: IAffinity,
        balancer: IBalancer,
        *,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """``share``: which process this is, from 0, and of how many: each has its part of every limit."""
        self.name = spec.name
        self.members: dict[str, Member] = {}
        self.sessions: ISessionStore | None = None  #: where its affinity keeps them, if it does; set by who made that
        #: Clients that their own backend did not serve, by the reason: ``selection.REASONS``, ``down`` and ``lost``.
        self.broken: Counter[str] = Counter()
        self.breaks: deque[Break] = deque(maxlen=BREAKS)  #: the last ones of them
        self.probing: IService | None = None  #: in ``api.cluster_of``: what probes it, to be started
        #: What probes and clients find of the members, where the configuration asks for that.
        self.health: ClusterHealth | None = None
        self.made: tuple[Any, Any] = (None, None)  #: what affinity and balancer were made of, if it may be reloaded
        #: Called with an arrival, and the ids that were tried: who serves it, or None when nobody may; or an awaitable.
        self.select: Select
        self.layers = Layers(spec.name, self.members, self._seconds, self._use)
        #: Says whether what failed may be tried again.
        self.retries = self.layers.retries
        self._share = share
        self.configure(spec, members, affinity, balancer)

    def configure(self, spec: ClusterSpec, members: Iterable[Member], affinity: IAffinity, balancer: IBalancer) -> None:
        """Be as ``spec`` says, with these members, from now on: what is under way goes on with it.

        What is given again (a member, the affinity, the balancer) keeps its state.
        """
        self.spec = spec
        self.timeouts = spec.timeouts
        self.pool = spec.pool
        self.limits = spec.limits
        self.send_proxy_protocol = spec.send_proxy_protocol
        self.affinity = affinity
        self.balancer = balancer
        self.balancer_name = spec.balance.name
        present = {member.id: member for member in members}
        new = [each for each in present.values() if self.members and self.members.get(each.id) is not each]
        self.members.clear()
        self.members.update(present)
        for member in present.values():
            member.cluster = spec.name
        self.layers.set_limits(spec, self._share)
        for member in new:
            member.came_up()
        self.members_changed()
        parts = affinity.links if spec.affinity.links and isinstance(affinity, ChainAffinity) else (affinity,)
        #: The affinities of the chain, or the one that there is, with their names.
        names = [_name(named) for named in spec.affinity.links or (spec.affinity,)]
        self.links = tuple(zip(names, parts, strict=False))  # one of a program's own is not in the configuration
        #: What a backend is to see of the value of a Cookie field, if not all of it.
        self.hide = hiding(affinity)
        self._answered = affinity.answered if IAnsweringAffinity.providedBy(affinity) else None
        #: What gives a reader of an answer's content, if anything does (``IReadingAffinity.reader``).
        self.reader = affinity.reader if IReadingAffinity.providedBy(affinity) else None
        self._renews = affinity.renews
        self._steered = spec.sessions.steering
        self._setting = affinity.setting if ISettingAffinity.providedBy(affinity) else None
        #: Is told how long a member took to answer, None: it did not, if the balancer wants to know.
        self.timed = balancer.answered if ITimedBalancer.providedBy(balancer) else None
        policies = spec.sessions.policies
        self._grace = policies.grace if policies.when_down == "wait" else 0.0
        self._watch(spec)
        self.layers.configure(spec, affinity, balancer, self.health)

    def _watch(self, spec: ClusterSpec) -> None:
        rules = spec.eject.rules if spec.eject is not None else None
        plain = self._answered is None and self._setting is None and not self._steered
        self._settle = self._settle_plainly if plain else self._settle_wholly
        #: Told of the head of each answer; see ``_settle_wholly``.
        self.settle = self._settle if rules is None else self._settle_watched
        if spec.probe is None and rules is None:
            if self.health is not None:
                self.health.forget()
                self.health = None
            return
        if self.health is None:
            self.health = ClusterHealth(spec.name, self.members, self.layers.changed)
        self.health.configure(rules)

    def _use(self, select: Select) -> None:
        self.select = select

    def __repr__(self) -> str:
        return f"<Cluster {self.name}: {', '.join(map(repr, self.members.values()))}>"

    def members_changed(self) -> None:
        """One of ``members`` was added or removed, or has another weight: the affinity wants to know."""
        self.affinity.members(self.members)
        if IRankingAffinity.providedBy(self.affinity):
            weights = {id: 0 if each.backup else each.weight for id, each in self.members.items()}
            self.affinity.weights(weights)
        self.layers.limits.changed()

    async def choose(self, arrival: Arrival, tried: AbstractSet[str] = frozenset()) -> Choice[Member] | None:
        """Who serves ``arrival``, or None when nobody may; as ``select``, for those who can wait."""
        selected = self.select(arrival, tried)
        return selected if selected is None or isinstance(selected, Choice) else await selected

    async def would_choose(self, arrival: Arrival) -> Choice[Member] | None:
        """As ``choose``, of somebody who does not come: nobody waits, and nobody's place is taken."""
        selected = self.layers.would_select(arrival)
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

    def _settle_watched(
        self, arrival: Arrival, choice: Choice[Member], head: ResponseHead
    ) -> tuple[ResponseHead, bytes | None]:
        if choice.candidate.health is not None:
            choice.candidate.health.answered(head.status)
        return self._settle(arrival, choice, head)

    def _settle_plainly(
        self, arrival: Arrival, choice: Choice[Member], head: ResponseHead
    ) -> tuple[ResponseHead, bytes | None]:
        """As ``_settle_wholly``, where nobody wants to see or to change the head."""
        outcome = choice.outcome
        if outcome is _NONE or (outcome is _KEPT and not self._renews):  # as ``bind`` has it, without the call
            return head, None
        return head, self.bind(arrival, choice)

    def _settle_wholly(
        self, arrival: Arrival, choice: Choice[Member], head: ResponseHead
    ) -> tuple[ResponseHead, bytes | None]:
        """``choice`` answers with ``head``: remember it. Returns the head for the client, and what ``bind`` does."""
        if self._answered is not None:
            head = self._answered(arrival, choice.candidate.id, head)
        wish = steering(head, choice.candidate.id, self.members) if self._steered else None
        set_cookie = self.bind(arrival, choice) if wish is None else self._steer(arrival, choice, wish)
        return (head, set_cookie) if self._setting is None else self._setting(arrival, head, set_cookie)

    def bind(self, arrival: Arrival, choice: Choice[Member]) -> bytes | None:
        """The backend of ``choice`` was reached: remember it. Returns the value of a Set-Cookie field, or None."""
        outcome = choice.outcome
        if outcome is _NONE or (outcome is _KEPT and not self._renews):
            return None
        if choice.broken is not None:
            self._count(arrival, choice.broken, choice.candidate.id)
        return None if outcome is _AWAY else self.affinity.bind(arrival, choice.candidate.id)

    def _count(self, arrival: Arrival, broken: Broken, served: str) -> None:
        """A client is served by another backend than its own."""
        member, why = self.members.get(broken.backend), broken.why
        if why == "unreachable" and member is not None and member.health is not None and member.health.down:
            why = "down"
        self.broken[why] += 1
        self.breaks.append(Break(self._seconds(), arrival.client, broken.backend, served, why))

    def lose(self, arrival: Arrival) -> None:
        """A client is served by nobody, since its own backend cannot and no other may."""
        self.broken["lost"] += 1
        self.breaks.append(Break(self._seconds(), arrival.client, GONE, None, "lost"))

    def _steer(self, arrival: Arrival, choice: Choice[Member], wish: Steering) -> bytes | None:
        if choice.broken is not None:
            self._count(arrival, choice.broken, choice.candidate.id)
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


def _name(named: Named) -> str:
    """As one would say it: ``header X-User``."""
    first = next(iter(named.options.values()), "")
    return f"{named.name} {first}" if isinstance(first, str) and first else named.name
