"""A backend is killed under load: what can be served elsewhere is, what cannot is told so, once."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from clients import all_of, body_of, configuration, port_of, trusting, wait_until
from parts import Backend, Proxy, converse
from websockets.sync.client import connect as open_websocket

NAMES = ("a", "b", "c", "d")
CLIENTS, REQUESTS, FALL = 60, 40, 600

Backends = Callable[..., list[Backend]]
Answer = tuple[int, str, list[str]]


async def ask(session: aiohttp.ClientSession, method: str, url: str) -> Answer:
    """Status, who answered, and the cookies that were set."""
    async with session.request(method, url, data=b"content" if method == "POST" else None) as answer:
        backend = (await answer.json())["backend"] if answer.status == 200 else ""
        return answer.status, backend, answer.headers.getall("Set-Cookie", [])


def client(**more: Any) -> aiohttp.ClientSession:
    """Somebody with cookies of his own, and one connection."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=1, **more), cookie_jar=aiohttp.CookieJar(unsafe=True)
    )


def total(backend: Backend) -> int:
    """How many requests it has had, without this one."""
    told = body_of(converse(backend.port, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"))
    return int(told["total"]) - 1


def has_had(backend: Backend, requests: int) -> None:
    """Wait until it has had so many."""
    asked = itertools.count()
    wait_until(lambda: total(backend) - next(asked) >= requests)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_killed_backend_costs_no_request_that_can_be_retried(
    proxy: Callable[..., Proxy],
    backends: Backends,
    certificate: Callable[..., Path],
    authority_file: Path,
    tmp_path: Path,
    scheme: str,
) -> None:
    """60 busy clients, one of four backends is killed: no GET fails, no POST is done twice, each session moves once."""
    servers = backends(*NAMES)
    log = tmp_path / "access.log"
    running = proxy(configuration(servers, f'access_log = "{log}"', certificate=certificate("localhost")))
    url = f"{scheme}://localhost:{port_of(running, 'web' if scheme == 'http' else 'secure')}/work?seconds=0.01"
    trust = trusting(authority_file)
    answered = 0
    killing: list[asyncio.Task[None]] = []

    async def work(method: str) -> list[Answer]:
        nonlocal answered
        answers = []
        async with client(ssl=trust) as session:
            for _ in range(REQUESTS):
                answers.append(await ask(session, method, url))
                answered += 1
                if answered == FALL:
                    killing.append(asyncio.create_task(asyncio.to_thread(servers[0].kill)))
        return answers

    async def everybody() -> list[list[Answer]]:
        ways = await all_of((work("POST" if number % 2 else "GET") for number in range(CLIENTS)), 60)
        await killing[0]
        return ways

    ways = asyncio.run(everybody())
    for number, way in enumerate(ways):
        failed = [status for status, _, _ in way if status != 200]
        assert failed in ([], [502]) if number % 2 else failed == []
        served = [backend for _, backend, _ in way if backend]
        moved = served[0] == "a"
        assert served == sorted(served, key=lambda backend: backend != "a")  # once away, never back
        assert len(set(served)) == 1 + moved
        assert sum(len(cookies) for _, _, cookies in way) == 1 + moved
    assert Counter(way[0][1] for way in ways) == dict.fromkeys(NAMES, CLIENTS // 4)
    assert {way[-1][1] for way in ways if way[0][1] == "a"} == {"b", "c", "d"}
    done = Counter(backend for way in ways for _, backend, _ in way)
    assert [total(server) for server in servers[1:]] == [done[name] for name in NAMES[1:]]
    wait_until(lambda: len(log.read_text().splitlines()) == CLIENTS * REQUESTS)  # nobody asked twice behind my back
    assert set(re.findall(r'HTTP/1\.1" (\d+)', log.read_text())) <= {"200", "502"}


def test_requests_in_progress_at_the_kill(proxy: Callable[..., Proxy], backends: Backends) -> None:
    """What the killed backend was working on: GETs are done by another, POSTs are 502, once."""
    servers = backends("a", "b")
    place = f"http://localhost:{port_of(proxy(configuration(servers)))}"

    async def everybody() -> tuple[list[Answer], list[Answer], list[Answer]]:
        sessions = [client() for _ in range(12)]
        first = [await ask(session, "GET", place) for session in sessions]
        waiting = [
            asyncio.create_task(ask(session, "POST" if number % 4 < 2 else "GET", f"{place}/slow?seconds=1"))
            for number, session in enumerate(sessions)
        ]
        for server in servers:
            await asyncio.to_thread(has_had, server, 12)
        await asyncio.to_thread(servers[0].kill)
        second = await asyncio.gather(*waiting)
        third = [await ask(session, "GET", place) for session in sessions]
        for session in sessions:
            await session.close()
        return first, second, third

    first, second, third = asyncio.run(asyncio.wait_for(everybody(), 30))
    assert Counter(backend for _, backend, _ in first) == {"a": 6, "b": 6}
    for number, (before, during, after) in enumerate(zip(first, second, third, strict=True)):
        moves = before[1] == "a"
        lost = moves and number % 4 < 2
        assert during[:2] == ((502, "") if lost else (200, "b"))
        assert after[:2] == (200, "b")
        assert len(before[2]) == 1
        assert (len(during[2]), len(after[2])) == ((0, 1) if lost else (1, 0) if moves else (0, 0))


def test_backend_comes_back(proxy: Callable[..., Proxy], backends: Backends) -> None:
    """After its restart a backend serves new clients again; who was moved away stays where he is."""
    servers = backends("a", "b")
    place = f"http://localhost:{port_of(proxy(configuration(servers)))}"

    async def story() -> None:
        async with client() as one, client() as two:
            ones, twos = (await ask(one, "GET", place))[1], (await ask(two, "GET", place))[1]
            assert {ones, twos} == {"a", "b"}
            away = servers["ab".index(ones)]
            await asyncio.to_thread(away.kill)
            assert (await ask(one, "GET", place))[:2] == (200, twos)
            await asyncio.to_thread(away.start)
            assert [(await ask(one, "GET", place))[1:] for _ in range(3)] == [(twos, [])] * 3
        for _ in range(2):
            async with client() as new, client() as newer:
                assert {(await ask(each, "GET", place))[1] for each in (new, newer)} == {"a", "b"}

    asyncio.run(asyncio.wait_for(story(), 30))


def test_websocket_moves_before_it_is_open(proxy: Callable[..., Proxy], backends: Backends) -> None:
    """My backend is dead when I open a WebSocket: another accepts it, and its 101 rebinds me, once."""
    servers = backends("a", "b")
    url = f"ws://localhost:{port_of(proxy(configuration(servers)))}/"

    def open_and_ask(cookie: str | None) -> tuple[str, str | None]:
        with open_websocket(url, additional_headers={"Cookie": cookie} if cookie else {}) as opened:
            assert opened.response is not None
            morsels = SimpleCookie(opened.response.headers.get("Set-Cookie", ""))
            new = [f"{morsel.key}={morsel.value}" for morsel in morsels.values()]
            return json.loads(opened.recv())["backend"], new[0] if new else None

    first, cookie = open_and_ask(None)
    assert cookie is not None
    assert open_and_ask(cookie) == (first, None)
    servers["ab".index(first)].kill()
    second, renewed = open_and_ask(cookie)
    assert second != first and renewed not in (None, cookie)
    assert open_and_ask(renewed) == (second, None)


def test_all_are_dead(proxy: Callable[..., Proxy], backends: Backends) -> None:
    """No backend left: 502 for every request at once, and service again as soon as one is back."""
    servers = backends("a", "b")
    port = port_of(proxy(configuration(servers)))
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert b" 200 OK" in converse(port, request)
    for server in servers:
        server.kill()
    for _ in range(4):
        assert converse(port, request).startswith(b"HTTP/1.1 502 ")
    servers[1].start()
    for _ in range(4):
        assert body_of(converse(port, request))["backend"] == "b"
