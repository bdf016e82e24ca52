"""A new version takes the place of the running one: nobody is refused, nothing fails, nobody moves."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
from clients import all_of, body_of, configuration, port_of, read_all, wait_until
from parts import Backend, Program, Proxy, converse
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed

CLIENTS, SOCKETS = 20, 10


class Load:
    """Clients at full speed, WebSockets, and connections for one request each, until ``over``."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/"
        self.answers = self.connections = self.messages = 0
        self.failures: list[str] = []
        self.codes: list[int | None] = []
        self.moved: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        kept = (self._kept(number) for number in range(CLIENTS))
        await all_of([*kept, *(self._socket() for _ in range(SOCKETS)), self._newcomers()], 180)

    async def _kept(self, number: int) -> None:
        """Known by a field that is in a table, on a connection that is used again and again."""
        headers = {"X-User": f"user {number}"}
        home = ""
        jar, connector = aiohttp.CookieJar(unsafe=True), aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(connector=connector, headers=headers, cookie_jar=jar) as session:
            while not self.over.is_set():
                try:
                    method = "POST" if self.answers % 2 else "GET"  # of which aiohttp repeats none
                    async with session.request(method, self.url, data=b"x" if method == "POST" else None) as answer:
                        backend = (await answer.json())["backend"] if answer.status == 200 else str(answer.status)
                    self.answers += 1
                    home = home or backend
                    if backend != home:
                        self.moved.append(f"{headers['X-User']}: {home}, {backend}")
                except (aiohttp.ClientError, OSError) as error:
                    self.failures.append(repr(error))

    async def _socket(self) -> None:
        """Comes again when it is told to go."""
        while not self.over.is_set():
            try:
                async with open_websocket(f"ws://127.0.0.1:{self.port}/") as opened:
                    await opened.recv()
                    while not self.over.is_set():
                        await opened.send("hello")
                        assert await opened.recv() == "hello"
                        self.messages += 1
                        await asyncio.sleep(0.05)  # the pace of this client
            except ConnectionClosed as closed:
                self.codes.append(closed.rcvd.code if closed.rcvd else None)
            except OSError as error:
                self.failures.append(repr(error))

    async def _newcomers(self) -> None:
        while not self.over.is_set():
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                if not (await reader.read()).startswith(b"HTTP/1.1 200 "):
                    self.failures.append("an answer that is none")
                writer.close()
                self.connections += 1
            except OSError as error:
                self.failures.append(repr(error))


@pytest.mark.parametrize("workers", [1, 2])
def test_upgrade_under_load(
    program: Callable[..., Program],
    proxy: Callable[..., Proxy],
    backends: Callable[..., list[Backend]],
    capsys: pytest.CaptureFixture[str],
    workers: int,
) -> None:
    """20 clients at full speed, 10 WebSockets and newcomers all the while; another process serves, and none fails."""
    toml = configuration(
        backends("a", "b", "c"),
        'process.takeover = "door"',
        'process.drain = "10s"',
        f"process.workers = {workers}",
        'cluster.app.affinity.by = "header:X-User"',
        "access_log = false",
        cookie=False,
    )
    old = proxy(toml)
    if workers > 1:
        old.wait_for("Worker [12] serves", count=2, timeout=40)
    load = Load(port_of(old))
    running = threading.Thread(target=load.run)
    running.start()
    try:
        wait_until(lambda: load.answers > 300 and load.messages > 20, 40)
        before = load.answers
        new = program(*old.arguments, cwd=old.directory, env=old.env)
        assert old.process.wait(60) == -signal.SIGTERM or old.process.returncode == 0
        at_end = load.answers
        wait_until(lambda: load.answers > at_end + 300 and len(load.codes) == SOCKETS, 40)
    finally:
        load.over.set()
        running.join(60)
    with capsys.disabled():
        print(
            f"\nupgrade, {workers} workers: {load.answers} answers ({at_end - before} meanwhile), {load.connections} "
            f"newcomers, {load.messages} messages; {len(load.failures)} failed, {len(load.moved)} moved; Close "
            f"{sorted(set(map(str, load.codes)))}"
        )
    assert (load.failures, load.moved, set(load.codes)) == ([], [], {1001})
    assert "Taken over from process" in new.log and "Server Shut Down." in old.log
    assert re.search("Traceback|Unhandled", old.log + new.log) is None
    old.stop()


def test_the_new_one_cannot_start(
    program: Callable[..., Program], proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]]
) -> None:
    """It says why and ends, and the old one goes on; a better one takes over, a Unix socket and sessions included."""
    good = configuration(
        backends("a", "b"),
        'process.takeover = "door"',
        'cluster.app.affinity.by = "header:X-User"',
        'frontend.local.listen = "unix:local"',
        'frontend.local.cluster = "app"',
        cookie=False,
    )
    old = proxy(good)
    port, door, local = port_of(old), old.directory / "door", old.directory / "local"

    def served(user: str, address: Path | None = None) -> str:
        request = f"GET / HTTP/1.1\r\nHost: x\r\nX-User: {user}\r\nConnection: close\r\n\r\n".encode()
        if address is None:
            return str(body_of(converse(port, request))["backend"])
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(address))
            connection.sendall(request)
            return str(body_of(read_all(connection))["backend"])

    users = [f"user {number}" for number in range(9)]
    homes = [served(user) for user in users]
    inode = local.stat().st_ino
    with socket.create_server(("127.0.0.1", 0)) as taken:
        more = f'frontend.more = {{ listen = "tcp:{taken.getsockname()[1]}:interface=127.0.0.1", cluster = "app" }}\n'
        old.config.write_text(good + more)
        bad = program(*old.arguments, cwd=old.directory, env=old.env)
        assert bad.process.wait(40) == 1
    bad.wait_for("stickyproxy: frontend more cannot listen on .*: Address already in use", timeout=1)
    assert [served(user) for user in users] == homes and door.exists() and "has taken over" not in old.log
    old.config.write_text(good)
    new = program(*old.arguments, cwd=old.directory, env=old.env)
    assert old.process.wait(40) == -signal.SIGTERM or old.process.returncode == 0
    new.wait_for("Taken over from process", timeout=40)
    assert [served(user) for user in users] == homes == [served(user, local) for user in users]
    assert local.stat().st_ino == inode and door.exists()
    old.stop()
    new.stop()
    assert not local.exists() and not door.exists()


def test_by_signal(proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]], tmp_path: Path) -> None:
    """SIGUSR2: the running process starts another of what is installed now; systemd is told that it is the one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(20)
        toml = configuration(backends("a"), 'process.takeover = "door"')
        old = proxy(toml, env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        old.process.send_signal(signal.SIGUSR2)
        pid = int(old.wait_for(r"Process (\d+) has taken over", timeout=40)[0][1])
        try:
            assert old.process.wait(40) == -signal.SIGTERM or old.process.returncode == 0
            answer = converse(port_of(old), b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert body_of(answer)["backend"] == "a"
        finally:
            os.kill(pid, signal.SIGTERM)
        told = "\n".join(iter(lambda: ear.recv(4096).decode(), "STOPPING=1\nSTATUS=Draining"))
    assert re.findall(r"READY=1|MAINPID=\d+", told) in (
        ["READY=1", f"MAINPID={pid}", "READY=1"],
        ["READY=1", "READY=1", f"MAINPID={pid}"],
    )
    old.stop()
