"""Which backend serves an arrival: recall, is it eligible, else choose. Floor 2, pure.

The one place where affinity, balancer and the states of the backends meet, for HTTP, WebSockets and TCP alike. The
caller tells ``affinity.bind`` once the chosen backend was reached; if it was not, he asks again with its id in
``tried``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from collections.abc import Set as AbstractSet
from types import EllipsisType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from stickyproxy.errors import SessionLost
from stickyproxy.interfaces import IAffinity, IBalancer, IRankingAffinity, IStrictAffinity
from stickyproxy.model import Arrival, BackendState, Outcome

_NONE, _NEW, _KEPT, _REBOUND, _AWAY = Outcome  # a look-up in an enumeration costs ten times one in a module
_UP, _, _MAINTENANCE = BackendState


class Candidate(Protocol):
    """A backend as selection sees it; it provides ``ICandidate`` too."""

    @property
    def id(self) -> str: ...

    @property
    def weight(self) -> int: ...

    @property
    def active(self) -> int: ...

    @property
    def state(self) -> BackendState: ...

    @property
    def since(self) -> float: ...

    @property
    def limit(self) -> int | None: ...

    @property
    def backup(self) -> bool: ...

    @property
    def kept(self) -> Choice[Any]:
        """It, for whoever is bound to it: made once, since it is what almost every request gets."""

    #: Since when it comes to its whole weight again (``sansio.sieve``), None: it has that.
    warming: float | None


C = TypeVar("C", bound=Candidate)


class Broken(NamedTuple):
    """Why a bound client is not served by its own backend."""

    backend: str  #: its id; ``GONE`` where that is not known
    why: str  #: one of ``REASONS``


#: ``gone``: it is not in the cluster any more; ``maintenance``; ``drained``: its drain was over; ``unreachable``: it
#: could not be reached, or is known to be down; ``rebalanced``: it had far more than its share.
REASONS = ("gone", "maintenance", "drained", "unreachable", "rebalanced")


class Choice(NamedTuple, Generic[C]):
    """A backend for an arrival, and what affinity had to say to it."""

    candidate: C
    outcome: Outcome
    broken: Broken | None = None  #: where the outcome is ``REBOUND`` or ``AWAY``


#: Who serves an arrival, None: nobody; or an awaitable of either, where the memory is elsewhere.
Selected = Choice[C] | None | Awaitable[Choice[C] | None]


def has_room(candidate: Candidate) -> bool:
    """It serves fewer than it may."""
    return candidate.limit is None or candidate.active < candidate.limit


def select(
    members: Mapping[str, C],
    affinity: IAffinity,
    balancer: IBalancer,
    arrival: Arrival,
    tried: AbstractSet[str] = frozenset(),
    known: str | EllipsisType | None = ...,
) -> Selected[C]:
    """The backend of ``members`` (by id) for ``arrival``; None when nobody may take it.

    A bound client goes to its backend also while that drains or has no weight; everybody else goes where the balancer
    says, among those that are up. ``tried`` are the ids of the backends that could not be reached for this arrival.
    ``known`` is what the affinity recalls, where it was asked already. Returns an awaitable where the affinity does.
    Raises ``SessionLost`` where it lets nobody else serve its clients.
    """
    if known is not ...:
        bound: str | Awaitable[str | None] | None = known
    else:
        bound = affinity.recall(arrival) if affinity.remembers else None
    if isinstance(bound, str):
        candidate = members.get(bound)
        if candidate is not None and candidate.state is not _MAINTENANCE and bound not in tried:
            return candidate.kept
    elif bound is not None:
        return _select_later(members, affinity, balancer, arrival, tried, bound)
    return choose(members, affinity, balancer, arrival, tried, bound)


async def _select_later(
    members: Mapping[str, C],
    affinity: IAffinity,
    balancer: IBalancer,
    arrival: Arrival,
    tried: AbstractSet[str],
    recalled: Awaitable[str | None],
) -> Choice[C] | None:
    selected = select(members, affinity, balancer, arrival, tried, await recalled)
    assert selected is None or isinstance(selected, Choice)
    return selected


def unavailable(
    members: Mapping[str, C], down: AbstractSet[str], tried: AbstractSet[str], fail_open: bool
) -> AbstractSet[str]:
    """Those of ``down`` (found to be so by probes, or ejected) that are not to be asked.

    All of them; or none, if ``fail_open`` and nobody else is left who could take a new client: a backend that does not
    seem well is better than none, and what is wrong may be the probe.
    """
    if fail_open:
        able = (each.id for each in members.values() if each.state is _UP and each.weight)
        if all(id in down or id in tried for id in able):
            return frozenset()
    return down


def choose(
    members: Mapping[str, C],
    affinity: IAffinity,
    balancer: IBalancer,
    arrival: Arrival,
    tried: AbstractSet[str],
    bound: str | None,
) -> Choice[C] | None:
    """For a client that is bound to nobody, or to a backend that may not take it."""
    outcome = (_NEW if affinity.remembers else _NONE) if bound is None else _REBOUND
    if outcome is _REBOUND and IStrictAffinity.providedBy(affinity) and (status := affinity.lost_status(arrival)):
        raise SessionLost("the backend of this session is gone", status=status)
    free = [each for each in members.values() if each.state is _UP and each.weight]
    if tried:
        free = [each for each in free if each.id not in tried]
    if bound is not None and IRankingAffinity.providedBy(affinity):
        eligible = {each.id: each for each in free}
        ranked = next((id for id in affinity.ranking(arrival) if id in eligible), None)
        if ranked is not None:
            return Choice(eligible[ranked], outcome, _broken(members, bound, tried))
    return Choice(balancer.choose(free, arrival), outcome, _broken(members, bound, tried)) if free else None


def _broken(members: Mapping[str, C], bound: str | None, tried: AbstractSet[str]) -> Broken | None:
    """Why who is bound to ``bound`` is not served by it."""
    if bound is None:
        return None
    candidate = members.get(bound)
    if candidate is None:
        return Broken(bound, "gone")
    if candidate.state is _MAINTENANCE:
        return Broken(bound, "maintenance")
    return Broken(bound, "unreachable" if bound in tried else "drained")
