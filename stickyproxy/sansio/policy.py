"""What becomes of sessions when things change: a backend is down, drains, or has more than its share. Floor 2, pure.

``selection.select`` keeps a client where it is as long as that is possible, and moves it at once when it is not. Here
that is a matter of policy. Nothing of it costs a cluster that has none (``policies_of``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Generic, Literal

import attrs

from stickyproxy.errors import SessionLost
from stickyproxy.interfaces import IAffinity, IBalancer
from stickyproxy.model import Arrival, BackendState, Outcome
from stickyproxy.sansio.balancing import ConsistentHash
from stickyproxy.sansio.keys import find_key
from stickyproxy.sansio.selection import Broken, C, Candidate, Choice, Selected, choose, has_room

#: How far above its share a backend must be before a session is moved away from it.
OVERLOAD = 1.25
#: Newcomers that are remembered for their birth window.
NEWCOMERS = 10_000


@attrs.frozen
class Policies:
    """Durations are in seconds."""

    when_down: Literal["rebind", "wait", "fail"] = "rebind"  #: a bound client whose backend cannot be reached
    grace: float = 10.0  #: how long "wait" waits; then another backend serves
    return_home: bool = False  #: and only until its own can be reached again
    drain: float | None = None  #: how long bound clients stay with a draining backend
    together: float | None = None  #: new clients of one address that come within it are bound to one backend
    rebalance: int | None = None  #: sessions a minute that may leave a backend with more than its share


class PolicySelection(Generic[C]):
    """As ``selection.select``, under ``policies``. ``clock()`` gives seconds.

    ``sifted``: puts before a balancer what stands before ``balancer``.
    """

    def __init__(
        self,
        members: Mapping[str, C],
        affinity: IAffinity,
        balancer: IBalancer,
        policies: Policies,
        clock: Callable[[], float],
        sifted: Callable[[IBalancer], IBalancer] = lambda balancer: balancer,
    ) -> None:
        self._members = members
        self._affinity = affinity
        self._balancer = balancer
        self._policies = policies
        self._clock = clock
        #: Who is away is not bound, and yet stays with one.
        self._substitutes = sifted(ConsistentHash(find_key("source")))
        self._newcomers: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._moves = 1.0  # that are allowed now
        self._counted = clock()

    def select(
        self, arrival: Arrival, tried: AbstractSet[str] = frozenset(), awaited: AbstractSet[str] = frozenset()
    ) -> Selected[C]:
        """The backend for ``arrival``; see ``selection.select``. Raises ``SessionLost`` where the policy says so.

        ``awaited`` are those of ``tried`` that a client bound to them waits for: he is given his own all the same.
        """
        bound = self._affinity.recall(arrival) if self._affinity.remembers else None
        if bound is None or isinstance(bound, str):
            return self._place(arrival, tried, awaited, bound)
        return self._place_later(arrival, tried, awaited, bound)

    async def _place_later(
        self, arrival: Arrival, tried: AbstractSet[str], awaited: AbstractSet[str], recalled: Awaitable[str | None]
    ) -> Choice[C] | None:
        return self._place(arrival, tried, awaited, await recalled)

    def _place(
        self, arrival: Arrival, tried: AbstractSet[str], awaited: AbstractSet[str], bound: str | None
    ) -> Choice[C] | None:
        if bound is None:
            return self._welcome(arrival, tried)
        candidate = self._members.get(bound)
        if candidate is None or candidate.state is BackendState.MAINTENANCE or self._is_over(candidate):
            return self._choose(arrival, tried, bound)
        if bound not in tried:
            return self._lighter(candidate, arrival, tried) or candidate.kept
        if bound in awaited:
            return candidate.kept
        if self._policies.when_down == "fail":
            raise SessionLost("the backend of this session cannot be reached")
        if not self._policies.return_home:
            return self._choose(arrival, tried, bound)
        choice = choose(self._members, self._affinity, self._substitutes, arrival, tried, bound)
        return None if choice is None else choice._replace(outcome=Outcome.AWAY)

    def _choose(self, arrival: Arrival, tried: AbstractSet[str], bound: str | None) -> Choice[C] | None:
        return choose(self._members, self._affinity, self._balancer, arrival, tried, bound)

    def _is_over(self, candidate: C) -> bool:
        """It drains, and for too long."""
        drain = self._policies.drain
        return drain is not None and candidate.state is BackendState.DRAIN and self._clock() - candidate.since > drain

    # Newcomers.

    def _welcome(self, arrival: Arrival, tried: AbstractSet[str]) -> Choice[C] | None:
        """A browser opens several connections at once, none of which has a cookie yet: one backend for all of them."""
        window = self._policies.together
        if window is None or not self._affinity.remembers or arrival.client == "unix":  # that is no address
            return self._choose(arrival, tried, None)
        now, newcomers = self._clock(), self._newcomers
        came = newcomers.get(arrival.client)
        if came is not None and now - came[1] <= window:
            candidate = self._members.get(came[0])
            if candidate is not None and candidate.id not in tried and _welcomes(candidate):
                return Choice(candidate, Outcome.NEW)
        choice = self._choose(arrival, tried, None)
        if choice is not None:
            newcomers[arrival.client] = choice.candidate.id, now
            newcomers.move_to_end(arrival.client)
            for _ in range(2):  # more than come: the oldest go
                if now - next(iter(newcomers.values()))[1] > window or len(newcomers) > NEWCOMERS:
                    newcomers.popitem(last=False)
        return choice

    # Rebalancing.

    def _lighter(self, candidate: C, arrival: Arrival, tried: AbstractSet[str]) -> Choice[C] | None:
        """Another backend, if this one has far more than its share and the budget allows a move."""
        if self._policies.rebalance is None or candidate.state is not BackendState.UP or not candidate.weight:
            return None
        up = [each for each in self._members.values() if each.state is BackendState.UP and each.weight]
        if tried:
            up = [each for each in up if each.id not in tried]
        share = sum(each.active for each in up) / sum(each.weight for each in up)
        if candidate.active <= 1 or candidate.active / candidate.weight <= OVERLOAD * share or not self._may_move():
            return None
        less = [each for each in up if each.active / each.weight < share]
        if not less:
            return None
        self._moves -= 1
        broken = Broken(candidate.id, "rebalanced")
        return Choice(self._balancer.choose(less, arrival), Outcome.REBOUND, broken)

    def _may_move(self) -> bool:
        assert self._policies.rebalance is not None
        now = self._clock()
        self._moves = min(self._policies.rebalance, self._moves + (now - self._counted) * self._policies.rebalance / 60)
        self._counted = now
        return self._moves >= 1


def _welcomes(candidate: Candidate) -> bool:
    return candidate.state is BackendState.UP and candidate.weight > 0 and has_room(candidate)
