"""How many cores this process may use: those that it may run on, and as many as its control group pays for. Floor 5."""

from __future__ import annotations

import os
from math import ceil
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def worker_count(workers: int | str) -> int:
    """As many as ``process.workers`` says: ``"auto"`` is one for each core."""
    return workers if isinstance(workers, int) else cores()


def cores() -> int:
    """At least 1. A quota of 1.5 cores is 2."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = quota_of(_read(Path("/proc/self/cgroup")), _GROUPS)
    return max(1, min(usable, ceil(quota) if quota is not None else usable))


def quota_of(membership: str, groups: Path) -> float | None:
    """The smallest quota of the control group in ``membership`` (``/proc/self/cgroup``) and those above it, in cores.

    ``groups``: where they are seen. Version 2 (``cpu.max``) and version 1 (``cpu.cfs_quota_us``); None: there is none.
    In a container the own group is often at the root of what is seen, whatever its path says.
    """
    found: list[float] = []
    for line in membership.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = groups / controllers if controllers else groups
        below = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(below) + 1):
            group = root.joinpath(*below[:depth])
            if controllers:
                limit = (_read(group / "cpu.cfs_quota_us") or "-1", _read(group / "cpu.cfs_period_us") or "100000")
            else:
                limit = tuple(_read(group / "cpu.max").split() or ("max", "100000"))  # type: ignore[assignment]
            quota, period = limit
            if quota.strip().isdigit() and int(period) > 0:
                found.append(int(quota) / int(period))
    return min(found, default=None)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
