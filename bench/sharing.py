"""``python -m bench.sharing``: what it costs that several processes know the same, in microseconds.

Sessions go over real socket pairs between the process that is measured and its parent. Rates and counts of connections
are in real shared memory. ``python -m bench.sessions`` has what a table of sessions costs by itself.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from bench.machine import cpu_seconds
from bench.sessions import key_of, microseconds
from stickyproxy.replication import ChildSessions, ParentSessions
from stickyproxy.sansio.admission import BYTES as TALLY
from stickyproxy.sansio.admission import Admission, SharedAdmission
from stickyproxy.sansio.networks import NOBODY
from stickyproxy.sansio.ratelimit import BYTES, TokenBuckets
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.sharing import PrivateMemory, Region, SharedMemory

_TABLE = {"size": 1_000_000, "memory": 1 << 30}
_ADDRESSES = [f"10.0.{number >> 8}.{number & 255}" for number in range(2000)]
_ASKED = 2000
Figures = dict[str, float]


def best(act: Callable[[], object], count: int) -> float:
    """Microseconds of one of ``count``, the best of five rounds."""
    return min(microseconds(act, count) for _ in range(5))


def rates() -> Figures:
    """Taking a token, of 2,000 addresses in turn."""
    shared = SharedMemory.create(1)
    shared.provide([Region("rate", BYTES, False)])
    figures = {}
    for name, memory in (("own memory", PrivateMemory()), ("shared", shared)):
        take = TokenBuckets(1_000_000, 1.0, 1000, memory.cells(Region("rate", BYTES, False)), memory.secret).take

        def all_of_them(take: Callable[[str, float], float] = take) -> None:
            for now in range(10):
                for address in _ADDRESSES:
                    take(address, float(now))

        figures[f"a rate, {name}"] = best(all_of_them, 10 * len(_ADDRESSES))
    return figures


def admissions() -> Figures:
    """Counting a connection that comes and goes, with limits in all and for each address."""
    memory = [memoryview(bytearray(TALLY)) for _ in range(8)]
    rooms: dict[str, Admission] = {"one process": Admission(10_000, 100)}
    for count in (2, 8):
        tallies = [SharedAdmission(10_000, 100, NOBODY, own, (), b"key") for own in memory[:count]]
        for tally in tallies:
            for address in _ADDRESSES[:100]:
                tally.admit(address)
        rooms[f"{count} processes"] = SharedAdmission(10_000, 1000, NOBODY, memory[0], memory[1:count], b"key")
    figures = {}
    for name, room in rooms.items():

        def all_of_them(room: Admission = room) -> None:
            for address in _ADDRESSES:
                room.admit(address)
                room.leave(address)

        figures[f"a connection, {name}"] = best(all_of_them, len(_ADDRESSES))
    return figures


def sessions(count: int, reactor: Any) -> Figures:
    """Binding, finding and asking, in a child."""
    ours, theirs = socket.socketpair()
    other, others = socket.socketpair()
    command = [sys.executable, "-m", "bench.sharing", "parent", str(theirs.fileno()), str(others.fileno())]
    figures: Figures = {}
    with subprocess.Popen(command, pass_fds=[theirs.fileno(), others.fileno()]) as parent:
        theirs.close()
        others.close()
        program = Deferred.fromCoroutine(_sessions(count, reactor, ours, other, parent.pid, figures))
        failed: list[Any] = []
        program.addErrback(failed.append)
        program.addBoth(lambda _: reactor.callWhenRunning(reactor.stop))
        reactor.run(installSignalHandlers=False)
        parent.terminate()
    for failure in failed:
        failure.raiseException()
    return figures


async def _sessions(
    count: int, reactor: Any, ours: socket.socket, other: socket.socket, parent: int, figures: Figures
) -> None:
    child = ChildSessions(reactor, time.time)
    child.connect(ours)
    table = child.table("bench", **_TABLE)
    await _ask(table, b"are you there?")
    keys = [key_of(number) for number in range(count)]
    alone = SessionTable(time.time, size=1_000_000, memory=1 << 30)
    before = cpu_seconds(parent)
    for name, each in (("one process", alone), ("shared", table)):
        spent = 0.0
        for start in range(0, count, 500):

            def bind(each: SessionTable = each, some: list[bytes] = keys[start : start + 500]) -> None:
                for key in some:
                    each.bind((key,), "a")

            spent += microseconds(bind, 1)
            await deferLater(reactor, 0.001)
        figures[f"to bind, {name}"] = spent / count
    await _ask(table, b"have you heard all?")
    figures["to bind, CPU of the parent"] = (cpu_seconds(parent) - before) / count * 1e6
    for name, each in (("one process", alone), ("shared", table)):

        def find(find: Callable[[bytes], object] = each.find) -> None:
            for key in keys:
                find(key)

        figures[f"to find, {name}"] = best(find, count)
    await _late(count, reactor, other, parent, figures)


async def _late(count: int, reactor: Any, other: socket.socket, parent: int, figures: Figures) -> None:
    """A child that starts when all are bound, and is asked for those whom nobody knows."""
    began = time.perf_counter()
    late = ChildSessions(reactor, time.time)
    late.connect(other)
    table = late.table("bench", **_TABLE)
    while len(table) < count:
        await deferLater(reactor, 0.001)
    figures["to be told to a child that starts"] = (time.perf_counter() - began) / count * 1e6
    trips, spent, before = [], time.process_time(), cpu_seconds(parent)
    for number in range(_ASKED):
        began = time.perf_counter()
        await _ask(table, b"stranger %d" % number)
        trips.append(time.perf_counter() - began)
    figures["to ask, until the answer (median)"] = median(trips) * 1e6
    figures["to ask, CPU of the child"] = (time.process_time() - spent) / _ASKED * 1e6
    figures["to ask, CPU of the parent"] = (cpu_seconds(parent) - before) / _ASKED * 1e6


async def _ask(table: SessionTable, stranger: bytes) -> None:
    found = table.find(stranger)
    assert found is not None and not isinstance(found, str)
    await found


def _be_parent(descriptors: list[int], reactor: Any) -> None:
    parent = ParentSessions(reactor, time.time)
    kept = parent.table("bench", **_TABLE)
    for descriptor in descriptors:
        parent.connect(socket.socket(fileno=descriptor))
    reactor.run()
    del kept


def _reactor() -> Any:
    from stickyproxy.reactor.uv import UVReactor

    return UVReactor()


def main(*arguments: str) -> None:
    if arguments[:1] == ("parent",):
        _be_parent([*map(int, arguments[1:])], _reactor())
        return
    print("| | µs |\n|---|---|")
    for name, cost in {**sessions(int(*arguments or (20_000,)), _reactor()), **rates(), **admissions()}.items():
        print(f"| {name} | {cost:.3g} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
