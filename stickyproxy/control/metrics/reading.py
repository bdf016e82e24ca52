"""Values for the families, read from what runs. Floor 5.

Only what was counted by the batch is summed up here; all else is as it is in the moment when somebody asks.
"""

from __future__ import annotations

import platform
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import twisted
from prometheus_client import ProcessCollector
from twisted.application.service import IServiceCollection
from twisted.internet.interfaces import IReactorTime

from stickyproxy import __version__
from stickyproxy.cluster import Cluster
from stickyproxy.control.metrics.families import FAMILIES, Told
from stickyproxy.control.metrics.lag import Lag
from stickyproxy.control.snapshot import Serving, table_of
from stickyproxy.model import BackendState
from stickyproxy.sansio.selection import REASONS
from stickyproxy.tally import BUCKETS, Tally

Sample = tuple[str, tuple[str, ...], Any]
#: Words of ``Member.counts`` that are families of their own.
_COUNTS = ("connections", "connect_errors", "retries", "ejections")
#: Why a client was not served by its own backend.
WHY = (*REASONS, "down", "lost")
_STATES = ("up", "drain", "maintenance", "down", "ejected")


class Counted(Serving, Protocol):
    """A frontend that runs, with what it has counted."""

    tally: Tally


class Measured(Protocol):
    """What is read: a running proxy."""

    reactor: Any
    measures: Measures

    @property
    def clusters(self) -> Mapping[str, Cluster]: ...

    @property
    def frontends(self) -> Mapping[str, Counted]: ...


class Measures:
    """What has no other place while a process runs: reloads, and the lag of its loop. ``now``: since the epoch."""

    def __init__(self, clock: IReactorTime, now: float) -> None:
        self.lag = Lag(clock)
        self.reloads: Counter[str] = Counter()
        self.loaded = now  #: when the configuration that serves began to
        self.failing = False  #: the last reload did not work

    def wanted(self, counts: bool, parent: IServiceCollection) -> bool:
        """Whether anybody wants to know; then the loop is looked at while ``parent`` runs."""
        if counts and self.lag.parent is None:
            self.lag.setServiceParent(parent)
        elif not counts and self.lag.parent is not None:
            self.lag.disownServiceParent()
        return counts

    def reloaded(self, now: float) -> None:
        """A reload has worked."""
        self.failing, self.loaded = False, now
        self.reloads["done"] += 1

    def failed(self) -> None:
        """A reload has not: all is as it was."""
        self.failing = True
        self.reloads["failed"] += 1


def samples(proxy: Measured) -> list[Told]:
    """Every family that has samples, in the order of ``FAMILIES``."""
    values: defaultdict[str, dict[tuple[str, ...], Any]] = defaultdict(dict)
    for name, labels, value in _all(proxy):
        family = values[name]
        if labels not in family:
            family[labels] = value
        elif isinstance(value, list):
            family[labels] = [a + b for a, b in zip(family[labels], value, strict=True)]
        else:
            family[labels] += value
    return [family.told(values[name].items()) for name, family in FAMILIES.items() if name in values]


def _all(proxy: Measured) -> Iterator[Sample]:
    for name, serving in proxy.frontends.items():
        tally = serving.tally
        tally.flush()
        yield from _answers(name, tally, proxy.clusters)
        yield from _relays(name, tally, proxy.clusters)
        yield from _doors(name, tally)
        yield "stickyproxy_client_connections", (name,), len(serving.connections)
        yield from _certificates(name, serving)
    for cluster in proxy.clusters.values():
        yield from _cluster(cluster)
    yield from _process(proxy.measures, type(proxy.reactor).__name__)


def _is_there(cluster: str, backend: str, clusters: Mapping[str, Cluster]) -> bool:
    """Whether the configuration has it: what it has no more is not told, and comes again with all that was counted."""
    return not backend or (cluster in clusters and backend in clusters[cluster].members)


def _answers(frontend: str, tally: Tally, clusters: Mapping[str, Cluster]) -> Iterator[Sample]:
    for (cluster, backend, status, outcome), row in tally.answers.items():
        if cluster and cluster not in clusters:
            continue
        received, sent, seconds = row[:BUCKETS]
        count = sum(row[BUCKETS:])
        if _is_there(cluster, backend, clusters):
            served = frontend, cluster, backend
            yield "stickyproxy_requests_total", (*served, _class(status)), count
            yield "stickyproxy_received_bytes_total", (*served, "http"), received
            yield "stickyproxy_sent_bytes_total", (*served, "http"), sent
        yield "stickyproxy_request_duration_seconds", (cluster,), [*row[BUCKETS:], seconds]
        if backend:
            yield "stickyproxy_affinity_total", (cluster, outcome), count
        if status == 429 and not cluster:
            yield "stickyproxy_rate_limited_total", (frontend,), count


