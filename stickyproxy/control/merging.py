"""What several processes say, as if one had said it. Floor 5, pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: What is counted in each process for itself. All else of a snapshot is the same in all, and the parent knows it best.
ADDED = frozenset(
    {"connections", "websockets", "active", "idle_connections", "tunnels", "queued", "requests", "errors", "durations"}
)

#: Lists of what happened, each in one process; the newest of them all are told.
JOINED = frozenset({"breaks"})


def merge_snapshots(parent: dict[str, Any], workers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One ``snapshot`` of the parent's and its workers': what is counted is added, and all ``processes`` are there."""
    merged: dict[str, Any] = _added(parent, workers)
    return {**merged, "processes": [pid for each in (parent, *workers) for pid in each["processes"]]}


def _added(value: Any, others: Sequence[Any]) -> Any:
    if not isinstance(value, dict):
        return value
    merged = {}
    for key, item in value.items():
        found = [other[key] for other in others if isinstance(other, dict) and key in other]
        if key in JOINED:
            joined = [each for events in (item, *found) for each in events]
            merged[key] = sorted(joined, key=lambda each: -each["when"])[: max(map(len, (item, *found)))]
        elif key not in ADDED or isinstance(item, dict):
            merged[key] = _added(item, found)
        elif isinstance(item, list):
            merged[key] = [sum(column) for column in zip(item, *found, strict=True)]
        else:
            merged[key] = sum(found, item)
    return merged


def merge_drains(parent: dict[str, Any], workers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One report of a drain: it has ended when it has in all, and is as far as the last; the parent knows the sessions.

    In the parent nobody is served, so that its drain ends early: it counts where there is no other.
    """
    if not workers:
        return parent
    last = next((each for each in workers if not each["ended"]), None) or next(
        (each for each in workers if each["stage"] == "cut"), workers[0]
    )
    added = {key: sum(each[key] for each in (parent, *workers)) for key in ("sockets", "told", "cut")}
    return {**last, **added, "sessions": parent["sessions"], "ended": all(each["ended"] for each in workers)}
