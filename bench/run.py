"""Runs the cases: starts what they need, measures the contenders in turn, and counts what each has used."""

from __future__ import annotations

import json
import math
import re
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from bench.cases import Case, Options, wrk
from bench.machine import Cores, cpu_seconds, resident, tree
from bench.processes import BenchError, Program, Programs
from bench.proxies import Contender
from bench.scene import Scene, make_certificate

_T = TypeVar("_T")
_MIB = 1024 * 1024
_REACTOR = re.compile(r"reactor class: (?:\w+\.)*(\w+)")
_COMPLAINT = re.compile(r"^.*(?:#warn\]|#error\]|#critical\]|Unhandled|Traceback).*$", re.MULTILINE)
#: Seconds that a load may take beyond what it was asked for, slow starts included.
_PATIENCE = 60.0


class Sample(NamedTuple):
    """One measurement. ``cpu`` and ``rate`` are in the case's units; ``growth`` is MiB of resident memory at its peak.

    ``busy`` is the share of the time that the proxy had its core: well below 1, the others were what limited the rate.
    ``each`` is KiB of resident memory for each idle connection, ``p50`` and ``p99`` are ms, ``paced`` is explained in
    ``bench.bulk`` and ``strain`` in ``bench.steady``.
    """

    cpu: float
    rate: float
    errors: int
    growth: float
    busy: float
    p99: float | None = None
    paced: float | None = None
    p50: float | None = None
    each: float | None = None
    strain: float | None = None

    @classmethod
    def median(cls, samples: Sequence[Sample]) -> Sample:
        """The median of each figure; but all errors together, and the largest growth."""
        columns = ([value for value in values if value is not None] for values in zip(*samples, strict=True))
        middle = cls._make(statistics.median(known) if known else None for known in columns)
        return middle._replace(
            errors=sum(sample.errors for sample in samples), growth=max(sample.growth for sample in samples)
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
    """A case's rows, in the contenders' order; ``absent`` says who did not take part, and why. ``rps``: if paced.

    ``complaints`` are warnings and errors that stickyproxy has logged meanwhile.
    """

    case: Case
    rows: tuple[Row, ...]
    absent: tuple[str, ...] = ()
    rps: float | None = None
    complaints: tuple[str, ...] = ()

    def figure(self, row: Row) -> float | None:
        """Its figure that the case compares; None if it has none."""
        return getattr(row.median, self.case.compared, None)

    def ratio(self, row: Row) -> float | None:
        """Its figure to the first's (nginx's, where that was found)."""
        own, first = self.figure(row), self.figure(self.rows[0])
        return own / first if own is not None and first else None


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
        p50=figures.get("p50_ms"),
        each=growth / 1024 / figures["connections"] if "connections" in figures else None,
        strain=figures.get("strain"),
    )


class Bench:
    """One run of the bench in a workplace of its own. ``pacer`` is nginx: half of what it can take is the rate."""

    def __init__(self, programs: Programs, options: Options, cores: Cores, pacer: Contender) -> None:
        self._programs = programs
        self._options = options
        self._cores = cores
        self._pacer = pacer
        #: By the name of the proxy: the class of its Twisted reactor.
        self.reactors: dict[str, str] = {}
        self._certificate = make_certificate(programs.directory / "certificate.pem")

    def run(self, case: Case, contenders: Sequence[Contender]) -> Outcome:
        """Measure everybody who can take part. Who fails is left out from there on, and has a row that says so."""
        directory = self._programs.directory / case.name
        directory.mkdir()
        absent = {one.name: reason for one in contenders if (reason := one.absent(case.mode, case.demands))}
        present = [one for one in contenders if one.name not in absent]
        options = self._options._replace(rps=self._rate(case, directory / "pace")) if case.paced else self._options
        samples: dict[str, list[Sample]] = {one.name: [] for one in present}
        problems: dict[str, str] = {}
        complaints: list[str] = []
        turns = range(1 if case.once else options.runs)
        for number, together in enumerate([turn] for turn in turns) if case.fresh else [(0, turns)]:
            able = [one for one in present if one.name not in problems]
            (place := directory / str(number)).mkdir()
            with Programs(place) as programs:
                running = self._start_all(programs, case, able, problems)
                for turn in together:
                    self._turn(programs, case, options, rotated(running, turn), samples, problems)
                for one in running:
                    self._read_log(one, complaints)
        rows = tuple(Row(name, tuple(samples[name]), problems.get(name)) for name in samples)
        reasons = tuple(f"{name}: {reason}" for name, reason in absent.items())
        return Outcome(case, rows, reasons, options.rps if case.paced else None, tuple(complaints))

    def _read_log(self, one: _Running, complaints: list[str]) -> None:
        """Note the reactor of a ``twistd``, and what it complained of."""
        words = one.program.log.read_text(errors="replace")
        if found := _REACTOR.search(words):
            self.reactors[one.contender.name] = found[1]
            if bad := _COMPLAINT.findall(words):
                complaints.append(f"{one.contender.name} has logged {len(bad)} warnings or errors, first: {bad[0]}")

    def _turn(
        self,
        programs: Programs,
        case: Case,
        options: Options,
        running: Sequence[_Running],
        samples: dict[str, list[Sample]],
        problems: dict[str, str],
    ) -> None:
        """Measure each once, and put the result into ``samples`` or ``problems``."""
        for one in running:
            name = one.contender.name
            if name in problems:
                continue
            try:
                samples[name].append(self._measure(programs, case, one, options))
            except BenchError as error:
                problems[name] = str(error if one.program.running else one.program.failed("ended under load"))
            _tell(f"{case.title}, {len(samples[name])} of {1 if case.once else options.runs}: {name}")

    def _rate(self, case: Case, directory: Path) -> float:
        """Requests a second: as asked for, or half of what saturates nginx, measured now."""
        if self._options.rps is not None:
            return self._options.rps
        directory.mkdir()
        flat_out = case._replace(load=wrk)
        with Programs(directory) as programs:
            problems: dict[str, str] = {}
            running = self._start_all(programs, flat_out, [self._pacer], problems)
            if not running:
                raise BenchError(f"The rate could not be found: {problems[self._pacer.name]}")
            sample = self._measure(programs, flat_out, running[0], self._options)
        _tell(
            f"{case.title}: {sample.rate:,.0f} a second saturate {self._pacer.name}, which was busy {sample.busy:.0%}"
        )
        return sample.rate / 2

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

    def _measure(self, programs: Programs, case: Case, one: _Running, options: Options) -> Sample:
        """CPU from the load's "ready" to its end; memory from before its first byte: its peak, or at "ready"."""
        pids = list(tree(one.program.pid))
        before = peak = resident(pids)
        command = case.load(one.port, one.cookie, options)
        load = programs.start(f"load of {one.contender.name}", command, self._cores.load, talks=True)
        load.line("ready")
        peak = resident(pids)
        begun = cpu_seconds(one.program.pid)

        def sample() -> None:
            nonlocal peak
            if not one.program.running:
                raise one.program.failed("ended under load")
            if case.compared != "each":
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
