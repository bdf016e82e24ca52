"""What systemd hears of us."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs

from stickyproxy.control.systemd import Notifier, Watchdog


@pytest.fixture(params=["path", "abstract"])
def ear(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, socket.socket]]:
    """What systemd would say is its address, and its end of it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@stickyproxy-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listening:
        listening.bind(name.replace("@", "\0"))
        yield name, listening


def test_states(ear: tuple[str, socket.socket]) -> None:
    """Readiness, reload and stop are what sd_notify(3) and systemd.service(5) ask for."""
    name, listening = ear
    environment = {"NOTIFY_SOCKET": name, "PATH": "/bin"}
    notifier = Notifier.of(environment)
    assert environment == {"PATH": "/bin"}  # no child speaks for us
    notifier.tell(READY=1, STATUS="2 frontends")
    assert listening.recv(1000) == b"READY=1\nSTATUS=2 frontends"
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    told = dict(line.split("=") for line in listening.recv(1000).decode().splitlines())
    assert told["RELOADING"] == "1" and before <= int(told["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
    notifier.stopping(30.0)
    assert listening.recv(1000) == b"STOPPING=1\nEXTEND_TIMEOUT_USEC=30000000"
    notifier.stopping(None)
    assert listening.recv(1000) == b"STOPPING=1"


def test_nobody_to_tell() -> None:
    """Outside systemd nothing happens; and where its socket is gone, we serve all the same."""
    Notifier.of({}).tell(READY=1)
    with capturedLogs() as logs:
        Notifier("/nonexistent/notify").tell(READY=1)
    assert [entry["log_level"] for entry in logs] == [LogLevel.warn]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"WATCHDOG_USEC": "20000000"}, 3),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 3),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, 0),
        ({"WATCHDOG_USEC": "often"}, 0),
        ({"WATCHDOG_USEC": "0"}, 0),
        ({}, 0),
    ],
)
def test_watchdog(ear: tuple[str, socket.socket], environment: dict[str, str], expected: int) -> None:
    """Twice in each interval, while the reactor turns; not for another process, and not once we have stopped."""
    name, listening = ear
    clock = Clock()
    environment = dict(environment)  # it is taken out
    watchdog = Watchdog(Notifier(name), environment, clock)
    watchdog.startService()
    for _ in range(25):
        clock.advance(1)
    watchdog.stopService()
    assert not clock.getDelayedCalls() and not environment
    for _ in range(expected):
        assert listening.recv(1000) == b"WATCHDOG=1"
    with pytest.raises(BlockingIOError):
        listening.recv(1000)
