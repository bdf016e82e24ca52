"""HTTP over real connections, where it matters what the reactor has read, and what it has not yet sent."""

from __future__ import annotations

import socket
from contextlib import ExitStack, closing
from random import Random

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.threads import deferToThread

from stickyproxy.cluster import Cluster
from stickyproxy.config import specs
from stickyproxy.member import Member
from stickyproxy.model import Backend
from stickyproxy.sansio.affinity import NoAffinity
from stickyproxy.sansio.balancing import RoundRobin
from stickyproxy.sweep import Sweep
from stickyproxy.wires.http import HTTPFrontendFactory

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@ensureDeferred
async def test_a_second_answer_is_not_for_whose_request_is_on_its_way(method: bytes) -> None:
    """What a backend says unasked, read in one turn with the next client's request, is not that client's answer."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    backend = Backend("a", f"tcp:127.0.0.1:{port}")
    member = Member(backend, TCP4ClientEndpoint(reactor, "127.0.0.1", port), reactor, connect_timeout=5)
    cluster = Cluster(specs.Cluster("app", (backend,)), [member], NoAffinity(), RoundRobin())
    spec = specs.Frontend("web", ("tcp:0",), "app")
    factory = HTTPFrontendFactory(spec, {"app": cluster}, Sweep(reactor, 0.1), Random(1), reactor.seconds)
    listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
    with ExitStack() as open_, closing(listener):

        def accept() -> socket.socket:
            listener.settimeout(5)
            connection = open_.enter_context(listener.accept()[0])
            connection.settimeout(5)
            return connection

        def ask() -> tuple[socket.socket, socket.socket]:
            client = open_.enter_context(socket.create_connection(("127.0.0.1", listening.getHost().port), 5))
            client.sendall(GET)
            kept = accept()
            kept.recv(65536)
            kept.sendall(ANSWER + b"good")
            assert client.recv(65536).endswith(b"good")
            return client, kept

        def answer() -> bytes:
            if method == b"GET":
                again = accept()
                assert again.recv(65536).startswith(b"GET ")
                again.sendall(ANSWER + b"good")
            received: bytes = client.recv(65536)
            return received

        try:
            client, kept = await deferToThread(ask)
            client.sendall(GET.replace(b"GET", method))  # the reactor reads both when this coroutine waits
            kept.sendall(ANSWER + b"evil")
            received = await deferToThread(answer)
            assert received.endswith(b"good") if method == b"GET" else received.startswith(b"HTTP/1.1 502 ")
            with pytest.raises(ConnectionResetError):
                kept.recv(65536)
        finally:
            await listening.stopListening()
            for connection in list(factory.connections):
                connection.abort()
            member.close_idle()
