"""Outcomes as Markdown tables, as JSON, and as the generated section of a document."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import targets
from bench.cases import Options
from bench.machine import describe
from bench.processes import BenchError
from bench.run import Outcome, Row, Sample

BEGIN = "<!-- bench:begin: written by `python -m bench --write`, not by hand -->"
END = "<!-- bench:end -->"
_MIB = 1024 * 1024


class _Column(NamedTuple):
    header: Callable[[Outcome], str]
    cell: Callable[[Outcome, Row, Sample], str]


def number(value: float | None) -> str:
    """Three figures' worth: 0.42, 12.8, 264, 23,100. A dash for None."""
    if value is None:
        return "–"
    if abs(value) < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if abs(value) < 100 else f"{value:,.0f}"


_COLUMNS = {
    "cpu": _Column(lambda outcome: outcome.case.cpu_unit, lambda outcome, row, median: number(median.cpu)),
    "ratio": _Column(
        lambda outcome: f"× {outcome.rows[0].name}", lambda outcome, row, median: number(outcome.ratio(row))
    ),
    "rate": _Column(lambda outcome: outcome.case.rate_unit, lambda outcome, row, median: number(median.rate)),
    "busy": _Column(lambda outcome: "busy", lambda outcome, row, median: f"{median.busy:.0%}"),
    "each": _Column(lambda outcome: "KiB per connection", lambda outcome, row, median: number(median.each)),
    "p50": _Column(lambda outcome: "p50 ms", lambda outcome, row, median: number(median.p50)),
    "strain": _Column(lambda outcome: "load busy", lambda outcome, row, median: f"{median.strain or 0:.0%}"),
    "p99": _Column(lambda outcome: "p99 ms", lambda outcome, row, median: number(median.p99)),
    "growth": _Column(lambda outcome: "memory growth, MiB", lambda outcome, row, median: number(median.growth)),
    "paced": _Column(lambda outcome: "held back", lambda outcome, row, median: f"{median.paced or 0:.0%}"),
    "errors": _Column(lambda outcome: "errors", lambda outcome, row, median: str(median.errors)),
}


def table(outcome: Outcome) -> str:
    """A Markdown section with the case's table; who did not take part, or failed, is said below it."""
    columns = [_COLUMNS[name] for name in outcome.case.columns] if outcome.rows else []
    lines = [
        f"### {outcome.case.title}",
        "",
        "| " + " | ".join(["proxy", *(column.header(outcome) for column in columns)]) + " |",
        "|---" + "|--:" * len(columns) + "|",
    ]
    notes = list(outcome.absent)
    if outcome.rps is not None:
        notes.insert(0, f"{outcome.rps:,.0f} requests a second.")
    for row in outcome.rows:
        if (median := row.median) is None:
            first, *words = (row.problem or "no samples").splitlines()
            notes.append(f"Failed: {first}" + (f" ({words[-1].strip()})" if words else ""))
        else:
            cells = [row.name, *(column.cell(outcome, row, median) for column in columns)]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *(f"\n{note}" for note in notes)]) + "\n"


def document(outcomes: Sequence[Outcome], options: Options, versions: dict[str, str], today: datetime.date) -> str:
    """All tables, with the date, the machine and the versions before them."""
    measured = f"{today.isoformat()}; {describe()}; {', '.join(f'{name} {text}' for name, text in versions.items())}."
    how = []
    if not all(outcome.case.once for outcome in outcomes):
        how.append(f"Median of {options.runs} runs of {options.seconds:g} s each.")
    if any(outcome.case.once for outcome in outcomes):
        how.append(f"Slow peers: {options.size / _MIB:,.0f} MiB once, {options.rate / _MIB:g} MiB a second.")
    sections = [targets.table(outcomes), *(table(outcome) for outcome in outcomes)]
    return "\n".join([measured, *how, "", *filter(None, sections)])


def as_json(
    outcomes: Sequence[Outcome], options: Options, versions: dict[str, str], today: datetime.date
) -> dict[str, Any]:
    """The same for programs, with every sample."""

    def row_of(outcome: Outcome, row: Row) -> dict[str, Any]:
        return {
            "proxy": row.name,
            "median": row.median._asdict() if row.median else None,
            "ratio": outcome.ratio(row),
            "samples": [sample._asdict() for sample in row.samples],
            "problem": row.problem,
        }

    def case_of(outcome: Outcome) -> dict[str, Any]:
        case = outcome.case
        return {
            "case": case.name,
            "title": case.title,
            "compared": case.compared,
            "rps": outcome.rps,
            "cpu_unit": case.cpu_unit,
            "rate_unit": case.rate_unit,
            "absent": list(outcome.absent),
            "complaints": list(outcome.complaints),
            "rows": [row_of(outcome, row) for row in outcome.rows],
        }

    return {
        "date": today.isoformat(),
        "machine": describe(),
        "versions": versions,
        "options": options._asdict(),
        "cases": [case_of(outcome) for outcome in outcomes],
    }


def write_section(path: Path, text: str) -> None:
    """Put ``text`` between the markers of the document. It is an error if it has none."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BenchError(f"{path} has no section for the bench: add the lines\n{BEGIN}\n{END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}")
