"""What several processes say, as if one had said it. Floor 5, pure."""

from __future__ import annotations

from collections import Counter
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

    Nobody is served in the parent: what it tells of sockets is what it has heard of workers.
    """
    if not workers:
        return parent
    last = next((each for each in workers if not each["ended"]), None) or next(
        (each for each in workers if each["stage"] == "cut"), workers[0]
    )
    added = {key: sum(each[key] for each in workers) for key in ("sockets", "told", "cut")}
    ended = all(each["ended"] for each in workers)
    if ended and parent["stage"] == "cancelled":  # also where a worker had nobody left before that
        last = {**last, "stage": "cancelled"}
    return {**last, **added, "sessions": parent["sessions"], "ended": ended}


def merge_plans(parent: dict[str, Any], workers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One plan: what is open is added; all else is the same in all, and the parent knows the sessions."""

    def added(key: str, *counts: str) -> list[dict[str, Any]]:
        rows = zip(parent[key], *(each[key] for each in workers), strict=True)
        return [{**row[0], **{count: sum(each[count] for each in row) for count in counts}} for row in rows]

    return {
        **parent,
        "backends": added("backends", "requests", "tunnels"),
        "frontends": added("frontends", "connections"),
    }


def merge_explanations(workers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One explanation: where each worker would choose by its own counts another backend, that is told."""
    chosen = Counter(each["backend"] for each in workers)
    first = next(each for each in workers if each["backend"] == chosen.most_common(1)[0][0])
    if len(chosen) == 1:
        return first
    names = " or ".join(backend or "nobody" for backend, _ in chosen.most_common())
    told = ", ".join(f"{backend or 'nobody'} by {count}" for backend, count in chosen.most_common())
    *steps, verdict = first["why"]
    rule = verdict.partition(": ")[2] or verdict
    return {**first, "why": [*steps, f"served by {names}: {rule}; each worker chooses by its own counts ({told})"]}
