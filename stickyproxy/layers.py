"""What stands between a request and ``selection.select`` in a running cluster, as far as it is needed now. Floor 3.

From the outside in: retries are counted (``retries``, for a while after one), there may be no place (``waiting``, where
there are limits), somebody is down (``health``, while that is so), sessions have policies (``sansio.policy``), and new
clients are sifted before the balancer chooses (``sansio.sieve``). A cluster without any of that pays for nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any

from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.health import AroundSelection, ClusterHealth
from stickyproxy.interfaces import IAffinity, IBalancer
from stickyproxy.member import Member
from stickyproxy.model import Arrival
from stickyproxy.retries import Retries
from stickyproxy.sansio.policy import Policies, PolicySelection
from stickyproxy.sansio.selection import Selected, select
from stickyproxy.sansio.sieve import Sieve, Sifting
from stickyproxy.waiting import LimitedSelection

Select = Callable[..., Selected[Member]]


class Layers:
    """The layers of one cluster; ``use`` is told what ``Cluster.select`` is from now on."""

    def __init__(
        self, cluster: str, members: Mapping[str, Member], seconds: Callable[[], float], use: Callable[[Select], object]
    ) -> None:
        self.retries = Retries(cluster, members, seconds, self._arrange)
        self.limits = LimitedSelection(members, self._closed)
        self._members = members
        self._seconds = seconds
        self._use = use
        self._limited = False
        self._out = False
        self._around: AroundSelection | None = None
        self._made: tuple[Any, ...] = ()
        self._select: Select

    def configure(
        self, spec: ClusterSpec, affinity: IAffinity, balancer: IBalancer, health: ClusterHealth | None
    ) -> None:
        """Be as ``spec`` says; the limits are set already."""
        self._set_selection(spec, affinity, balancer)
        policies = spec.sessions.policies
        grace = policies.grace if policies.when_down == "wait" else 0.0
        fail_open = spec.when_all_down == "try"
        self._around = AroundSelection(health, self._select, grace, fail_open) if health is not None else None
        self.retries.share = spec.retry_budget
        self.changed(health.out if health is not None else frozenset())

    def changed(self, out: AbstractSet[str]) -> None:
        """These are down or on trial from now on; nothing of it is in the way while nobody is."""
        self._out = bool(out)
        self._arrange()
        self.limits.changed()

    def would_select(self, arrival: Arrival) -> Selected[Member]:
        """Who would serve ``arrival``: nobody is let in on trial, or waits in line, for having asked."""
        around = self._around if self._out else None
        return self._select(arrival) if around is None else around.would_select(arrival)

    def set_limits(self, spec: ClusterSpec, share: tuple[int, int]) -> None:
        """The members may serve what ``spec`` says. ``share``: which process this is, from 0, and of how many."""
        limits = self.limits
        limits.size, limits.patience = spec.queue.size, spec.queue.timeout
        limits.backups_when_full = spec.use_backups == "full"
        for backend in spec.backends:
            member = self._members.get(backend.id)
            if member is not None:
                limit = backend.max_connections or spec.max_connections
                member.limit = None if limit is None else part_of(limit, share)
                member.backup = backend.backup
        self._limited = any(member.limit is not None for member in self._members.values())
        for member in self._members.values():
            member.slow_start = spec.slow_start or 0.0
            member.awaited = limits if self._limited else None

    def _set_selection(self, spec: ClusterSpec, affinity: IAffinity, balancer: IBalancer) -> None:
        policies = spec.sessions.policies
        rooms = self._limited or any(each.backup for each in self._members.values())
        sifting = Sifting(spec.slow_start or 0.0, spec.use_backups == "full", rooms)
        sieved = rooms or bool(sifting.slow_start)
        made = (affinity, balancer, policies, sifting, sieved)
        if made == self._made:  # it remembers newcomers and moves
            return
        self._made = made

        def sifted(balancer: IBalancer) -> IBalancer:
            return Sieve(balancer, sifting, self._seconds) if sieved else balancer

        if policies == Policies():
            self._select = partial(select, self._members, affinity, sifted(balancer))
        else:
            chosen = sifted(balancer)
            self._select = PolicySelection(self._members, affinity, chosen, policies, self._seconds, sifted).select

    def _closed(self) -> AbstractSet[str]:
        return self._around.closed() if self._out and self._around is not None else frozenset()

    def _arrange(self) -> None:
        chosen = self._around.select if self._out and self._around is not None else self._select
        self.limits.inner = chosen
        if self._limited:
            chosen = self.limits.select
        self.retries.inner = chosen
        self._use(self.retries.select if self.retries.counting else chosen)


def part_of(limit: int, share: tuple[int, int]) -> int:
    """The part of ``limit`` that one of several processes has: all together have it, and each one at least."""
    index, count = share
    return max(1, limit // count + (index < limit % count))
