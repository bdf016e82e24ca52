"""Socket.IO as npm ships it, polling first and then upgraded: it only works where a session stays on its server."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clients import Server, configuration, port_of, wait_until
from parts import Program, Proxy

NODE = Path(__file__).parent / "node"
CLIENTS = 60

pytestmark = pytest.mark.needs("node", "tests/live/node/node_modules/socket.io")


@pytest.fixture
def servers(needs: Callable[[str], str], program: Callable[..., Program]) -> list[Server]:
    """Three servers that know nothing of each other."""
    programs = [program(needs("node"), NODE / "server.js", name) for name in ("s1", "s2", "s3")]
    found = [each.wait_for(r"(\S+) listens on (\d+)")[0] for each in programs]
    return [Server(match[1], int(match[2])) for match in found]


def clients(node: str, url: str, count: int, authority: Path) -> list[dict[str, Any]]:
    ended = subprocess.run(
        [node, NODE / "clients.js", url, str(count)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "NODE_EXTRA_CA_CERTS": str(authority)},
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    reports: list[dict[str, Any]] = json.loads(ended.stdout)
    return reports


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_clients_connect_upgrade_and_echo(
    needs: Callable[[str], str],
    proxy: Callable[..., Proxy],
    servers: list[Server],
    certificate: Callable[..., Path],
    authority_file: Path,
    scheme: str,
) -> None:
    """60 clients on three servers without an adapter: no error, and each has one server from polling to WebSocket."""
    unmasked = "access_log.mask_query = []"  # session ids are told apart below
    running = proxy(configuration(servers, unmasked, certificate=certificate("localhost")))
    port = port_of(running, "web" if scheme == "http" else "secure")
    reports = clients(needs("node"), f"{scheme}://localhost:{port}", CLIENTS, authority_file)
    assert [report["errors"] for report in reports] == [[]] * CLIENTS
    assert all(len(report["names"]) == 6 and len(set(report["names"])) == 1 for report in reports)
    assert all(report["transports"] == ["websocket"] * 5 for report in reports)
    assert Counter(report["names"][0] for report in reports) == dict.fromkeys(["s1", "s2", "s3"], CLIENTS // 3)
    for transport, status in (("polling", 200), ("websocket", 101)):
        line = rf'"GET /socket\.io/\S*transport={transport}\S*sid=(\S+) HTTP/1\.1" {status}'
        wait_until(lambda line=line: len(set(re.findall(line, running.log))) == CLIENTS)  # type: ignore[misc]


def test_without_affinity_socketio_does_not_work(
    needs: Callable[[str], str], proxy: Callable[..., Proxy], servers: list[Server], authority_file: Path
) -> None:
    """The same clients without affinity fail: what the test above sees is the stickiness, not luck."""
    running = proxy(configuration(servers, cookie=False))
    reports = clients(needs("node"), f"http://localhost:{port_of(running)}", 6, authority_file)
    assert all(report["errors"] for report in reports)
