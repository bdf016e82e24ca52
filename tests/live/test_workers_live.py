"""Several processes serve: what they share, and what becomes of one that dies, or is stuck."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from clients import HANDSHAKE, configuration, port_of, run, wait_until
from parts import ROOT, Backend, Proxy, free_port
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
Backends = Callable[..., list[Backend]]


def workers_of(proxy: Proxy) -> list[int]:
    """Process ids of those that serve now."""
    children = Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children").read_text().split()
    return [int(pid) for pid in children if re.search(rf"serves, as process {pid}$", proxy.log, re.MULTILINE)]


def served_by(pid: int, port: int) -> set[int]:
    """Ports of the clients whose connections to ``port`` a process has."""
    ours = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            ours.add(str(descriptor.readlink()))
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *_, inode = line.split()[:10]
        if int(local.rpartition(":")[2], 16) == port and state == "01" and f"socket:[{inode}]" in ours:
            found.add(int(remote.rpartition(":")[2], 16))
    return found


def connect_to_all(proxy: Proxy, port: int, stack: ExitStack) -> list[socket.socket]:
    """As many connections as it takes until each worker has some; while it starts, another accepts for it."""
    connections: list[socket.socket] = []

    def all_have_some() -> bool:
        connections.extend(
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            for _ in range(len(connections) < 200)
        )
        return len(connections) > 7 and all(served_by(pid, port) for pid in workers_of(proxy))

    wait_until(all_have_some, 20)
    return connections


def ask(connection: socket.socket, *fields: bytes) -> bytes:
    """An answer on a connection that stays."""
    connection.sendall(GET[:-2] + b"".join(field + b"\r\n" for field in fields) + b"\r\n")
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536) or pytest.fail("closed without an answer")
    head, _, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    assert length is not None
    while len(body) < int(length[1]):
        body += connection.recv(65536)
    return head + body


def backend_of(answer: bytes) -> str:
    found = re.search(rb'"backend": "(\w)"', answer)
    assert found is not None, answer
    return found[1].decode()


@contextmanager
def newcomers(port: int) -> Iterator[list[tuple[float, float]]]:
    """Somebody new asks again and again: when each was answered, and after how long. None may fail."""
    answered: list[tuple[float, float]] = []
    failures: list[Exception] = []
    done = threading.Event()

    def come() -> None:
        while not done.is_set():
            began = time.monotonic()
            try:
                with socket.create_connection(("127.0.0.1", port), 10) as connection:
                    ask(connection)
                answered.append((time.monotonic(), time.monotonic() - began))
            except (OSError, pytest.fail.Exception) as failure:
                failures.append(failure)

    threads = [threading.Thread(target=come) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        done.set()
        for thread in threads:
            thread.join()
    # Of each thread the one that was being served when its worker died.
    assert len(failures) <= len(threads), failures


async def lost_and_kept(port: int, proxy: Proxy) -> tuple[set[int], set[int], set[int]]:
    """20 WebSockets that talk, one worker is killed: whose they were, who was cut off, who goes on."""
    sockets: dict[int, ClientConnection] = {}
    for _ in range(20):
        websocket = await open_websocket(f"ws://127.0.0.1:{port}/ws", open_timeout=20)
        await websocket.recv()
        sockets[websocket.local_address[1]] = websocket
    victim = max(workers_of(proxy), key=lambda pid: len(served_by(pid, port)))
    theirs = served_by(victim, port) & sockets.keys()
    os.kill(victim, signal.SIGKILL)
    lost, kept = set(), set()
    for name, websocket in sockets.items():
        try:
            for _ in range(3):
                await websocket.send("hello")
                assert await asyncio.wait_for(websocket.recv(), 10) == "hello"
            kept.add(name)
        except ConnectionClosed:
            lost.add(name)
        await websocket.close()
    return theirs, lost, kept


def test_workers(proxy: Callable[..., Proxy], backends: Backends, capsys: pytest.CaptureFixture[str]) -> None:
    """They know the same clients; a killed one costs its own connections, a stuck one is replaced, none is left."""
    lines = ("access_log = false", "[process]", "workers = 2", 'stuck = "2s"')
    affinity = 'cluster.app.affinity = ["cookie", "header:X-User"]'
    *servers, third = backends("a", "b", "c")
    running = proxy(configuration(servers, affinity, *lines, cookie=False))
    port = port_of(running)
    running.wait_for(r"Worker \d serves", count=2, timeout=60)

    with ExitStack() as stack:  # whoever asks, and whomever, by cookie or without
        kept = connect_to_all(running, port, stack)
        for user in (b"anna", b"bert", b"carl"):
            answers = [ask(connection, b"X-User: " + user) for connection in kept]
            assert len({backend_of(answer) for answer in answers}) == 1
        cookie = re.search(rb"Set-Cookie: (\w+=[^;]+)", ask(kept[0], b"X-User: dora"), re.IGNORECASE)
        assert cookie is not None
        assert len({backend_of(ask(connection, b"Cookie: " + cookie[1])) for connection in kept}) == 1

    with newcomers(port) as answered:
        wait_until(lambda: len(answered) > 20)
        theirs, lost, others = asyncio.run(lost_and_kept(port, running))
        running.wait_for(r"Worker \d serves", count=3, timeout=60)
    assert lost == theirs
    assert others
    times = [when for when, _ in answered]
    gap = max(later - earlier for earlier, later in itertools.pairwise(times))
    with capsys.disabled():
        told = f"{len(lost)} of 20 WebSockets lost, all its own; longest without an answer {gap:.3f} s"
        print(f"A worker killed: {told}")
    assert gap < 5  # below 1 s on a machine that has nothing else to do

    other = free_port()  # another frontend and another backend, while some of the old connections are open
    more = (f'frontend.more = {{ listen = "tcp:{other}:interface=127.0.0.1", cluster = "new" }}', *lines)
    new = f'cluster.new.backends.c = "{third.endpoint}"'
    running.config.write_text(configuration(servers, affinity, new, *more, cookie=False))
    with socket.create_connection(("127.0.0.1", port), 10) as stays:
        ask(stays)
        os.kill(running.pid, signal.SIGHUP)
        running.wait_for(r"proxy.toml is loaded, [1-9]", timeout=30)
        ask(stays)
    with ExitStack() as stack:
        assert {backend_of(ask(connection)) for connection in connect_to_all(running, other, stack)} == {"c"}

    stuck = workers_of(running)[0]
    os.kill(stuck, signal.SIGSTOP)
    running.wait_for(r"it was stuck: it has not answered for 2 s", timeout=30)
    running.wait_for(r"Worker \d serves", count=4, timeout=60)
    assert stuck not in workers_of(running)
    left = workers_of(running)
    running.stop()
    assert [pid for pid in left if Path(f"/proc/{pid}").exists()] == []


def test_no_worker_can_serve(tmp_path: Path) -> None:
    """Where workers cannot even start, the program says why, and ends with status 1."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif 'stickyproxy.worker' in sys.orig_argv: sys.exit('no room for workers')\n"
    )
    path = tmp_path / "proxy.toml"
    path.write_text(
        configuration([], "process.workers = 2", cookie=False) + 'cluster.app.backends.a = "tcp:127.0.0.1:9"\n'
    )
    twistd = Path(sys.executable).with_name("twistd")
    ended = run(
        *("env", f"PYTHONPATH={tmp_path}:{ROOT}", twistd, "-n", "--pidfile=", "stickyproxy", "--config", path),
        timeout=60,
    )
    told = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == 1, told
    assert "no worker can serve: it ended with status 1" in told
    assert "no room for workers" in told


