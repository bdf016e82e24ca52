"""What stickyproxy sets out to reach, beside what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from bench.run import Outcome, Row

OURS = "stickyproxy"


class Target(NamedTuple):
    """At most ``limit``: times nginx's figure in the same case, or in KiB where it is not ``relative``."""

    case: str
    title: str
    limit: float
    relative: bool = True

    def text(self, value: float) -> str:
        return f"{value:.2f} ×" if self.relative else f"{value:.1f} KiB"

    def cell(self, outcome: Outcome, row: Row | None) -> str:
        """The figure and whether it is within the limit; a dash where it was not measured."""
        if row is None or (self.relative and outcome.rows[0].name.startswith(OURS)):
            return "–"
        if (value := outcome.ratio(row) if self.relative else outcome.figure(row)) is None:
            return "–"
        return f"{self.text(value)}, {'met' if value <= self.limit else '**not met**'}"


TARGETS = (
    Target("http", "HTTP: CPU per request", 1.7),
    Target("https", "HTTPS: CPU per request", 2.0),
    Target("tcp", "TCP relay: CPU per round trip", 1.15),
    Target("websocket", "WebSocket message of 64 bytes: CPU", 1.15),
    Target("websocket-16k", "WebSocket message of 16 KiB: CPU", 1.15),
    Target("download", "100 MiB body down, HTTP: CPU per GB", 1.0),
    Target("upload", "100 MiB body up, HTTP: CPU per GB", 1.0),
    Target("tcp-download", "100 MiB body down, TCP: CPU per GB", 1.0),
    Target("tcp-upload", "100 MiB body up, TCP: CPU per GB", 1.0),
    Target("idle-websocket", "Idle WebSocket: memory of the process", 8.0, relative=False),
    Target("latency", "p99 at half of nginx's saturation load", 2.0),
)


def table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown section with the targets whose cases were measured; empty if there are none."""
    by_case = {outcome.case.name: outcome for outcome in outcomes}
    wanted = [target for target in TARGETS if target.case in by_case]
    rows = {one: {row.name: row for row in outcome.rows} for one, outcome in by_case.items()}
    names = list(dict.fromkeys(name for target in wanted for name in rows[target.case] if name.startswith(OURS)))
    if not names:
        return ""
    lines = [
        "### Targets",
        "",
        f"| × is nginx's figure in the same run | at most | {' | '.join(names)} |",
        "|---" + "|--:" * (len(names) + 1) + "|",
    ]
    for target in wanted:
        outcome = by_case[target.case]
        cells = [target.cell(outcome, rows[target.case].get(name)) for name in names]
        lines.append(f"| {target.title} | {target.text(target.limit)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
