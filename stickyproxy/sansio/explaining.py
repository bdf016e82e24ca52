"""Why a request goes where it goes, in words. Floor 2, pure.

For people: on the answer to a request with ``X-Sticky-Explain`` from a trusted proxy, and on the command line
(``stickyproxy explain``). No key and no cookie is quoted, only whether there is one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from stickyproxy.interfaces import IAffinity
from stickyproxy.model import GONE, Arrival, BackendState
from stickyproxy.sansio.affinity import CookieAffinity, TableAffinity
from stickyproxy.sansio.routing import RouteLike
from stickyproxy.sansio.selection import C, Choice

#: The field that asks for it, and that tells it.
FIELD = b"X-Sticky-Explain"
_STATES = {
    BackendState.DRAIN: "drains, so that it serves bound clients only",
    BackendState.MAINTENANCE: "is in maintenance, and serves nobody",
}


def explain_route(route: RouteLike | None, cluster: str) -> str:
    """Which route (None: none) leads to ``cluster``."""
    if route is None:
        return f"route: none matches, so it goes to cluster {cluster}"
    return f"route: host {route.host or '(any)'}, path {route.path} leads to cluster {cluster}"


def explain_affinity(
    links: Sequence[tuple[str, IAffinity]],
    arrival: Arrival,
    members: Mapping[str, C],
    recalled_by: Sequence[str | Awaitable[str | None] | None] | None = None,
) -> Iterator[str]:
    """What each affinity of a cluster, in order, knows of ``arrival``; ``links`` are named.

    ``recalled_by``: what each of them recalls, where that was waited for; None: they are asked.
    """
    decided = False
    found = [link.recall(arrival) for _, link in links] if recalled_by is None else recalled_by
    for (name, link), recalled in zip(links, found, strict=True):
        if recalled is None:
            yield f"affinity {name}: {_ignorance(link, arrival)}"
        elif not isinstance(recalled, str):
            if isinstance(recalled, Coroutine):
                recalled.close()  # nobody waits for it
            yield f"affinity {name}: its memory is elsewhere"
            decided = True
        elif recalled not in members:
            who = "a backend" if recalled == GONE else recalled
            yield f"affinity {name}: bound to {who}, which is not there any more"
        else:
            yield f"affinity {name}: bound to {recalled}" + (", but an earlier one is right" if decided else "")
            decided = True


def _ignorance(link: IAffinity, arrival: Arrival) -> str:
    """Why it recalls nothing: a cookie that was cut when it was copied is not the same as none."""
    if isinstance(link, TableAffinity) and link.key(arrival) is None:
        return "the request has no such key"
    if isinstance(link, CookieAffinity) and arrival.head is not None:
        pairs = (pair.strip() for field in arrival.head.named.get(b"cookie", ()) for pair in field.split(b";"))
        if any(pair.startswith(link.cookie + b"=") for pair in pairs):
            return "its cookie does not count: cut, changed, there twice, too old, or of another cluster or key"
    return "knows nothing of this client"


def explain_members(members: Iterable[C], down: Mapping[str, str] = MappingProxyType({})) -> Iterator[str]:
    """What keeps each backend from a new client, or how busy it is; ``down``: why, by the ids of those that are."""
    for member in members:
        why = _STATES.get(member.state) or (
            f"is not well: {down[member.id]}"
            if member.id in down
            else f"is up, weight {member.weight}, serves {member.active}"
            if member.weight
            else "has no weight, so that it serves bound clients only"
        )
        yield f"backend {member.id} {why}"


def explain_choice(choice: Choice[C] | None, balancer: str) -> str:
    """Who serves, and by which rule."""
    if choice is None:
        return "served by nobody: no backend may"
    who = f"served by {choice.candidate.id}: "
    return (
        who
        + {
            "none": f"the balancer {balancer} chose it, and nobody is bound here",
            "new": f"the balancer {balancer} chose it for a new client",
            "kept": "the client is bound to it",
            "rebound": "the client's own backend may not or cannot serve, so that it is bound to this one now",
            "away": "the client's own backend cannot be reached, and has it back when it can",
        }[choice.outcome.value]
    )
