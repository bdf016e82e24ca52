"""Which backend serves an arrival: recall, is it eligible, else choose. Floor 2, pure.

The one place where affinity, balancer and the states of the backends meet, for HTTP, WebSockets and TCP alike. The
caller tells ``affinity.bind`` once the chosen backend was reached; if it was not, he asks again with its id in
``tried``.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Generic, NamedTuple, Protocol, TypeVar

from stickyproxy.interfaces import IAffinity, IBalancer
from stickyproxy.model import Arrival, BackendState, Outcome

_NONE, _NEW, _KEPT, _REBOUND = Outcome  # a look-up in an enumeration costs ten times one in a module
_UP, _, _MAINTENANCE = BackendState
_new = tuple.__new__  # a NamedTuple's own constructor costs three times as much


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


C = TypeVar("C", bound=Candidate)

_UP, _MAINTENANCE = _UP, _MAINTENANCE  # reading a member of an enum takes as long as a call


class Choice(NamedTuple, Generic[C]):
    """A backend for an arrival, and what affinity had to say to it."""

    candidate: C
    outcome: Outcome


def select(
    members: Mapping[str, C],
    affinity: IAffinity,
    balancer: IBalancer,
    arrival: Arrival,
    tried: AbstractSet[str] = frozenset(),
) -> Choice[C] | None:
    """The backend of ``members`` (by id) for ``arrival``; None when nobody may take it.

    A bound client goes to its backend also while that drains; everybody else goes where the balancer says, among
    those that are up. ``tried`` are the ids of the backends that could not be reached for this arrival.
    """
    outcome = _NONE
    if affinity.remembers:
        bound = affinity.recall(arrival)
        if bound is None:
            outcome = _NEW
        else:
            candidate = members.get(bound)
            if candidate is not None and candidate.state is not _MAINTENANCE and bound not in tried:
                return _new(Choice, (candidate, _KEPT))
            outcome = _REBOUND
    free = [each for each in members.values() if each.state is _UP]
    if tried:
        free = [each for each in free if each.id not in tried]
    return Choice(balancer.choose(free, arrival), outcome) if free else None
