"""``python -m bench.admin``: how soon the admin API answers while the data path is saturated, and what it costs that.

A cluster of a hundred backends is looked at beside the one that serves. Rounds with nobody looking, and with a
dashboard that looks (``/api/events``), take turns; what a dashboard costs is the difference in CPU time of a request.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

from bench.machine import Cores, cpu_seconds
from bench.processes import BenchError, Command, Program, workplace

ROOT = Path(__file__).parent.parent
_BACKEND = """
import asyncio, sys, uvloop
class Backend(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 60\\r\\n\\r\\n%060d" % 0)
async def main():
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
uvloop.run(main())
"""
_TOML = """
[frontend.web]
listen = "tcp:{web}:interface=127.0.0.1"
cluster = "app"
access_log = false
[cluster.app]
affinity = "cookie"
backends = {{ a = "tcp:127.0.0.1:{backend}" }}
[frontend.other]
listen = "tcp:{other}:interface=127.0.0.1"
cluster = "many"
[cluster.many]
affinity = "source"
backends = {{ {many} }}
[admin]
listen = "tcp:{admin}:interface=127.0.0.1"
"""


class Costs(NamedTuple):
    """Seconds that answers took, and CPU microseconds of a request with nobody looking and with a dashboard."""

    answers: list[float]
    alone: list[float]
    looked_at: list[float]


@contextlib.contextmanager
def looking(port: int) -> Iterator[None]:
    """A dashboard: it reads the events as they come."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")

        def read() -> None:
            with contextlib.suppress(OSError):
                while connection.recv(65536):
                    pass

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        yield
        connection.shutdown(socket.SHUT_RDWR)
        reader.join()


def load(proxy: Program, port: int, seconds: float) -> float:
    """CPU microseconds of the proxy for each request, while it has all that it can do."""
    before = cpu_seconds(proxy.pid)
    wrk = ["wrk", "-t1", "-c64", f"-d{seconds:g}s", f"http://127.0.0.1:{port}/"]
    said = subprocess.run(wrk, capture_output=True, text=True, check=True).stdout
    if (count := re.search(r"(\d+) requests in", said)) is None or "Non-2xx" in said or "Socket errors" in said:
        raise BenchError(f"wrk says:\n{said}")
    return (cpu_seconds(proxy.pid) - before) / int(count[1]) * 1e6


def ask(port: int, until: float) -> list[float]:
    """Seconds that ``GET /api/clusters`` took, again and again, a new one every 20 ms."""
    connection, took = HTTPConnection("127.0.0.1", port, timeout=30), []
    while time.monotonic() < until:
        began = time.monotonic()
        connection.request("GET", "/api/clusters")
        json.loads(connection.getresponse().read())
        took.append(time.monotonic() - began)
        time.sleep(0.02)
    connection.close()
    return took


def costs(rounds: int, seconds: float) -> Costs:
    """All figures."""
    found = Costs([], [], [])
    with workplace() as programs:
        web, other, admin, backend = (programs.port() for _ in range(4))
        many = ", ".join(f'n{number} = "tcp:127.0.0.1:1"' for number in range(100))
        path = programs.directory / "admin.toml"
        path.write_text(_TOML.format(web=web, other=other, admin=admin, backend=backend, many=many))
        cores = Cores.share(os.sched_getaffinity(0))
        server = Command([sys.executable, "-c", _BACKEND, str(backend)])
        programs.start("backend", server, cores.load).listening(backend)
        twistd = [
            str(Path(sys.executable).with_name("twistd")),
            "-n",
            "--pidfile=",
            "stickyproxy",
            "--config",
            str(path),
        ]
        proxy = programs.start("stickyproxy", Command(twistd, {"PYTHONPATH": str(ROOT)}), cores.proxy)
        proxy.listening(web)
        proxy.listening(admin)
        load(proxy, web, 1)
        for _ in range(rounds):
            found.alone.append(load(proxy, web, seconds))
            with looking(admin):
                found.looked_at.append(load(proxy, web, seconds))
        asker = threading.Thread(target=load, args=(proxy, web, seconds * 2))
        asker.start()
        found.answers.extend(ask(admin, time.monotonic() + seconds * 2 - 0.5))
        asker.join()
    return found


def main() -> None:
    found = costs(5, 3.0)
    took = sorted(seconds * 1000 for seconds in found.answers)
    alone, looked_at = statistics.median(found.alone), statistics.median(found.looked_at)
    sys.stdout.write(
        f"GET /api/clusters of 101 backends, under full load: {statistics.median(took):.1f} ms, "
        f"p99 {took[int(len(took) * 0.99)]:.1f} ms, longest {took[-1]:.1f} ms of {len(took)}\n"
        f"CPU for each request: {alone:.2f} µs, with a dashboard {looked_at:.2f} µs "
        f"({(looked_at / alone - 1) * 100:+.1f} %)\n"
    )


if __name__ == "__main__":
    main()
