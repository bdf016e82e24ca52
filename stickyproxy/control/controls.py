"""What an operator can ask of a running proxy: the one door for API, dashboard, metrics and command line. Floor 5.

All arguments and answers are JSON-able, and so is a ``Refusal``: they go through a pipe between processes as they are,
the method's name and its arguments there, an answer or a refusal back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from stickyproxy import __version__
from stickyproxy.cluster import Cluster
from stickyproxy.config import Configuration, ConfigurationErrors
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.control.drained import Elsewhere, nobody
from stickyproxy.control.draining import Progress
from stickyproxy.control.drains import Drainable, begin_drain, drain_report, end_drain, find_drain, wait_for
from stickyproxy.control.explaining import explain_request
from stickyproxy.control.metrics.families import Told
from stickyproxy.control.metrics.reading import Measured, samples
from stickyproxy.control.planning import lines, plan
from stickyproxy.control.refusal import Refusal
from stickyproxy.control.reloading import Loaded, Reloading
from stickyproxy.control.sessions import ClusterSessions, list_sessions, session_change
from stickyproxy.control.snapshot import (
    Report,
    Served,
    backend_report,
    certificate_reports,
    cluster_report,
    frontend_report,
    served_by,
    table_of,
)
from stickyproxy.errors import StickyproxyError
from stickyproxy.member import Member
from stickyproxy.model import BackendState
from stickyproxy.tally import BOUNDS

#: Backends that are looked at before others have their turn: about a millisecond.
_AT_ONCE = 100
#: The largest weight, as in the configuration.
_HEAVIEST = 256


class Controls(Protocol):
    """What an operator can ask. Every method may raise ``Refusal``; nothing has changed then."""

    async def snapshot(self) -> Report:
        """All there is to see, but for single sessions: ``version``, ``started``, ``processes``, ``configuration``,
        ``frontends``, ``clusters`` (each with ``backends``) and ``certificates``.
        """

    async def change_backend(self, cluster: str, backend: str, change: Mapping[str, Any], by: str) -> Report:
        """Set ``state`` (``"up"``, ``"drain"``, ``"maintenance"``) and ``weight`` (0 to 256), or one of them.

        The backend's report, as in ``snapshot``. It holds until another change, and over a reload whose file says of
        this backend what it said before. ``by``: who wants it, for the log.
        """

    async def samples(self) -> list[Told]:
        """All metrics (``metrics.families``), for ``metrics.exposition``."""

    async def sessions(self, query: Mapping[str, str]) -> Report:
        """Single sessions: ``sessions``, ``next`` (what ``after`` is to be for those that follow), ``clusters``.

        ``query`` may have ``cluster``, ``backend``, ``key`` (as clients send it), ``address``, ``limit``, ``after``.
        """

    async def change_session(self, cluster: str, session: str, change: Mapping[str, Any], by: str) -> Report:
        """Bind a session (its ``id``) elsewhere (``backend``), have it stay there (``pinned``), or both."""

    async def forget_session(self, cluster: str, session: str, by: str) -> Report:
        """End a session: at its next request the client is a new one. The session's report, as it was."""

    async def explain(self, request: Mapping[str, Any]) -> Report:
        """Where a request would go, and why: ``url``, perhaps ``method``, ``headers``, ``address``, ``frontend``."""

    async def drain(self, wanted: Mapping[str, Any], by: str) -> Report:
        """Begin to drain ``backend`` of ``cluster``, or a ``frontend``, or the ``process`` (True).

        Perhaps with ``window``, ``deadline``, ``code``, and for a backend ``stay``. The others listen no more.
        The drain's report: ``id``, ``stage``, ``sessions`` and ``sockets`` that are left, whether it has ``ended``.
        """

    async def drains(self) -> Report:
        """All reports, in ``drains``."""

    async def drained(self, drain: str, wait: str | None) -> Report:
        """The report of one: as soon as it has ended, or (``wait`` is a duration) after that time."""

    async def cancel_drain(self, drain: str, by: str) -> Report:
        """Everything is as before it began. A frontend, and the process, listens again also when it has ended."""

    async def plan(self, document: str | None = None) -> Report:
        """What would change with this configuration, None: with that of the file (``planning.plan``, and ``told``)."""

    async def reload(self, by: str) -> Report:
        """Load the file; ``changes`` has a line for each. Refused where it is wrong: all is as it was."""


class Running(Measured, Drainable, Protocol):
    """What ``LocalControls`` needs of a running proxy: ``service.Proxy``."""

    configuration: Configuration


