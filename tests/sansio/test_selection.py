"""Selection: every state of the bound backend, and who gets the client instead."""

from __future__ import annotations

import pytest

from stickyproxy.conformance import MemoryCandidate, make_arrival
from stickyproxy.model import Arrival, BackendState, Outcome
from stickyproxy.sansio.affinity import CookieAffinity, NoAffinity
from stickyproxy.sansio.balancing import RoundRobin
from stickyproxy.sansio.cookies import CookieTemplate
from stickyproxy.sansio.selection import select
from stickyproxy.sansio.tokens import KeyRing, Tokens

UP, DRAIN, MAINTENANCE = BackendState.UP, BackendState.DRAIN, BackendState.MAINTENANCE
STRANGER = make_arrival()


def members(**states: BackendState) -> dict[str, MemoryCandidate]:
    return {id: MemoryCandidate(id, state=state) for id, state in states.items()}


def sticky(ids: str) -> CookieAffinity:
    affinity = CookieAffinity(CookieTemplate("SRV"), Tokens(KeyRing([b"k" * 32]), "app", b"SRV"), lambda: 1.7e9)
    affinity.members(ids)
    return affinity


def bound_to(id: str) -> Arrival:
    cookie = sticky(id).bind(STRANGER, id)
    assert cookie is not None
    return make_arrival(0, [cookie.partition(b";")[0]])


@pytest.mark.parametrize(
    ("state", "tried", "chosen", "outcome", "why"),
    [
        (UP, "", "a", Outcome.KEPT, None),
        (DRAIN, "", "a", Outcome.KEPT, None),
        (MAINTENANCE, "", "b", Outcome.REBOUND, "maintenance"),
        (UP, "a", "b", Outcome.REBOUND, "unreachable"),
        (DRAIN, "a", "b", Outcome.REBOUND, "unreachable"),
        (UP, "b", "a", Outcome.KEPT, None),
    ],
)
def test_bound(state: BackendState, tried: str, chosen: str, outcome: Outcome, why: str | None) -> None:
    """A bound client stays while its backend is up or drains, and moves once that is in maintenance or unreachable."""
    choice = select(members(a=state, b=UP), sticky("ab"), RoundRobin(), bound_to("a"), frozenset(tried))
    assert choice is not None
    assert (choice.candidate.id, choice.outcome) == (chosen, outcome)
    assert choice.broken == (None if why is None else ("a", why))


def test_bound_to_one_gone() -> None:
    """A client whose backend was removed is rebound, and the log can say so."""
    choice = select(members(b=UP), sticky("b"), RoundRobin(), bound_to("a"))
    assert choice is not None
    assert (choice.candidate.id, choice.outcome) == ("b", Outcome.REBOUND)
    assert choice.broken is not None and choice.broken.why == "gone"


@pytest.mark.parametrize("state", [DRAIN, MAINTENANCE])
def test_new_clients_go_only_where_it_is_up(state: BackendState) -> None:
    """A backend that drains or is in maintenance takes no new client."""
    balancer = RoundRobin()
    choices = [select(members(a=state, b=UP), sticky("ab"), balancer, STRANGER) for _ in range(4)]
    assert [(choice.candidate.id, choice.outcome) for choice in choices if choice] == [("b", Outcome.NEW)] * 4


def test_a_retry_of_a_new_client_is_new() -> None:
    """A new client whose first backend could not be reached is still new, and gets another one."""
    choice = select(members(a=UP, b=UP), sticky("ab"), RoundRobin(), STRANGER, {"a"})
    assert choice is not None
    assert (choice.candidate.id, choice.outcome) == ("b", Outcome.NEW)


def test_without_affinity() -> None:
    """Without affinity nobody is bound: clients take turns, and the log says none."""
    balancer, candidates = RoundRobin(), members(a=UP, b=UP)
    choices = [select(candidates, NoAffinity(), balancer, bound_to("a")) for _ in range(4)]
    assert [(choice.candidate.id, choice.outcome) for choice in choices if choice] == [
        ("a", Outcome.NONE),
        ("b", Outcome.NONE),
    ] * 2


@pytest.mark.parametrize("arrival", [STRANGER, bound_to("a")])
def test_nobody(arrival: Arrival) -> None:
    """When no backend may take the client there is no choice."""
    assert select({}, sticky(""), RoundRobin(), arrival) is None
    assert select(members(a=MAINTENANCE), sticky("a"), RoundRobin(), arrival) is None
    assert select(members(a=UP, b=UP), sticky("ab"), RoundRobin(), arrival, {"a", "b"}) is None
    assert select(members(a=DRAIN, b=DRAIN), sticky("ab"), RoundRobin(), arrival, {"a"}) is None
