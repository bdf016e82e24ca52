"""``python -m bench.sessions [COUNT]``: what a table of a million sessions costs, in bytes and microseconds.

The bytes are those of the process in RAM, and those that the table accounts for. Each session has one key of 36
characters, as a UUID is written; with ``two`` it has another of 24. Keys are looked up at random: of a whole million,
none is in a cache of the processor. ``python -m bench.cookies`` has what cookies cost.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from random import Random
from typing import NamedTuple
from uuid import UUID

from bench.machine import resident
from stickyproxy.sansio.sessions import SessionTable

_LOOKED_UP, _ROUNDS = 200_000, 5


class Costs(NamedTuple):
    """Bytes of a session; microseconds of a look-up of any, of one of the hundredth that is active, and of binding."""

    resident: float
    accounted: float
    look_up: float
    active: float
    bind: float


def microseconds(act: Callable[[], object], count: int) -> float:
    """Of one of ``count``, in CPU time."""
    began = time.process_time()
    act()
    return (time.process_time() - began) / count * 1e6


def key_of(number: int) -> bytes:
    """As a table has it: what the key means, and the key."""
    return b"user\0" + str(UUID(int=(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128))).encode()


def costs(count: int, *, two: bool = False) -> Costs:
    """Of a table with ``count`` sessions."""
    random = Random(1)
    gc.collect()
    before = resident([os.getpid()])
    table = SessionTable(time.time, size=count + 1, memory=1 << 40)
    spent = 0.0
    for start in range(0, count, 10_000):
        keys = [(key_of(number), b"sid\0%020d" % number)[: 2 if two else 1] for number in range(start, start + 10_000)]

        def bind(keys: list[tuple[bytes, ...]] = keys) -> None:
            for each in keys:
                table.bind(each, "abcd"[len(each[0]) & 3])

        spent += microseconds(bind, 1)
    del keys, bind
    gc.collect()
    in_ram = resident([os.getpid()]) - before

    def look_up(among: int) -> float:
        wanted = [key_of(random.randrange(among)) for _ in range(_LOOKED_UP)]
        find = table.find

        def all_of_them() -> None:
            for key in wanted:
                find(key)

        return min(microseconds(all_of_them, _LOOKED_UP) for _ in range(_ROUNDS))

    assert len(table) == count
    return Costs(in_ram / count, table.memory / count, look_up(count), look_up(count // 100), spent / count)


def main(count: int = 1_000_000) -> None:
    heads = ("bytes each in RAM", "accounted", "µs to look any up", "µs, one of the 1% active", "µs to bind")
    print(f"| {count:,} sessions | " + " | ".join(heads) + " |\n|---|" + "---|" * len(heads))
    for what, two in (("one key each", False), ("two keys each", True)):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:  # what another has freed counts not
            measured = process.submit(costs, count, two=two).result()
        print(f"| {what} | " + " | ".join(f"{cost:.3g}" for cost in measured) + " |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
