"""The reactor around its connections: timers, threads, signals, forks, and life as a daemon of ``twistd``."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import Counted, Program, Recorder, connected, make_uv, run_on, turns
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

pytest.importorskip("uvloop", reason="without uvloop there is no reactor of ours")

Run = Callable[[Program], None]
ROOT = Path(__file__).parents[2]
TWISTD = Path(sys.executable).with_name("twistd")


def test_timers(run_both: Run) -> None:
    """Calls come in the order of their times, never early, and not when cancelled."""

    async def program(reactor: Any) -> None:
        late: list[tuple[float, float]] = []
        start = reactor.seconds()
        for delay in (0.03, 0.0004, 0.01, 0, 0.0201):
            reactor.callLater(delay, lambda delay=delay: late.append((delay, reactor.seconds() - start - delay)))
        reactor.callLater(0.02, late.append, (0, -1)).cancel()
        moved = reactor.callLater(5, late.append, (0.04, 0))
        moved.reset(0.04)
        await turns(reactor, 0.06)
        assert [delay for delay, _ in late] == [0, 0.0004, 0.01, 0.0201, 0.03, 0.04]
        assert all(lateness >= 0 for _, lateness in late)

    run_both(program)


def test_waiting_costs_nothing(run: Run) -> None:
    """The reactor sleeps until a call is due, and does not turn idly through the last millisecond."""

    async def program(reactor: Any) -> None:
        turned = 0
        on_timer = reactor._onTimer

        def count() -> None:
            nonlocal turned
            turned += 1
            on_timer()

        reactor._onTimer = count
        for _ in range(20):
            await turns(reactor, 0.0024)
        assert turned <= 60  # one each, and another where the clock of the loop was a little ahead

    run(program)


def test_threads(run_both: Run) -> None:
    """Work goes to threads, and threads call back, in order."""

    async def program(reactor: Any) -> None:
        called: list[int] = []

        def work() -> str:
            for number in range(100):
                reactor.callFromThread(called.append, number)
            return "done"

        assert await deferToThreadPool(reactor, reactor.getThreadPool(), work) == "done"
        assert called == list(range(100))

    run_both(program)


def test_asyncio_beside_twisted(run: Run) -> None:
    """Libraries of asyncio run on the reactor's loop."""
    import asyncio

    async def program(reactor: Any) -> None:
        async def with_asyncio() -> str:
            await asyncio.sleep(0.01)
            assert asyncio.get_running_loop() is reactor.loop
            return "slept"

        assert await Deferred.fromFuture(reactor.loop.create_task(with_asyncio())) == "slept"

    run(program)


def test_forked_before_it_runs() -> None:
    """A port opened before a fork serves in the child, whose loop is its own; the parent's is left alone."""
    reactor = make_uv()
    server = Recorder()
    port = reactor.listenTCP(0, Counted(server), interface="127.0.0.1")
    reactor.callLater(0, lambda: None)
    child = os.fork()
    if child == 0:
        status = 1
        try:

            async def serve(reactor: Any) -> None:
                await server.until_received(5)
                server.transport.write(server.received)
                await server.until("lost")

            run_on(reactor, serve)
            status = 0
        finally:
            os._exit(status)
    peer = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=5)
    peer.sendall(b"hello")
    assert peer.recv(5) == b"hello"
    peer.close()
    assert os.waitpid(child, 0)[1] == 0

    async def go_on(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        await connected(reactor, server, client)
        client.transport.write(b"x")
        await server.until("data")

    run_on(reactor, go_on)


def wait_for(condition: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


APPLICATION = """
import signal
from twisted.application import service, strports
from twisted.internet import protocol, utils

class Commands(protocol.Protocol):
    def dataReceived(self, data):
        utils.getProcessOutput("/bin/echo", [data]).addCallback(self.transport.write)

class Signals(service.Service):
    def startService(self):
        from twisted.internet import reactor
        signal.signal(signal.SIGHUP, lambda *_: reactor.callFromThread(print, "reloaded", reactor.__class__.__name__))

application = service.Application("test")
Signals().setServiceParent(application)
strports.service("unix:socket", protocol.Factory.forProtocol(Commands)).setServiceParent(application)
strports.service("tcp:0:interface=127.0.0.1", protocol.Factory.forProtocol(Commands)).setServiceParent(application)
"""


def test_daemon(tmp_path: Path) -> None:
    """``twistd --reactor=stickyproxy-uv`` leaves the terminal, serves, runs processes, and obeys signals."""
    (tmp_path / "service.py").write_text(APPLICATION)
    started = subprocess.run(
        [TWISTD, "--reactor=stickyproxy-uv", "--logfile=log", "--pidfile=pid", "-y", "service.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=30,
    )
    assert (started.returncode, started.stdout, started.stderr) == (0, b"", b"")
    log = tmp_path / "log"
    wait_for(
        lambda: log.exists() and re.search(r"Factory starting on \d", log.read_text()) and (tmp_path / "pid").exists()
    )
    pid = int((tmp_path / "pid").read_text())
    try:
        port = re.search(r"Factory starting on (\d+)", log.read_text())
        assert port is not None
        peer = socket.create_connection(("127.0.0.1", int(port[1])), timeout=10)
        peer.sendall(b"hello")
        assert peer.recv(100) == b"hello\n"
        os.kill(pid, signal.SIGHUP)
        wait_for(lambda: "reloaded UVReactor" in log.read_text())
        peer.sendall(b"still here")
        assert peer.recv(100) == b"still here\n"
    finally:
        os.kill(pid, signal.SIGTERM)
    assert peer.recv(1) == b""
    wait_for(lambda: "Server Shut Down" in log.read_text())
    wait_for(lambda: not (tmp_path / "pid").exists())
    assert "Traceback" not in log.read_text()
