"""Load at a constant rate, whether or not the answers keep up: HTTP/1.1 over kept connections.

``python -m bench.steady PORT --rps 20000``. Request n is due at n / rps. Its time runs from then, not from the moment
when a connection was free to send it, so a proxy that stands still for a while pays for every request that was due
meanwhile (no "coordinated omission"). What is never answered counts with the time that it has waited, and as an error.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import gc
import json
import os
import select
import socket
import time
from array import array

from bench.figures import percentile

_READ = 4096
_LAST = 2.0
_SHORTEST_TICK = 50e-6
_CLOCK_MONOTONIC = 1


class _ITimerSpec(ctypes.Structure):
    """timerfd_settime(2)."""

    _fields_ = [(name, ctypes.c_long) for name in ("every", "every_nano", "first", "first_nano")]


def ticker(seconds: float) -> int:
    """A file descriptor that becomes readable each ``seconds`` (below 1): epoll's own timeout counts milliseconds."""
    libc = ctypes.CDLL(None, use_errno=True)
    number: int = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    nano = round(seconds * 1e9)
    if number < 0 or libc.timerfd_settime(number, 0, ctypes.byref(_ITimerSpec(0, nano, 0, nano)), None):
        raise OSError(ctypes.get_errno(), "no timer")
    return number


class Load:
    """``sockets`` connections and a timetable. ``answered`` says when an answer is whole: by how its body ends."""

    def __init__(self, port: int, sockets: int, rps: float, cookie: str, ending: bytes) -> None:
        self.errors = self._answers = 0
        self._port = port
        self._rps = rps
        self._ending = ending
        self._after = (
            f" HTTP/1.1\r\nHost: localhost:{port}\r\nUser-Agent: steady\r\nAccept: */*\r\n"
            f"Accept-Encoding: gzip, br\r\nCookie: {cookie}\r\n\r\n"
        ).encode()
        self._poll = select.epoll()
        self._open: dict[int, socket.socket] = {}
        self._free: collections.deque[int] = collections.deque()
        self._due: dict[int, float] = {}
        self._rests: dict[int, bytes] = {}
        for _ in range(sockets):
            self._connect()

    def _connect(self) -> None:
        connection = socket.create_connection(("127.0.0.1", self._port), 5.0)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = connection.fileno()
        self._open[number] = connection
        self._poll.register(number, select.EPOLLIN)
        self._free.append(number)

    def run(self, warm: float, seconds: float) -> dict[str, float]:
        """Go by the timetable for ``warm`` and ``seconds``; say "ready" between them; only what is due later counts."""
        timer = ticker(max(_SHORTEST_TICK, min(0.5, 1 / self._rps)))
        self._poll.register(timer, select.EPOLLIN)
        clock, taken, sent, total = time.perf_counter, array("d"), 0, round(self._rps * (warm + seconds))
        begun = now = clock()
        counted, told, own, before = begun + warm, False, 0.0, 0
        while (sent < total or self._due) and now < counted + seconds + _LAST:
            if not told and now >= counted:
                told, own, before = True, time.process_time(), self._answers
                print("ready", flush=True)
            sent = self._send(begun, sent, min(total, int((now - begun) * self._rps) + 1))
            for number, _ in self._poll.poll(0.5):
                if number == timer:
                    os.read(timer, 8)  # it does not tick on before
                elif (due := self._answer(number)) >= counted:
                    taken.append(clock() - due)
            now = clock()
        used = time.process_time() - own
        os.close(timer)
        waiting = [*self._due.values(), *(begun + n / self._rps for n in range(sent, total))]
        return self._figures(taken, [due for due in waiting if due >= counted], counted, used, self._answers - before)

    def _send(self, begun: float, sent: int, due: int) -> int:
        """Send what is due, as far as connections are free, and give the new count of what was sent."""
        free = self._free
        while sent < due and free:
            number = free.popleft()
            self._due[number] = begun + sent / self._rps
            try:
                self._open[number].send(b"GET /x/%d-%d" % (sent, number) + self._after)
            except OSError:
                self._fail(number)
            sent += 1
        return sent

    def _answer(self, number: int) -> float:
        """Read, and give the time at which the request was due that is now answered; 0 if none is."""
        try:
            data = self._open[number].recv(_READ)
        except OSError:
            data = b""
        if self._rests:
            data = self._rests.pop(number, b"") + data if data else data
        due = self._due.get(number)
        if not data or due is None or not data.startswith(b"HTTP/1.1 200"[: len(data)]):
            self._fail(number)
            return 0.0
        if not data.endswith(self._ending):
            self._rests[number] = data
            return 0.0
        del self._due[number]
        self._free.append(number)
        self._answers += 1
        return due

    def _fail(self, number: int) -> None:
        """A connection lost or an answer that is no 200: an error if something was asked; another connection."""
        self.errors += self._due.pop(number, None) is not None
        self._rests.pop(number, None)
        if number in self._free:
            self._free.remove(number)
        self._poll.unregister(number)
        self._open.pop(number).close()
        self._connect()

    def _figures(
        self, taken: array[float], waiting: list[float], counted: float, used: float, answers: int
    ) -> dict[str, float]:
        """``strain`` is the share of the time that this generator needed: near 1, the figures are its own.

        ``requests`` are the answers that came since "ready", also those to what was due before.
        """
        now = time.perf_counter()
        ordered = sorted([*taken, *(now - due for due in waiting)])
        return {
            "requests": answers,
            "rate": answers / (now - counted),
            "errors": self.errors + len(waiting),
            "p50_ms": percentile(ordered, 0.5) * 1e3,
            "p99_ms": percentile(ordered, 0.99) * 1e3,
            "strain": used / (now - counted),
        }


def main() -> None:
    """The command line that the bench uses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--rps", type=float, default=1000.0)
    parser.add_argument("--sockets", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--warm", type=float, default=0.5)
    parser.add_argument("--cookie", default="SRV=none")
    parser.add_argument("--ending", default="." * 59, help="of every answer's body")
    chosen = parser.parse_args()
    load = Load(chosen.port, chosen.sockets, chosen.rps, chosen.cookie, chosen.ending.encode())
    gc.freeze()
    gc.disable()
    print(json.dumps(load.run(chosen.warm, chosen.seconds)))


if __name__ == "__main__":
    main()
