"""What runs, told; backends changed, and the configuration loaded again. Floor 7."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from stickyproxy.command.answers import Answer, Failure, Status, columns, moment
from stickyproxy.command.instance import instance_of, path_of

TITLES = ("CLUSTER", "BACKEND", "STATUS", "WEIGHT", "ACTIVE", "QUEUED", "SESSIONS", "SINCE", "WHY")


def status(chosen: Namespace) -> Answer:
    """All that ``GET /api/snapshot`` has; for people its clusters and backends."""
    snapshot = instance_of(chosen).ask("GET", "/api/snapshot", "clusters")
    head = f"stickyproxy {snapshot['version']} since {moment(snapshot['started'])}: {snapshot['configuration']}"
    rows = [(*row[:-2], moment(row[-2]), row[-1]) for row in rows_of(snapshot)]
    return Answer(snapshot, [head, *columns([TITLES, *rows])])


def rows_of(snapshot: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """A row for each backend, as ``TITLES`` has them; SINCE in seconds since the epoch."""
    for name, cluster in snapshot["clusters"].items():
        for id, backend in cluster["backends"].items():
            limit = "" if backend["limit"] is None else f"/{backend['limit']}"
            yield (
                *(name, id, backend["status"], backend["weight"], f"{backend['active']}{limit}", backend["queued"]),
                *("-" if backend["sessions"] is None else backend["sessions"], backend["since"], backend["why"]),
            )


def reload(chosen: Namespace) -> Answer:
    """Answers when the new configuration serves."""
    answer = instance_of(chosen).ask("POST", "/api/reload", "changes")
    count = len(answer["changes"])
    return Answer(answer, [*answer["changes"], f"loaded, {count} change{'' if count == 1 else 's'}"])


def change(chosen: Namespace) -> Answer:
    wanted = {key: value for key in ("state", "weight") if (value := getattr(chosen, key)) is not None}
    if not wanted:
        raise Failure("say what to set: --state, --weight or both", Status.WORDS)
    return _change(chosen, wanted)


def up(chosen: Namespace) -> Answer:
    return _change(chosen, {"state": "up"})


def _change(chosen: Namespace, wanted: dict[str, Any]) -> Answer:
    path = path_of("clusters", chosen.cluster, "backends", chosen.backend)
    backend = instance_of(chosen).ask("PUT", path, "state", wanted)
    line = f"backend {chosen.backend} of {chosen.cluster}: {backend['state']}, weight {backend['weight']}"
    differs = ", ".join(f"{key} {value}" for key, value in backend["file"].items())
    return Answer(backend, [f"{line} (the configuration says {differs})" if differs else line])
