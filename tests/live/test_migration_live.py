"""stickyproxy in HAProxy's place: sessions that began behind HAProxy stay where they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http.cookies import SimpleCookie
from pathlib import Path

import aiohttp
import pytest
from clients import all_of, configuration, port_of
from parts import Backend, Program, Proxy, free_port
from yarl import URL

CLIENTS = 30
KINDS = {
    "plain": ("insert indirect nocache", "cookie {}", "SERVERID", '{ by = "haproxy", name = "SERVERID" }'),
    "dates": ("insert indirect maxidle 30m maxlife 8h", "cookie {}", "SRV", '"haproxy"'),
    "dynamic": ("insert indirect dynamic", "", "ID", '{ by = "haproxy", name = "ID", dynamic_key = "secret" }'),
}


def haproxy_configuration(ports: dict[str, int], backends: list[Backend]) -> str:
    lines = ["defaults", "mode http", "timeout connect 10s", "timeout client 60s", "timeout server 60s"]
    for kind, (options, server, name, _) in KINDS.items():
        lines += [f"listen {kind}", f"bind 127.0.0.1:{ports[kind]}", "balance roundrobin", f"cookie {name} {options}"]
        if kind == "dynamic":
            lines.append("dynamic-cookie-key secret")
        for each in backends:
            lines.append(f"server {each.name} 127.0.0.1:{each.port} {server.format(each.name)}")
    return "\n".join([*lines, ""])


Jars = list[aiohttp.CookieJar]


async def visits(jars: Jars, port: int) -> list[str]:
    """The backend that each client finds, with the cookies that it has; it keeps those that it gets."""

    async def visit(jar: aiohttp.CookieJar) -> str:
        async with aiohttp.ClientSession(cookie_jar=jar) as session, session.get(f"http://127.0.0.1:{port}/") as answer:
            assert answer.status == 200
            found: str = (await answer.json())["backend"]
            return found

    return await all_of((visit(jar) for jar in jars), 60)


async def move(port: int, successor: int, theirs: str) -> None:
    # As browsers do it: without quotes around HAProxy's dates, in which there is a "/" now and then.
    jars = [aiohttp.CookieJar(unsafe=True, quote_cookie=False) for _ in range(CLIENTS)]
    homes = await visits(jars, port)
    assert set(homes) == {"a", "b", "c"}
    for jar in jars:
        assert set(jar.filter_cookies(URL("http://127.0.0.1/"))) == {theirs}
    before = [values(jar)[theirs].value for jar in jars]
    assert await visits(jars, port) == homes
    assert await visits(jars, successor) == homes
    for jar, value in zip(jars, before, strict=True):
        assert values(jar)["SRV"].value != value
    assert await visits(jars, successor) == homes
    for jar in jars:
        assert set(values(jar)) == {"SRV"}
    assert await visits(jars, successor) == homes


def values(jar: aiohttp.CookieJar) -> SimpleCookie:
    return SimpleCookie({name: morsel.value for name, morsel in jar.filter_cookies(URL("http://127.0.0.1/")).items()})


@pytest.mark.needs("haproxy")
def test_no_session_moves(
    proxy: Callable[..., Proxy],
    backends: Callable[..., list[Backend]],
    program: Callable[..., Program],
    needs: Callable[[str], str],
    tmp_path: Path,
) -> None:
    """Each client that HAProxy bound, by any of its cookies, keeps its backend and has our cookie alone soon after."""
    behind = backends("a", "b", "c")
    ports = {kind: free_port() for kind in KINDS}
    file = tmp_path / "haproxy.cfg"
    file.write_text(haproxy_configuration(ports, behind))
    program(needs("haproxy"), "-W", "-db", "-f", file).wait_for("Loading success")
    for kind, (_, _, theirs, accepted) in KINDS.items():
        with_us = proxy(configuration(behind, f"cluster.app.affinity.accept_cookies_of = [{accepted}]"))
        asyncio.run(move(ports[kind], port_of(with_us), theirs))
