"""The bench: its arithmetic, its tables, and one short run of the real thing."""

from __future__ import annotations

import datetime
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from bench import report, steady, targets
from bench.admin import costs as admin_costs
from bench.bulk import Pace
from bench.cases import CASES, DEFAULT, Options
from bench.figures import percentile
from bench.machine import Cores, cpu_seconds, parse_stat, resident, tree
from bench.processes import BenchError, Command, workplace
from bench.proxies import EXTRAS, stickyproxy
from bench.run import Outcome, Row, Sample, rotated, sample_of
from bench.scene import Scene
from bench.sessions import costs
from bench.sharing import admissions, rates, sessions
from bench.websocket import Echo, Load, accept_token, frames
from stickyproxy.config.reading import load
from stickyproxy.extensions import find_extensions

ROOT = Path(__file__).resolve().parent.parent
HTTP = CASES["http"][0]
DOWNLOAD = CASES["download"][0]

needs_load = pytest.mark.needs("nginx", "wrk")
#: Short, for a look at each case whose load is not one of the first; wrk runs for a second at least.
SHORT = ("--runs", "1", "--seconds", "0.3", "--idle", "50", "--rps", "500", "--size", "16MiB")


def made(cpu: float, growth: float = 0.0, errors: int = 0) -> Sample:
    """A sample with that CPU figure."""
    return Sample(cpu=cpu, rate=1000.0, errors=errors, growth=growth, busy=0.5, p99=2.0)


def bench(*arguments: str) -> subprocess.Popen[str]:
    """The bench as a user starts it."""
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("extra", [None, *EXTRAS])
def test_what_is_measured_beside_the_usual(tmp_path: Path, extra: str | None) -> None:
    """`--with metrics` has requests counted, `--with log` has them logged, and each is the only difference."""
    one = stickyproxy(extra=extra)
    assert one.name == ("stickyproxy" if extra is None else f"stickyproxy (with {extra})")
    one.command(Scene("http", tmp_path, 8080, (8081, 8082), tmp_path / "none.pem"))
    configuration = load(tmp_path / "bench.toml", find_extensions())
    assert (configuration.admin is not None) is (extra == "metrics")
    assert (configuration.frontends[0].access_log is not None) is (extra == "log")


def test_stat_with_an_awkward_name() -> None:
    """A process whose name holds blanks and brackets is counted right."""
    line = "42 (a ) b) S 7 42 42 0 -1 4194304 100 0 0 0 150 50 20 30 20 0 1 0 100 1000 10"
    stat = parse_stat(line)
    assert stat.parent == 7
    assert stat.cpu == pytest.approx(250 / os.sysconf("SC_CLK_TCK"))


def test_own_process_is_accounted() -> None:
    """CPU time burnt shows up, to a clock tick or two, and so do children and memory."""
    before, begun = cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() - begun < 0.2:
        sum(range(1000))
    assert cpu_seconds(os.getpid()) - before == pytest.approx(0.2, abs=0.05)
    with subprocess.Popen(["sleep", "30"]) as child:
        assert child.pid in tree(os.getpid())
        child.kill()
    assert resident([os.getpid()]) > 1024 * 1024


@pytest.mark.parametrize(
    ("available", "proxy", "load"), [({0, 1}, {1}, {0}), ({0, 1, 2, 3}, {3}, {0, 1, 2}), ({5}, {5}, {5})]
)
def test_proxy_has_a_core_of_its_own(available: set[int], proxy: set[int], load: set[int]) -> None:
    """The proxy is alone on a core wherever there are two."""
    assert Cores.share(available) == (frozenset(proxy), frozenset(load))


def test_figures_in_the_units_of_the_case() -> None:
    """Two CPU seconds for 100,000 requests are 20 µs each; 100 MiB bodies are counted in ms and MiB."""
    figures = {"requests": 100_000, "rate": 25_000.0, "errors": 3, "p99_ms": 4.5}
    http = sample_of(HTTP, 2.0, 3 * 1024 * 1024, figures)
    assert http == Sample(cpu=20.0, rate=25_000.0, errors=3, growth=3.0, busy=0.5, p99=4.5)
    body = sample_of(DOWNLOAD, 1.0, 0, {"requests": 20, "rate": 5.0, "errors": 0})
    assert (body.cpu, body.rate, body.busy) == (pytest.approx(476.84, abs=0.01), 500.0, 0.25)
    held = {"requests": 4000, "rate": 2000, "errors": 0, "connections": 2000}
    idle = sample_of(CASES["idle-websocket"][0], 0.04, 2000 * 8192, held)
    assert (idle.each, idle.cpu, idle.busy) == (8.0, 10.0, 0.02)
    with pytest.raises(BenchError, match="served nothing"):
        sample_of(HTTP, 1.0, 0, {"requests": 0, "rate": 0.0, "errors": 9})


