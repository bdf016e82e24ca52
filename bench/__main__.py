"""``python -m bench``: which cases, which proxies, how long, and where the figures go."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import sys
from pathlib import Path

from bench import report
from bench.cases import CASES, DEFAULT, Case, Options, missing_load
from bench.machine import Cores
from bench.processes import BenchError, workplace
from bench.proxies import EXTRAS, USUAL, Contender, stickyproxy
from bench.run import Bench, Outcome
from bench.targets import OURS

#: A proxy's memory must not follow the size of what passes through it: MiB that it may grow by in the case ``memory``.
GROWTH_LIMIT = 16.0


def size(text: str) -> int:
    """``2GiB``, ``64MiB`` or bytes."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * factor)
    return int(text)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m bench", description="Reverse proxies side by side: CPU time for each request."
    )
    parser.add_argument("--case", action="append", choices=CASES, help=f"repeatable; default: {', '.join(DEFAULT)}")
    parser.add_argument("--all", action="store_true", help="every case")
    parser.add_argument("--only", action="append", metavar="PROXY", help="measure this one alone; repeatable")
    parser.add_argument("--reactor", action="append", default=[], help="measure stickyproxy on it too; repeatable")
    parser.add_argument(
        "--with",
        action="append",
        default=[],
        choices=EXTRAS,
        dest="extras",
        help="measure stickyproxy with it too; repeatable",
    )
    parser.add_argument("--runs", type=int, default=Options().runs, help="measurements of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=Options().seconds, help="of each one (default: %(default)s)")
    parser.add_argument("--size", type=size, default=Options().size, help="of a body in the case memory (default 2GiB)")
    parser.add_argument("--rate", type=size, default=Options().rate, help="of the slow peer, a second (default 64MiB)")
    parser.add_argument("--idle", type=int, default=Options().idle, help="idle connections (default: %(default)s)")
    parser.add_argument("--rps", type=float, help="of the case latency (default: half of what saturates nginx)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of Markdown")
    parser.add_argument("--write", type=Path, metavar="FILE", help="also put the tables into this document")
    return parser


def contenders(chosen: argparse.Namespace) -> list[Contender]:
    """Who is measured, of all that can be: those that ``--only`` names, or all."""
    asked = [*USUAL, *(stickyproxy(reactor) for reactor in chosen.reactor)]
    asked += [stickyproxy(extra=extra) for extra in chosen.extras]
    names = {one.name for one in asked}
    if unknown := set(chosen.only or ()) - names:
        raise BenchError(f"No such proxy: {', '.join(sorted(unknown))}. There are: {', '.join(sorted(names))}")
    return [one for one in asked if not chosen.only or one.name in chosen.only]


def cases(chosen: argparse.Namespace) -> list[Case]:
    """What is measured."""
    names = list(CASES) if chosen.all else chosen.case or DEFAULT
    return [case for name in names for case in CASES[name]]


def let_open_files() -> None:
    """As many files as are allowed to us: thousands of connections have an end in each program that we start."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def failures(outcomes: list[Outcome]) -> list[str]:
    """What makes the run fail: a proxy that could not be measured, what ours complained of, its memory growing."""
    found = []
    for outcome in outcomes:
        ours = [row for row in outcome.rows if row.name.startswith(OURS)]
        found += [f"{outcome.case.title}: {row.problem}" for row in outcome.rows if row.problem]
        found += [f"{outcome.case.title}: {complaint}" for complaint in outcome.complaints]
        if outcome.case.name.startswith("memory"):
            grown = [(row.name, row.median.growth) for row in ours if row.median and row.median.growth >= GROWTH_LIMIT]
            found += [f"{outcome.case.title}: {name} grew by {growth:.1f} MiB" for name, growth in grown]
    return found


def run(chosen: argparse.Namespace) -> int:
    """Measure, print, and say with the exit status whether all went well."""
    if reason := missing_load():
        raise BenchError(f"The bench needs nginx and wrk: {reason}")
    taking_part = contenders(chosen)
    if chosen.write and report.BEGIN not in chosen.write.read_text():
        raise BenchError(f"{chosen.write} has no line {report.BEGIN}")
    options = Options(chosen.seconds, chosen.runs, chosen.size, chosen.rate, chosen.idle, chosen.rps)
    let_open_files()
    cores = Cores.share(os.sched_getaffinity(0))
    if cores.proxy == cores.load:
        print("Only one core: proxy, backend and load share it, so CPU figures suffer from each other", file=sys.stderr)
    os.sched_setaffinity(0, cores.load)
    outcomes = []
    with workplace() as programs:
        bench = Bench(programs, options, cores, pacer=USUAL[0])
        for case in cases(chosen):
            ours = case.ours and not chosen.only
            those = [one for one in taking_part if one.name.startswith(OURS)] if ours else taking_part
            outcomes.append(bench.run(case, those))
    seen = {row.name for outcome in outcomes for row in outcome.rows}
    versions = {
        one.name: " on ".join([one.version(), *([bench.reactors[one.name]] if one.name in bench.reactors else [])])
        for one in taking_part
        if one.name in seen
    }
    today = datetime.date.today()
    text = report.document(outcomes, options, versions, today)
    print(json.dumps(report.as_json(outcomes, options, versions, today), indent=2) if chosen.json else text)
    if chosen.write:
        report.write_section(chosen.write, text)
    for failure in (found := failures(outcomes)):
        print(failure, file=sys.stderr)
    return 1 if found else 0


def main() -> int:
    """The command. 0: all well; 1: something failed; 130: interrupted."""
    try:
        return run(_arguments().parse_args())
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
