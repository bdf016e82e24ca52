"""Metrics as the dashboard wants them: of each cluster and backend what was counted, in one small table. Floor 5, pure.

All of it counts up from the start, but for ``websockets``, ``relays``, ``connections`` and ``lag``. Whoever looks
makes rates and percentiles of it; a number that falls has begun anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stickyproxy.control.metrics.families import Told

Report = dict[str, Any]
_PREFIX = "stickyproxy_"
#: Keys of a frontend and of a backend, by the family whose samples they add up.
_FRONTEND = {"client_connections": "connections", "refused_connections_total": "refused"}
_SERVED = {"websockets": "websockets", "tcp_relays": "relays", "tcp_relays_opened_total": "relays_opened"}
_BACKEND = {
    "backend_connect_errors_total": "connect_errors",
    "backend_retries_total": "retries",
    "backend_ejections_total": "ejections",
}
_OF_FRONTEND = ("requests", "errors", *_FRONTEND.values())
_OF_BACKEND = ("requests", "errors", *_SERVED.values(), *_BACKEND.values())


class _Figures:
    def __init__(self, bounds: list[float]) -> None:
        self.report: Report = {"bounds": bounds, "lag": 0.0, "frontends": {}, "clusters": {}}

    def frontend(self, name: str) -> Report:
        found: Report = self.report["frontends"].setdefault(name, dict.fromkeys(_OF_FRONTEND, 0))
        return found

    def cluster(self, name: str) -> Report:
        seconds = [0] * (len(self.report["bounds"]) + 1)
        empty: Report = {"requests": 0, "errors": 0, "seconds": seconds, "broken": {}, "outcomes": {}, "backends": {}}
        found: Report = self.report["clusters"].setdefault(name, empty)
        return found

    def backend(self, cluster: str, name: str) -> Report:
        found: Report = self.cluster(cluster)["backends"].setdefault(name, dict.fromkeys(_OF_BACKEND, 0))
        return found

    def requests(self, frontend: str, cluster: str, backend: str, status: str, count: int) -> None:
        wholes = [self.frontend(frontend)]
        wholes += [self.cluster(cluster)] if cluster else []
        wholes += [self.backend(cluster, backend)] if backend else []
        for whole in wholes:
            whole["requests"] += count
            whole["errors"] += count if status == "5xx" else 0

    def add(self, family: str, labels: list[str], value: Any) -> None:
        """One sample."""
        if family == "requests_total":
            self.requests(*labels, value)  # type: ignore[call-arg,arg-type]
        elif family == "request_duration_seconds":
            if labels[0]:
                self.cluster(labels[0])["seconds"] = value[:-1]
        elif family in _FRONTEND:
            self.frontend(labels[0])[_FRONTEND[family]] += value
        elif family in _SERVED:
            if labels[2]:
                self.backend(*labels[1:])[_SERVED[family]] += value
        elif family in _BACKEND:
            self.backend(*labels)[_BACKEND[family]] += value
        elif family == "sticky_broken_total":
            self.cluster(labels[0])["broken"][labels[1]] = value
        elif family == "affinity_total":
            self.cluster(labels[0])["outcomes"][labels[1]] = value
        elif family == "reactor_lag_seconds":
            self.report["lag"] = value


def figures(samples: Iterable[Told]) -> Report:
    """``frontends`` and ``clusters`` by name, ``lag``, and the ``bounds`` of a cluster's ``seconds``, in buckets.

    ``errors`` are answers of 5xx, those that the proxy gave itself included. A cluster has its ``backends``, who was
    ``broken`` off his own, by reason, and the ``outcomes`` of its affinity.
    """
    known = {told["name"].removeprefix(_PREFIX): told for told in samples}
    found = _Figures(known.get("request_duration_seconds", {}).get("bounds", []))
    for family, told in known.items():
        for labels, value in told["samples"]:
            found.add(family, labels, value)
    return found.report
