"""A crowd at a drain: ``python crowd.py COUNT`` has a WebSocket backend and, told a port, so many clients of it.

Both ends are the library ``websockets``. Every client talks: what it sends, of many sizes and some of it fragmented,
must come back whole. In the end it prints, as JSON, how each end of each connection saw its end.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
import time
from collections import Counter
from typing import Any

from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

SIZES = (0, 1, 100, 125, 126, 4000, 70_000)
PACE = 2.0  # seconds between two messages of a client


class Crowd:
    def __init__(self, count: int) -> None:
        self.count = count
        self.here = 0
        self.clients: Counter[str] = Counter()
        self.backend: Counter[str] = Counter()
        self.ends: list[float] = []
        self.messages = self.torn = 0

    async def echo(self, connection: ServerConnection) -> None:
        try:
            while True:
                message = await connection.recv()
                await connection.send([message[:9], message[9:]] if len(message) == 4000 else message)
        except ConnectionClosed as closed:
            self.backend[_seen(closed)] += 1

    async def client(self, port: int, room: asyncio.Semaphore) -> None:
        async with room:
            connection = await connect(f"ws://127.0.0.1:{port}/", open_timeout=60, compression=None)
        self.here += 1
        if self.here == self.count:
            print("connected", flush=True)
        try:
            await asyncio.sleep(random.uniform(0, PACE))
            while True:
                message = random.randbytes(random.choice(SIZES))
                await connection.send(message)
                self.torn += await connection.recv() != message
                self.messages += 1
                await asyncio.sleep(PACE)
        except ConnectionClosed as closed:
            self.clients[_seen(closed)] += 1
            self.ends.append(time.time())

    async def run(self) -> None:
        async with serve(self.echo, "127.0.0.1", 0, compression=None, ping_interval=None) as backend:
            print(f"crowd listens on {next(iter(backend.sockets)).getsockname()[1]}", flush=True)
            port = int(await asyncio.to_thread(sys.stdin.readline))
            room = asyncio.Semaphore(50)
            await asyncio.gather(*(self.client(port, room) for _ in range(self.count)))
        told: dict[str, Any] = {"clients": self.clients, "backend": self.backend, "messages": self.messages}
        print(json.dumps({**told, "torn": self.torn, "ends": sorted(self.ends)}), flush=True)


def _seen(closed: ConnectionClosed) -> str:
    """The code, and whether there was a handshake; or that there was nothing."""
    if closed.rcvd is None or closed.sent is None:
        return "lost"
    return f"{closed.rcvd.code}{'' if closed.rcvd_then_sent else ' after ours'}"


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 16384), hard))
    asyncio.run(Crowd(int(sys.argv[1])).run())
