"""``stickyproxy top``: clusters and backends as they change, by rich where it is installed. Floor 7."""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from stickyproxy.command.answers import Answer, Failure, Status, columns
from stickyproxy.command.instance import Instance, instance_of
from stickyproxy.command.steering import TITLES, rows_of

if TYPE_CHECKING:
    from rich.table import Table

_TITLES = (*TITLES[:-2], "REQ/S", "ERR/S", "P95", "FOR", "WHY")
_NUMBERS = frozenset(_TITLES[3:-2])
_STYLES = {
    **dict.fromkeys(("up",), "green"),
    **dict.fromkeys(("down", "ejected"), "bold red"),
    **dict.fromkeys(("drain", "full", "starting", "trial"), "yellow"),
}
_Snapshot = dict[str, Any]


def show(chosen: Namespace) -> Answer:
    """Until Ctrl-C; with ``--once`` or ``--json`` one table of one interval."""
    if not 0.1 <= chosen.interval <= 3600:
        raise Failure("--interval: expected 0.1 to 3600 seconds", Status.WORDS)
    instance = instance_of(chosen)
    if chosen.once or chosen.json:
        before = _look(instance)
        time.sleep(chosen.interval)
        now = _look(instance)
        return Answer(reports(before, now), columns([_TITLES, *table_of(before, now)]))
    _live(instance, chosen.interval)
    return Answer(None, [])


def _look(instance: Instance) -> _Snapshot:
    snapshot: _Snapshot = instance.ask("GET", "/api/snapshot", "clusters")
    return snapshot


def reports(before: _Snapshot, now: _Snapshot) -> list[dict[str, Any]]:
    """The report of each backend with its names, its rates since ``before``, and how long 95 of 100 answers took.

    That is the upper end of a bucket in seconds; None: nothing was answered, or it took longer than the last bound.
    """
    seconds = max(now["now"] - before["now"], 1e-3)
    told = []
    for cluster, report in now["clusters"].items():
        for backend, about in report["backends"].items():
            earlier = before["clusters"].get(cluster, {"backends": {}})["backends"].get(backend, about)
            counts = [after - at for after, at in zip(about["durations"], earlier["durations"], strict=False)]
            rates = {
                "requests_per_second": round(max(0, about["requests"] - earlier["requests"]) / seconds, 1),
                "errors_per_second": round(max(0, about["errors"] - earlier["errors"]) / seconds, 1),
                "p95": quantile(counts, now["bounds"], 0.95),
            }
            told.append({"cluster": cluster, "backend": backend, **rates, **about})
    return told


def quantile(counts: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """The upper end of the bucket that a ``share`` of all is in or below."""
    total, seen = sum(counts), 0
    for count, bound in zip(counts, bounds, strict=False):
        seen += count
        if seen and seen >= share * total:
            return bound
    return None


def table_of(before: _Snapshot, now: _Snapshot) -> Iterator[tuple[Any, ...]]:
    """The same as rows for people, as ``_TITLES`` has them."""
    for (*row, since, why), report in zip(rows_of(now), reports(before, now), strict=True):
        p95 = "-" if report["p95"] is None else f"{report['p95'] * 1000:g}ms"
        rates = report["requests_per_second"], report["errors_per_second"], p95
        yield (*row, *rates, _for(now["now"] - since), why)


def _for(seconds: float) -> str:
    """How long, in its largest unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(0.0, seconds):.0f}s"


def _live(instance: Instance, interval: float) -> None:
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        raise Failure(
            'a live table needs rich: pip install "stickyproxy[top]", or --once for a table without it'
        ) from None
    console = Console()
    if not console.is_terminal:
        raise Failure("this is no terminal: --once has one table, --json the same for scripts", Status.WORDS)
    before = now = _look(instance)
    try:
        with Live(_drawn(before, now, instance, None), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                trouble = None
                try:
                    before, now = now, _look(instance)
                except Failure as failure:
                    trouble = str(failure)
                live.update(_drawn(before, now, instance, trouble), refresh=True)
    except KeyboardInterrupt:
        return


def _drawn(before: _Snapshot, now: _Snapshot, instance: Instance, trouble: str | None) -> Table:
    from rich.markup import escape
    from rich.table import Table

    title = f"stickyproxy {now['version']} at {instance.place}, Ctrl-C ends"
    table = Table(title=escape(title), caption=escape(trouble or time.strftime("%X")), box=None, expand=True)
    table.caption_style = "bold red" if trouble else "dim"
    for name in _TITLES:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", no_wrap=name != "WHY")
    for row in table_of(before, now):
        table.add_row(*(escape(str(cell)) for cell in row), style=_STYLES.get(row[2], "dim"))
    return table
