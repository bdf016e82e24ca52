"""The same answers from a real backend through a real proxy: one ``twistd``, one client after another."""

from __future__ import annotations

import queue
import random
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import answers_bodies
import answers_heads
import answers_upgrades
import pytest
import trustme
from answers_judge import Case, Ended, Seen, Sees, Then, judge, ok
from clients import Script, configuration, connect, port_of, reset
from parts import Proxy

NEXT = b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
ALL = [*answers_heads.CASES, *answers_bodies.CASES, *answers_upgrades.CASES]
#: Those in which it matters how a connection ends; over TLS it may also end without close_notify.
ENDS = [case for case in ALL if case.then is not Then.WAITS or case.later or not case.sees.whole]
#: Those that take no time. What comes later than the answer could be the next one's, to a proxy that is busy.
QUICK = [
    case
    for case in ALL
    if not case.later and case.sees.status != 504 and (case.then is not Then.WAITS or case.sees.whole)
]
RAGGED = [
    Case("ragged: an answer until the close", (b"HTTP/1.1 200 OK\r\n\r\nok",), Sees(200, b"ok", whole=False)),
    Case("ragged: the same for HTTP 1.0", (b"HTTP/1.1 200 OK\r\n\r\nok",), Sees(200, b"ok", whole=False), minor=0),
    Case("ragged: an answer of a length", (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",), Sees(200, b"ok")),
    Case("ragged: within the head", (b"HTTP/1.1 200 OK\r\n",), Sees(502)),
]


class Teller:
    """A backend that answers by the table. It tells which connection had which request, and which is closed."""

    def __init__(self, cases: list[Case], tls: ssl.SSLContext | None) -> None:
        self.told: queue.Queue[tuple[int, bytes | None]] = queue.Queue()
        self.later: queue.Queue[bytes] = queue.Queue()
        self._cases = {case.request.split(b" ", 2)[1]: case for case in cases}
        self._tls = tls
        self._count = 0

    def play(self, connection: socket.socket) -> None:
        self._count = number = self._count + 1
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a reset discards what is not sent yet
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            while self._answer(connection, number):
                pass
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            connection.close()
        self.told.put((number, None))

    def _answer(self, connection: socket.socket, number: int) -> bool:
        """Whether another request may come."""
        head = b""
        while not head.endswith(b"\r\n\r\n") and (byte := connection.recv(1)):
            head += byte
        if not head:
            return False
        path = head.split(b" ", 2)[1]
        for _ in range(5 if head.startswith(b"POST ") else 0):
            connection.recv(1)
        self.told.put((number, path))
        if path.startswith((b"/next", b"/own/")):
            connection.sendall(ok(number if path == b"/next" else path))
            return True
        case = self._cases[path]
        for piece in case.said:
            connection.sendall(piece)
            if len(case.said) < 10:
                time.sleep(0.002)  # a piece is to be a segment of its own, most of the time
        if case.then is Then.WAITS and not case.name.startswith("ragged: "):
            if case.later:
                connection.sendall(self.later.get(timeout=20))
            return True
        if case.then is Then.RESETS:
            reset(connection)
        elif case.then is Then.CLOSES and isinstance(connection, ssl.SSLSocket):
            connection.unwrap()
        return False


def read(connection: socket.socket, method: bytes) -> tuple[Seen, Ended]:
    """The answer that comes, and how the connection has ended by then."""
    data, ended = b"", Ended.NOT
    while True:
        seen = judge(data, method, ended)
        if seen.whole or ended is not Ended.NOT:
            return seen, ended
        try:
            piece = connection.recv(65536)
        except (ConnectionError, ssl.SSLError):
            ended = Ended.ABRUPTLY
        else:
            data += piece
            ended = ended if piece else Ended.CLEANLY


class Client:
    """Somebody who asks, on one connection as long as it is open."""

    def __init__(self, port: int, tls: ssl.SSLContext | None) -> None:
        self._port, self._tls = port, tls
        self._connection: socket.socket | None = None

    def ask(self, request: bytes) -> tuple[Seen, Ended]:
        if self._connection is None or not self._is_open(self._connection):
            self.leave()
            self._connection = connect(self._port, timeout=20)
            if self._tls is not None:
                self._connection = self._tls.wrap_socket(
                    self._connection, server_hostname="localhost", suppress_ragged_eofs=False
                )
        self._connection.sendall(request)
        seen, ended = read(self._connection, request.split(b" ", 1)[0])
        if ended is not Ended.NOT:
            self.leave()
        return seen, ended

    def leave(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _is_open(self, connection: socket.socket) -> bool:
        connection.setblocking(False)
        try:
            return connection.recv(1) != b""
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except (ConnectionError, ssl.SSLError):
            return False
        finally:
            connection.settimeout(20)


def try_case(case: Case, teller: Teller, client: Client) -> None:
    """The case, then another request that must get its own answer, from a connection that may serve it."""
    seen, ended = client.ask(case.request)
    case.sees.check(seen, ended)
    served_by = teller.told.get(timeout=20)[0]
    if case.later:
        teller.later.put(case.later)
    if not case.kept:
        while teller.told.get(timeout=20)[1] is not None:
            pass
    seen, ended = client.ask(NEXT)
    number, path = teller.told.get(timeout=20)
    while path != b"/next":  # what had been tried a second time is told as well
        number, path = teller.told.get(timeout=20)
    assert (seen.status, seen.content, seen.rest) == (200, b"own %d" % number, b"")
    assert (number == served_by) is case.kept


def try_many(client: Client, number: int) -> None:
    """Cases in any order, each followed by a request whose answer nobody else gets."""
    rng = random.Random(number)
    for turn in range(100):
        case = rng.choice(QUICK)
        seen, ended = client.ask(case.request)
        case.sees.check(seen, ended, case.name)
        path = b"/own/%d/%d" % (number, turn)
        seen, _ = client.ask(NEXT.replace(b"/next", path))
        assert (seen.status, seen.content, seen.whole) == (200, b"own " + path, True)
    client.leave()


@pytest.mark.parametrize(("cases", "secure"), [(ALL, False), ([*ENDS, *RAGGED], True)], ids=["TCP", "TLS"])
def test_answers(tmp_path: Path, cases: list[Case], secure: bool) -> None:
    """Hundreds of hostile and broken answers: each client sees what it may, and the next one nothing of it."""
    lines = ['cluster.app.timeouts.answer = "400ms"']
    more: dict[str, Any] = {}
    inside = outside = None
    if secure:
        authority, file = trustme.CA(), tmp_path / "ca.pem"
        authority.cert_pem.write_to_path(str(file))
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "own.pem"))
        lines.append(f'cluster.app.tls = {{ ca = "{file}", server_name = "localhost" }}')
        more = {"certificate": tmp_path / "own.pem", "frontends": ()}
        inside, outside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=str(file))
        certificate.configure_cert(inside)
    teller = Teller([*ALL, *RAGGED], inside)
    with (
        Script(teller.play) as backend,
        Proxy(tmp_path, configuration([backend], *lines, cookie=False, **more)) as proxy,
    ):
        name = "secure" if secure else "web"
        client = Client(port_of(proxy, name), outside)
        failures = []
        for case in cases:
            try:
                try_case(case, teller, client)
            except (AssertionError, queue.Empty, OSError) as failure:
                failures.append((case.name, str(failure)[:300]))
                client.leave()
                while not teller.told.empty():
                    teller.told.get()
        client.leave()
        assert failures == []
        with ThreadPoolExecutor(12) as together:
            clients = [Client(port_of(proxy, name), outside) for _ in range(12)]
            assert list(together.map(try_many, clients, range(12))) == [None] * 12
        assert "Defect" not in proxy.log
