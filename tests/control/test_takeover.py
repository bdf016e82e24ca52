"""A new process takes over from a running one: sockets, sessions, and what is learned in between."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs

from stickyproxy.control.handover import Handover, follow
from stickyproxy.control.takeover import BATCH, CannotTakeOver, Predecessor
from stickyproxy.sansio.records import Bind, Forget
from stickyproxy.sansio.replicas import Authority
from stickyproxy.sansio.sessions import Session, SessionTable

NOW = 1_000_000.0


class Running:
    """A process that runs: two listening sockets and two tables of sessions."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = path
        self.tables = {name: SessionTable(lambda: NOW) for name in ("cluster app", "group shop")}
        self.left: list[int] = []
        self.tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        self.unix.bind(str(path.with_name("web")))
        self.unix.listen()
        listening = [("tcp:0", self.tcp), ("unix:web", self.unix)]
        self.handover = Handover(
            path, reactor, lambda: listening, lambda: self.tables, self.left.append, lambda: {"closed": ["web"]}
        )
        self.handover.startService()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def running(tmp_path: Path, stack: ExitStack) -> Running:
    return Running(tmp_path / "door", stack)


async def turns(condition: Callable[[], object]) -> None:
    """Until it holds."""
    for _ in range(1000):
        if condition():
            return
        await deferLater(reactor, 0.01)
    raise AssertionError("it does not come true")


async def met(running: Running) -> Predecessor:
    found = await deferToThread(Predecessor.find, running.path)
    assert found is not None
    return found


@ensureDeferred
async def test_the_whole_way(running: Running, stack: ExitStack) -> None:
    """Sockets, sessions and what changes meanwhile come over; then the old process is told to go, once."""
    app = running.tables["cluster app"]
    for number in range(3 * BATCH):
        app.bind((b"key %d" % number, b"\xff\0 other %d" % number), f"backend {number % 7}")
    app.bind((b"short",), "a", 60.0)
    predecessor = await met(running)
    assert [endpoint for endpoint, _ in predecessor.sockets] == ["tcp:0", "unix:web"]
    assert predecessor.settings == {"closed": ["web"]}
    for (_, sock), original in zip(predecessor.sockets, (running.tcp, running.unix), strict=True):
        stack.enter_context(sock)
        assert sock.getsockname() == original.getsockname() and sock.fileno() != original.fileno()
    tables = {name: SessionTable(lambda: NOW) for name in (*running.tables, "cluster new")}
    assert await deferToThread(predecessor.take_sessions, tables) == 3 * BATCH + 1
    assert sorted(tables["cluster app"].sessions()) == sorted(app.sessions())
    assert not len(tables["group shop"]) and running.left == []

    app.bind((b"learned",), "late")
    app.forget(b"key 7")
    running.tables["group shop"].bind((b"user", b"other name"), "b")
    ended: list[bool] = []
    predecessor.serve_on(reactor, tables, lambda: ended.append(True))
    app.bind((b"learned at the very end",), "later")
    await turns(lambda: running.left and tables["cluster app"].find(b"learned at the very end"))
    assert running.left == [os.getpid()]
    assert tables["cluster app"].find(b"learned") == "late"
    assert tables["cluster app"].find(b"\xff\0 other 7") is None
    assert tables["group shop"].session(b"user") == running.tables["group shop"].session(b"other name")

    door = Handover(running.path, reactor, list, dict, print)  # the new one's own
    door.startService()
    assert ended == []
    await running.handover.stopService()
    await turns(lambda: ended)
    assert running.path.exists()  # the old one took only its own file away
    await door.stopService()
    assert not running.path.exists()
    await turns(lambda: running.handover.successor is None)
    assert "bind" not in vars(app)


@ensureDeferred
async def test_the_new_one_fails_to_start(running: Running) -> None:
    """It hangs up before it serves: the old one goes on, follows nothing any more, and the next one may come."""
    for _ in range(2):
        predecessor = await met(running)
        for _, sock in predecessor.sockets:
            sock.close()
        await deferToThread(predecessor.take_sessions, {})
        assert "bind" in vars(running.tables["cluster app"])
        with pytest.raises(CannotTakeOver, match="taking over already"):
            await met(running)
        with capturedLogs() as events:
            predecessor.close()
            await turns(lambda: running.handover.successor is None)
        assert any("has not taken over" in event["log_format"] for event in events)
        assert "bind" not in vars(running.tables["cluster app"])
    assert running.left == []
    await running.handover.stopService()


