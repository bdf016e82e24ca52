"""What metrics count, as the dashboard reads it."""

from __future__ import annotations

import json

from stickyproxy.control.figures import figures
from stickyproxy.control.metrics.families import FAMILIES

BUCKETS = len(FAMILIES["stickyproxy_request_duration_seconds"].bounds) + 1


def test_sums() -> None:
    """Each request counts for its frontend, cluster and backend; what nobody served counts where it came in."""
    served = {("web", "app", "a", "2xx"): 7, ("web", "app", "a", "5xx"): 2, ("web", "app", "b", "2xx"): 1}
    unserved = {("web", "app", "", "5xx"): 3, ("web", "", "", "4xx"): 4, ("other", "app", "b", "2xx"): 5}
    seconds = [*range(BUCKETS), 0.5]
    found = figures(
        [
            FAMILIES["stickyproxy_requests_total"].told((served | unserved).items()),
            FAMILIES["stickyproxy_request_duration_seconds"].told([(("app",), seconds), (("",), seconds)]),
            FAMILIES["stickyproxy_websockets"].told([(("web", "app", "a"), 2), (("other", "app", "a"), 1)]),
            FAMILIES["stickyproxy_sticky_broken_total"].told([(("app", "down"), 3)]),
            FAMILIES["stickyproxy_reactor_lag_seconds"].told([((), 0.25)]),
        ]
    )
    app = found["clusters"]["app"]
    assert (app["requests"], app["errors"], app["seconds"], app["broken"]) == (18, 5, seconds[:-1], {"down": 3})
    a, b = app["backends"]["a"], app["backends"]["b"]
    assert (a["requests"], a["errors"], a["websockets"], b["requests"], b["errors"]) == (9, 2, 3, 6, 0)
    assert {name: each["requests"] for name, each in found["frontends"].items()} == {"web": 17, "other": 5}
    assert (found["lag"], len(found["bounds"])) == (0.25, BUCKETS - 1)
    assert list(found["clusters"]) == ["app"]


def test_every_family() -> None:
    """Whatever there is, even without a cluster or a backend, makes figures that are JSON."""
    for label in ("x", ""):
        told = [
            family.told([(tuple(label for _ in family.labels), [1] * (len(family.bounds) + 2) if family.bounds else 1)])
            for family in FAMILIES.values()
        ]
        assert json.loads(json.dumps(figures(told)))["frontends"][label]["connections"] == 1
    assert figures([]) == {"bounds": [], "lag": 0.0, "frontends": {}, "clusters": {}}
