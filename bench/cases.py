"""The cases: what stands behind the proxies, what loads them, and how a count becomes a figure."""

from __future__ import annotations

import http.client
import shutil
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from bench import nginx, websocket
from bench.processes import BenchError, Command
from bench.proxies import ROOT
from bench.scene import Mode

_HERE = Path(__file__).resolve().parent
_NO_COOKIE = "SRV=none"


class Options(NamedTuple):
    """What the command line asks: seconds of a measurement, how many, and for ``memory`` bytes and bytes a second."""

    seconds: float = 4.0
    runs: int = 2
    size: int = 2 * 1024**3
    rate: int = 64 * 1024**2


class Case(NamedTuple):
    """One thing to measure.

    ``backend`` gives the command that listens on the two ports; ``load`` the one that prints "ready" when warm, and
    then a line of JSON: requests since then, rate a second, errors, and p99_ms or paced. ``learn`` gives the Cookie
    field that a client of this proxy sends, having tried that it works. ``scale`` makes ``cpu_unit`` of CPU seconds,
    ``rate_scale`` makes ``rate_unit`` of requests a second; ``columns`` are those of ``bench.report``. ``once``:
    one measurement is enough, however many are asked for.
    """

    name: str
    title: str
    mode: Mode
    backend: Callable[[Path, tuple[int, int], Options], Command]
    load: Callable[[int, str, Options], Command]
    learn: Callable[[int, bool], str]
    cpu_unit: str = "CPU µs per request"
    scale: float = 1e6
    rate_unit: str = "requests/s"
    rate_scale: float = 1.0
    columns: tuple[str, ...] = ("cpu", "ratio", "rate", "busy", "p99", "errors")
    once: bool = False


def missing_load() -> str | None:
    """Why nothing can be measured here, or None if it can."""
    return "wrk is not installed" if shutil.which("wrk") is None else nginx.missing()


def _python(module: str, *arguments: object) -> Command:
    return Command([sys.executable, "-m", module, *map(str, arguments)], {"PYTHONPATH": str(ROOT)})


def _wrk(scheme: str) -> Callable[[int, str, Options], Command]:
    def load(port: int, cookie: str, options: Options) -> Command:
        timing = ["-t1", "-c64", f"-d{max(1, round(options.seconds))}s", "--timeout", "10s"]
        script = ["-s", str(_HERE / "path.lua"), f"{scheme}://127.0.0.1:{port}/"]
        return Command(["wrk", *timing, *script], {"BENCH_COOKIE": cookie, "BENCH_SKIP": "1000"})

    return load


def _nginx_backend(directory: Path, ports: tuple[int, int], options: Options) -> Command:
    return nginx.backend(directory, ports)


def _websocket_backend(size: int) -> Callable[[Path, tuple[int, int], Options], Command]:
    return lambda directory, ports, options: _python("bench.websocket", "serve", *ports, "--size", size)


def _websocket_load(size: int) -> Callable[[int, str, Options], Command]:
    return lambda port, cookie, options: _python(
        "bench.websocket", "load", port, "--size", size, "--seconds", options.seconds, "--cookie", cookie
    )


def _download(port: int, cookie: str, options: Options) -> Command:
    return _python("bench.bulk", "get", port, "--seconds", options.seconds, "--cookie", cookie)


def _bulk_backend(directory: Path, ports: tuple[int, int], options: Options) -> Command:
    return _python("bench.bulk", "serve", *ports, "--rate", options.rate)


def _bulk(direction: str) -> Callable[[int, str, Options], Command]:
    return lambda port, cookie, options: _python(
        "bench.bulk", direction, port, "--size", options.size, "--rate", options.rate, "--cookie", cookie
    )


def _learn_http(tls: bool) -> Callable[[int, bool], str]:
    """Ask once without a cookie and then with the one given: the backend and the connection must stay the same."""

    def learn(port: int, sticky: bool) -> str:
        connection = _connection(port, tls)
        try:
            cookie, seen = _NO_COOKIE, set()
            for turn in range(6):
                connection.request("GET", f"/learn/{turn}", headers={"Cookie": cookie} if turn else {})
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200 or len(body) != nginx.ANSWER_SIZE:
                    raise BenchError(f"answers with {answer.status} {answer.reason} and {len(body)} bytes")
                if sticky and connection.sock is None:
                    raise BenchError("does not keep the connection")
                given = answer.headers["Set-Cookie"]
                if given and turn:
                    raise BenchError(f"sets a cookie again, although it was sent {cookie!r}")
                if given:
                    cookie = given.partition(";")[0]
                elif turn:
                    seen.add(body[:1])
            if sticky and len(seen) != 1:
                raise BenchError(f"is not sticky: {cookie!r} was served by {sorted(seen)}")
            return cookie
        finally:
            connection.close()

    return learn


def _connection(port: int, tls: bool) -> http.client.HTTPConnection:
    if not tls:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=5.0, context=context)


def _learn_websocket(port: int, sticky: bool) -> str:
    cookie, seen = "", set()
    for turn in range(5):
        opened = websocket.upgrade(port, f"/learn/{turn}", cookie or _NO_COOKIE)
        opened.connection.close()
        if opened.cookie and turn:
            raise BenchError(f"sets a cookie again, although it was sent {cookie!r}")
        cookie = cookie or opened.cookie or _NO_COOKIE
        if turn:
            seen.add(opened.backend)
    if sticky and len(seen) != 1:
        raise BenchError(f"is not sticky: {cookie!r} was served by {sorted(seen)}")
    return cookie


def _no_cookie(port: int, sticky: bool) -> str:
    return _NO_COOKIE


_BULK_COLUMNS = ("cpu", "ratio", "rate", "busy", "growth", "errors")
_MEMORY_COLUMNS = ("growth", "cpu", "rate", "paced", "errors")


def _bulk_case(name: str, title: str, direction: str) -> Case:
    load = _bulk(direction)
    return Case(name, title, "http", _bulk_backend, load, _no_cookie, *_BULK_UNITS, _MEMORY_COLUMNS, once=True)


_BULK_UNITS = ("CPU ms per 100 MiB", 1e3, "MiB/s", 100.0)
_TURN_UNITS = ("CPU µs per round trip", 1e6, "round trips/s")
_WEBSOCKET = "WebSocket echo, 64 bytes, 64 sockets"
_DOWNLOAD = "100 MiB download, 4 connections"

_ALL = (
    Case("http", "HTTP", "http", _nginx_backend, _wrk("http"), _learn_http(False)),
    Case("https", "HTTPS", "https", _nginx_backend, _wrk("https"), _learn_http(True)),
    Case("tcp", "TCP relay", "tcp", _nginx_backend, _wrk("http"), _no_cookie, *_TURN_UNITS),
    Case("websocket", _WEBSOCKET, "http", _websocket_backend(64), _websocket_load(64), _learn_websocket, *_TURN_UNITS),
    Case("download", _DOWNLOAD, "http", _nginx_backend, _download, _learn_http(False), *_BULK_UNITS, _BULK_COLUMNS),
    _bulk_case("memory-up", "Upload to a slow backend", "up"),
    _bulk_case("memory-down", "Download to a slow client", "down"),
)
_BY_NAME = {case.name: case for case in _ALL}

#: What runs when no ``--case`` is given.
DEFAULT = ("http", "https", "tcp", "websocket", "download")
#: What ``--case`` takes, and the cases that each stands for.
CASES = {name: (_BY_NAME[name],) for name in DEFAULT} | {"memory": (_BY_NAME["memory-up"], _BY_NAME["memory-down"])}
