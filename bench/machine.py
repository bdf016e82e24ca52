"""What the kernel knows of processes and of this machine: CPU time, memory, cores. proc(5)."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Stat(NamedTuple):
    """One line of ``/proc/PID/stat``. ``cpu`` in seconds: user and system, with that of children waited for."""

    parent: int
    cpu: float


def parse_stat(line: str) -> Stat:
    """The fields of interest, counted from the end of the command's name, which may hold blanks and brackets."""
    fields = line[line.rindex(")") + 2 :].split()
    return Stat(int(fields[1]), sum(map(int, fields[11:15])) * _TICK)


def _stats() -> Iterator[tuple[int, Stat]]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), parse_stat((entry / "stat").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue


def tree(pid: int) -> dict[int, Stat]:
    """The process and all that descend from it."""
    stats = dict(_stats())
    found = {pid: stats[pid]}
    grown = True
    while grown:
        more = {one: stat for one, stat in stats.items() if stat.parent in found and one not in found}
        found |= more
        grown = bool(more)
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time that the process and its descendants have used, in seconds; exact to a clock tick (10 ms) each."""
    return sum(stat.cpu for stat in tree(pid).values())


def resident(pids: list[int]) -> int:
    """Resident memory of all of ``pids`` together, in bytes."""
    return sum(int((_PROC / str(pid) / "statm").read_text().split()[1]) * _PAGE for pid in pids)


class Cores(NamedTuple):
    """Who runs where: the proxy alone on one core, backends and load on the others."""

    proxy: frozenset[int]
    load: frozenset[int]

    @classmethod
    def share(cls, available: set[int]) -> Cores:
        """The last core is the proxy's. With a single core everything shares it (and figures are worth little)."""
        *rest, last = sorted(available)
        return cls(frozenset({last}), frozenset(rest or {last}))


def describe() -> str:
    """One line on this machine that names nobody: CPU model, cores, kernel, Python."""
    model = re.search(r"^model name\s*:\s*(.+)$", (_PROC / "cpuinfo").read_text(), re.MULTILINE)
    name = re.sub(r"\((R|TM)\)", "", model[1]) if model else platform.machine()
    cores = os.cpu_count()
    kernel = platform.release().split("-")[0]
    return f"{name}, {cores} cores, Linux {kernel}, {platform.python_implementation()} {platform.python_version()}"