def _class(status: int) -> str:
    """``2xx``; ``left`` where the client did not wait for an answer."""
    return "left" if status == 499 else f"{status // 100}xx"


def _relays(frontend: str, tally: Tally, clusters: Mapping[str, Cluster]) -> Iterator[Sample]:
    for (cluster, backend, protocol), relays in tally.relays.items():
        if not _is_there(cluster, backend, clusters):
            continue
        served = frontend, cluster, backend
        received, sent, messages_received, messages_sent = relays.sums()
        name = "stickyproxy_websockets" if protocol == "websocket" else "stickyproxy_tcp_relays"
        yield name, served, len(relays.open)
        yield f"{name}_opened_total", served, relays.begun
        yield "stickyproxy_received_bytes_total", (*served, protocol), received
        yield "stickyproxy_sent_bytes_total", (*served, protocol), sent
        if protocol == "websocket":
            yield "stickyproxy_websocket_messages_total", (*served, "from_client"), messages_received
            yield "stickyproxy_websocket_messages_total", (*served, "to_client"), messages_sent
    for (cluster, outcome), count in tally.reached.items():
        if cluster in clusters:
            yield "stickyproxy_affinity_total", (cluster, outcome), count


def _doors(frontend: str, tally: Tally) -> Iterator[Sample]:
    yield "stickyproxy_rate_limited_total", (frontend,), tally.refused["rate"]
    for reason, count in tally.refused.items():
        yield "stickyproxy_refused_connections_total", (frontend, reason), count
    for (version, result, resumed), count in tally.handshakes.items():
        labels = frontend, version, result, "yes" if resumed else "no"
        yield "stickyproxy_tls_handshakes_total", labels, count


def _certificates(frontend: str, serving: Serving) -> Iterator[Sample]:
    seen: set[str] = set()
    for certificate in serving.certificates:
        ends = certificate.chain[0].not_valid_after_utc.timestamp()
        for name in certificate.names or (certificate.path.name,):
            if name not in seen:  # the first that has a name serves it
                seen.add(name)
                yield "stickyproxy_certificate_expiry_timestamp_seconds", (frontend, name), ends


def _cluster(cluster: Cluster) -> Iterator[Sample]:
    table = table_of(cluster)
    sessions: Mapping[str, int] = table.held() if table is not None else {}
    for why in WHY:
        yield "stickyproxy_sticky_broken_total", (cluster.name, why), cluster.broken[why]
    for member in cluster.members.values():
        labels = cluster.name, member.id
        state = _state(member)
        for word in _STATES:
            yield "stickyproxy_backend_state", (*labels, word), int(word == state)
        yield "stickyproxy_backend_weight", labels, member.weight
        yield "stickyproxy_backend_active", labels, member.active
        yield "stickyproxy_backend_idle_connections", labels, member.idle_connections
        for count in _COUNTS:
            yield f"stickyproxy_backend_{count}_total", labels, member.counts[count]
        for result, count in (("well", "probes_well"), ("failed", "probes_failed")):
            if member.health is not None:
                yield "stickyproxy_backend_probes_total", (*labels, result), member.counts[count]
        if member.state is BackendState.DRAIN:
            yield "stickyproxy_drain_remaining", labels, member.active
        if table is not None:
            yield "stickyproxy_sessions", labels, sessions.get(member.id, 0)


def _state(member: Any) -> str:
    """What the operator wants, and if that is ``up``, how it is."""
    health = member.health
    if member.state is not BackendState.UP or health is None or not health.down:
        return str(member.state.value)
    return "ejected" if health.out is not None or health.on_trial else "down"


def _process(measures: Measures, reactor: str) -> Iterator[Sample]:
    yield "stickyproxy_reactor_lag_seconds", (), measures.lag.last
    yield "stickyproxy_reactor_lag_distribution_seconds", (), list(measures.lag.buckets)
    for result in ("done", "failed"):
        yield "stickyproxy_config_reloads_total", (result,), measures.reloads[result]
    yield "stickyproxy_config_last_reload_successful", (), int(not measures.failing)
    yield "stickyproxy_config_last_reload_success_timestamp_seconds", (), measures.loaded
    build = __version__, platform.python_version(), twisted.__version__, reactor
    yield "stickyproxy_build_info", build, 1
    yield "stickyproxy_processes", (), 1
    for metric in ProcessCollector(registry=None).collect():
        for sample in metric.samples:
            yield sample.name, (), sample.value