class LocalControls:
    """``Controls`` of the proxy that runs in this process."""

    _log = Logger()

    def __init__(self, proxy: Running, clock: IReactorTime, now: Callable[[], float] = time.time) -> None:
        self.reloading: Reloading | None = None  #: what loads the file, if there is one
        self.elsewhere: Elsewhere = nobody  #: what workers still have of what drains
        self._proxy = proxy
        self._clock = clock
        self._now = now
        self._started = now()

    async def snapshot(self) -> Report:
        proxy, specs = self._proxy, self._proxy.configuration
        path = specs.path
        frontends = {
            spec.name: {**frontend_report(spec, proxy.frontends[spec.name]), "closed": spec.name in proxy.closed}
            for spec in specs.frontends
        }
        served = served_by(proxy.frontends.values())
        clusters = {
            spec.name: await self._cluster(spec, served) for spec in specs.clusters if spec.name in proxy.clusters
        }
        return {
            "version": __version__,
            "now": self._now(),
            "bounds": BOUNDS,
            "started": self._started,
            "processes": [os.getpid()],
            "configuration": str(path) if path is not None else None,
            "frontends": frontends,
            "clusters": clusters,
            "certificates": [
                report for name, serving in proxy.frontends.items() for report in certificate_reports(name, serving)
            ],
        }

    async def _cluster(self, spec: ClusterSpec, answered: Mapping[tuple[str, str], Served]) -> Report:
        cluster = self._proxy.clusters[spec.name]
        leading = {
            frontend.name
            for frontend in self._proxy.configuration.frontends
            if spec.name in (frontend.cluster, *(route.cluster for route in frontend.routes))
        }
        report = cluster_report(spec, cluster, leading, self._now() - self._clock.seconds())
        sessions = _counts(cluster)
        backends: Report = {}
        now = self._now()
        for place, file in enumerate(spec.backends):
            if place % _AT_ONCE == _AT_ONCE - 1:
                await self.pause()
            if (member := cluster.members.get(file.id)) is not None:
                served, probed = answered.get((spec.name, file.id)), spec.probe is not None
                backends[file.id] = backend_report(member, file, sessions, now, probed=probed, served=served)
        return {**report, "backends": backends}

    async def change_backend(self, cluster: str, backend: str, change: Mapping[str, Any], by: str) -> Report:
        spec, running, member = self._find(cluster, backend)
        state, weight = _checked(change)
        if state is not None:
            member.set_state(state)
        if weight is not None and weight != member.weight:
            member.weight = weight
            running.members_changed()
        self._log.warn(
            "Backend {backend} of {cluster} is changed by {by}: {change}",
            backend=backend,
            cluster=cluster,
            by=by,
            change=", ".join(f"{key} {value}" for key, value in sorted(change.items())),
        )
        file = next(file for file in spec.backends if file.id == backend)
        served = served_by(self._proxy.frontends.values()).get((cluster, backend))
        probed = spec.probe is not None
        return backend_report(member, file, _counts(running), self._now(), probed=probed, served=served)

    async def samples(self) -> list[Told]:
        return samples(self._proxy)

    async def sessions(self, query: Mapping[str, str]) -> Report:
        return await list_sessions(self._proxy.clusters, query, self.pause)

    async def change_session(self, cluster: str, session: str, change: Mapping[str, Any], by: str) -> Report:
        sessions = ClusterSessions(self._cluster_named(cluster))
        backend, pinned = session_change(change, sessions.cluster)
        changed = sessions.change(await sessions.find(session, self.pause), backend, pinned)
        self._log.warn(
            "Session {session} of {cluster} is at {backend}, by {by}{pinned}",
            session=session,
            cluster=cluster,
            backend=changed.backend,
            by=by,
            pinned={True: ", pinned", False: ", not pinned"}.get(pinned, ""),  # type: ignore[arg-type]
        )
        return sessions.report(changed)

    async def forget_session(self, cluster: str, session: str, by: str) -> Report:
        sessions = ClusterSessions(self._cluster_named(cluster))
        listed = await sessions.find(session, self.pause)
        sessions.table.forget(listed.keys[0])
        self._log.warn("Session {session} of {cluster} is ended by {by}", session=session, cluster=cluster, by=by)
        return sessions.report(listed)

    async def explain(self, request: Mapping[str, Any]) -> Report:
        return await explain_request(request, self._proxy.configuration, self._proxy.clusters)

    async def drain(self, wanted: Mapping[str, Any], by: str) -> Report:
        drain = await begin_drain(self._proxy, wanted, self.elsewhere, self._clock)
        self._log.warn("The drain of {name} is begun by {by}", name=drain.subject.name, by=by)
        drain.done.addCallback(self._tell_end)
        return drain_report(drain)

    def _tell_end(self, progress: Progress) -> None:
        self._log.info(
            "The drain of {name} is over ({stage}) after {seconds:.1f} s: {told} connections were told, {cut} are cut",
            name=progress.name,
            stage=progress.stage,
            seconds=progress.running,
            told=progress.told,
            cut=progress.cut,
        )

    async def drains(self) -> Report:
        return {"drains": [drain_report(drain) for drain in self._proxy.drains]}

    async def drained(self, drain: str, wait: str | None) -> Report:
        found = find_drain(self._proxy.drains, drain)
        await wait_for(found, wait, self._clock)
        return drain_report(found)

    async def cancel_drain(self, drain: str, by: str) -> Report:
        found = find_drain(self._proxy.drains, drain)
        await end_drain(self._proxy, found)
        self._log.warn("The drain of {name} is cancelled by {by}", name=drain, by=by)
        return drain_report(found)

    async def plan(self, document: str | None = None) -> Report:
        report = self.plan_for(self.read(document).configuration)
        return {**report, "told": lines(report)}

    def read(self, document: str | None) -> Loaded:
        """``document``, None: the file, as it is to be loaded. Raises ``Refusal``."""
        reloading = self._loader()
        with _refusing():
            return reloading.read(None if document is None else document.encode())

    def plan_for(self, new: Configuration) -> Report:
        """What would change with ``new``, and which of the connections here it would move."""
        proxy = self._proxy
        return plan(proxy.configuration, new, proxy.clusters, proxy.frontends)

    async def reload(self, by: str) -> Report:
        reloading = self._loader()
        self._log.warn("A reload is wanted by {by}", by=by)
        with _refusing():
            return {"changes": await reloading.reload()}

    async def pause(self, seconds: float = 0.0) -> None:
        """Others have their turn."""
        await deferLater(self._clock, seconds)

    def _loader(self) -> Reloading:
        if self.reloading is None:
            raise Refusal("unavailable", "the configuration is not in a file")
        return self.reloading

    def _cluster_named(self, name: str) -> Cluster:
        if name not in self._proxy.clusters:
            raise Refusal("unknown", "there is no cluster of this name")
        return self._proxy.clusters[name]

    def _find(self, cluster: str, backend: str) -> tuple[ClusterSpec, Cluster, Member]:
        running = self._cluster_named(cluster)
        spec = next(spec for spec in self._proxy.configuration.clusters if spec.name == cluster)
        if backend not in running.members:
            raise Refusal("unknown", f"cluster {cluster} has no backend of this name")
        return spec, running, running.members[backend]


