"""Sessions of a parent and its children, over real socket pairs: what one knows all know."""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from programs import Program, make_epoll, make_uv, run_on
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from stickyproxy import replication
from stickyproxy.config import Configuration, load
from stickyproxy.conformance import make_arrival
from stickyproxy.extensions import find_extensions
from stickyproxy.model import Outcome
from stickyproxy.replication import ChildSessions, ParentSessions
from stickyproxy.sansio.replicas import Authority, Replica
from stickyproxy.service import build
from stickyproxy.sharing import SharedMemory, regions_of

Table = Authority | Replica


@pytest.fixture(params=[make_uv, make_epoll], ids=["uv", "epoll"])
def run(request: pytest.FixtureRequest) -> Callable[[Program], None]:
    """On our reactor, and on Twisted's."""
    return lambda program: run_on(request.param(), program)


def child_of(parent: ParentSessions, reactor: Any) -> ChildSessions:
    """A new child, connected."""
    ours, theirs = socket.socketpair()
    parent.connect(ours)
    child = ChildSessions(reactor, time.time)
    child.connect(theirs)
    return child


async def until(reactor: Any, holds: Callable[[], bool]) -> None:
    """Wait until ``holds()``; the test's own time limit ends what never does."""
    for _ in range(3000):
        if holds():
            return
        await deferLater(reactor, 0.005)
    raise AssertionError("it does not come to hold")


def bound(table: Table) -> dict[bytes, str]:
    """Who is where, as ``table`` has it."""
    return {key: session.backend for session in table.sessions() for key in session.keys}


def test_all_know_the_same(run: Callable[[Program], None]) -> None:
    """What is bound in one child is known in the others, in the parent, and in one that starts later."""

    async def program(reactor: Any) -> None:
        parent = ParentSessions(reactor, time.time)
        authority = parent.table("cluster app", size=20_000)
        children = [child_of(parent, reactor) for _ in range(2)]
        tables = [child.table("cluster app", size=20_000) for child in children]
        for number in range(5000):
            tables[number % 2].bind((b"client %d" % number,), "ab"[number % 2])
        await until(reactor, lambda: len(tables[0]) == len(tables[1]) == len(authority) == 5000)
        late = child_of(parent, reactor)
        tables.append(late.table("cluster app", size=20_000))
        tables[0].forget(b"client 0")
        authority.bind((b"client 1",), "c")
        await until(reactor, lambda: bound(tables[2]) == bound(tables[0]) == bound(tables[1]) == bound(authority))
        assert len(authority) == 4999 and bound(tables[2])[b"client 1"] == "c"
        for child in (*children, late):
            child.stop()
        await until(reactor, lambda: not authority._unsent)

    run(program)


def test_nobody_is_new_before_the_parent_was_asked(run: Callable[[Program], None]) -> None:
    """The question of one child follows the bind of the other, which has left before the answer to its client."""

    async def program(reactor: Any) -> None:
        parent = ParentSessions(reactor, time.time)
        kept = [parent.table("cluster app")]
        one, other = (child_of(parent, reactor) for _ in range(2))
        tables = [one.table("cluster app"), other.table("cluster app")]
        tables[0].bind((b"ann",), "a")  # nothing of it is left for the reactor to send
        asked: Any = tables[1].find(b"ann")
        assert isinstance(asked, Deferred) and await asked == "a"
        stranger: Any = tables[1].find(b"eve")
        assert await stranger is None
        gone = other.table("cluster gone")
        unknown: Any = gone.find(b"ann")
        assert await unknown is None
        one.stop()
        other.stop()
        await until(reactor, lambda: not kept[0]._unsent)

    run(program)


def test_a_bind_leaves_at_once(run: Callable[[Program], None]) -> None:
    """When ``bind`` returns, the parent's end has the change, though the reactor has not turned."""

    async def program(reactor: Any) -> None:
        ours, theirs = socket.socketpair()
        child = ChildSessions(reactor, time.time)
        child.connect(theirs)
        table = child.table("cluster app")
        ours.setblocking(False)
        ours.recv(1000)
        table.bind((b"ann",), "a")
        assert b"ann" in ours.recv(1000)
        ours.close()
        await until(reactor, lambda: table.alone)

    run(program)


