"""What several processes say, as one."""

from __future__ import annotations

from typing import Any

from stickyproxy.control.merging import merge_drains, merge_explanations, merge_plans, merge_snapshots


def _snapshot(pid: int, connections: int, active: int, **backend: Any) -> dict[str, Any]:
    return {
        "processes": [pid],
        "started": pid,
        "frontends": {"web": {"connections": connections, "websockets": 1, "listen": ["tcp:1"]}},
        "clusters": {
            "app": {
                "sessions": 9,
                "backends": {"a": {"active": active, "idle_connections": 2, "durations": [1, active], **backend}},
            }
        },
        "certificates": [],
    }


def test_counts_are_added_and_the_rest_is_the_parents() -> None:
    """Connections of all workers; the state that the parent knows; a worker that has just begun may know less."""
    parent = _snapshot(1, 0, 0, why="it answers 404")
    workers = [_snapshot(2, 3, 1, why="it takes new clients"), _snapshot(3, 4, 2), {"processes": [4], "clusters": {}}]
    merged = merge_snapshots(parent, workers)
    assert merged["processes"] == [1, 2, 3, 4]
    assert merged["started"] == 1
    assert merged["frontends"] == {"web": {"connections": 7, "websockets": 3, "listen": ["tcp:1"]}}
    assert merged["clusters"]["app"]["sessions"] == 9
    backend = {"active": 3, "idle_connections": 6, "durations": [3, 3], "why": "it answers 404"}
    assert merged["clusters"]["app"]["backends"]["a"] == backend
    assert parent == _snapshot(1, 0, 0, why="it answers 404")


def test_what_happened_in_any_process() -> None:
    """Clients who lost their backend in any of the workers, the last ones first, and as many as one would tell."""
    told = [{"breaks": [{"when": when, "client": str(when)} for when in times]} for times in ((), (9, 4), (7, 2, 1))]
    merged = merge_snapshots(
        {"processes": [1], "clusters": {"app": told[0]}},
        [{"processes": [2], "clusters": {"app": each}} for each in told[1:]],
    )
    assert [each["when"] for each in merged["clusters"]["app"]["breaks"]] == [9, 7, 4]


def test_a_drain_is_as_far_as_its_last_worker() -> None:
    """What is left, told and cut is added; it has ended when it has everywhere; the parent counts the sessions."""
    parent = {"id": "x", "stage": "done", "sessions": 7, "sockets": 5, "told": 0, "cut": 0, "ended": True}
    done = {**parent, "sessions": 3, "sockets": 0, "told": 2}
    closing = {**parent, "stage": "closing", "sockets": 5, "told": 4, "ended": False}
    cut = {**parent, "stage": "cut", "sockets": 0, "cut": 1}
    assert merge_drains(parent, []) == parent
    assert merge_drains(parent, [done, closing]) == {**closing, "told": 6}
    assert merge_drains(parent, [done, cut]) == {**cut, "told": 2}
    cancelled = {**parent, "stage": "cancelled"}
    assert merge_drains(cancelled, [done, done])["stage"] == "cancelled"
    assert merge_drains(cancelled, [done, closing])["stage"] == "closing"


def test_a_plan_counts_what_is_open_in_the_workers() -> None:
    """A backend that goes away has the requests and tunnels of all workers, a frontend their connections."""

    def told(requests: int, tunnels: int, sessions: int | None, connections: int) -> dict[str, Any]:
        backend = {"cluster": "app", "id": "a", "requests": requests, "tunnels": tunnels, "sessions": sessions}
        return {"changes": ["x"], "backends": [backend], "frontends": [{"name": "web", "connections": connections}]}

    assert merge_plans(told(0, 0, 9, 0), [told(1, 2, 5, 4), told(10, 20, 5, 40)]) == told(11, 22, 9, 44)
    assert merge_plans(told(0, 0, 9, 0), []) == told(0, 0, 9, 0)


def test_workers_that_would_choose_differently() -> None:
    """What most of them would do is the answer, and that others would not is said."""
    a, b = ({"backend": id, "why": ["route", f"served by {id}: least"]} for id in "ab")
    assert merge_explanations([b, b]) == b
    merged = merge_explanations([b, a, a])
    told = "served by a or b: least; each worker chooses by its own counts (a by 2, b by 1)"
    assert (merged["backend"], merged["why"]) == ("a", ["route", told])
