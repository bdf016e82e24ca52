"""Reloads under load: nobody notices, but for those whose backend is gone."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from clients import all_of, port_of, run
from parts import Backend, Proxy

WEBSOCKETS, CLIENTS, RELOADS = 100, 20, 10
FILE = """
access_log = false
[frontend.web]
listen = "tcp:0:interface=127.0.0.1"
cluster = "app"
{frontend}
[cluster.app]
affinity = {{ by = "cookie", secure = false }}
{cluster}
[cluster.app.backends]
{backends}
"""


def file(backends: list[Backend], *, frontend: str = "", cluster: str = "") -> str:
    told = "\n".join(f'{backend.name} = "{backend.endpoint}"' for backend in backends)
    return FILE.format(backends=told, frontend=frontend, cluster=cluster)


async def reloaded(proxy: Proxy, text: str, times: int) -> None:
    """``text`` is in the file, and SIGHUP for the ``times``-th time has made it run."""
    proxy.config.write_text(text)
    proxy.process.send_signal(signal.SIGHUP)
    await asyncio.to_thread(proxy.wait_for, r"proxy\.toml is loaded", count=times)


class Crowd:
    """WebSockets with a message every 100 ms, and clients that ask for one thing after another."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.messages = self.requests = 0
        self.failures: list[str] = []
        self.moved: list[tuple[str, str]] = []
        self.homes: Counter[str] = Counter()
        self._stop = asyncio.Event()

    async def during(self, deed: Callable[[], Awaitable[None]]) -> None:
        ready = [asyncio.Event() for _ in range(WEBSOCKETS + CLIENTS)]
        tasks = [asyncio.create_task(self._websocket(ready[n])) for n in range(WEBSOCKETS)]
        tasks += [asyncio.create_task(self._client(ready[WEBSOCKETS + n])) for n in range(CLIENTS)]
        await all_of((event.wait() for event in ready), 30)
        await deed()
        self._stop.set()
        await all_of(tasks, 30)

    async def _websocket(self, ready: asyncio.Event) -> None:
        try:
            async with aiohttp.ClientSession() as session, session.ws_connect(f"{self.url}/socket") as socket:
                self.homes[json.loads(await socket.receive_str())["backend"]] += 1
                ready.set()
                while not self._stop.is_set():
                    await socket.send_str(f"message {self.messages}")
                    sent = await socket.receive(10)
                    if sent.type is not aiohttp.WSMsgType.TEXT:
                        self.failures.append(f"websocket: {sent}")
                        return
                    self.messages += 1
                    await asyncio.sleep(0.1)
        except Exception as error:
            self.failures.append(f"websocket: {error!r}")
            ready.set()

    async def _client(self, ready: asyncio.Event) -> None:
        jar = aiohttp.CookieJar(unsafe=True)
        home = None
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            while not self._stop.is_set():
                try:
                    async with session.get(f"{self.url}/request") as answer:
                        record: dict[str, Any] = await answer.json()
                        if answer.status != 200:
                            self.failures.append(f"GET: {answer.status}")
                except Exception as error:
                    self.failures.append(f"GET: {error!r}")
                    continue
                finally:
                    ready.set()
                self.requests += 1
                if home not in (None, record["backend"]):
                    self.moved.append((str(home), record["backend"]))
                home = record["backend"]


def test_reloads_under_load(tmp_path: Path) -> None:
    """100 WebSockets and 20 busy clients do not notice ten reloads; who moves was bound to what is gone."""
    with Backend("a") as a, Backend("b") as b, Backend("c") as c, Proxy(tmp_path, file([a, b])) as proxy:

        async def go() -> tuple[Crowd, list[float]]:
            crowd, took = Crowd(f"http://127.0.0.1:{port_of(proxy)}"), []

            async def reloads() -> None:
                for number in range(1, RELOADS + 1):
                    began = time.monotonic()
                    await reloaded(proxy, file([a, b, c] if number % 2 else [a, b]), number)
                    took.append(time.monotonic() - began)
                    await asyncio.sleep(0.3)  # of load between two

            await crowd.during(reloads)
            return crowd, took

        crowd, took = asyncio.run(go())
        print(
            f"\n{RELOADS} reloads: {crowd.messages} messages of {WEBSOCKETS} WebSockets, {crowd.requests} requests of "
            f"{CLIENTS} clients, {len(crowd.failures)} failures, {len(crowd.moved)} sessions moved; "
            f"a reload took {max(took) * 1000:.0f} ms at most"
        )
        assert crowd.failures == []
        assert crowd.moved == []
        assert crowd.messages > WEBSOCKETS and crowd.requests > CLIENTS
        assert set(crowd.homes) == {"a", "b"}


def test_a_bad_file_changes_nothing(tmp_path: Path) -> None:
    """Every mistake is told and what runs goes on; the next right file holds on open connections, too."""
    with Backend("a") as a, Backend("b") as b, Proxy(tmp_path, file([a])) as proxy:

        async def go() -> None:
            url = f"http://127.0.0.1:{port_of(proxy)}/"
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:

                async def ask(**fields: str) -> int:
                    async with session.get(url, headers=fields) as answer:
                        return answer.status

                assert await ask(x="1" * 3000) == 200
                proxy.config.write_text(file([a, b], cluster='balance = "round-robbin"'))
                proxy.process.send_signal(signal.SIGHUP)
                await asyncio.to_thread(proxy.wait_for, "the one before goes on")
                assert "cluster.app.balance" in proxy.log and "round-robin" in proxy.log
                assert await ask(x="1" * 3000) == 200
                await reloaded(proxy, file([a, b], frontend='limits.head = "2KiB"'), 1)
                await asyncio.to_thread(proxy.wait_for, "frontend.web.limits.head 65536 → 2048")
                assert await ask(x="1" * 3000) == 431

        asyncio.run(go())


def test_files_are_watched(tmp_path: Path) -> None:
    """A changed file is loaded without a signal, a bad one is told once, and --plan says it beforehand."""
    watching = '\n[process]\nwatch = "100ms"\n'
    with Backend("a") as a, Backend("b") as b, Proxy(tmp_path, file([a]) + watching) as proxy:
        new = tmp_path / "new.toml"
        new.write_text(file([a, b]) + watching)
        twistd = Path(proxy.arguments[0])
        planned = run(twistd, "-n", "stickyproxy", "--config", proxy.config, "--plan", new)
        assert planned.stdout.decode().startswith(f"cluster.app.backends.b added ({b.endpoint})\n(from the files"), (
            planned
        )
        proxy.config.write_text("nonsense")
        proxy.wait_for("the one before goes on")
        proxy.config.write_text(new.read_text())
        proxy.wait_for(r"cluster\.app\.backends\.b added")
        assert proxy.log.count("the one before goes on") == 1
