"""Runs the cases: starts what they need, measures the contenders in turn, and counts what each has used."""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from bench.cases import Case, Options
from bench.machine import Cores, cpu_seconds, resident, tree
from bench.processes import BenchError, Program, Programs
from bench.proxies import Contender
from bench.scene import Scene, make_certificate

_T = TypeVar("_T")
_MIB = 1024 * 1024
#: Seconds that a load may take beyond what it was asked for, slow starts included.
_PATIENCE = 60.0


class Sample(NamedTuple):
    """One measurement. ``cpu`` and ``rate`` are in the case's units; ``growth`` is MiB of resident memory at its peak.

    ``busy`` is the share of the time that the proxy had its core: well below 1, the others were what limited the rate.
    """

    cpu: float
    rate: float
    errors: int
    growth: float
    busy: float
    p99: float | None = None
    paced: float | None = None

    @classmethod
    def median(cls, samples: Sequence[Sample]) -> Sample:
        """The median of each figure; but all errors together, and the largest growth."""

        def middle(values: Sequence[float | None]) -> float | None:
            known = [value for value in values if value is not None]
            return statistics.median(known) if known else None

        return cls(
            statistics.median(sample.cpu for sample in samples),
            statistics.median(sample.rate for sample in samples),
            sum(sample.errors for sample in samples),
            max(sample.growth for sample in samples),
            statistics.median(sample.busy for sample in samples),
            middle([sample.p99 for sample in samples]),
            middle([sample.paced for sample in samples]),
        )


class Row(NamedTuple):
    """A contender's result: every sample and their median, or else what went wrong."""

    name: str
    samples: tuple[Sample, ...]
    problem: str | None = None

    @property
    def median(self) -> Sample | None:
        return Sample.median(self.samples) if self.samples and not self.problem else None


class Outcome(NamedTuple):
    """A case's rows, in the contenders' order; ``absent`` says who did not take part, and why."""

    case: Case
    rows: tuple[Row, ...]
    absent: tuple[str, ...] = ()

    def ratio(self, row: Row) -> float | None:
        """Its CPU to the first's (nginx's, where that was found)."""
        first = self.rows[0].median
        return row.median.cpu / first.cpu if row.median and first and first.cpu else None


class _Running(NamedTuple):
    contender: Contender
    program: Program
    port: int
    cookie: str


def sample_of(case: Case, cpu: float, growth: float, figures: dict[str, float]) -> Sample:
    """CPU seconds, bytes of growth and what the load has reported, in the case's units."""
    requests, rate = figures["requests"], figures["rate"]
    if requests <= 0:
        raise BenchError(f"served nothing: {figures}")
    return Sample(
        cpu=cpu * case.scale / requests,
        rate=rate * case.rate_scale,
        errors=int(figures["errors"]),
        growth=growth / _MIB,
        busy=cpu * rate / requests,
        p99=figures.get("p99_ms"),
        paced=figures.get("paced"),
    )


class Bench:
    """One run of the bench in a workplace of its own."""

    def __init__(self, programs: Programs, options: Options, cores: Cores) -> None:
        self._programs = programs
        self._options = options
        self._cores = cores
        self._certificate = make_certificate(programs.directory / "certificate.pem")

    def run(self, case: Case, contenders: Sequence[Contender]) -> Outcome:
        """Measure everybody who can take part. Who fails is left out from there on, and has a row that says so."""
        directory = self._programs.directory / case.name
        directory.mkdir()
        absent = {one.name: reason for one in contenders if (reason := one.missing(case.mode))}
        present = [one for one in contenders if one.name not in absent]
        samples: dict[str, list[Sample]] = {one.name: [] for one in present}
        problems: dict[str, str] = {}
        runs = 1 if case.once else self._options.runs
        with Programs(directory) as programs:
            running = self._start_all(programs, case, present, problems)
            for turn in range(runs):
                for one in rotated(running, turn):
                    name = one.contender.name
                    if name in problems:
                        continue
                    try:
                        samples[name].append(self._measure(programs, case, one))
                    except BenchError as error:
                        problems[name] = str(error)
                    _tell(f"{case.title}, {turn + 1} of {runs}: {name}")
        rows = tuple(Row(name, tuple(samples[name]), problems.get(name)) for name in samples)
        return Outcome(case, rows, tuple(f"{name}: {reason}" for name, reason in absent.items()))

    def _start_all(
        self, programs: Programs, case: Case, contenders: Sequence[Contender], problems: dict[str, str]
    ) -> list[_Running]:
        """The backend, and all proxies before it; who does not start is noted in ``problems``."""
        ports = (programs.port(), programs.port())
        backend = programs.start("backend", case.backend(programs.directory, ports, self._options), self._cores.load)
        for port in ports:
            backend.listening(port)
        running: list[_Running] = []
        for contender in contenders:
            try:
                running.append(self._start(programs, case, contender, ports))
            except (BenchError, OSError) as error:
                problems[contender.name] = str(error)
        return running

    def _start(self, programs: Programs, case: Case, contender: Contender, backends: tuple[int, int]) -> _Running:
        directory = programs.directory / contender.name.replace(" ", "-")
        directory.mkdir()
        scene = Scene(case.mode, directory, programs.port(), backends, self._certificate)
        program = programs.start(contender.name, contender.command(scene), self._cores.proxy)
        program.listening(scene.port)
        try:
            cookie = case.learn(scene.port, contender.sticky)
        except (BenchError, OSError) as error:
            raise program.failed(str(error)) from error
        return _Running(contender, program, scene.port, cookie)

    def _measure(self, programs: Programs, case: Case, one: _Running) -> Sample:
        """CPU from the load's "ready" to its end; memory from before its first byte."""
        pids = list(tree(one.program.pid))
        before = peak = resident(pids)
        command = case.load(one.port, one.cookie, self._options)
        load = programs.start(f"load of {one.contender.name}", command, self._cores.load, talks=True)
        load.line("ready")
        begun = cpu_seconds(one.program.pid)

        def sample() -> None:
            nonlocal peak
            if not one.program.running:
                raise one.program.failed("ended under load")
            peak = max(peak, resident(pids))

        try:
            load.wait(time.monotonic() + self._expected() + _PATIENCE, sample)
            used = cpu_seconds(one.program.pid) - begun
            return sample_of(case, used, peak - before, json.loads(load.line("{")))
        finally:
            load.stop()

    def _expected(self) -> float:
        return max(self._options.seconds, math.ceil(self._options.size / self._options.rate))


def rotated(items: Sequence[_T], turn: int) -> list[_T]:
    """``items``, beginning with another one each turn, so that none is always first."""
    start = turn % len(items) if items else 0
    return [*items[start:], *items[:start]]


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
