"""Backends that die and come back, under load and with probes: nobody notices but the log."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import trustme
from clients import body_of, port_of, wait_until
from parts import Backend, Proxy, converse

INTERVAL, FALL, RISE = 0.5, 3, 2
TOML = """
[frontend.web]
listen = "tcp:0:interface=127.0.0.1"
cluster = "app"
access_log = false
[frontend.chat]
listen = "tcp:0:interface=127.0.0.1"
cluster = "chat"
access_log = false
[frontend.secure]
listen = "tcp:0:interface=127.0.0.1"
cluster = "secure"
access_log = false
[cluster.app]
affinity = "cookie"
probe = {{ by = "http", path = "/healthz", body = '"backend"', interval = "500ms", fall = 3, rise = 2 }}
backends = {{ {app} }}
[cluster.chat]
probe = {{ by = "websocket", path = "/ws", ping = true, interval = "250ms" }}
backends = {{ {app} }}
[cluster.secure]
probe = {{ by = "http", path = "/", interval = "250ms", fall = 1, rise = 1 }}
tls = {{ ca = "ca.pem", server_name = "localhost" }}
backends = {{ right = "{right}", wrong = "{wrong}" }}
"""


def test_a_backend_dies_and_comes_back(
    proxy: Callable[..., Proxy],
    backends: Callable[..., list[Backend]],
    certificate: Callable[..., Path],
    authority: trustme.CA,
    tmp_path: Path,
) -> None:
    """One of three is killed under load and started again: no GET fails, it is down and up again in time.

    At the same time two more clusters are probed: WebSockets with a ping, and a backend that cannot prove its name.
    """
    servers = backends("a", "b", "c")
    (right,), (wrong,) = (
        backends(name, certificate=certificate(host)) for name, host in (("right", "localhost"), ("wrong", "b.example"))
    )
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    toml = TOML.format(
        app=", ".join(f'{server.name} = "{server.endpoint}"' for server in servers),
        right=right.endpoint,
        wrong=wrong.endpoint,
    ).replace("ca.pem", str(tmp_path / "ca.pem"))
    running = proxy(toml)
    url = f"http://127.0.0.1:{port_of(running)}/work"
    stopped = False
    told: dict[str, float] = {}

    async def work() -> list[int]:
        statuses = []
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            while not stopped:
                async with session.get(url) as answer:
                    statuses.append(answer.status)
                    await answer.read()
                await asyncio.sleep(0.005)
        return statuses

    async def everybody() -> list[list[int]]:
        nonlocal stopped
        clients = asyncio.gather(*(work() for _ in range(12)))
        await asyncio.to_thread(running.wait_for, "Backend wrong of secure is down: ")
        await asyncio.to_thread(running.wait_for, "is up$", count=7)
        await asyncio.to_thread(servers[0].kill)
        begun = time.monotonic()
        await asyncio.to_thread(running.wait_for, "Backend a of app is down: ")
        told["down"] = time.monotonic() - begun
        await asyncio.to_thread(running.wait_for, "Backend a of chat is down: ")
        await asyncio.to_thread(servers[0].start)
        begun = time.monotonic()
        await asyncio.to_thread(running.wait_for, "Backend a of app is up again")
        told["up"] = time.monotonic() - begun
        await asyncio.to_thread(running.wait_for, "Backend a of chat is up again")
        stopped = True
        return await clients

    ways = asyncio.run(asyncio.wait_for(everybody(), 60))
    statuses = [status for way in ways for status in way]
    print(f"{len(statuses)} GETs, down after {told['down']:.2f} s, up again after {told['up']:.2f} s")
    assert set(statuses) == {200}
    assert told["down"] < INTERVAL * FALL + 2 and told["up"] < INTERVAL * RISE + 2  # a busy machine may be late
    assert len(re.findall("Backend a of app is down", running.log)) == 1
    assert "right of secure is down" not in running.log
    wait_until(lambda: served(running) == {"a", "b", "c"})
    answers = [body_of(converse(port_of(running, "secure"), GET))["backend"] for _ in range(6)]
    assert answers == ["right"] * 6


GET = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


def served(running: Proxy) -> set[str]:
    """Who serves newcomers."""
    return {body_of(converse(port_of(running), GET))["backend"] for _ in range(6)}
