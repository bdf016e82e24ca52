"""What a new file would do to what runs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import MemoryReactorClock

from stickyproxy.config import from_tables
from stickyproxy.control.planning import lines, moved_share, plan
from stickyproxy.extensions import find_extensions
from stickyproxy.model import Backend
from stickyproxy.sansio.affinity.hashed import HashAffinity
from stickyproxy.sansio.keys import find_key
from stickyproxy.service import build
from stickyproxy.testing import make_arrival

EXTENSIONS = find_extensions()
TABLES: dict[str, Any] = {
    "frontend": {"web": {"listen": "tcp:8080", "cluster": "app"}, "old": {"listen": "tcp:8081", "cluster": "app"}},
    "cluster": {"app": {"affinity": "source", "backends": {"a": "tcp:127.0.0.1:9001", "b": "tcp:127.0.0.1:9002"}}},
}


def test_sockets_and_sessions_that_would_move() -> None:
    """Requests, tunnels and sessions of a backend that goes, the connections of a frontend, and endpoints."""
    old = from_tables(TABLES, EXTENSIONS)
    proxy = build(old, MemoryReactorClock(), EXTENSIONS)
    cluster = proxy.clusters["app"]
    for number in range(10):
        cluster.affinity.bind(make_arrival(number), "b" if number < 3 else "a")
    member = cluster.members["b"]
    member.active = 5
    member.tunnels.update(["tunnel", "another"])
    proxy.frontends["old"].factory.connections.add("connection")
    tables = copy.deepcopy(TABLES)
    del tables["frontend"]["old"], tables["cluster"]["app"]["backends"]["b"]
    tables["frontend"]["web"]["listen"] = ["tcp:8080", "tcp:8082"]
    report = plan(old, from_tables(tables, EXTENSIONS), proxy.clusters, proxy.frontends)
    assert report["backends"] == [
        {"cluster": "app", "id": "b", "on_removal": "keep", "requests": 3, "tunnels": 2, "sessions": 3}
    ]
    assert report["frontends"] == [{"name": "old", "on_removal": "keep", "connections": 1}]
    assert (report["listen"], report["unlisten"]) == (["tcp:8082"], ["tcp:8081"])
    assert lines(report) == [
        "frontend.old removed (tcp:8081)",
        "frontend.web.listen tcp:8080 → tcp:8080, tcp:8082",
        "cluster.app.backends.b removed (tcp:127.0.0.1:9002)",
        "backend b of app goes: 3 requests and 2 tunnels are open (on_removal: keep), 3 sessions to be bound anew",
        "frontend old goes: 1 connections are open (on_removal: keep)",
    ]
    assert lines(plan(old, old, proxy.clusters, proxy.frontends)) == ["nothing would change"]


WEIGHTS = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 5), min_size=1)


@given(WEIGHTS, WEIGHTS)
def test_the_share_that_a_hash_moves(old: dict[str, int], new: dict[str, int]) -> None:
    """What the plan says is what happens to 2,000 clients."""

    def homes(weights: dict[str, int]) -> list[str | None]:
        affinity = HashAffinity(find_key("source"))
        affinity.members(weights)
        affinity.weights(weights)
        return [affinity.recall(make_arrival(number)) for number in range(2000)]  # type: ignore[misc]

    moved = sum(before != after for before, after in zip(homes(old), homes(new), strict=True)) / 2000
    said = moved_share(
        [Backend(id, "", weight) for id, weight in old.items()], [Backend(id, "", weight) for id, weight in new.items()]
    )
    assert said == pytest.approx(moved, abs=0.06)
