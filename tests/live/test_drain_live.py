"""A thousand WebSockets are asked to go, and each of them sees it as its protocol has it."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clients import Server, configuration, port_of
from parts import Proxy

CROWD, WINDOW = 1000, 5.0


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """The proxy has two for each WebSocket; children inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_a_thousand_websockets(proxy: Callable[..., Proxy], capsys: pytest.CaptureFixture[str]) -> None:
    """A stop over 5 seconds: every client gets its Close with 1001, no message is torn, the backend sees clean ends."""
    program = [sys.executable, Path(__file__).with_name("crowd.py"), str(CROWD)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowd:
        assert crowd.stdin is not None and crowd.stdout is not None
        try:
            backend = Server("crowd", int(crowd.stdout.readline().rpartition(" ")[2]))
            running = proxy(configuration([backend], f'process.drain_window = "{WINDOW:g}s"', "access_log = false"))
            crowd.stdin.write(f"{port_of(running)}\n")
            crowd.stdin.flush()
            assert crowd.stdout.readline() == "connected\n"
            began = time.time()
            running.stop(signal.SIGTERM, timeout=40)
            told = json.loads(crowd.stdout.readline())
        finally:
            crowd.kill()
    times = [end - began for end in told["ends"]]
    seconds = [sum(second <= when < second + 1 for when in times) for second in range(8)]
    with capsys.disabled():
        print(
            f"\ndrain of {CROWD}: clients {told['clients']}, backend {told['backend']}, {told['torn']} of "
            f"{told['messages']} messages torn; by the second: {seconds}"
        )
    assert set(told["clients"]) | set(told["backend"]) <= {"1001", "1001 after ours"}
    assert sum(told["clients"].values()) == sum(told["backend"].values()) == CROWD and told["torn"] == 0
    assert told["messages"] > CROWD / 2
    assert max(seconds) < CROWD / 2  # a busy machine bunches them, and they are spread all the same
    assert "cut" not in running.log
