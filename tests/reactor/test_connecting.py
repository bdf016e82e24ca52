"""Ports and connectors: what a Twisted program is told when it listens and connects."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from programs import Counted, OneProtocol, Program, Recorder, connected, turns
from twisted.internet import error
from twisted.internet.interfaces import IConnector, IListeningPort
from zope.interface.verify import verifyObject

Run = Callable[[Program], None]


def full_listener() -> tuple[socket.socket, list[socket.socket]]:
    """A socket whose backlog is full: who connects to it waits."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    waiting = []
    for _ in range(4):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(listener.getsockname())
        waiting.append(client)
    return listener, waiting


def test_listening(run_both: Run) -> None:
    """A port binds at once, says where, refuses a second one there, and frees it when it stops."""

    async def program(reactor: Any) -> None:
        factory = Counted(Recorder())
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        assert verifyObject(IListeningPort, port)
        number = port.getHost().port
        with pytest.raises(error.CannotListenError) as refused:
            reactor.listenTCP(number, factory, interface="127.0.0.1")
        assert refused.value.port == number
        await port.stopListening()
        assert factory.events == ["start", "stop"]
        await reactor.listenTCP(number, factory, interface="127.0.0.1").stopListening()

    run_both(program)


def test_connecting(run_both: Run) -> None:
    """The factory learns of each step, in order, and the connector can disconnect, and connect again."""

    async def program(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        port = reactor.listenTCP(0, OneProtocol(server), interface="127.0.0.1")
        factory = Counted(client)
        connector = reactor.connectTCP("127.0.0.1", port.getHost().port, factory)
        assert verifyObject(IConnector, connector)
        assert connector.getDestination() == port.getHost()
        assert factory.events == ["start", "connecting"]
        await client.until("made")
        assert connector.transport is client.transport
        connector.disconnect()
        await factory.ended
        assert factory.events == ["start", "connecting", "build", "lost", "stop"]
        assert client.events == ["made", "lost"]
        assert factory.reason is not None and factory.reason.check(error.ConnectionDone)
        factory.protocol_given = second = Recorder()
        connector.connect()
        await second.until("made")
        second.transport.abortConnection()
        await second.until("lost")
        await port.stopListening()

    run_both(program)


def test_names_are_resolved(run_both: Run) -> None:
    """One may connect to a host by its name."""

    async def program(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        port = reactor.listenTCP(0, OneProtocol(server), interface="127.0.0.1")
        reactor.connectTCP("localhost", port.getHost().port, Counted(client))
        await client.until("made")
        assert client.transport.getPeer() == port.getHost()
        client.transport.loseConnection()
        await server.until("lost")

    run_both(program)


def test_nobody_listens(run_both: Run) -> None:
    """A refused connect is reported as such."""

    async def program(reactor: Any) -> None:
        port = reactor.listenTCP(0, OneProtocol(Recorder()), interface="127.0.0.1")
        number = port.getHost().port
        await port.stopListening()
        factory = Counted(Recorder())
        connector = reactor.connectTCP("127.0.0.1", number, factory)
        await factory.ended
        assert factory.reason is not None and factory.reason.check(error.ConnectionRefusedError)
        assert factory.events == ["start", "connecting", "failed", "stop"]
        assert connector.state == "disconnected"
        with pytest.raises(error.NotConnectingError):
            connector.stopConnecting()

    run_both(program)


def test_giving_up(run_both: Run) -> None:
    """An attempt ends with its timeout, or when it is stopped."""
    listener, waiting = full_listener()

    async def program(reactor: Any) -> None:
        late, stopped = Counted(Recorder()), Counted(Recorder())
        reactor.connectTCP(*listener.getsockname(), late, timeout=0.05)
        connector = reactor.connectTCP(*listener.getsockname(), stopped)
        await turns(reactor, 0.01)
        connector.stopConnecting()
        assert stopped.reason is not None and stopped.reason.check(error.UserError)
        await late.ended
        assert late.reason is not None and late.reason.check(error.TimeoutError)
        assert late.events == stopped.events == ["start", "connecting", "failed", "stop"]

    run_both(program)
    for sock in (listener, *waiting):
        sock.close()


def test_own_address(run_both: Run) -> None:
    """bindAddress says from where to connect; where that is not possible, the connect fails."""

    async def program(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        port = reactor.listenTCP(0, OneProtocol(server), interface="127.0.0.1")
        reactor.connectTCP("127.0.0.1", port.getHost().port, Counted(client), bindAddress=("127.0.0.2", 0))
        await server.until("made")
        assert server.transport.getPeer().host == "127.0.0.2"
        elsewhere = Counted(Recorder())
        reactor.connectTCP("127.0.0.1", port.getHost().port, elsewhere, bindAddress=("192.0.2.1", 0))
        await elsewhere.ended
        assert elsewhere.reason is not None and elsewhere.reason.check(error.ConnectBindError)
        server.transport.loseConnection()
        await server.until("lost")

    run_both(program)


def test_no_protocol(run_both: Run) -> None:
    """A factory that builds no protocol refuses the connection, on either side."""

    async def program(reactor: Any) -> None:
        port = reactor.listenTCP(0, Counted(None), interface="127.0.0.1")
        client = Recorder()
        reactor.connectTCP("127.0.0.1", port.getHost().port, Counted(client))
        await client.until("lost")
        factory = Counted(None)
        reactor.connectTCP("127.0.0.1", port.getHost().port, factory)
        await factory.ended
        assert factory.events == ["start", "connecting", "build", "lost", "stop"]

    run_both(program)


def test_disconnecting_while_building(run_both: Run) -> None:
    """A connector that is told to disconnect by buildProtocol still makes an orderly end."""

    async def program(reactor: Any) -> None:
        class Impatient(Counted):
            def buildProtocol(self, address: Any) -> Any:
                reactor.callLater(0, connector.disconnect)
                return super().buildProtocol(address)

        server, client = Recorder(), Recorder()
        port = reactor.listenTCP(0, OneProtocol(server), interface="127.0.0.1")
        factory = Impatient(client)
        connector = reactor.connectTCP("127.0.0.1", port.getHost().port, factory)
        await factory.ended
        assert client.events == ["made", "lost"]
        assert factory.events == ["start", "connecting", "build", "lost", "stop"]

    run_both(program)


def test_raising_when_made(run_both: Run) -> None:
    """What connectionMade of a client raises is the reason why the connection is lost."""

    class Raising(Recorder):
        def connectionMade(self) -> None:
            raise ZeroDivisionError

    async def program(reactor: Any) -> None:
        server = Recorder()
        port = reactor.listenTCP(0, OneProtocol(server), interface="127.0.0.1")
        client = Raising()
        reactor.connectTCP("127.0.0.1", port.getHost().port, Counted(client))
        await client.until("lost")
        assert client.reason is not None and client.reason.check(ZeroDivisionError)
        await server.until("lost")

    run_both(program)


def test_adopted(run_both: Run) -> None:
    """Sockets that others have made serve too; the descriptors that were given stay theirs."""

    async def program(reactor: Any) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        accepted = Recorder()
        port = reactor.adoptStreamPort(listener.fileno(), socket.AF_INET, OneProtocol(accepted))
        sock = socket.create_connection(listener.getsockname())
        sock.setblocking(False)
        await accepted.until("made")
        adopted = Recorder()
        reactor.adoptStreamConnection(sock.fileno(), socket.AF_INET, OneProtocol(adopted))
        await adopted.until("made")
        adopted.transport.write(b"hello")
        await accepted.until_received(5)
        assert adopted.transport.getPeer() == accepted.transport.getHost()
        await port.stopListening()
        adopted.transport.loseConnection()
        await adopted.until("lost")
        await accepted.until("lost")
        for descriptor in (listener.fileno(), sock.fileno()):
            os.fstat(descriptor)
        sock.close()
        listener.close()

    run_both(program)


def test_closing_the_socket(run: Run) -> None:
    """Who closes the socket behind the transport's back loses the connection, and no other's descriptor is touched."""

    async def program(reactor: Any) -> None:
        server, client = Recorder(), Recorder()
        await connected(reactor, server, client)
        client.transport.getHandle().close()
        await client.until("lost")
        await server.until("lost")
        assert client.reason is not None and client.reason.check(error.ConnectionDone)

    run(program)
