"""The health of a running cluster: what probes and clients find, who is therefore down, and who is told. Floor 3.

``sansio.health`` decides; here are the clock, the log and the share that may be out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from stickyproxy.model import Arrival
from stickyproxy.sansio.health import (
    Ejecting,
    Ejection,
    Health,
    Standing,
    Thresholds,
    connected,
    ejected,
    failed,
    is_due,
    probed,
    room,
    served,
)
from stickyproxy.sansio.selection import Choice, Selected, unavailable

if TYPE_CHECKING:
    from stickyproxy.member import Member

#: Answers of 500 and more that say nothing of the backend: they are about what the client asked for.
_CLIENTS_OWN = frozenset((501, 505))
#: Seconds between two tries to reach a backend that is waited for.
PATIENCE = 0.2
_log = Logger()


class ClusterHealth:
    """Who of ``members`` (which may change: then ``configure``) is down; ``changed`` is told, with the ids of all."""

    def __init__(
        self, cluster: str, members: Mapping[str, Member], changed: Callable[[frozenset[str]], object]
    ) -> None:
        self.down: frozenset[str] = frozenset()
        #: When a member is taken out for what its clients meet; None: never.
        self.ejecting: Ejecting | None = None
        self.members = members
        self._cluster = cluster
        self._changed = changed
        #: Is told what is found out of a member here, as opposed to ``MemberHealth.told``; None: nobody wants to know.
        self.found: Callable[[MemberHealth], object] | None = None

    def configure(self, ejecting: Ejecting | None) -> None:
        """Members may have come or gone, and these are the rules."""
        self.ejecting = ejecting
        for member in self.members.values():
            if member.health is None:
                member.health = MemberHealth(member, self)
        self.update()

    def stop(self) -> None:
        """Whoever is ejected stays so."""
        for member in self.members.values():
            if member.health is not None:
                member.health.stop()

    def forget(self) -> None:
        """Nobody looks at the members any more."""
        self.stop()
        for member in self.members.values():
            member.health = None

    def may_eject(self) -> bool:
        """Whether the share of those that are down allows another."""
        return self.ejecting is not None and len(self.down) < room(len(self.members), self.ejecting)

    def update(self, *, told: bool = False) -> None:
        """A member changed; ``told``: another process has found that."""
        down = frozenset(id for id, member in self.members.items() if member.health is not None and member.health.down)
        if down == self.down:
            return
        newly, self.down = down - self.down, down
        self._changed(down)
        for id in newly:
            self.members[id].close_idle()
        if newly and not told and len(down) == len(self.members):
            _log.error("No backend of {cluster} is up", cluster=self._cluster)


class AroundSelection:
    """``select``, while somebody is down: who is so cannot be reached, for as long as anybody else is left.

    ``select`` takes a third argument where ``grace`` is not 0: see ``PolicySelection``. A client that is bound to who
    is down waits then for so many seconds.
    """

    def __init__(
        self, health: ClusterHealth, select: Callable[..., Selected[Member]], grace: float, fail_open: bool
    ) -> None:
        self._health = health
        self._select = select
        self._grace = grace
        self._fail_open = fail_open

    def select(self, arrival: Arrival, tried: AbstractSet[str] = frozenset()) -> Selected[Member]:
        """Who serves ``arrival``."""
        down = self._down(tried)
        if not self._grace:
            return self._select(arrival, tried | down)
        selected = self._select(arrival, tried | down, down - tried)
        if selected is None or (isinstance(selected, Choice) and selected.candidate.id not in down):
            return selected
        return self._select_patiently(arrival, tried, selected)

    def _down(self, tried: AbstractSet[str]) -> AbstractSet[str]:
        return unavailable(self._health.members, self._health.down, tried, self._fail_open)

    async def _select_patiently(
        self, arrival: Arrival, tried: AbstractSet[str], selected: Selected[Member]
    ) -> Choice[Member] | None:
        choice = selected if selected is None or isinstance(selected, Choice) else await selected
        waited = 0.0
        while choice is not None and choice.candidate.id in self._down(tried):
            if waited + PATIENCE > self._grace:
                other = self.select(arrival, tried | {choice.candidate.id})
                return other if other is None or isinstance(other, Choice) else await other
            await choice.candidate.pause(PATIENCE)
            waited += PATIENCE
        return choice


class MemberHealth:
    """What is known of one member."""

    def __init__(self, member: Member, cluster: ClusterHealth) -> None:
        self.probed = Health(since=member.seconds())
        self.ejection = Ejection()
        self.member = self._member = member
        self._cluster = cluster
        self._reason = ""
        self._out_since = 0.0
        self._return: IDelayedCall | None = None

    def __str__(self) -> str:
        """``down for 12 s (it answers 404)``, ``up for 5 s, ejected for 3 s more (it answers 500)``, ``unknown``."""
        now = self._member.seconds()
        standing, since, reason, _ = self.probed
        seen = []
        if standing is not Standing.UNKNOWN:
            seen.append(f"{standing.value} for {now - since:.0f} s" + (f" ({reason})" if reason else ""))
        if self._return is not None:
            seen.append(f"ejected for {self.ejection.until - now:.0f} s more ({self._reason})")
        return ", ".join(seen) or "unknown"

    @property
    def down(self) -> bool:
        return self.probed.standing is Standing.DOWN or self._return is not None

    @property
    def out(self) -> tuple[float, float, str] | None:
        """While it is ejected: since when and until when, by the reactor's time, and why."""
        return None if self._return is None else (self._out_since, self.ejection.until, self._reason)

    def stop(self) -> None:
        if self._return is not None and self._return.active():
            self._return.cancel()

    def probe_ended(self, failure: str | None, thresholds: Thresholds) -> None:
        """A probe has failed for the reason ``failure``; None: it has not."""
        self._member.counts["probes_well" if failure is None else "probes_failed"] += 1
        before = self.probed
        self.probed = after = probed(before, failure, thresholds, self._member.seconds())
        if after.standing is before.standing:
            return
        if after.standing is Standing.DOWN:
            _log.warn("Backend {member.id} of {member.cluster} is down: {reason}", member=self._member, reason=failure)
        elif before.standing is Standing.UNKNOWN:
            _log.info("Backend {member.id} of {member.cluster} is up", member=self._member)
        else:
            seconds = round(after.since - before.since, 1)
            _log.info(
                "Backend {member.id} of {member.cluster} is up again, after {seconds} s",
                member=self._member,
                seconds=seconds,
            )
        self._found()

    def told(self, probed: Health | None, out: tuple[float, float, str] | None) -> None:
        """Another process has found this, and has it in its log: the results of probes, or an ejection as ``out``."""
        self.probed = probed or self.probed
        if out is not None and out[1] > self.ejection.until and (seconds := out[1] - self._member.seconds()) > 0:
            self.stop()
            self._out_since, until, self._reason = out
            self.ejection = self.ejection._replace(until=until)
            self._return = self._member.later(seconds, self._forgive)
        self._cluster.update(told=True)

    def _found(self) -> None:
        self._cluster.update()
        if self._cluster.found is not None:
            self._cluster.found(self)

    # What its clients meet.

    def connected(self) -> None:
        """A connection for a client was made."""
        self.ejection = connected(self.ejection)

    def unreached(self, reason: str) -> None:
        """A connection for a client could not be made."""
        self._failed(reason, reached=False)

    def lost(self, reason: str) -> None:
        """An answer did not come, not in time, not whole, or made no sense."""
        self._failed(reason, reached=True)

    def answered(self, status: int) -> None:
        """The head of an answer came."""
        if status < 500 or status in _CLIENTS_OWN:
            self.ejection = served(self.ejection)
        else:
            self._failed(f"it answers {status}", reached=True)

    def _failed(self, reason: str, *, reached: bool) -> None:
        rules, now = self._cluster.ejecting, self._member.seconds()
        if rules is None:
            return
        self.ejection = failed(self.ejection, reached=reached, now=now)
        if self.down or not is_due(self.ejection, rules, now) or not self._cluster.may_eject():
            return
        self.ejection = ejected(self.ejection, rules, now)
        self._reason, self._out_since = reason, now
        seconds = self.ejection.until - now
        self._return = self._member.later(seconds, self._let_in)
        self._member.counts["ejections"] += 1
        _log.warn(
            "Backend {member.id} of {member.cluster} is ejected for {seconds} s, after {failures} failures: {reason}",
            member=self._member,
            seconds=round(seconds, 3),
            failures=self.ejection.unreached + self.ejection.unserved,
            reason=reason,
        )
        self._found()

    def _let_in(self) -> None:
        _log.info("Backend {member.id} of {member.cluster} is let in again", member=self._member)
        self._forgive()

    def _forgive(self) -> None:
        self._return = None
        self._cluster.update()
