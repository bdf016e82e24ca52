"""What a reactor costs: CPU of a process that relays, per round trip and per connection.

``python measure.py [REACTOR ...]`` (default: uv epoll asyncio) starts, for each, an echo server, a relay on that
reactor and a load of clients, all on loopback, and prints microseconds of the relay's user and system time.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

CONNECTIONS, ROUNDS, SHORT, RUNS = 64, 600, 4000, 3


def install(name: str) -> None:
    if name == "uv":
        from stickyproxy.reactor.uv import install
    elif name == "epoll":
        from twisted.internet.epollreactor import install
    else:
        from twisted.internet import asyncioreactor

        asyncioreactor.install(uvloop.new_event_loop())
        return
    install()


def relay(name: str, backend: int) -> None:
    """Prints its port, then after each SIGUSR1 the CPU seconds so far."""
    install(name)
    from twisted.internet import reactor
    from twisted.internet.protocol import ClientFactory, Factory, Protocol

    any_reactor: Any = reactor

    class End(Protocol):
        peer: Any = None

        def dataReceived(self, data: bytes) -> None:
            self.peer.transport.write(data)

        def connectionLost(self, reason: Any) -> None:
            if self.peer is not None:
                self.peer.transport.loseConnection()

    class Backend(End):
        def connectionMade(self) -> None:
            self.transport.setTcpNoDelay(True)
            self.peer.peer = self
            self.peer.transport.resumeProducing()

    class Frontend(End):
        def connectionMade(self) -> None:
            self.transport.setTcpNoDelay(True)
            self.transport.pauseProducing()
            other = Backend()
            other.peer = self
            factory = ClientFactory()
            factory.noisy = False
            factory.buildProtocol = lambda address: other  # type: ignore[assignment]
            any_reactor.connectTCP("127.0.0.1", backend, factory)

    def report(*signal: object) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(used.ru_utime + used.ru_stime, flush=True)

    signal.signal(signal.SIGUSR1, lambda *a: any_reactor.callFromThread(report))
    port = any_reactor.listenTCP(0, Factory.forProtocol(Frontend), interface="127.0.0.1", backlog=1000)
    print(port.getHost().port, flush=True)
    any_reactor.run()


async def echo() -> None:
    class Echo(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.write = transport.write

        def data_received(self, data: bytes) -> None:
            self.write(data)

    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class PingPong(asyncio.Protocol):
    """``rounds`` round trips of 64 bytes, then the end."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(b"x" * 64)

    def data_received(self, data: bytes) -> None:
        self.rounds -= 1
        if self.rounds:
            self.transport.write(b"x" * 64)
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self.rounds:
            self.over.set_exception(error or EOFError("the relay has closed"))
        else:
            self.over.set_result(None)


async def clients(port: int, count: int, rounds: int) -> None:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: PingPong(rounds), "127.0.0.1", port) for _ in range(count)]
    await asyncio.gather(*(protocol.over for _, protocol in made))


async def one_after_another(port: int, count: int) -> None:
    async def some() -> None:
        for _ in range(count // 8):
            await clients(port, 1, 1)

    await asyncio.gather(*(some() for _ in range(8)))


def child(*words: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.Popen(
        [sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, text=True, env=environment
    )


def answer(process: subprocess.Popen[str]) -> float:
    assert process.stdout is not None
    return float(process.stdout.readline())


def used(process: subprocess.Popen[str]) -> float:
    process.send_signal(signal.SIGUSR1)
    return answer(process)


def measure(name: str) -> tuple[float, float, float]:
    """Microseconds per round trip, per connection; round trips per second."""
    server = child("--echo")
    proxy = child("--relay", name, int(answer(server)))
    try:
        port = int(answer(proxy))
        uvloop.run(clients(port, 8, 200))
        before, clock = used(proxy), time.perf_counter()
        uvloop.run(clients(port, CONNECTIONS, ROUNDS))
        middle, seconds = used(proxy), time.perf_counter() - clock
        uvloop.run(one_after_another(port, SHORT))
        after = used(proxy)
    finally:
        for process in (proxy, server):
            process.kill()
            process.wait()
    trips = CONNECTIONS * ROUNDS
    return (middle - before) / trips * 1e6, (after - middle) / SHORT * 1e6, trips / seconds


def main() -> None:
    if sys.argv[1:2] == ["--echo"]:
        uvloop.run(echo())
    elif sys.argv[1:2] == ["--relay"]:
        relay(sys.argv[2], int(sys.argv[3]))
    else:
        print("| reactor | CPU µs per round trip | CPU µs per connection | round trips/s |\n|---|---|---|---|")
        for name in sys.argv[1:] or ["uv", "epoll", "asyncio"]:
            runs = [measure(name) for _ in range(RUNS)]
            trip, connection, rate = (median(values) for values in zip(*runs, strict=True))
            print(f"| {name} | {trip:.1f} | {connection:.0f} | {rate:.0f} |")


if __name__ == "__main__":
    main()
