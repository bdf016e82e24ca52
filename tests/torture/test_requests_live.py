"""The same requests to a real ``twistd``, before a backend that records every byte."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

from cases import Reached
from clients import Script, configuration, connect, port_of, read_all
from corpus import REQUESTS
from judge import NotCanonical, check, judge
from parts import Proxy

PROBE = b"GET /probe HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"
CLIENT = b"127.0.0.1"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#: Every so many cases one is sent in pieces, too.
SAMPLE = 9


class Recorder:
    """A backend that keeps its connections open, answers every whole request, and records what else there was."""

    def __init__(self) -> None:
        self._record = threading.Lock()
        self._requests: list[Reached] = []
        self.cut_off = 0  #: requests that ended within themselves
        self.faults: list[str] = []

    def play(self, connection: socket.socket) -> None:
        data = b""
        try:
            while piece := connection.recv(65536):
                found, data = judge(data + piece, CLIENT)
                with self._record:
                    self._requests += found
                connection.sendall(b"".join(OK[:-2] if each.method == b"HEAD" else OK for each in found))
        except ConnectionError:
            pass
        except (NotCanonical, AssertionError) as fault:
            self.faults.append(f"{fault!r} in {data + piece!r}")
            data = b""
        finally:
            with self._record:
                self.cut_off += bool(data)
            connection.close()

    def take(self) -> list[Reached]:
        """The whole requests since the last time."""
        with self._record:
            taken, self._requests = self._requests, []
        return taken


def converse(port: int, pieces: list[bytes]) -> bytes:
    """What a client reads until its connection is closed. It sends on as long as it can, like any attacker."""
    with connect(port, timeout=30) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            client.sendall(piece)
            if len(pieces) > 1:
                time.sleep(0.001)  # a piece is to be a segment of its own, most of the time
        return read_all(client)


def in_pieces(raw: bytes) -> list[bytes]:
    """Cut in the middle of each third of it."""
    cuts = sorted({1, len(raw) // 6, len(raw) // 2, len(raw) * 5 // 6})
    return [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


def test_hostile_requests(tmp_path: Path) -> None:
    """A thousand of them, one after another: the backend sees what the tables say, and nothing is in the log."""
    recorder = Recorder()
    failures, begins = [], 0
    with Script(recorder.play) as backend, Proxy(tmp_path, configuration([backend], cookie=False)) as proxy:
        port = port_of(proxy)
        for number, case in enumerate(case for cases in REQUESTS.values() for case in cases):
            ways = [[case.raw + PROBE]]
            if number % SAMPLE == 0 and len(case.raw) < 1000:
                ways.append(in_pieces(case.raw + PROBE))
            for pieces in ways:
                begins += case.begins
                try:
                    answers = converse(port, pieces)
                    check(case, recorder.take(), 0, answers, pieces=len(pieces) > 1)
                except (AssertionError, OSError) as failure:
                    failures.append((case.name, len(pieces), repr(failure)[:500]))
                    recorder.take()
        assert failures == []
        assert recorder.faults == []
        assert "Defect" not in proxy.log
    assert recorder.take() == []
    assert recorder.cut_off <= begins
