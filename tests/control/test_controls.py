"""What an operator sees of a proxy in this process, and changes."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stickyproxy.config import from_tables
from stickyproxy.control.controls import LocalControls
from stickyproxy.control.refusal import Refusal
from stickyproxy.extensions import find_extensions
from stickyproxy.model import Arrival
from stickyproxy.sansio.health import Thresholds
from stickyproxy.service import Proxy, build

T = TypeVar("T")
TABLES: dict[str, Any] = {
    "frontend": {
        "web": {"listen": "tcp:0", "cluster": "app", "routes": [{"path": "/api/", "cluster": "api"}]},
    },
    "cluster": {
        "app": {
            "affinity": "source",
            "eject": {"failures": 1, "time": "10s"},
            "backends": {"a": "tcp:127.0.0.1:1", "b": {"endpoint": "tcp:127.0.0.1:2", "weight": 3}},
        },
        "api": {"probe": "tcp", "backends": {f"n{number}": f"tcp:127.0.0.1:{number + 1}" for number in range(300)}},
    },
}


def result(awaitable: Awaitable[T], clock: Clock) -> T:
    """What a coroutine of the controls gives, time passing."""
    got: list[Any] = []
    deferred = Deferred.fromCoroutine(awaitable)  # type: ignore[arg-type]
    deferred.addBoth(got.append)
    for _ in range(1000):
        if got:
            break
        clock.advance(0)
    if hasattr(got[0], "raiseException"):
        got[0].raiseException()
    answer: T = got[0]
    return answer


class Scene:
    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.proxy: Proxy = build(from_tables(TABLES, find_extensions()), self.clock, find_extensions())
        self.controls = LocalControls(self.proxy, self.clock)

    def snapshot(self) -> dict[str, Any]:
        """As it comes out of JSON."""
        answer: dict[str, Any] = json.loads(json.dumps(result(self.controls.snapshot(), self.clock)))
        return answer

    def backend(self, cluster: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.snapshot()["clusters"][cluster]["backends"][name]
        return found

    def change(self, cluster: str, backend: str, change: dict[str, Any]) -> dict[str, Any]:
        return result(self.controls.change_backend(cluster, backend, change, "test"), self.clock)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_everything_is_seen(scene: Scene) -> None:
    """Frontends, routes, clusters and every one of 300 backends are in the snapshot."""
    seen = scene.snapshot()
    assert seen["frontends"]["web"]["routes"] == [{"host": None, "path": "/api/", "cluster": "api"}]
    assert seen["clusters"]["app"]["affinity"] == ["source"]
    assert seen["clusters"]["app"]["frontends"] == seen["clusters"]["api"]["frontends"] == ["web"]
    assert len(seen["clusters"]["api"]["backends"]) == 300
    assert seen["clusters"]["app"]["backends"]["b"] | {"since": 0} == {
        "endpoint": "tcp:127.0.0.1:2",
        "state": "up",
        "weight": 3,
        "file": {},
        "status": "up",
        "why": "it takes new clients",
        "since": 0,
        "ejected_until": None,
        "active": 0,
        "idle_connections": 0,
        "sessions": 0,
    }
    assert seen["clusters"]["api"]["sessions"] is None  # none are kept
    assert seen["clusters"]["api"]["backends"]["n0"]["status"] == "unknown"


def test_who_is_not_well_is_told_with_the_reason(scene: Scene) -> None:
    """Down by a probe, or ejected: since when, why, and until when."""
    down = scene.proxy.clusters["api"].members["n7"]
    ejected = scene.proxy.clusters["app"].members["a"]
    assert down.health is not None and ejected.health is not None
    down.health.probe_ended("it answers 404", Thresholds(1, 1))
    ejected.health.unreached("Connection refused")
    scene.clock.advance(4)
    seen = scene.snapshot()
    assert seen["clusters"]["api"]["backends"]["n7"]["why"] == "it answers 404"
    one = seen["clusters"]["app"]["backends"]["a"]
    assert (one["status"], one["why"]) == ("ejected", "Connection refused")
    assert round(one["ejected_until"] - seen["now"]) == 6
    assert round(seen["now"] - one["since"]) == 4


def test_a_backend_is_changed(scene: Scene) -> None:
    """State and weight hold at once, and are shown as differing from the file until they do not."""
    changed = scene.change("app", "b", {"state": "drain", "weight": 7})
    assert changed == scene.backend("app", "b") | {"since": changed["since"]}
    assert changed["file"] == {"state": "up", "weight": 3}
    assert changed["status"] == "drain"
    choice = scene.proxy.clusters["app"].select(Arrival("192.0.2.1", False))
    assert choice.candidate.id == "a"  # type: ignore[union-attr]
    scene.change("app", "b", {"state": "up", "weight": 3})
    assert scene.backend("app", "b")["file"] == {}


@pytest.mark.parametrize(
    ("cluster", "backend", "change", "kind"),
    [
        ("none", "a", {"state": "up"}, "unknown"),
        ("app", "none", {"state": "up"}, "unknown"),
        ("app", "a", {}, "invalid"),
        ("app", "a", {"state": "broken"}, "invalid"),
        ("app", "a", {"state": None}, "invalid"),
        ("app", "a", {"state": ["up"]}, "invalid"),
        ("app", "a", {"weight": True}, "invalid"),
        ("app", "a", {"weight": 257}, "invalid"),
        ("app", "a", {"weight": -1}, "invalid"),
        ("app", "a", {"weight": None}, "invalid"),
        ("app", "a", {"weight": 1, "endpoint": "tcp:1"}, "invalid"),
    ],
)
def test_what_makes_no_sense_changes_nothing(
    scene: Scene, cluster: str, backend: str, change: dict[str, Any], kind: str
) -> None:
    """Unknown names and wrong values are refused, and nothing is changed by the right half of them."""
    before = scene.snapshot()["clusters"]
    with pytest.raises(Refusal) as refused:
        scene.change(cluster, backend, change)
    assert refused.value.kind == kind
    again = Refusal(**json.loads(json.dumps(refused.value.to_json())))
    assert again.to_json() == refused.value.to_json()
    after = scene.snapshot()["clusters"]
    for each in (before, after):
        each["app"]["backends"]["a"].pop("since")
    assert after["app"]["backends"]["a"] == before["app"]["backends"]["a"]
