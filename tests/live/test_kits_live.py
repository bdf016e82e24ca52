"""Socket.IO and SockJS as npm ships them and the official SDK of MCP, without cookies, each over three backends."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from clients import Server, configuration, port_of
from parts import Program, Proxy

HERE = Path(__file__).parent
NAMES = ["s1", "s2", "s3"]
CLIENTS = 24

Programs = Callable[..., Program]
Proxies = Callable[..., Proxy]
Needs = Callable[[str], str]


def servers(program: Programs, *command: str | Path) -> dict[str, tuple[Program, Server]]:
    """Three that know nothing of each other, by name."""
    programs = {name: program(*command, name) for name in NAMES}
    ports = {name: int(each.wait_for(r"listens on (\d+)", timeout=30)[0][1]) for name, each in programs.items()}
    return {name: (programs[name], Server(name, ports[name])) for name in NAMES}


def behind(proxy: Proxies, parts: dict[str, tuple[Program, Server]], affinity: str) -> Proxy:
    return proxy(configuration((server for _, server in parts.values()), f"cluster.app.{affinity}", cookie=False))


def reports(*command: str | Path) -> list[Any]:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said: list[Any] = json.loads(ended.stdout)
    return said


@pytest.mark.needs("node", "tests/live/node/node_modules/socket.io")
def test_socketio_without_cookies(needs: Needs, proxy: Proxies, program: Programs) -> None:
    """Socket.IO clients without cookies poll, upgrade and echo without an error, each on one server."""
    node = needs("node")
    running = behind(proxy, servers(program, node, HERE / "node" / "server.js"), 'affinity.by = "engine.io"')
    url = f"http://localhost:{port_of(running)}"
    said = reports(node, HERE / "node" / "clients.js", url, str(CLIENTS), "without")
    assert [report["errors"] for report in said] == [[]] * CLIENTS
    assert all(len(set(report["names"])) == 1 and len(report["names"]) == 6 for report in said)
    assert {report["names"][0] for report in said} == set(NAMES)
    assert {report["transports"][-1] for report in said[::2]} == {"websocket"}
    assert {report["transports"][-1] for report in said[1::2]} == {"polling"}
    assert "is not learned" not in running.log


@pytest.mark.needs("node", "tests/live/node/node_modules/sockjs")
@pytest.mark.parametrize("memory", ["table", "hash"])
def test_sockjs(needs: Needs, proxy: Proxies, program: Programs, memory: str) -> None:
    """All requests of a SockJS session reach one server, whatever its transport is."""
    node = needs("node")
    parts = servers(program, node, HERE / "node" / "sockjs_server.js")
    running = behind(proxy, parts, f'affinity = {{ by = "sockjs", prefix = "/echo", memory = "{memory}" }}')
    url = f"http://localhost:{port_of(running)}/echo"
    said = reports(node, HERE / "node" / "sockjs_clients.js", url, str(CLIENTS))
    assert [report["errors"] for report in said] == [[]] * CLIENTS
    assert all(len(set(report["names"])) == 1 and len(report["names"]) == 5 for report in said)
    assert {report["names"][0] for report in said} == set(NAMES)


@pytest.mark.needs("node", "tests/live/node/node_modules/sockjs")
def test_without_a_kit_sockjs_does_not_work(needs: Needs, proxy: Proxies, program: Programs) -> None:
    """The same clients without affinity fail where they need several requests: what is seen above is the stickiness."""
    node = needs("node")
    parts = servers(program, node, HERE / "node" / "sockjs_server.js")
    running = behind(proxy, parts, 'affinity = "none"')
    said = reports(node, HERE / "node" / "sockjs_clients.js", f"http://localhost:{port_of(running)}/echo", "6")
    assert any(report["errors"] or len(set(report["names"])) > 1 for report in said)


@pytest.mark.needs("node", "tests/live/node/node_modules/eventsource")
def test_event_streams(needs: Needs, proxy: Proxies, program: Programs) -> None:
    """An EventSource that connects again goes on with its stream where that is, by the id of the last event alone."""
    node = needs("node")
    option = '{ by = "header", name = "Last-Event-ID", pattern = "([^-]+)-", memory = "name" }'
    running = behind(proxy, servers(program, node, HERE / "node" / "events.js"), f"affinity = {option}")
    said = reports(node, HERE / "node" / "events.js", f"http://localhost:{port_of(running)}", "12")
    assert sorted({ids[0].split("-")[0] for ids in said}) == NAMES
    for ids in said:
        stream = ids[0].rpartition("-")[0]
        assert ids == [f"{stream}-{number}" for number in range(1, 9)]


async def converse(url: str, parts: dict[str, tuple[Program, Server]]) -> None:
    """Twelve clients call tools; then the backend of a third of them is killed, and they begin anew."""
    from mcp import Client, MCPError

    async def call(client: Client) -> tuple[str, int]:
        answer = await client.call_tool("count")
        name, count = answer.content[0].text.split()  # type: ignore[union-attr]
        return name, int(count)

    async with AsyncExitStack() as leaving:
        clients = [await leaving.enter_async_context(Client(url, mode="legacy")) for _ in range(12)]
        homes = [(await call(client))[0] for client in clients]
        assert sorted(homes) == sorted(NAMES * 4)
        for count in range(2, 7):
            assert await asyncio.gather(*map(call, clients)) == [(home, count) for home in homes]
        parts["s2"][0].kill()
        for client, home in zip(clients, homes, strict=True):
            if home != "s2":
                assert await call(client) == (home, 7)
                continue
            with pytest.raises(MCPError, match="Session terminated"):
                await call(client)
            async with Client(url, mode="legacy") as again:
                name, count = await call(again)
                assert name != "s2" and count == 1
                assert await call(again) == (name, 2)


def test_mcp(proxy: Proxies, program: Programs) -> None:
    """Sessions of the SDK stay with their server, event streams included; a killed one's clients get 404, and go on."""
    parts = servers(program, sys.executable, HERE / "mcp_server.py")
    running = behind(proxy, parts, 'affinity.by = "mcp"')
    url = f"http://127.0.0.1:{port_of(running)}/mcp"
    asyncio.run(asyncio.wait_for(converse(url, parts), 90))
    running.wait_for(r'"POST /mcp HTTP/1.1" 404', count=4)
    running.wait_for(r'"DELETE /mcp HTTP/1.1" 200', count=12)
    running.wait_for(r'"GET /mcp HTTP/1.1" 200', count=16)
