"""More clients than backends may serve at a time: who waits, who is refused, and that nobody is lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable

import aiohttp
from clients import connect, port_of, read_all, read_until
from parts import Backend, Proxy

TOML = """
[frontend.web]
listen = "tcp:0:interface=127.0.0.1"
cluster = "app"
access_log = false
[frontend.raw]
listen = "tcp:0:interface=127.0.0.1"
protocol = "tcp"
cluster = "raw"
access_log = false
[cluster.app]
affinity = "cookie"
max_connections = 8
queue = {{ size = 16, timeout = "20s" }}
backends = {{ {app} }}
[cluster.raw]
max_connections = 1
queue = {{ timeout = "500ms" }}
backends = {{ echo = "{echo}" }}
"""


def test_a_rush(proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]]) -> None:
    """60 clients at once, at two backends that serve eight each: 32 get their turn, the others are told at once.

    No backend sees more than eight at a time; each client that is served again is served where it was. A second
    connection of TCP is closed, where one is all that its backend serves.
    """
    servers = backends("a", "b")
    (echo,) = backends("echo", tcp=True)
    running = proxy(TOML.format(app=", ".join(f'{s.name} = "{s.endpoint}"' for s in servers), echo=echo.endpoint))
    url = f"http://127.0.0.1:{port_of(running)}/work"

    async def visit(seconds: float, cookie: str = "") -> tuple[int, str, str, float, float]:
        begun = time.monotonic()
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            headers = {"Cookie": cookie} if cookie else {}
            async with session.get(f"{url}?seconds={seconds}", headers=headers) as answer:
                content = await answer.read()
                if answer.status != 200:
                    assert answer.headers["Retry-After"] == "5"
                    return answer.status, "", "", begun, time.monotonic()
                morsel = answer.cookies.get("SRV")
                kept = f"SRV={morsel.value}" if morsel else cookie
                return 200, json.loads(content)["backend"], kept, begun, time.monotonic()

    async def rush() -> None:
        seen = await asyncio.gather(*(visit(2) for _ in range(60)))
        statuses = Counter(status for status, *_ in seen)
        assert statuses == {200: 32, 503: 28}, statuses
        assert Counter(name for status, name, *_ in seen if status == 200) == {"a": 16, "b": 16}
        took = sorted(ended - begun for status, _, _, begun, ended in seen if status == 200)
        assert took[-1] > 3.8 and took[15] < 3.8  # two turns of eight at each
        bound = [(name, cookie) for status, name, cookie, *_ in seen if status == 200]
        again = await asyncio.gather(*(visit(0.02, cookie) for _, cookie in bound))
        assert [(status, name) for status, name, *_ in again] == [(200, name) for name, _ in bound]
        print(f"served {statuses[200]}, refused {statuses[503]}; the last one after {took[-1]:.2f} s")

    asyncio.run(asyncio.wait_for(rush(), 60))
    with connect(port_of(running, "raw")) as first:
        first.sendall(b"hello")
        assert read_until(first, b"hello")
        with connect(port_of(running, "raw")) as second:
            assert read_all(second) == b""
        first.sendall(b"still there")
        assert read_until(first, b"still there")