TOKEN = "0123456789abcdef0123456789abcdef"


class Operator:
    """Who asks the admin API."""

    def __init__(self, proxy: Proxy) -> None:
        self.port = int(proxy.wait_for(r"Admin API listens on \S+ 127\.0\.0\.1:(\d+)")[0][1])

    def ask(self, method: str, path: str, body: object = None) -> Any:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        kind = "application/toml" if isinstance(body, str) else "application/json"
        fields = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
        data = body if isinstance(body, str | None) else json.dumps(body)
        connection.request(method, path.replace(" ", "%20"), data, fields)
        answer = connection.getresponse()
        told = json.loads(answer.read())
        connection.close()
        assert answer.status == 200, told
        return told


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 10).close()
    except ConnectionRefusedError:
        return True
    return False


def test_an_operator_of_workers(proxy: Callable[..., Proxy], backends: Backends, tmp_path: Path) -> None:
    """A limit holds over all of them; a plan counts what is open in all; drains reach all, and who comes later."""
    token = tmp_path / "token"
    token.write_text(f"alice {TOKEN}\n")
    token.chmod(0o600)
    port = free_port()
    lines = (
        f'frontend.web = {{ listen = "tcp:{port}:interface=127.0.0.1", cluster = "app" }}',
        'cluster.app.max_connections = 4\ncluster.app.queue.timeout = "60s"',
        f'[admin]\nlisten = "tcp:0:interface=127.0.0.1"\ntoken_file = "{token}"\n[process]\nworkers = 2',
    )
    servers = backends("a", "b")
    running = proxy(configuration(servers[:1], *lines, frontends=("one", "two"), cookie=False))
    running.wait_for(r"Worker \d serves", count=2, timeout=60)
    operator = Operator(running)

    with ExitStack() as stack:
        kept = connect_to_all(running, port, stack)
        theirs = [served_by(pid, port) for pid in workers_of(running)]
        spread = [next(each for each in kept if each.getsockname()[1] in ports) for ports in theirs]
        pool = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for _ in range(10)] + spread
        began = time.monotonic()
        for connection in pool:
            connection.sendall(b"GET /?seconds=0.5 HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_until(lambda: operator.ask("GET", "/api/clusters/app/backends/a")["active"])
        plan = operator.ask(
            "POST", "/api/plan", configuration(servers[1:], *lines, frontends=("one", "two"), cookie=False)
        )
        assert [0 < each["requests"] <= 4 for each in plan["backends"] if each["id"] == "a"] == [True]
        assert "requests and 0 tunnels are open" in " ".join(plan["told"])
        for connection in pool:
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - began > 1.4  # twelve, four at once, half a second each
        wait_until(lambda: operator.ask("PUT", "/api/clusters/app/backends/a", {"weight": 1})["requests"] == 12)

        begun = operator.ask("POST", "/api/drains", {"frontend": "web", "deadline": "20s"})
        assert begun.get("id") == "frontend web", begun
        wait_until(lambda: refused(port))
        for connection in kept:
            assert connection.recv(1) == b""
    ended = operator.ask("GET", "/api/drains/frontend web?wait=20s")
    assert (ended["stage"], ended["sockets"]) == ("done", 0)
    wait_until(lambda: all(each["ended"] for each in operator.ask("GET", "/api/drains")["drains"]))
    os.kill(workers_of(running)[0], signal.SIGKILL)
    running.wait_for(r"Worker \d serves", count=3, timeout=60)
    assert refused(port)
    operator.ask("DELETE", "/api/drains/frontend web")
    with ExitStack() as stack:
        websocket = connect_to_all(running, port, stack)[0]
        websocket.sendall(HANDSHAKE + b"\r\n")
        assert websocket.recv(4096).startswith(b"HTTP/1.1 101")
        operator.ask("POST", "/api/drains", {"cluster": "app", "backend": "a", "stay": "unlimited"})
        (victim,) = (pid for pid in workers_of(running) if websocket.getsockname()[1] not in served_by(pid, port))
        os.kill(victim, signal.SIGKILL)
        running.wait_for(r"Worker \d serves", count=4, timeout=60)
        path = "/api/drains/backend a of app"
        assert (operator.ask("GET", path)["stage"], operator.ask("GET", path)["sockets"]) == ("staying", 1)
        assert operator.ask("GET", "/api/clusters/app/backends/a")["state"] == "drain"
        operator.ask("DELETE", path)
        assert operator.ask("GET", "/api/clusters/app/backends/a")["file"] == {}
        for each in (port, port_of(running, "one"), port_of(running, "two")):  # two of which are written alike
            for connection in connect_to_all(running, each, stack):
                assert backend_of(ask(connection)) == "a"