@contextmanager
def _refusing() -> Iterator[None]:
    """What is wrong with a configuration, as a ``Refusal``."""
    try:
        yield
    except ConfigurationErrors as errors:
        mistakes = [{"file": str(path or ""), "key": key, "message": text} for path, key, text in errors.mistakes]
        raise Refusal("invalid", "the configuration has mistakes, and the one that runs goes on", mistakes) from None
    except (StickyproxyError, ValueError, OSError) as error:
        raise Refusal("conflict", f"the configuration that runs goes on: {error}") from error


def _counts(cluster: Cluster) -> dict[str, int] | None:
    """The sessions of each backend, where they are known."""
    table = table_of(cluster)
    return None if table is None else table.held()


def _checked(change: Mapping[str, Any]) -> tuple[BackendState | None, int | None]:
    """The wanted state and weight. Raises ``Refusal``."""
    if unknown := sorted(change.keys() - {"state", "weight"}):
        raise Refusal("invalid", f"unknown key {unknown[0]}; expected state, weight or both")
    if not change:
        raise Refusal("invalid", "expected state, weight or both")
    state, weight = change.get("state"), change.get("weight")
    states = [each.value for each in BackendState]
    if "state" in change and state not in states:
        raise Refusal("invalid", f"state: expected one of: {', '.join(states)}")
    if "weight" in change and (type(weight) is not int or not 0 <= weight <= _HEAVIEST):
        raise Refusal("invalid", f"weight: expected a whole number from 0 to {_HEAVIEST}")
    return (None if state is None else BackendState(state)), weight