def test_median_of_runs() -> None:
    """One bad run does not decide, but its errors and its memory are not forgotten."""
    median = Sample.median([made(10.0), made(90.0, growth=8.0, errors=2), made(12.0)])
    assert median == made(12.0, growth=8.0, errors=2)


def test_nobody_is_always_first() -> None:
    """Each run begins with another proxy."""
    assert [rotated("abc", turn) for turn in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]
    assert rotated([], 1) == []


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (0.424, "0.42"), (12.84, "12.8"), (264.4, "264"), (23100.0, "23,100")]
)
def test_numbers_as_people_read_them(value: float | None, text: str) -> None:
    """Three figures' worth, and no more."""
    assert report.number(value) == text


def outcome() -> Outcome:
    """nginx, ours, and one that failed."""
    rows = (
        Row("nginx", (made(10.0),)),
        Row("ours", (made(15.0), made(17.0))),
        Row("bad", (made(9.0),), "bad ended\nwhy"),
    )
    return Outcome(HTTP, rows, ("HAProxy: HAProxy is not installed",))


def test_table() -> None:
    """The ratio is to the first row; a proxy that failed has no figures, and the table says why."""
    lines = report.table(outcome()).splitlines()
    assert lines[2] == "| proxy | CPU µs per request | × nginx | requests/s | busy | p99 ms | errors |"
    assert lines[4] == "| nginx | 10.0 | 1.00 | 1,000 | 50% | 2.00 | 0 |"
    assert lines[5] == "| ours | 16.0 | 1.60 | 1,000 | 50% | 2.00 | 0 |"
    assert "| bad" not in "\n".join(lines)
    assert "Failed: bad ended (why)" in lines
    assert "HAProxy: HAProxy is not installed" in lines


def compared(name: str, *rows: tuple[str, Sample]) -> Outcome:
    """An outcome of that case."""
    return Outcome(CASES[name][0], tuple(Row(proxy, (sample,)) for proxy, sample in rows))


def test_targets_beside_the_figures() -> None:
    """Each target says whether it is met, for each stickyproxy; what was not measured is not there."""
    slow, quick = made(20.0), made(17.0)
    light, heavy = made(1.0)._replace(each=7.9), made(1.0)._replace(each=8.1)
    text = targets.table(
        [
            compared("http", ("nginx", made(10.0)), ("stickyproxy", quick), ("stickyproxy (epoll)", slow)),
            compared("idle-websocket", ("stickyproxy", light), ("stickyproxy (epoll)", heavy)),
            compared("latency", ("nginx", made(9.0)._replace(p99=1.5)), ("stickyproxy", made(1.0)._replace(p99=4.5))),
            compared("https", ("stickyproxy", made(10.0))),
        ]
    )
    assert text.splitlines()[2:] == [
        "| × is nginx's figure in the same run | at most | stickyproxy | stickyproxy (epoll) |",
        "|---|--:|--:|--:|",
        "| HTTP: CPU per request | 1.70 × | 1.70 ×, met | 2.00 ×, **not met** |",
        "| HTTPS: CPU per request | 2.00 × | – | – |",
        "| Idle WebSocket: memory of the process | 8.0 KiB | 7.9 KiB, met | 8.1 KiB, **not met** |",
        "| p99 at half of nginx's saturation load | 2.00 × | 3.00 ×, **not met** | – |",
    ]
    assert targets.table([compared("http", ("nginx", made(10.0)))]) == ""
    assert {target.case for target in targets.TARGETS} <= set(CASES)


def test_json_holds_every_sample() -> None:
    """Programs get what people get, and each run's figures."""
    text = json.dumps(report.as_json([outcome()], Options(), {"nginx": "1.22"}, datetime.date(2030, 1, 2)))
    case = json.loads(text)["cases"][0]
    assert [row["ratio"] for row in case["rows"]] == [1.0, 1.6, None]
    assert [sample["cpu"] for sample in case["rows"][1]["samples"]] == [15.0, 17.0]
    assert case["rows"][2]["problem"] == "bad ended\nwhy"


