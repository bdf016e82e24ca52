"""How a backend is, in one value: a word, the reason and since when. Floor 3.

Which word it is where several are true, the first of:

word            it is
maintenance     in maintenance, as an operator wants it
drain           draining, likewise
ejected         out for what its clients met
trial           let in for a few of them, after that
down            down, by its probe
idle            without weight
full            serving as many as it may
starting        up, and on its way to its whole share of new clients
unknown         probed, and no probe has ended yet
up              up
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stickyproxy.model import BackendState
from stickyproxy.sansio.selection import has_room

if TYPE_CHECKING:
    from stickyproxy.member import Member

_WHY = {
    "up": "it takes new clients",
    "drain": "it drains: it keeps its clients and takes no new ones",
    "maintenance": "it is in maintenance, and serves nobody",
    "idle": "it has no weight: it keeps its clients and takes no new ones",
    "full": "it serves as many as it may",
    "starting": "it has come up, and takes more and more of its share of new clients",
    "unknown": "no probe has ended yet",
}


def standing_of(member: Member, *, probed: bool = True) -> tuple[str, str, float]:
    """The word, the reason in words, and since when by the member's clock. ``probed``: it is asked how it is."""
    state, health = member.state.value, member.health
    if member.state is not BackendState.UP:
        return state, _WHY[state], member.since
    if health is not None and health.out is not None:
        since, _, reason = health.out
        return "ejected", reason, since
    if health is not None and health.on_trial:
        return "trial", health.reason, health.ejection.until
    if health is not None and health.down:
        return "down", health.probed.reason, health.probed.since
    if not member.weight:
        return "idle", _WHY["idle"], member.since
    if not has_room(member):
        return "full", _WHY["full"], member.seconds()
    if member.warming is not None and member.seconds() - member.warming < member.slow_start:
        return "starting", _WHY["starting"], member.warming
    if health is not None and probed:
        word = health.probed.standing.value
        return word, health.probed.reason or _WHY[word], max(member.since, health.probed.since)
    return "up", _WHY["up"], member.since
