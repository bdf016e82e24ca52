"""A session stays on its backend: 200 clients with cookies, over HTTP, HTTPS and WebSockets."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from clients import all_of, configuration, port_of, trusting
from parts import Backend, Proxy

NAMES = ("a", "b", "c", "d")
CLIENTS, REQUESTS = 200, 20

Ask = Callable[[aiohttp.ClientSession, str, int], Awaitable[tuple[str, list[str]]]]


async def by_request(session: aiohttp.ClientSession, url: str, number: int) -> tuple[str, list[str]]:
    async with session.get(f"{url}/request/{number}") as answer:
        assert answer.status == 200
        return (await answer.json())["backend"], answer.headers.getall("Set-Cookie", [])


async def by_websocket(session: aiohttp.ClientSession, url: str, number: int) -> tuple[str, list[str]]:
    async with session.ws_connect(f"{url}/socket/{number}") as tunnel:
        record = json.loads(await tunnel.receive_str())
        await tunnel.send_str("here")
        assert await tunnel.receive_str() == "here"
        return record["backend"], tunnel._response.headers.getall("Set-Cookie", [])


def sessions(
    ask: Ask, url: str, trust: ssl.SSLContext, *, requests: int, connections: int
) -> list[list[tuple[str, list[str]]]]:
    """For each client, each answer's backend and cookies. ``connections``: how many they share; 0: each has its own."""

    async def client(shared: aiohttp.TCPConnector | None) -> list[tuple[str, list[str]]]:
        connector = shared or aiohttp.TCPConnector(limit=1, ssl=trust)
        async with aiohttp.ClientSession(
            connector=connector, connector_owner=shared is None, cookie_jar=aiohttp.CookieJar(unsafe=True)
        ) as session:
            return [await ask(session, url, number) for number in range(requests)]

    async def everyone() -> list[list[tuple[str, list[str]]]]:
        shared = aiohttp.TCPConnector(limit=connections, ssl=trust) if connections else None
        try:
            return await all_of((client(shared) for _ in range(CLIENTS)), 60)
        finally:
            if shared is not None:
                await shared.close()

    return asyncio.run(everyone())


@pytest.mark.parametrize(
    ("scheme", "ask", "connections", "requests"),
    [
        ("http", by_request, 0, REQUESTS),
        ("http", by_request, 20, REQUESTS),
        ("https", by_request, 0, REQUESTS),
        ("ws", by_websocket, 0, REQUESTS),
        ("wss", by_websocket, 0, 5),  # a TLS handshake for each takes the test's client long
    ],
    ids=["http", "http-shared", "https", "ws", "wss"],
)
def test_every_client_stays_with_its_first_backend(
    proxy: Callable[..., Proxy],
    backends: Callable[..., list[Backend]],
    certificate: Callable[..., Path],
    authority_file: Path,
    scheme: str,
    ask: Ask,
    connections: int,
    requests: int,
) -> None:
    """200 clients, 20 requests each: all after the first go where that went, with one cookie, on any connection."""
    running = proxy(configuration(backends(*NAMES), "access_log = false", certificate=certificate("localhost")))
    secure = scheme in ("https", "wss")
    url = f"{scheme}://localhost:{port_of(running, 'secure' if secure else 'web')}"
    answers = sessions(ask, url, trusting(authority_file), connections=connections, requests=requests)
    assert len(answers) == CLIENTS
    for session in answers:
        assert {backend for backend, _ in session} == {session[0][0]}
        assert [len(cookies) for _, cookies in session] == [1] + [0] * (requests - 1)
        assert ("secure" in session[0][1][0].lower()) is secure
    assert Counter(session[0][0] for session in answers) == dict.fromkeys(NAMES, CLIENTS // 4)


async def _mixed(http: str, ws: str) -> list[str]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        first, cookies = await by_websocket(session, ws, 1)
        assert len(cookies) == 1  # the 101 began the session
        return [first, (await by_request(session, http, 2))[0], (await by_websocket(session, ws, 3))[0]]


def test_page_and_websocket_are_one_session(
    proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]]
) -> None:
    """What begins with a WebSocket goes on with requests on the same backend, and back."""
    running = proxy(configuration(backends(*NAMES)))
    place = f"127.0.0.1:{port_of(running)}"

    async def everyone() -> list[list[str]]:
        return await all_of((_mixed(f"http://{place}", f"ws://{place}") for _ in range(8)), 20)

    ways = asyncio.run(everyone())
    assert all(len(set(way)) == 1 for way in ways)
    assert len({way[0] for way in ways}) == 4


def test_cookie_survives_a_restart_and_another_order_of_the_file(
    proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]], tmp_path: Path
) -> None:
    """The proxy starts anew with its key file, backends in another order: every client stays where it was."""
    servers = backends(*NAMES)
    key = f'cluster.app.key_file = "{tmp_path / "keys"}"'

    async def ask(port: int, cookie: str | None) -> tuple[str, list[str]]:
        async with aiohttp.ClientSession(headers={"Cookie": cookie} if cookie else {}) as session:
            return await by_request(session, f"http://127.0.0.1:{port}", 1)

    before = proxy(configuration(servers, key))
    bound: dict[str, Any] = {}
    for _ in NAMES:
        backend, cookies = asyncio.run(ask(port_of(before), None))
        morsel = next(iter(SimpleCookie(cookies[0]).values()))
        bound[backend] = f"{morsel.key}={morsel.value}"
    before.stop()
    after = proxy(configuration(servers[::-1], key))
    assert set(bound) == set(NAMES)
    for backend, cookie in bound.items():
        assert asyncio.run(ask(port_of(after), cookie)) == (backend, [])
    assert asyncio.run(ask(port_of(after), bound["a"][:-4] + "AAAA"))[1] != []
