"""Listening sockets that one process opens and others accept from: real ones, on loopback."""

from __future__ import annotations

import os
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread

from stickyproxy.control.sockets import CannotShare, Sockets
from stickyproxy.listening import listen_on


class Saying(Protocol):
    """Says which process it is, and hangs up."""

    def connectionMade(self) -> None:
        self.transport.write(self.factory.name)  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]


class SayingWho(Protocol):
    """Says whom it takes for the client."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(self.transport.getPeer().host.encode())  # type: ignore[union-attr]
        self.transport.loseConnection()  # type: ignore[union-attr]


def _factory(name: bytes, protocol: type[Protocol] = Saying) -> Any:
    factory = Factory.forProtocol(protocol)
    factory.name = name  # type: ignore[attr-defined]
    return factory


class Processes:
    """A parent and two that accept, all in this process, for ``description``."""

    def __init__(self) -> None:
        self.parent = Sockets(reactor, accepting=False, opening=True, copies=2)
        self.children = [Sockets(reactor, accepting=True, opening=False) for _ in range(2)]
        self.ports: list[Any] = []

    async def listen(self, description: str, protocol: type[Protocol] = Saying) -> Any:
        self.ports.append(await self.parent.listen(description, _factory(b"parent")))
        for number, child in enumerate(self.children, 1):
            for name, sock in self.parent.held():
                child.give(name, sock.dup())
            child.act_for([number], 2)
            self.ports.append(await child.listen(description, _factory(b"child %d" % number, protocol)))
        return self.ports[0].getHost()

    async def close(self) -> None:
        for port in self.ports:
            await port.stopListening()


def _ask(family: int, address: Any) -> bytes:
    with socket.socket(family) as client:
        client.settimeout(5)
        client.connect(address)
        return client.recv(100)


def _answers(family: int, address: Any, count: int) -> Deferred[Counter[bytes]]:
    return deferToThread(lambda: Counter(_ask(family, address) for _ in range(count)))


@ensureDeferred
async def test_connections_are_spread_over_all_and_none_waits_for_who_is_not_there() -> None:
    """TCP: the parent accepts none, both children some; and all comes to one when it acts for the other."""
    processes = Processes()
    host = await processes.listen("tcp:0:interface=127.0.0.1")
    address = (host.host, host.port)
    assert set(await _answers(socket.AF_INET, address, 60)) == {b"child 1", b"child 2"}
    processes.children[0].act_for([], 2)
    processes.children[1].act_for([2, 1], 2)
    assert await _answers(socket.AF_INET, address, 20) == {b"child 2": 20}
    processes.children[0].act_for([1], 2)
    processes.children[1].act_for([2], 2)
    assert set(await _answers(socket.AF_INET, address, 60)) == {b"child 1", b"child 2"}
    await processes.close()


@ensureDeferred
async def test_a_port_of_another_program_is_taken() -> None:
    """That sockets share a port among processes of ours does not let us share one with others, even of our kind."""
    first, second = (Sockets(reactor, accepting=False, opening=True, copies=2) for _ in range(2))
    port = await first.listen("tcp:0:interface=127.0.0.1", _factory(b""))
    with pytest.raises(CannotListenError, match="in use"):
        await second.listen(f"tcp:{port.getHost().port}:interface=127.0.0.1", _factory(b""))
    await port.stopListening()


@ensureDeferred
async def test_a_unix_socket_keeps_its_mode_and_its_file(tmp_path: Path) -> None:
    """All accept from one; the file is removed by who has made it, and by nobody else."""
    processes, path = Processes(), tmp_path / "socket"
    await processes.listen(f"unix:{path}:mode=600")
    assert path.stat().st_mode & 0o777 == 0o600
    answers = await _answers(socket.AF_UNIX, str(path), 20)
    assert set(answers) <= {b"child 1", b"child 2"}
    await processes.ports.pop().stopListening()
    assert await _answers(socket.AF_UNIX, str(path), 5) == {b"child 1": 5}
    await processes.close()
    assert not path.exists()


@pytest.mark.parametrize("lock", [None, os.getpid()], ids=["taken over", "same number"])
@pytest.mark.parametrize("kind", ["one process", "to be taken over", "a parent"])
@ensureDeferred
async def test_a_unix_socket_that_a_crash_has_left_is_replaced(tmp_path: Path, kind: str, lock: int | None) -> None:
    """Whether its lock is not there, or names a process that has the number by chance; one that serves is let be."""
    listen = {
        "one process": listen_on(reactor),
        "to be taken over": Sockets(reactor, accepting=True, opening=True).listen,
        "a parent": Sockets(reactor, accepting=False, opening=True, copies=2).listen,
    }[kind]
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    if lock is not None:
        path.with_name("socket.lock").symlink_to(str(lock))
    port = await listen(f"unix:{path}", _factory(b"here"))
    with pytest.raises(CannotListenError):
        await listen_on(reactor)(f"unix:{path}", _factory(b"too late"))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    await port.stopListening()
    assert list(tmp_path.iterdir()) == []


def test_files_that_nobody_wants_any_more(tmp_path: Path) -> None:
    """Of the sockets of a predecessor, those that the new configuration does not name; what they leave is told."""
    sockets, path = Sockets(reactor, accepting=True, opening=True), tmp_path / "socket"
    unix, tcp = socket.socket(socket.AF_UNIX), socket.create_server(("127.0.0.1", 0))
    unix.bind(str(path))
    sockets.give(f"unix:{path}", unix)
    sockets.give("tcp:0", tcp)
    assert sockets.forget() == [str(path)]
    assert (unix.fileno(), tcp.fileno(), path.exists()) == (-1, -1, True)


@ensureDeferred
async def test_what_an_endpoint_puts_around_a_protocol_is_where_it_accepts() -> None:
    """An endpoint that wraps another is whole in every process: here it reads PROXY headers."""
    processes = Processes()
    host = await processes.listen("haproxy:tcp:0:interface=127.0.0.1", SayingWho)

    def ask() -> bytes:
        with socket.create_connection((host.host, host.port), 5) as client:
            client.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\nhello")
            return client.recv(100)

    assert await deferToThread(ask) == b"192.0.2.7"
    await processes.close()


@ensureDeferred
async def test_ipv6() -> None:
    """The address is that of its kind."""
    sockets = Sockets(reactor, accepting=False, opening=True, copies=2)
    try:
        port = await sockets.listen(r"tcp6:0:interface=\:\:1", _factory(b""))
    except CannotListenError:
        pytest.skip("this machine has no IPv6 on loopback")
    assert port.getHost().host == "::1"
    assert {sock.getsockname()[1] for _, sock in sockets.held()} == {port.getHost().port}
    await port.stopListening()
    assert sockets.held() == []


@ensureDeferred
async def test_what_was_not_given_cannot_be_had() -> None:
    """A worker opens nothing by itself, and closes what nobody asks for."""
    sockets = Sockets(reactor, accepting=True, opening=False)
    with pytest.raises(CannotShare, match="no socket"):
        await sockets.listen("tcp:0:interface=127.0.0.1", _factory(b""))
    given = socket.create_server(("127.0.0.1", 0))
    sockets.give("tcp:1", given)
    sockets.forget()
    assert given.fileno() == -1


@ensureDeferred
async def test_sockets_of_systemd_are_known_by_their_string() -> None:
    """Where they came from stands in the environment of the parent alone."""
    child = Sockets(reactor, accepting=True, opening=False)
    given = socket.create_server(("127.0.0.1", 0))
    address = given.getsockname()
    child.give("systemd:domain=INET:index=0", given)
    port = await child.listen("systemd:domain=INET:index=0", _factory(b"child"))
    assert await _answers(socket.AF_INET, address, 3) == {b"child": 3}
    await port.stopListening()
