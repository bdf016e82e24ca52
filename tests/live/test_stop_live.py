"""SIGTERM: what is under way is finished, nothing is begun, and there is an end to it."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clients import configuration, connect, port_of, read_all, read_until
from parts import Backend, Proxy

GET = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n"
TCP = """
[frontend.line]
listen = "tcp:0:interface=127.0.0.1:backlog=100"
protocol = "tcp"
cluster = "line"
[cluster.line.backends]
"""


@pytest.fixture
def start(proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]]) -> Callable[..., Proxy]:
    """A proxy of HTTP and TCP; the arguments are lines of ``[process]``."""

    def begin(*process: str, **more: Any) -> Proxy:
        (line,) = backends("line", tcp=True)
        told = configuration(backends("a"), *(f"process.{each}" for each in process))
        return proxy(f'{told}{TCP}line = "{line.endpoint}"\n', **more)

    return begin


def relay(running: Proxy) -> socket.socket:
    """A connection that has been greeted by its backend."""
    connection = connect(port_of(running, "line"))
    read_until(connection, b"line\n")
    return connection


def test_nobody_is_there(start: Callable[..., Proxy]) -> None:
    """An idle process ends at once, whatever time it would give to others."""
    running = start('drain = "1h"')
    with connect(port_of(running)) as client:
        client.sendall(GET % b"")
        read_until(client, b'"}')
    running.stop()
    assert "Draining" not in running.log


def test_what_is_under_way_is_finished(start: Callable[..., Proxy]) -> None:
    """A request gets its answer, the last on its connection; TCP goes on until it ends; nobody new comes in."""
    running = start('drain = "1h"')
    with connect(port_of(running)) as busy, connect(port_of(running)) as kept, relay(running) as line:
        kept.sendall(GET % b"")
        read_until(kept, b'"}')
        busy.sendall(GET % b"slow?seconds=1")
        running.process.send_signal(signal.SIGTERM)
        running.wait_for("Draining 3 connections, for up to 3600 s")
        for name in ("web", "line"):
            with pytest.raises(ConnectionRefusedError):
                connect(port_of(running, name))
        answer = read_all(busy)
        assert answer.startswith(b"HTTP/1.1 200 ") and b"Connection: close" in answer and answer.endswith(b'"}')
        assert read_all(kept) == b""
        line.sendall(b"still here\n")
        assert read_until(line, b"here\n") == b"still here\n"
        line.shutdown(socket.SHUT_WR)
        assert read_all(line) == b"bye\n"
        assert running.process.wait(10) == -signal.SIGTERM
    running.stop()
    assert "Server Shut Down." in running.log and "cut" not in running.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal(start: Callable[..., Proxy], number: signal.Signals) -> None:
    """Who cannot wait sends it again: the rest is cut at once, and the end is still an orderly one."""
    running = start('drain = "unlimited"', 'drain_window = "1s"')
    with relay(running) as line:
        running.process.send_signal(number)
        running.wait_for("Draining 1 connections, without a deadline")
        running.stop(number)
        with pytest.raises(ConnectionResetError):
            read_all(line)
    assert "1 connections are cut" in running.log and "Server Shut Down." in running.log


def test_deadline(start: Callable[..., Proxy]) -> None:
    """What is left after ``process.drain`` is cut."""
    running = start('drain = "500ms"')
    with relay(running) as line:
        running.stop()
        with pytest.raises(ConnectionResetError):
            read_all(line)
    assert "1 connections are cut" in running.log


def test_delay(start: Callable[..., Proxy]) -> None:
    """With ``drain_delay`` new clients are served for a while, as balancers in front want it."""
    running = start('drain_delay = "1h"')
    running.process.send_signal(signal.SIGTERM)
    running.wait_for("Stopping in 3600")
    with connect(port_of(running)) as client:
        client.sendall(GET % b"")
        assert read_until(client, b'"}').startswith(b"HTTP/1.1 200 ")
    running.stop()


def test_systemd_is_told(start: Callable[..., Proxy], tmp_path: Path) -> None:
    """Ready when it listens, and when it has reloaded, alive all the while, stopping when it drains."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(20)
        running = start('drain = "1h"', env={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"})
        heard = ""

        def hear(pattern: str, count: int = 1) -> None:
            nonlocal heard
            while len(re.findall(pattern, heard, re.MULTILINE)) < count:
                heard += ear.recv(4096).decode() + "\n"

        hear("^READY=1$")
        with relay(running):
            hear("^WATCHDOG=1$", 3)
            running.process.send_signal(signal.SIGHUP)
            hear(r"^RELOADING=1$\n^MONOTONIC_USEC=\d+$")
            hear("^READY=1$", 2)
            running.process.send_signal(signal.SIGTERM)
            hear("^STOPPING=1$")
            heard = ""
            began = time.monotonic()
            hear("^WATCHDOG=1$", 3)  # it drains, and lives
            assert time.monotonic() - began > 0.1
        running.stop()


def test_workers_drain(start: Callable[..., Proxy]) -> None:
    """With several workers each gives its clients their time; and a second signal reaches all of them."""
    running = start("workers = 2", 'drain = "1h"')
    running.wait_for("Worker [12] serves", count=2, timeout=40)
    with relay(running) as line, relay(running) as other:
        running.process.send_signal(signal.SIGTERM)
        running.wait_for(r"Draining \d connections, for up to 3600 s")
        line.sendall(b"still here\n")
        assert read_until(line, b"here\n") == b"still here\n"
        line.shutdown(socket.SHUT_WR)
        assert read_all(line) == b"bye\n"
        running.stop()
        with pytest.raises(ConnectionResetError):
            read_all(other)
    assert "1 connections are cut" in running.log
