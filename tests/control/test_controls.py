"""What an operator sees of a proxy in this process, and changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from controls_scene import TABLES, Scene

from stickyproxy.control.refusal import Refusal
from stickyproxy.model import Arrival
from stickyproxy.sansio.health import Thresholds


def change(scene: Scene, cluster: str, backend: str, wanted: dict[str, Any]) -> dict[str, Any]:
    return scene.result(scene.controls.change_backend(cluster, backend, wanted, "test"))


def test_everything_is_seen() -> None:
    """Frontends, routes, clusters and every one of 150 backends are in the snapshot."""
    many = {f"n{number}": f"unix:/{number}" for number in range(150)}
    scene = Scene(tables=TABLES | {"cluster": {**TABLES["cluster"], "api": {"probe": "tcp", "backends": many}}})
    seen = scene.snapshot()
    assert seen["frontends"]["web"]["routes"] == [{"host": None, "path": "/api/", "cluster": "api"}]
    assert seen["clusters"]["app"]["affinity"] == [{"name": "source", "kept_by": "table"}]
    assert seen["clusters"]["app"]["frontends"] == seen["clusters"]["api"]["frontends"] == ["web"]
    assert len(seen["clusters"]["api"]["backends"]) == 150
    assert seen["clusters"]["app"]["backends"]["b"] | {"since": 0} == {
        "endpoint": "tcp:127.0.0.1:2",
        "state": "up",
        "weight": 3,
        "file": {},
        "status": "up",
        "why": "it takes new clients",
        "since": 0,
        "ejected_until": None,
        "backup": False,
        "active": 0,
        "tunnels": 0,
        "requests": 0,
        "errors": 0,
        "durations": [0] * 16,
        "limit": None,
        "queued": 0,
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
    changed = change(scene, "app", "b", {"state": "drain", "weight": 7})
    assert changed == scene.snapshot()["clusters"]["app"]["backends"]["b"] | {"since": changed["since"]}
    assert changed["file"] == {"state": "up", "weight": 3}
    assert changed["status"] == "drain"
    choice = scene.proxy.clusters["app"].select(Arrival("192.0.2.1", False))
    assert choice.candidate.id == "a"  # type: ignore[union-attr]
    change(scene, "app", "b", {"state": "up", "weight": 3})
    assert scene.snapshot()["clusters"]["app"]["backends"]["b"]["file"] == {}


@pytest.mark.parametrize(
    ("cluster", "backend", "wanted", "kind"),
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
    scene: Scene, cluster: str, backend: str, wanted: dict[str, Any], kind: str
) -> None:
    """Unknown names and wrong values are refused, and nothing is changed by the right half of them."""
    before = scene.snapshot()["clusters"]
    with pytest.raises(Refusal) as refused:
        change(scene, cluster, backend, wanted)
    assert refused.value.kind == kind
    again = Refusal(**json.loads(json.dumps(refused.value.to_json())))
    assert again.to_json() == refused.value.to_json()
    after = scene.snapshot()["clusters"]
    for each in (before, after):
        each["app"]["backends"]["a"].pop("since")
    assert after["app"]["backends"]["a"] == before["app"]["backends"]["a"]