def test_document_section(tmp_path: Path) -> None:
    """Only what stands between the markers is replaced, as often as one likes; without markers nothing is."""
    file = tmp_path / "performance.md"
    file.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    for text in ("first", "second"):
        report.write_section(file, text)
    assert file.read_text() == f"before\n{report.BEGIN}\n\nsecond\n{report.END}\nafter\n"
    file.write_text("no markers")
    with pytest.raises(BenchError, match="no section"):
        report.write_section(file, "text")
    assert file.read_text() == "no markers"


def test_performance_document_can_be_written() -> None:
    """The document that `make bench` fills has the markers."""
    text = (ROOT / "docs" / "performance.md").read_text()
    assert text.index(report.BEGIN) < text.index(report.END)


def test_accept_token_and_frames() -> None:
    """The handshake's example of RFC 6455, and frames of both lengths."""
    assert accept_token(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert [len(frames(64).masked), len(frames(64).plain)] == [70, 66]
    assert frames(16384).plain[:4] == b"\x82\x7e\x40\x00"


def test_echo_and_load_agree() -> None:
    """The WebSocket load and backend understand each other, without a proxy, in small messages and large."""
    for size in (64, 16384):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        threading.Thread(target=Echo([port], size).serve, daemon=True).start()
        result = Load(port, 4, size, "SRV=none").run(0.2)
        assert result.requests > 0
        assert result.errors == 0
        assert 0 < result.p99_ms < 200


def answering(pauses: dict[int, float]) -> int:
    """The port of an HTTP server that answers each request at once, but the numbered ones after a pause (of all)."""
    listener = socket.create_server(("127.0.0.1", 0))
    lock, count = threading.Lock(), itertools.count()

    def serve(peer: socket.socket) -> None:
        with peer:
            while peer.recv(4096):
                with lock:
                    threading.Event().wait(pauses.get(next(count), 0.0))
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend")

    def accept() -> None:
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return int(listener.getsockname()[1])


def test_constant_rate_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    """As many requests as the timetable says, each at its time: the timer is finer than epoll's milliseconds."""
    figures = steady.Load(answering({}), 4, 400.0, "SRV=none", b"end").run(0.1, 0.5)
    assert capfd.readouterr().out == "ready\n"
    assert (figures["requests"], figures["errors"]) == (pytest.approx(200, abs=20), 0)
    assert figures["p50_ms"] < 50


def test_a_pause_is_paid_by_all_who_were_due() -> None:
    """While the server stands still for 0.4 s of a second, 40 % of the requests become due, and wait."""
    load = steady.Load(answering({30: 0.4}), 4, 200.0, "SRV=none", b"end")
    figures = load.run(0.1, 1.0)
    assert figures["errors"] == 0
    assert figures["p99_ms"] > 330


def test_what_is_never_answered_counts() -> None:
    """Requests that wait for ever are errors, with the time that they have waited."""
    figures = steady.Load(answering({5: 60.0}), 2, 100.0, "SRV=none", b"end").run(0.0, 0.3)
    assert figures["requests"] == 5
    assert figures["errors"] == 25
    assert figures["p50_ms"] > 1000


def test_percentiles() -> None:
    """The highest for what is beyond the end, and 0 for nothing."""
    assert [percentile(range(100), share) for share in (0.0, 0.5, 0.99, 1.0)] == [0, 50, 99, 99]
    assert percentile([], 0.5) == 0.0


def test_pace() -> None:
    """A slow peer takes as long as its rate says."""
    pace, begun = Pace(1_000_000), time.monotonic()
    for _ in range(10):
        pace.took(10_000)
    assert time.monotonic() - begun == pytest.approx(0.1, abs=0.08)


def test_a_program_that_ends_early_says_why() -> None:
    """A proxy that does not start is reported with its own words, and the workplace is gone afterwards."""
    with workplace() as programs:
        directory = programs.directory
        program = programs.start("x", Command([sys.executable, "-c", "raise SystemExit('no such option')"]), {0})
        with pytest.raises(BenchError, match=r"(?s)x ended instead of listening.*no such option"):
            program.listening(programs.port())
    assert not directory.exists()


def test_programs_end_with_the_workplace() -> None:
    """Nothing is left running, not even what ignores SIGTERM at once."""
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    with workplace() as programs:
        mild = programs.start("mild", Command(["sleep", "60"]), {0})
        hard = programs.start("hard", Command([sys.executable, "-c", stubborn]), {0}, talks=True)
        assert hard.line("on") == "on"
        before = [mild.running, hard.running]
    assert before == [True, True]
    assert [mild.running, hard.running] == [False, False]


@needs_load
def test_one_second_of_the_real_thing() -> None:
    """`python -m bench` measures nginx for a second, and the figures make sense."""
    process = bench("--case", "http", "--only", "nginx", "--runs", "1", "--seconds", "1", "--json")
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    case = json.loads(out)["cases"][0]
    row = case["rows"][0]
    assert (case["case"], row["proxy"], row["ratio"]) == ("http", "nginx", 1.0)
    assert row["median"]["errors"] == 0
    assert 1 < row["median"]["cpu"] < 1000
    assert row["median"]["rate"] > 100


@pytest.fixture(scope="module")
def short_run() -> dict[str, Any]:
    """One short run of nginx through every case that the first ones do not cover, by the case's name."""
    names = [name for name in CASES if name not in ("http", "https", "websocket", "download", "memory")]
    process = bench("--only", "nginx", "--json", *SHORT, *(part for name in names for part in ("--case", name)))
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return {case["case"]: case for case in json.loads(out)["cases"]}


@pytest.mark.needs("nginx", "wrk", "/usr/lib/nginx/modules/ngx_stream_module.so")
@pytest.mark.parametrize(
    ("name", "column", "lowest", "highest"),
    [
        ("handshakes", "cpu", 50, 20_000),
        ("connections", "cpu", 5, 5000),
        ("tcp", "cpu", 1, 1000),
        ("websocket-16k", "cpu", 2, 5000),
        ("upload", "rate", 1, 100_000),
        ("tcp-download", "rate", 1, 100_000),
        ("tcp-upload", "rate", 1, 100_000),
        ("latency", "p99", 0.01, 1500),
        ("idle-http", "each", 0.1, 50),
        ("idle-websocket", "each", 4, 100),
        ("idle-websocket-tls", "each", 10, 200),
    ],
)
def test_every_load_finds_its_figure(
    short_run: dict[str, Any], name: str, column: str, lowest: float, highest: float
) -> None:
    """Each kind of load passes a real nginx without an error, and its figure is of the right size."""
    row = short_run[name]["rows"][0]
    assert row["median"]["errors"] == 0
    assert lowest < row["median"][column] < highest


@needs_load
def test_interrupted_run_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C in the middle ends every program and removes the files."""
    command = [sys.executable, "-m", "bench", "--case", "http", "--only", "nginx", "--runs", "1", "--seconds", "20"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        until = time.monotonic() + 20
        while len(started := [pid for pid in tree(process.pid) if pid != process.pid]) < 3:
            assert time.monotonic() < until, "nginx, nginx and wrk did not all start"
            threading.Event().wait(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 130
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert list(tmp_path.iterdir()) == []


def test_unknown_proxy_is_named() -> None:
    """A misspelled proxy is an error that lists the right names."""
    process = bench("--only", "ngnix")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "ngnix" in errors and ("nginx" in errors)


def test_every_default_case_can_be_asked_for() -> None:
    """What runs by default has a name on the command line, and memory is a case beside them."""
    assert set(DEFAULT) < set(CASES)
    assert {target.case for target in targets.TARGETS} >= set(DEFAULT)
    assert [case.name for case in CASES["memory"]] == ["memory-up", "memory-down"]


def test_sharing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that processes share has its cost; whoever is found in a replica costs no more than in a table."""
    pytest.importorskip("uvloop", reason="it is measured on our reactor")
    from stickyproxy.reactor.uv import UVReactor

    monkeypatch.setattr("bench.sharing._ASKED", 20)
    figures = {**sessions(1000, UVReactor()), **rates(), **admissions()}
    assert len(figures) == 14 and all(cost >= 0 for cost in figures.values())
    assert figures["to find, shared"] < 10 * figures["to find, one process"]


def test_sessions_are_measured() -> None:
    """What a session costs is measured of a table that is really full; it accounts for less than 300 bytes of each."""
    measured = costs(10_000)
    assert 100 < measured.accounted < 300
    assert min(measured.look_up, measured.active, measured.bind) > 0


@pytest.mark.needs("wrk")
def test_admin_is_measured() -> None:
    """What it costs to look has its figures, and answers come while the data path has all that it can do."""
    pytest.importorskip("uvloop", reason="the backend is made of it")
    found = admin_costs(1, 1.0)
    assert found.answers and found.alone[0] > 0 < found.looked_at[0]
