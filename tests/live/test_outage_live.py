"""One of four backends is killed under load, and comes back: what that costs whom, and when it is noticed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiohttp
from clients import all_of, port_of
from parts import Backend, Proxy

INTERVAL, FALL, RISE = 0.5, 3, 2
#: Until the first of a row of probes begins, and for the machine to be late.
SLACK = INTERVAL + 1.5
READERS, WRITERS = 40, 12
TOML = """
[frontend.web]
listen = "tcp:0:interface=127.0.0.1"
cluster = "app"
access_log = false
[cluster.app]
affinity = {{ by = "cookie", secure = false }}
sessions = {{ return_home = true }}
probe = {{ by = "http", path = "/healthz", interval = "500ms", fall = 3, rise = 2, jitter = 0 }}
{eject}
backends = {{ {backends} }}
"""


class Client:
    """Asks for one thing after another with one method, and keeps its cookie."""

    def __init__(self, method: str, url: str) -> None:
        self.method = method
        self.url = url
        self.answers = 0
        self.failures: list[str] = []
        self.homes: list[str] = []  # who served it, each change

    async def until(self, stop: asyncio.Event) -> None:
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
            while not stop.is_set():
                try:
                    async with session.request(
                        self.method, self.url, data=None if self.method == "GET" else b"x" * 10
                    ) as answer:
                        record = await answer.json() if answer.status == 200 else None
                except (aiohttp.ClientError, ValueError) as error:
                    self.failures.append(repr(error))
                    continue
                if record is None:
                    self.failures.append(str(answer.status))
                    continue
                self.answers += 1
                if self.homes[-1:] != [record["backend"]]:
                    self.homes.append(record["backend"])
                await asyncio.sleep(0.01)


async def said(proxy: Proxy, pattern: str, since: float) -> float:
    """Seconds since ``since`` when the log has said it."""
    await asyncio.to_thread(proxy.wait_for, pattern)
    return time.monotonic() - since


def test_a_backend_is_killed_under_load(proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]]) -> None:
    """No GET and no PUT fails, a POST only if it was under way; down and up come in time, and who moved goes home."""
    servers = backends("a", "b", "c", "d")
    killed = servers[1]
    told = ", ".join(f'{server.name} = "{server.endpoint}"' for server in servers)
    running = proxy(TOML.format(backends=told, eject=""))
    url = f"http://127.0.0.1:{port_of(running)}/work"
    readers = [Client(method, url) for method in ("GET", "PUT") for _ in range(READERS // 2)]
    writers = [Client("POST", url) for _ in range(WRITERS)]

    async def everything() -> tuple[float, float]:
        stop = asyncio.Event()
        tasks = [asyncio.create_task(client.until(stop)) for client in (*readers, *writers)]
        await asyncio.to_thread(running.wait_for, "of app is up", count=4)
        await asyncio.sleep(0.5)  # of load
        began = time.monotonic()
        killed.kill()
        down = await said(running, "Backend b of app is down", began)
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await asyncio.to_thread(killed.start)
        up = await said(running, "Backend b of app is up again", began)
        async with asyncio.timeout(10):
            while any("b" in client.homes and client.homes[-1] != "b" for client in readers):
                await asyncio.sleep(0.05)
        stop.set()
        await all_of(tasks, 20)
        return down, up

    down, up = asyncio.run(everything())
    failures = [failure for client in readers for failure in client.failures]
    posts = [len(client.failures) for client in writers]
    home = [client for client in readers if "b" in client.homes]
    gets, sent = (sum(client.answers for client in clients) for clients in (readers, writers))
    back = sum(client.homes[-1] == "b" for client in home)
    print(
        f"\nkilled 1 of 4: {len(failures)} of {gets} GETs and PUTs failed, {sum(posts)} of {sent} POSTs; "
        f"down after {down:.2f} s, up after {up:.2f} s, {back} of {len(home)} sessions went home"
    )
    assert failures == []
    assert max(posts) <= 1, [client.failures for client in writers]
    assert down <= INTERVAL * FALL + SLACK and up <= INTERVAL * RISE + SLACK
    assert home and all(len(client.homes) == 3 or client.homes == ["b"] for client in home)
    assert all(len(client.homes) == 1 for client in readers if "b" not in client.homes)


def test_three_failures_are_enough(proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]]) -> None:
    """With ejection nobody waits for a probe: the third client that cannot reach it takes it out."""
    servers = backends("a", "b", "c", "d")
    told = ", ".join(f'{server.name} = "{server.endpoint}"' for server in servers)
    running = proxy(
        TOML.format(backends=told, eject="eject = { failures = 3 }").replace('interval = "500ms"', 'interval = "1h"')
    )
    url = f"http://127.0.0.1:{port_of(running)}/work"
    clients = [Client("GET", url) for _ in range(READERS)]

    async def everything() -> float:
        stop = asyncio.Event()
        tasks = [asyncio.create_task(client.until(stop)) for client in clients]
        await asyncio.to_thread(running.wait_for, "of app is up", count=4)
        await asyncio.sleep(0.3)
        began = time.monotonic()
        servers[1].kill()
        took = await said(running, "Backend b of app is ejected", began)
        stop.set()
        await all_of(tasks, 20)
        return took

    took = asyncio.run(everything())
    failures = [failure for client in clients for failure in client.failures]
    print(f"\nejected after {took:.3f} s, {len(failures)} of {sum(client.answers for client in clients)} GETs failed")
    assert failures == []
