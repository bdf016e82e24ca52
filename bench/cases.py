"""The cases: what stands behind the proxies, what loads them, and how a count becomes a figure."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from bench import learning, nginx
from bench.processes import Command
from bench.proxies import ROOT
from bench.scene import Demand, Mode

_HERE = Path(__file__).resolve().parent


class Options(NamedTuple):
    """What the command line asks: seconds of a measurement, how many, and for ``memory`` bytes and bytes a second.

    ``idle`` is the number of idle connections, ``rps`` the rate of the case ``latency``; None: half of what saturates
    nginx.
    """

    seconds: float = 2.0
    runs: int = 2
    size: int = 2 * 1024**3
    rate: int = 64 * 1024**2
    idle: int = 2000
    rps: float | None = None


_Backend = Callable[[Path, tuple[int, int], Options], Command]
_Load = Callable[[int, str, Options], Command]


class Case(NamedTuple):
    """One thing to measure.

    ``backend`` gives the command that listens on the two ports; ``load`` the one that prints "ready" when warm, and
    then a line of JSON: requests since then, rate a second, errors, and what else ``Sample`` knows. ``learn`` gives the
    Cookie field that a client of this proxy sends, having tried that it works. ``scale`` makes ``cpu_unit`` of CPU
    seconds, ``rate_scale`` makes ``rate_unit`` of requests a second; ``columns`` are those of ``bench.report``.
    ``compared`` is the figure that ratios are made of. ``demands`` is what a proxy must be able to do. ``once``: one
    measurement is enough, however many are asked for. ``fresh``: each measurement needs a proxy that was just started.
    ``ours``: it concerns stickyproxy, and others only where they are named. ``paced``: it needs ``Options.rps``.
    """

    name: str
    title: str
    mode: Mode
    backend: _Backend
    load: _Load
    learn: Callable[[int, bool], str]
    cpu_unit: str = "CPU µs per request"
    scale: float = 1e6
    rate_unit: str = "requests/s"
    rate_scale: float = 1.0
    columns: tuple[str, ...] = ("cpu", "ratio", "rate", "busy", "p99", "errors")
    compared: Literal["cpu", "p99", "each"] = "cpu"
    demands: frozenset[Demand] = frozenset()
    once: bool = False
    fresh: bool = False
    ours: bool = False
    paced: bool = False


def missing_load() -> str | None:
    """Why nothing can be measured here, or None if it can."""
    return "wrk is not installed" if shutil.which("wrk") is None else nginx.missing()


def _python(module: str, *arguments: object) -> Command:
    return Command([sys.executable, "-m", module, *map(str, arguments)], {"PYTHONPATH": str(ROOT)})


def wrk(port: int, cookie: str, options: Options, scheme: str = "http", close: bool = False) -> Command:
    """As much as the proxy can take: 64 connections, a request under way on each. It runs for whole seconds."""
    timing = ["-t1", "-c64", f"-d{max(1, round(options.seconds))}s", "--timeout", "10s"]
    script = ["-s", str(_HERE / "path.lua"), f"{scheme}://127.0.0.1:{port}/"]
    how = {"BENCH_CLOSE": "1", "BENCH_SKIP": "100"} if close else {"BENCH_SKIP": "1000"}
    return Command(["wrk", *timing, *script], {"BENCH_COOKIE": cookie, **how})


def _nginx_backend(directory: Path, ports: tuple[int, int], options: Options) -> Command:
    return nginx.backend(directory, ports)


def _echo_backend(size: int) -> _Backend:
    return lambda directory, ports, options: _python("bench.websocket", "serve", *ports, "--size", size)


def _slow_backend(directory: Path, ports: tuple[int, int], options: Options) -> Command:
    return _python("bench.bulk", "serve", *ports, "--rate", options.rate)


def _quick_backend(directory: Path, ports: tuple[int, int], options: Options) -> Command:
    return _python("bench.bulk", "serve", *ports, "--rate", "inf")


def _messages(size: int) -> _Load:
    return lambda port, cookie, options: _python(
        *("bench.websocket", "load", port, "--sockets", 256, "--size", size),
        *("--seconds", options.seconds, "--cookie", cookie),
    )


def _bodies(direction: str) -> _Load:
    return lambda port, cookie, options: _python(
        "bench.bulk", direction, port, "--seconds", options.seconds, "--cookie", cookie
    )


def _slowly(direction: str) -> _Load:
    return lambda port, cookie, options: _python(
        "bench.bulk", direction, port, "--size", options.size, "--rate", options.rate, "--cookie", cookie
    )


def _shake(port: int, cookie: str, options: Options) -> Command:
    return _python("bench.handshakes", port, "--seconds", options.seconds)


def _idle(kind: str, *flags: str) -> _Load:
    return lambda port, cookie, options: _python(
        *("bench.idle", kind, port, "--count", options.idle, "--seconds", options.seconds),
        *("--cookie", cookie, *flags),
    )


def _steadily(port: int, cookie: str, options: Options) -> Command:
    assert options.rps is not None
    return _python(
        *("bench.steady", port, "--rps", options.rps, "--seconds", options.seconds, "--cookie", cookie),
        *("--ending", "." * (nginx.ANSWER_SIZE - 1)),
    )


_TURN = ("CPU µs per round trip", 1e6, "round trips/s")
#: A load counts bodies of 100 MiB.
_GB = ("CPU ms per GB", 1e3 / 0.1048576, "MiB/s", 100.0)
_BULK_COLUMNS = ("cpu", "ratio", "rate", "busy", "growth", "errors")
_IDLE_COLUMNS = ("each", "ratio", "rate", "cpu", "errors")
_LATENCY_COLUMNS = ("p50", "p99", "ratio", "rate", "busy", "strain", "errors")
_MEMORY_COLUMNS = ("growth", "cpu", "rate", "paced", "errors")
_WEBSOCKET: frozenset[Demand] = frozenset({"WebSockets"})
_KEPT: frozenset[Demand] = frozenset({"kept connections"})
_STREAMED: frozenset[Demand] = frozenset({"streamed bodies"})


def _websocket(name: str, title: str, size: int) -> Case:
    learn = learning.over_websocket(False)
    return Case(name, title, "http", _echo_backend(size), _messages(size), learn, *_TURN, demands=_WEBSOCKET)


def _bulk(name: str, title: str, mode: Mode, direction: str) -> Case:
    backend = _nginx_backend if direction == "get" else _quick_backend
    learn = learning.over_http(False) if (mode, direction) == ("http", "get") else learning.no_cookie
    return Case(name, title, mode, backend, _bodies(direction), learn, *_GB, _BULK_COLUMNS, demands=_STREAMED)


def _held(name: str, title: str, kind: str, tls: bool = False) -> Case:
    over = learning.over_websocket if kind == "websocket" else learning.over_http
    backend = _echo_backend(64) if kind == "websocket" else _nginx_backend
    demands = _WEBSOCKET if kind == "websocket" else _KEPT
    load = _idle(kind, *(["--tls"] if tls else []))
    mode: Mode = "https" if tls else "http"
    return Case(
        *(name, title, mode, backend, load, over(tls), "CPU µs per connection and second", 1e6, "connections", 1.0),
        columns=_IDLE_COLUMNS,
        compared="each",
        demands=demands,
        fresh=True,
    )


def _slow(name: str, title: str, direction: str) -> Case:
    load = _slowly(direction)
    return Case(
        *(name, title, "http", _slow_backend, load, learning.no_cookie, *_GB, _MEMORY_COLUMNS),
        demands=_STREAMED,
        once=True,
        ours=True,
    )


def _https(port: int, cookie: str, options: Options) -> Command:
    return wrk(port, cookie, options, "https")


def _closing(port: int, cookie: str, options: Options) -> Command:
    return wrk(port, cookie, options, close=True)


_LEARN = learning.over_http(False)
_SHAKE = ("CPU µs per handshake", 1e6, "handshakes/s")
_CONNECT = ("CPU µs per connection", 1e6, "connections/s")

_ALL = (
    Case("http", "HTTP", "http", _nginx_backend, wrk, _LEARN),
    Case("https", "HTTPS", "https", _nginx_backend, _https, learning.over_http(True)),
    Case("handshakes", "Full TLS handshakes", "https", _nginx_backend, _shake, learning.over_http(True), *_SHAKE),
    Case("connections", "New connections, one request each", "http", _nginx_backend, _closing, _LEARN, *_CONNECT),
    Case("tcp", "TCP relay", "tcp", _nginx_backend, wrk, learning.no_cookie, *_TURN),
    _websocket("websocket", "WebSocket echo, 64 bytes, 256 sockets", 64),
    _websocket("websocket-16k", "WebSocket echo, 16 KiB, 256 sockets", 16 * 1024),
    _bulk("download", "100 MiB bodies down, 4 connections", "http", "get"),
    _bulk("upload", "100 MiB bodies up, 4 connections", "http", "put"),
    _bulk("tcp-download", "100 MiB bodies down through the TCP relay", "tcp", "get"),
    _bulk("tcp-upload", "100 MiB bodies up through the TCP relay", "tcp", "put"),
    Case(
        *("latency", "Latency at a constant rate", "http", _nginx_backend, _steadily, _LEARN),
        columns=_LATENCY_COLUMNS,
        compared="p99",
        demands=_KEPT,
        paced=True,
    ),
    _held("idle-http", "Idle HTTP connections", "http"),
    _held("idle-websocket", "Idle WebSockets", "websocket"),
    _held("idle-websocket-tls", "Idle WebSockets over TLS", "websocket", tls=True),
    _slow("memory-up", "Upload to a slow backend", "up"),
    _slow("memory-down", "Download to a slow client", "down"),
)

#: What ``--case`` takes, and the cases that each stands for.
CASES = {case.name: (case,) for case in _ALL if not case.once} | {"memory": tuple(case for case in _ALL if case.once)}
#: What runs when no ``--case`` is given: one for each target.
DEFAULT = ("http", "https", "tcp", "websocket", "download", "tcp-download", "idle-websocket", "latency")
