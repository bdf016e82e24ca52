"""Programs on a reactor of their own, and what they are made of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ClientFactory, Factory, Protocol
from twisted.python.failure import Failure

Program = Callable[[Any], Awaitable[None]]


def make_uv() -> Any:
    pytest.importorskip("uvloop", reason="without uvloop there is no reactor of ours")
    from stickyproxy.reactor.uv import UVReactor

    return UVReactor()


def make_epoll() -> Any:
    epollreactor = pytest.importorskip("twisted.internet.epollreactor", reason="epoll is Linux's")
    return epollreactor.EPollReactor()


def run_on(reactor: Any, program: Program) -> None:
    """Run ``program`` to its end; what it raises is raised here. It may take ten seconds."""
    outcome: list[object] = []

    def over(result: object) -> None:
        if not outcome:
            outcome.append(result)
            reactor.stop()

    def start() -> None:
        Deferred.fromCoroutine(program(reactor)).addBoth(over)  # type: ignore[arg-type]

    reactor.callWhenRunning(start)
    limit = reactor.callLater(10, over, TimeoutError("the program has not ended after ten seconds"))
    reactor.run(installSignalHandlers=False)
    if limit.active():
        limit.cancel()
    if hasattr(reactor, "loop"):
        reactor.loop.close()
    assert len(outcome) == 1
    if isinstance(outcome[0], Failure):
        outcome[0].raiseException()
    if isinstance(outcome[0], Exception):
        raise outcome[0]


class Recorder(Protocol):
    """Remembers what it is told; ``until(event)`` waits for it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.received = b""
        self.reason: Failure | None = None
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def tell(self, event: str) -> None:
        self.events.append(event)
        for waiting in list(self._waiting):
            if waiting[0]():
                self._waiting.remove(waiting)
                waiting[1].callback(None)

    def wait(self, condition: Callable[[], bool]) -> Deferred[None]:
        if condition():
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append((condition, waiting))
        return waiting

    def until(self, event: str) -> Deferred[None]:
        return self.wait(lambda: event in self.events)

    def until_received(self, count: int) -> Deferred[None]:
        return self.wait(lambda: len(self.received) >= count)

    def connectionMade(self) -> None:
        self.tell("made")

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self.tell("data")

    def connectionLost(self, reason: Failure) -> None:
        self.reason = reason
        self.tell("lost")


class Counted(ClientFactory):
    """A factory, of servers or clients, that gives out one protocol; ``ended`` when a connector has let go of it."""

    noisy = False

    def __init__(self, protocol: Protocol | None) -> None:
        self.protocol_given = protocol
        self.events: list[str] = []
        self.reason: Failure | None = None
        self.ended: Deferred[None] = Deferred()

    def startFactory(self) -> None:
        self.events.append("start")

    def stopFactory(self) -> None:
        self.events.append("stop")
        if self.reason is not None and not self.ended.called:
            self.ended.callback(None)

    def startedConnecting(self, connector: Any) -> None:
        self.events.append("connecting")

    def buildProtocol(self, address: Any) -> Any:
        self.events.append("build")
        return self.protocol_given

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        self.events.append("failed")
        self.reason = reason

    def clientConnectionLost(self, connector: Any, reason: Failure) -> None:
        self.events.append("lost")
        self.reason = reason


class OneProtocol(Factory):
    noisy = False

    def __init__(self, protocol: Protocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, address: Any) -> Any:
        return self._protocol


async def connected(reactor: Any, server: Recorder, client: Recorder, interface: str = "127.0.0.1") -> None:
    """Both ends of a connection; the port is closed again."""
    port = reactor.listenTCP(0, OneProtocol(server), interface=interface)
    reactor.connectTCP(interface, port.getHost().port, Counted(client))
    await server.until("made")
    await client.until("made")
    await port.stopListening()


def turns(reactor: Any, seconds: float = 0.05) -> Deferred[None]:
    """Some time in which something that must not happen could have happened."""
    waiting: Deferred[None] = Deferred()
    reactor.callLater(seconds, waiting.callback, None)
    return waiting