@ensureDeferred
async def test_nobody_is_there(tmp_path: Path) -> None:
    """No file, or one that a crash has left: there is nobody to take over from, and the place is free."""
    path = tmp_path / "door"
    assert Predecessor.find(path) is None
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert Predecessor.find(path) is None
    handover = Handover(path, reactor, list, dict, print)
    handover.startService()
    assert path.stat().st_mode & 0o777 == 0o600 and [each.name for each in tmp_path.iterdir()] == ["door"]
    await handover.stopService()
    assert not path.exists()


@ensureDeferred
async def test_what_makes_no_sense(running: Running) -> None:
    """Another version of the conversation is refused with words; noise ends the connection, and costs nothing else."""

    def say(line: bytes) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(running.path))
            connection.sendall(line + b"\n")
            return json.loads(connection.makefile().readline() or "{}")  # type: ignore[no-any-return]

    told = await deferToThread(say, b'{"want": "sockets", "protocol": 99, "pid": 1}')
    assert "protocol" in told["refused"]
    for noise in (b"GET / HTTP/1.1\r", b"[]", b'{"want": "sockets"}', b'{"want": 7}', b"x" * 10_000):
        await turns(lambda: running.handover.successor is None)
        assert set(await deferToThread(say, noise)) <= {"refused"}
    await turns(lambda: running.handover.successor is None)
    predecessor = await met(running)
    predecessor.close()
    for _, sock in predecessor.sockets:
        sock.close()
    assert running.left == []
    await running.handover.stopService()


@ensureDeferred
async def test_the_place_is_not_for_us(tmp_path: Path) -> None:
    """A path where nothing can be made is told in a sentence."""
    handover = Handover(tmp_path / "missing" / "door", reactor, list, dict, print)
    with pytest.raises(CannotTakeOver, match="No such file or directory"):
        handover.startService()


@ensureDeferred
async def test_the_place_is_a_file(tmp_path: Path) -> None:
    """A path that is a file of mine by mistake is told, and the file stays."""
    path = tmp_path / "stickyproxy.toml"
    path.write_text("mine")
    with pytest.raises(CannotTakeOver, match="no socket"):
        Handover(path, reactor, list, dict, print).startService()
    assert path.read_text() == "mine" and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else, and take over from somebody else")
@pytest.mark.parametrize("mode", [0o1777, 0o755])
def test_a_stranger_in_a_place_for_everyone(tmp_path: Path, mode: int) -> None:
    """Root takes over from the user that the proxy has become, but from nobody who may have come in between."""
    path = tmp_path / "door"
    tmp_path.chmod(mode)
    program = (
        "import os, socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.setuid(65534); s.listen()\n"
        'print(flush=True); c = s.accept()[0]; c.recv(9); c.sendall(b\'{"refused": "met"}\\n\'); c.recv(9999)'
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout is not None and stranger.stdout.readline()
        with pytest.raises(CannotTakeOver, match="another user" if mode == 0o1777 else "met"):
            Predecessor.find(path)
        stranger.kill()


def test_workers_change_sessions_too() -> None:
    """What a worker binds while another process takes over is told to that; what the former says, to the workers."""
    told: list[bytes] = []
    sent: list[bytes] = []
    table = Authority("cluster app", lambda: NOW, lambda child, data: sent.append(data), lambda: None)
    unfollow = follow(table, told.extend)
    list(table.enter("worker"))
    table.received("worker", [Bind((b"ann",), (), "a", "", None), Forget(b"bob", ())])
    table.bind((b"eve",), "b")
    assert told == [b"ann", b"bob", b"eve", b"eve"]
    unfollow()
    table.flush()
    table.restore(Session((b"dan",), "a", NOW, float("inf")))
    table.flush()
    assert len(told) == 4 and b"dan" in sent[-1] and b"dan" not in sent[0]
