"""Which backends are well, told from process to process: one probes, and each meets clients of its own. Floor 5.

What is told of a backend is a ``Told``, JSON-able: its cluster and name, what probes found (standing, since when, why),
and its ejection (since when, until when, why). Times are those of the reactor, whose clock is the machine's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from stickyproxy.cluster import Cluster
from stickyproxy.health import MemberHealth
from stickyproxy.sansio.health import Health, Standing

#: cluster, backend, [standing, since, reason] or None, [since, until, reason] or None
Told = list[Any]


class Wellbeing:
    """The backends of a running configuration, as far as other processes know more of them, or want to.

    ``found`` is called with what is found out here; ``probing``: that includes what probes find.
    """

    def __init__(self, found: Callable[[Told], object], *, probing: bool) -> None:
        self._tell = found
        self._probing = probing
        self._clusters: Mapping[str, Cluster] = {}

    def watch(self, clusters: Mapping[str, Cluster]) -> None:
        """These are the clusters from now on."""
        self._clusters = clusters
        for cluster in clusters.values():
            if cluster.health is not None:
                cluster.health.found = self._found

    def known(self) -> list[Told]:
        """All that is known here, of every backend that is looked at."""
        members = [member for cluster in self._clusters.values() for member in cluster.members.values()]
        return [self._told(member.health) for member in members if member.health is not None]

    def hear(self, told: Iterable[Told]) -> None:
        """What another process has found; who is not there any more is passed over."""
        for cluster, backend, probed, out in told:
            members = self._clusters[cluster].members if cluster in self._clusters else {}
            health = members[backend].health if backend in members else None
            if health is not None:
                found = Health(Standing(probed[0]), probed[1], probed[2]) if probed is not None else None
                health.told(found, tuple(out) if out is not None else None)

    def _found(self, health: MemberHealth) -> None:
        self._tell(self._told(health))

    def _told(self, health: MemberHealth) -> Told:
        standing, since, reason, _ = health.probed
        probed = [standing.value, since, reason] if self._probing else None
        return [health.member.cluster, health.member.id, probed, health.out]