def test_a_parent_that_is_stuck(run: Callable[[Program], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A client waits so long for it, and is new then. Once it is gone, nobody waits."""
    monkeypatch.setattr(replication, "PATIENCE", 0.0)
    monkeypatch.setattr(replication, "_LOOK", 0.01)

    async def program(reactor: Any) -> None:
        ours, theirs = socket.socketpair()
        child = ChildSessions(reactor, time.time)
        child.connect(theirs)
        table = child.table("cluster app")
        first: Awaitable[str | None] = table.find(b"ann")  # type: ignore[assignment]
        assert await first is None
        table.find(b"bob")
        ours.close()
        await until(reactor, lambda: table.alone)
        assert table.find(b"eve") is None
        table.bind((b"eve",), "a")
        assert table.find(b"eve") == "a"

    run(program)


def test_what_is_seen_is_told(run: Callable[[Program], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A session that one child alone uses is seen by the others."""
    monkeypatch.setattr(replication, "_LOOK", 0.01)

    async def program(reactor: Any) -> None:
        now = [1000.0]
        parent = ParentSessions(reactor, lambda: now[0])
        authority = parent.table("cluster app", idle=80.0)
        ends = [socket.socketpair() for _ in range(2)]
        children = [ChildSessions(reactor, lambda: now[0]) for _ in ends]
        for child, (ours, theirs) in zip(children, ends, strict=True):
            parent.connect(ours)
            child.connect(theirs)
        tables = [child.table("cluster app", idle=80.0) for child in children]
        tables[0].bind((b"ann",), "a")
        await until(reactor, lambda: len(tables[1]) == 1)
        now[0] += 9.0
        assert tables[0].find(b"ann") == "a"
        now[0] += 2.0
        await until(reactor, lambda: [session.seen for session in tables[1].sessions()] == [1009.0])
        for child in children:
            child.stop()
        await until(reactor, lambda: not authority._unsent)

    run(program)


def test_what_cannot_be_understood(run: Callable[[Program], None]) -> None:
    """Whoever says what is no message is left alone from then on."""

    async def program(reactor: Any) -> None:
        parent = ParentSessions(reactor, time.time)
        ours, theirs = socket.socketpair()
        parent.connect(ours)
        theirs.sendall(b"\0\0\0\3abc")
        theirs.setblocking(False)
        await until(reactor, lambda: _ended(theirs))
        theirs.close()

    run(program)


def _ended(end: socket.socket) -> bool:
    try:
        return end.recv(100) == b""
    except BlockingIOError:
        return False


CONFIGURATION = """
[frontend.web]
listen = "tcp:0:interface=127.0.0.1"
cluster = "app"
limits = { connections = 4, connections_per_address = 3 }
access = { rate = { requests = 5, per = "1h" } }
[cluster.app]
affinity = { by = "source" }
balance = "round-robin"
sessions = { SESSIONS }
backends = { a = "tcp:127.0.0.1:1", b = "tcp:127.0.0.1:2", c = "tcp:127.0.0.1:3" }
"""


def _configuration(directory: Path, sessions: str) -> Configuration:
    path = directory / "proxy.toml"
    path.write_text(CONFIGURATION.replace("SESSIONS", sessions))
    return load(path, find_extensions())


def test_two_proxies_serve_as_one(run: Callable[[Program], None], tmp_path: Path) -> None:
    """Proxies that are built with a parent's tables and memory serve a client alike, across a reload as well."""
    before, after = (_configuration(tmp_path, kept) for kept in ("", 'idle = "1h"'))

    async def program(reactor: Any) -> None:
        shared = SharedMemory.create(2)
        shared.provide(regions_of(before))
        parent = ParentSessions(reactor, time.time)
        kept = parent.table("cluster app", **before.clusters[0].sessions.kept)
        children = [child_of(parent, reactor) for _ in range(2)]
        one, other = (
            build(before, reactor, find_extensions(), memory=SharedMemory(shared.fd, slot), sessions=child.table)
            for slot, child in enumerate(children)
        )
        for number in range(30):
            first, second = (one, other) if number % 2 else (other, one)
            arrival = make_arrival(number)
            choice = await first.clusters["app"].choose(arrival)
            assert choice is not None and choice.outcome is Outcome.NEW
            first.clusters["app"].bind(arrival, choice)
            again = await second.clusters["app"].choose(arrival)
            assert again is not None and (again.candidate.id, again.outcome) == (choice.candidate.id, Outcome.KEPT)
        await one.reconfigure(after)
        again = await one.clusters["app"].choose(make_arrival(29))
        assert again is not None and again.outcome is Outcome.KEPT and len(kept) == 30
        rooms = [proxy.frontends["web"].admission for proxy in (one, other)]
        verdicts = [rooms[number % 2].admit("192.0.2.1") for number in range(4)]  # type: ignore[union-attr]
        assert [verdict and verdict.status for verdict in verdicts] == [None, None, None, 429]
        for child in children:
            child.stop()
        await until(reactor, lambda: not kept._unsent)
        shared.close()

    run(program)
