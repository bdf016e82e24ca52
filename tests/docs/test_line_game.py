"""The worked example of docs/examples, run as it says: twistd, two game servers, real players."""

from __future__ import annotations

import os
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
TABLES = [f"table {name}\n" for name in ("one", "two", "three", "four", "five", "six", "seven", "eight")]


class GameServer(socketserver.ThreadingTCPServer):
    """Says its name, and gives every line back."""

    daemon_threads = True

    def __init__(self, name: str) -> None:
        class Player(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    self.wfile.write(f"{name}: ".encode() + line)

        super().__init__(("127.0.0.1", 0), Player)
        threading.Thread(target=self.serve_forever, args=[0.05], daemon=True).start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


@pytest.fixture
def servers() -> Iterator[dict[str, GameServer]]:
    started = {name: GameServer(name) for name in ("red", "blue")}
    yield started
    for server in started.values():
        server.stop()


@pytest.fixture
def play(servers: dict[str, GameServer], tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """``play(*parts)`` sends the parts on a new connection, and gives the lines that came back until the end."""
    shutil.copy(EXAMPLES / "line_game.py", tmp_path)
    tac = (EXAMPLES / "line_game.tac").read_text()
    for said, meant in [
        ('"tcp:4000"', '"tcp:0:interface=127.0.0.1"'),
        ("4001", str(servers["red"].server_address[1])),
        ("4002", str(servers["blue"].server_address[1])),
    ]:
        assert said in tac
        tac = tac.replace(said, meant)
    (tmp_path / "line_game.tac").write_text(tac)
    twistd = Path(sys.executable).with_name("twistd")
    with ExitStack() as stack:
        process = subprocess.Popen(
            [twistd, "-noy", "line_game.tac"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": "."},
            stdout=subprocess.PIPE,
            text=True,
        )
        stack.callback(process.wait, 10)
        stack.callback(process.terminate)
        assert process.stdout is not None
        port = next(int(found[1]) for line in process.stdout if (found := re.search(r"starting on (\d+)", line)))
        threading.Thread(target=process.stdout.read, daemon=True).start()

        def talk(*parts: str) -> list[str]:
            with socket.create_connection(("127.0.0.1", port), 10) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for part in parts:
                    connection.sendall(part.encode())
                connection.shutdown(socket.SHUT_WR)
                return connection.makefile().read().splitlines()

        yield talk


def test_players_of_a_table_meet(play: Callable[..., list[str]]) -> None:
    """Whoever names a table reaches its server, in whatever pieces the line comes, and both servers have tables."""
    homes = {}
    for table in TABLES:
        first = play(table, "hello\n")
        name = first[0].partition(":")[0]
        assert first == [f"{name}: {table.strip()}", f"{name}: hello"]
        homes[table] = name
    assert set(homes.values()) == {"red", "blue"}
    for table, name in homes.items():
        assert play(*table, "again\n") == [f"{name}: {table.strip()}", f"{name}: again"]


def test_a_table_moves_when_its_server_is_down(play: Callable[..., list[str]], servers: dict[str, GameServer]) -> None:
    """The tables of the server that is down go to the other one, the others stay; with none up, players are told."""
    servers["red"].stop()
    assert {play(table)[0].partition(":")[0] for table in TABLES} == {"blue"}
    servers["blue"].stop()
    assert play(TABLES[0]) == ["sorry, no server is up"]


def test_the_page_shows_the_example_as_it_is() -> None:
    """What docs/your-own-protocol.md quotes is in the example, and the test that it shows passes."""
    shown = re.findall(r"```python\n(.*?)```", (EXAMPLES.parent / "your-own-protocol.md").read_text(), re.DOTALL)
    source = (EXAMPLES / "line_game.py").read_text()
    assert shown[0] in source
    exec(f"{IMPORTS}\n{shown[0]}\n{shown[-1]}", {})


IMPORTS = """
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from stickyproxy.cluster import Cluster
from stickyproxy.member import Member
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.model import Backend
from stickyproxy.sansio.affinity import NoAffinity
from stickyproxy.sansio.balancing import RoundRobin
from stickyproxy.sweep import Sweep
from stickyproxy.wires.tcp import FrontendProtocol, TCPFrontendFactory
"""
