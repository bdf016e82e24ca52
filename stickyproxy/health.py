"""The health of a running cluster: what probes and clients find, who is therefore down, and who is told. Floor 3.

``sansio.health`` decides; here are the clock, the log and the share that may be out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from stickyproxy.model import Arrival
from stickyproxy.sansio.health import (
    Ejecting,
    Ejection,
    Health,
    Rate,
    Standing,
    Thresholds,
    connected,
    dropped,
    ejected,
    failed,
    is_due,
    kept,
    probed,
    room,
    served,
)
from stickyproxy.sansio.selection import Choice, Selected, unavailable

if TYPE_CHECKING:
    from stickyproxy.member import Member

#: Answers of 500 and more that say nothing of the backend: they are about what the client asked for.
_CLIENTS_OWN = frozenset((501, 505))
#: Why a backend closes a WebSocket that would have gone on: it failed, restarts, or has too much to do (RFC 6455
#: section 7.4.1 and the registry that it founds).
_ITS_OWN = frozenset((1011, 1012, 1013))
#: Seconds between two tries to reach a backend that is waited for.
PATIENCE = 0.2
_log = Logger()


class ClusterHealth:
    """Who of ``members`` (which may change: then ``configure``) is down; ``changed`` is told, with the ids of all.

    With them are those ``on_trial``, of whom the ones that may have another client are not ``down``.
    """

    def __init__(
        self, cluster: str, members: Mapping[str, Member], changed: Callable[[frozenset[str]], object]
    ) -> None:
        self.down: frozenset[str] = frozenset()
        self.on_trial: frozenset[str] = frozenset()
        self.out: frozenset[str] = frozenset()
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
            member.health.configure(ejecting)
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

    def may_eject(self, id: str) -> bool:
        """Whether the share of those that are out allows this one besides."""
        return self.ejecting is not None and len(self.out - {id}) < room(len(self.members), self.ejecting)

    def update(self, *, told: bool = False) -> None:
        """A member changed; ``told``: another process has found that."""
        known = [(id, member.health) for id, member in self.members.items() if member.health is not None]
        down = frozenset(id for id, health in known if health.down)
        on_trial = frozenset(id for id, health in known if health.on_trial)
        if (down, on_trial) == (self.down, self.on_trial):
            return
        newly, self.down, self.on_trial = down - self.out, down, on_trial
        for id in self.out - down - on_trial:
            if id in self.members:
                self.members[id].came_up()
        self.out = down | on_trial
        self._changed(self.out)
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
        selected = self._select_well(arrival, tried)
        if not self._health.on_trial:
            return selected
        if selected is None or isinstance(selected, Choice):
            return _asked(selected)
        return _asked_later(selected)

    def would_select(self, arrival: Arrival) -> Selected[Member]:
        """Who would, if he had the patience."""
        down = self.closed()
        return self._select(arrival, down, down) if self._grace else self._select(arrival, down)

    def closed(self, tried: AbstractSet[str] = frozenset()) -> AbstractSet[str]:
        """The ids of those that are not to be asked."""
        return unavailable(self._health.members, self._health.down, tried, self._fail_open)

    def _select_well(self, arrival: Arrival, tried: AbstractSet[str]) -> Selected[Member]:
        down = self.closed(tried)
        if not self._grace:
            return self._select(arrival, tried | down)
        selected = self._select(arrival, tried | down, down - tried)
        if selected is None or (isinstance(selected, Choice) and selected.candidate.id not in down):
            return selected
        return self._select_patiently(arrival, tried, selected)

    async def _select_patiently(
        self, arrival: Arrival, tried: AbstractSet[str], selected: Selected[Member]
    ) -> Choice[Member] | None:
        choice = selected if selected is None or isinstance(selected, Choice) else await selected
        waited = 0.0
        while choice is not None and choice.candidate.id in self.closed(tried):
            if waited + PATIENCE > self._grace:
                other = self.select(arrival, tried | {choice.candidate.id})
                return other if other is None or isinstance(other, Choice) else await other
            await choice.candidate.pause(PATIENCE)
            waited += PATIENCE
        return choice


def _asked(choice: Choice[Member] | None) -> Choice[Member] | None:
    if choice is not None and choice.candidate.health is not None:
        choice.candidate.health.asked()
    return choice


async def _asked_later(selected: Awaitable[Choice[Member] | None]) -> Choice[Member] | None:
    return _asked(await selected)


class MemberHealth:
    """What is known of one member."""

    def __init__(self, member: Member, cluster: ClusterHealth) -> None:
        self.probed = Health(since=member.seconds())
        self.ejection = Ejection()
        self.member = self._member = member
        self._cluster = cluster
        self._reason = ""
        self._out_since = 0.0
        self._return: IDelayedCall | None = None  # when it is out, or when others are tried
        self._trials: int | None = None  # clients that may still be let in on trial; None: it is not on trial
        self._passed = 0  # of those
        self._rate: Rate | None = None
        self._rated: tuple[float | None, float, int] = (None, 0.0, 0)

    def configure(self, rules: Ejecting | None) -> None:
        """These are the rules from now on; what was counted by others is forgotten."""
        rated = (rules.failure_rate, rules.window, rules.least) if rules is not None else (None, 0.0, 0)
        if rated != self._rated:
            self._rated = rated
            self._count_anew(rules)

    def _count_anew(self, rules: Ejecting | None) -> None:
        if rules is not None and rules.failure_rate is not None:
            self._rate = Rate(rules.failure_rate, rules.window, rules.least)
        else:
            self._rate = None

    def __str__(self) -> str:
        """``down for 12 s (it answers 404)``, ``up for 5 s, ejected for 3 s more (it answers 500)``, ``unknown``."""
        now = self._member.seconds()
        standing, since, reason, _ = self.probed
        seen = []
        if standing is not Standing.UNKNOWN:
            seen.append(f"{standing.value} for {now - since:.0f} s" + (f" ({reason})" if reason else ""))
        if self.on_trial:
            seen.append(f"on trial ({self._reason})")
        elif self._return is not None:
            seen.append(f"ejected for {self.ejection.until - now:.0f} s more ({self._reason})")
        return ", ".join(seen) or "unknown"

    @property
    def down(self) -> bool:
        """Nobody is to be sent there."""
        if self.probed.standing is Standing.DOWN:
            return True
        return self._return is not None if self._trials is None else self._trials == 0

    @property
    def reason(self) -> str:
        """Why it was ejected the last time."""
        return self._reason

    @property
    def on_trial(self) -> bool:
        """It was ejected, and some clients are to show whether it is well again."""
        return self._trials is not None

    @property
    def out(self) -> tuple[float, float, str] | None:
        """While it is ejected: since when and until when, by the reactor's time, and why."""
        return None if self._return is None or self.on_trial else (self._out_since, self.ejection.until, self._reason)

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
            self._end_trial()
            self._out_since, until, self._reason = out
            self.ejection = self.ejection._replace(until=until)
            self._return = self._member.later(seconds, self._try)
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
        self._failed(reason, failed(self.ejection, reached=False, now=self._member.seconds()))

    def lost(self, reason: str) -> None:
        """An answer did not come, not in time, not whole, or made no sense."""
        self._failed(reason, failed(self.ejection, reached=True, now=self._member.seconds()))

    def answered(self, status: int) -> None:
        """The head of an answer came."""
        if status < 500 or status in _CLIENTS_OWN:
            self.served()
        else:
            self.lost(f"it answers {status}")

    def served(self) -> None:
        """It did what it was asked for; for TCP, it is connected."""
        self.ejection = served(self.ejection)
        if self._rate is not None:
            self._rate.add(self._member.seconds(), failed=False)
        if self._trials is not None:
            self._pass()

    def closed(self, code: int | None) -> None:
        """It ended a WebSocket with a Close of ``code`` (RFC 6455 section 7.4); None: the client did."""
        if code in _ITS_OWN:
            self._failed(f"it closes WebSockets with {code}", dropped(self.ejection, self._member.seconds()))
        else:
            self.ejection = kept(self.ejection)

    def _failed(self, reason: str, after: Ejection) -> None:
        rules, now = self._cluster.ejecting, self._member.seconds()
        if rules is None:
            return
        self.ejection = after
        if self._rate is not None:
            self._rate.add(now, failed=True)
        due = is_due(after, rules, now) or (self._rate is not None and self._rate.is_due(now))
        if self._trials is not None:
            self._end_trial()
        elif self.down or not due:
            return
        if self._cluster.may_eject(self._member.id):
            self._eject(reason, rules, now)
        self._found()

    def _eject(self, reason: str, rules: Ejecting, now: float) -> None:
        self.ejection = ejected(self.ejection, rules, now)
        self._reason, self._out_since = reason, now
        self._member.counts["ejections"] += 1
        self._count_anew(rules)
        seconds = self.ejection.until - now
        self._return = self._member.later(seconds, self._try)
        _log.warn(
            "Backend {member.id} of {member.cluster} is ejected for {seconds} s: {reason}",
            member=self._member,
            seconds=round(seconds, 3),
            reason=reason,
        )

    # On trial.

    def asked(self) -> None:
        """A client is sent there: one of those that may be, if it is on trial."""
        if not self._trials:
            return
        self._trials -= 1
        if not self._trials:
            rules = self._cluster.ejecting or Ejecting()
            self._return = self._member.later(rules.time, self._try)  # they left, or wait for long
            self._cluster.update()

    def _try(self) -> None:
        """Let some clients in."""
        rules, begins = self._cluster.ejecting, self._trials is None
        self._return = None
        self._trials = rules.trials - self._passed if rules is not None else None
        if begins:
            _log.info("Backend {member.id} of {member.cluster} is tried again", member=self._member)
        self._cluster.update()

    def _pass(self) -> None:
        self._passed += 1
        rules = self._cluster.ejecting
        if rules is None or self._passed >= rules.trials:
            self._end_trial()
            self.ejection = kept(self.ejection)
            _log.info("Backend {member.id} of {member.cluster} is in again", member=self._member)
            self._cluster.update()

    def _end_trial(self) -> None:
        self.stop()
        self._return = self._trials = None
        self._passed = 0
