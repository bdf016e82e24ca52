"""Every family of metrics: its name, type, labels, meaning, and how those of several processes are merged. Floor 5.

Names are as Prometheus wants them (https://prometheus.io/docs/practices/naming/). No label is ever a client's: all are
names of the configuration, or words of a short list, so that there are no more series than that allows.
``docs/metrics.md`` has the same table, which a test compares with this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import attrs

from stickyproxy.tally import BOUNDS

Kind = Literal["counter", "gauge", "histogram"]
#: A family as it is told, JSON-able: ``name``, ``type``, ``help``, ``labels`` (their names), ``merge``, ``bounds`` of a
#: histogram, and ``samples``: pairs of the labels' values and a number. That of a histogram is a list: how many were in
#: each bucket and not in one before, beyond the last bound at the end, and then the sum.
Told = dict[str, Any]
Labels = tuple[str, ...]

_FRONTEND = ("frontend",)
_CLUSTER = ("cluster",)
_BACKEND = ("cluster", "backend")
_SERVED = ("frontend", "cluster", "backend")
#: Upper ends of the buckets of the reactor's lag, in seconds.
LAG_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


@attrs.frozen
class Family:
    """One family. ``merge``: what the values of several processes, for the same labels, are together."""

    name: str
    kind: Kind
    meaning: str
    labels: Labels = ()
    merge: Literal["sum", "max", "min"] = "sum"
    bounds: tuple[float, ...] = ()

    def told(self, samples: Iterable[tuple[Labels, Any]]) -> Told:
        """With its samples."""
        told: Told = {"name": self.name, "type": self.kind, "help": self.meaning, "labels": list(self.labels)}
        told |= {"merge": self.merge, "samples": [[list(labels), value] for labels, value in samples]}
        return told | ({"bounds": list(self.bounds)} if self.bounds else {})


def _counter(name: str, meaning: str, labels: Labels = ()) -> Family:
    return Family(f"stickyproxy_{name}_total", "counter", meaning, labels)


def _gauge(name: str, meaning: str, labels: Labels = (), merge: Literal["sum", "max", "min"] = "sum") -> Family:
    return Family(f"stickyproxy_{name}", "gauge", meaning, labels, merge)


def _histogram(name: str, meaning: str, labels: Labels, bounds: tuple[float, ...]) -> Family:
    return Family(f"stickyproxy_{name}", "histogram", meaning, labels, "sum", bounds)


_ALL = (
    # What clients meet.
    _counter("requests", "Answered HTTP requests, WebSocket handshakes included.", (*_SERVED, "status")),
    _histogram("request_duration_seconds", "From a request's head to the end of its answer.", _CLUSTER, BOUNDS),
    _counter("received_bytes", "Content of requests, and bytes of relays, from clients.", (*_SERVED, "protocol")),
    _counter("sent_bytes", "Content of answers, and bytes of relays, to clients.", (*_SERVED, "protocol")),
    _gauge("client_connections", "Open connections of clients.", _FRONTEND),
    _counter("refused_connections", "Connections of clients that were turned away.", (*_FRONTEND, "reason")),
    _counter("rate_limited", "Requests and TCP connections above the rate of their address.", _FRONTEND),
    _gauge("websockets", "Open WebSockets.", _SERVED),
    _counter("websockets_opened", "WebSockets that were opened.", _SERVED),
    _counter("websocket_messages", "Whole messages of WebSockets.", (*_SERVED, "direction")),
    _gauge("tcp_relays", "Open TCP connections between a client and a backend.", _SERVED),
    _counter("tcp_relays_opened", "TCP connections of clients that reached a backend.", _SERVED),
    # Affinity.
    _counter("affinity", "Requests and TCP connections, by what affinity had to say.", (*_CLUSTER, "outcome")),
    _counter("sticky_broken", "Clients that their own backend did not serve, by the reason.", (*_CLUSTER, "reason")),
    _gauge("sessions", "Sessions in the table of the cluster.", _BACKEND, "max"),
    # Backends.
    _gauge("backend_state", "1 for the state that the backend is in, 0 for the others.", (*_BACKEND, "state"), "max"),
    _gauge("backend_weight", "Its weight.", _BACKEND, "max"),
    _gauge("backend_active", "Requests, WebSockets and TCP connections that it serves.", _BACKEND),
    _gauge("backend_idle_connections", "Connections to it that wait for a request.", _BACKEND),
    _counter("backend_connections", "Connections to it that were made.", _BACKEND),
    _counter("backend_connect_errors", "Connections to it that could not be made.", _BACKEND),
    _counter("backend_retries", "Requests that it did not answer, and that were sent again.", _BACKEND),
    _counter("backend_ejections", "How often it was taken out for what its clients met.", _BACKEND),
    _counter("backend_probes", "Probes of it that ended.", (*_BACKEND, "result")),
    _gauge("drain_remaining", "What a draining backend still serves.", _BACKEND),
    # TLS.
    _counter("tls_handshakes", "TLS handshakes of clients.", (*_FRONTEND, "version", "result", "resumed")),
    _gauge(
        "certificate_expiry_timestamp_seconds", "When the certificate for a name ends.", (*_FRONTEND, "name"), "min"
    ),
    # The proxy itself.
    _gauge("reactor_lag_seconds", "How late the event loop was when it was last looked at.", (), "max"),
    _histogram("reactor_lag_distribution_seconds", "How late the event loop was.", (), LAG_BOUNDS),
    _counter("config_reloads", "Reloads of the configuration.", ("result",)),
    _gauge("config_last_reload_successful", "1 if the last reload worked, or there was none.", (), "min"),
    _gauge("config_last_reload_success_timestamp_seconds", "When the configuration began to serve.", (), "max"),
    _gauge("build_info", "1; its labels tell what runs.", ("version", "python", "twisted", "reactor"), "max"),
    _gauge("processes", "Processes whose numbers these are.", ()),
    # prometheus_client's own, by the names that every dashboard knows.
    Family("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes."),
    Family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes."),
    Family("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.", (), "min"),
    Family("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds."),
    Family("process_open_fds", "gauge", "Number of open file descriptors.", (), "max"),
    Family("process_max_fds", "gauge", "Maximum number of open file descriptors.", (), "min"),
)
#: All of them by name, in the order in which they are told.
FAMILIES: Mapping[str, Family] = {family.name: family for family in _ALL}
