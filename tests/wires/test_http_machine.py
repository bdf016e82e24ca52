"""Whatever clients and backends do, in whatever order: a machine that does everything to one frontend, and looks.

Each request carries its own path, and every byte of its content and of its answer's is made of it, so that a byte in
the wrong place shows. What is looked at: nothing raises or logs a failure; the answers of a client come in the order of
its requests, are its own, and are complete only if the backend's was; a backend gets whole, well-framed requests; what
is counted and watched comes back to nothing, and nobody who stops in the middle stays for ever.
"""

from __future__ import annotations

import re
from itertools import count
from typing import Any

import attrs
from house import House
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.logger import globalLogPublisher

from stickyproxy.config.specs import Cluster, ClusterTimeouts, Frontend, FrontendTimeouts, Limits, Pool
from stickyproxy.model import Backend
from stickyproxy.testing import MemoryTransport

#: How much of what is to be said is said at once.
SAID = st.sampled_from([0, 1, 60, 10_000, 10_000, 10_000, 10_000])
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
SIZE = 40  # bytes of a request's content, and repetitions of its path in an answer's

_HEAD = re.compile(rb"\A([^\r\n]+)\r\n((?:[!-9;-~]+: [^\r\n]*\r\n)*)\r\n")
_CHUNK = re.compile(rb"\A([0-9a-f]+)\r\n")


def split(data: bytes) -> tuple[bytes, dict[bytes, bytes], bytes] | None:
    """First line, fields and rest; None while the head is incomplete."""
    if b"\r\n\r\n" not in data:
        return None
    match = _HEAD.match(data)
    assert match, data
    fields = dict(line.split(b": ", 1) for line in match[2].split(b"\r\n")[:-1])
    return match[1], {name.lower(): value for name, value in fields.items()}, data[match.end() :]


def content_of(fields: dict[bytes, bytes], data: bytes) -> tuple[bytes, bytes | None]:
    """What there is of the content, and the bytes behind it: None while it is incomplete."""
    if b"transfer-encoding" not in fields:
        size = int(fields.get(b"content-length", b"0"))
        return data[:size], data[size:] if len(data) >= size else None
    content = b""
    while match := _CHUNK.match(data):
        size = int(match[1], 16)
        if not size:
            trailers, end, rest = data[match.end() - 2 :].partition(b"\r\n\r\n")
            assert trailers in (b"", b"\r\nX-Sum: 1", b"\r\nX-T: t") or not end, trailers
            return content, rest if end else None
        piece, data = data[match.end() : match.end() + size], data[match.end() + size :]
        content += piece
        if len(data) < 2:
            break
        assert data[:2] == b"\r\n", data
        data = data[2:]
    return content, None


def down(path: bytes) -> bytes:
    """What the backend says on a WebSocket that was asked for so; a Close may follow."""
    return b"\x82%c%b" % (len(path) + 4, b"down" + path)


class Side:
    """A peer of the proxy, and what it has still to say."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport
        self.to_say = b""
        self.uncut = b""  # goes with the last byte of ``to_say``, in one piece
        self.read = b""

    @property
    def open(self) -> bool:
        return self.transport.connected and not self.transport.aborted

    def say(self, size: int) -> bool:
        """Whether all is said now."""
        data, self.to_say = self.to_say[:size], self.to_say[size:]
        if not self.to_say:
            data, self.uncut = data + self.uncut, b""
        if data:
            self.transport.deliver(data)
        return not self.to_say


@attrs.define(eq=False)
class Asked:
    """A request of a client."""

    path: bytes
    method: bytes
    minor: int
    tunnel: bool


class Client(Side):
    def __init__(self, transport: MemoryTransport) -> None:
        super().__init__(transport)
        self.asked: list[Asked] = []
        self.cookie = b""
        self.ended = False  # it will say nothing more


class Served(Side):
    """A connection to a backend."""

    def __init__(self, transport: MemoryTransport) -> None:
        super().__init__(transport)
        self.path = b""  # of the request that waits for an answer
        self.method = b""
        self.tunnel = False
        self.finishing = b""  # of the answer whose last bytes are still to be said
        self.ends_by_close = False
        self.cut_off = False  # answered before the request was whole: no other may come

    def hear(self) -> bytes | None:
        """Read on; the path of a request whose head is there now."""
        self.read += self.transport.take()
        assert not self.cut_off or b"HTTP/1.1" not in self.read, "a connection whose request was cut off is used again"
        if self.path or self.tunnel or self.finishing or self.cut_off:
            return None
        head = split(self.read)
        if head is None:
            return None
        line, fields, self.read = head
        self.method, self.path, version = line.split(b" ")
        assert version == b"HTTP/1.1" and fields[b"host"] == b"example.org" and fields[b"x-real-ip"] == b"198.51.100.7"
        assert b"SRV=" not in fields.get(b"cookie", b"")
        self.fields = fields
        return self.path

    def body(self) -> bytes | None:
        """The rest behind the request; None while it is incomplete. The content has to be the request's own."""
        content, rest = content_of(self.fields, self.read)
        assert content == (self.path * SIZE)[: len(content)], (self.path, content)
        return rest


class HTTPMachine(RuleBasedStateMachine):
    """Three or four clients, one of which reads only when told, before two backends."""

    @initialize()
    def begin(self) -> None:
        timeouts = FrontendTimeouts(head=2.0, body=2.0, send=2.0, keep_alive=2.0, tunnel=4.0)
        backends = (Backend("a", "tcp:127.0.0.1:1"), Backend("b", "tcp:127.0.0.1:2"))
        self.house = House(
            Frontend("web", ("tcp:80",), "app", timeouts=timeouts, limits=Limits(body=4096)),
            Cluster("app", backends, timeouts=ClusterTimeouts(connect=2.0, answer=3.0), pool=Pool(size=2, idle=3.0)),
        )
        self.clients = [Client(self.house.client(high_water)) for high_water in (None, None, 300)]
        self.served: dict[MemoryTransport, Served] = {}
        self.whole: set[bytes] = set()  # paths whose answer was said to its end
        self.reached: dict[bytes, int] = {}
        self.numbers = count(1)
        self.failures: list[Any] = []
        globalLogPublisher.addObserver(self.observe)  # type: ignore[arg-type]  # a function will do

    def observe(self, event: dict[str, Any]) -> None:
        if "log_failure" in event or event.get("isError"):
            self.failures.append(event)

    # Clients.

    @precondition(lambda self: len(self.clients) < 4)
    @rule(high_water=st.sampled_from([None, 300]))
    def connect(self, high_water: int | None) -> None:
        self.clients.append(Client(self.house.client(high_water)))

    def client(self, number: int) -> Client | None:
        there = [client for client in self.clients if client.open]
        return there[number % len(there)] if there else None

    @rule(
        number=st.integers(0, 3),
        method=st.sampled_from([b"GET", b"GET", b"HEAD", b"POST", b"CHUNKED", b"SOCKET", b"SOCKET"]),
        more=st.sampled_from([b"", b"", b"", b"Connection: close\r\n", b"Expect: 100-continue\r\n"]),
        minor=st.sampled_from([1, 1, 1, 0]),
        times=st.integers(1, 3),
        said=SAID,
    )
    def ask(self, number: int, method: bytes, more: bytes, minor: int, times: int, said: int) -> None:
        client = self.client(number)
        if client is None or client.ended or any(each.tunnel for each in client.asked):
            return
        for _ in range(times if method in (b"GET", b"HEAD") else 1):
            path = b"/%d." % next(self.numbers)
            if client.cookie:
                more += b"Cookie: a=b; " + client.cookie + b"\r\n"
            verb, content = method, b""
            if method == b"POST":
                content = path * SIZE
                more += b"Content-Length: %d\r\n" % len(content)
            elif method == b"CHUNKED" and minor:
                half = path * (SIZE // 2)
                content = b"%x\r\n%b\r\n%X;x=y\r\n%b\r\n0\r\nX-Sum: 1\r\n\r\n" % (len(half), half, len(half), half)
                more += b"Transfer-Encoding: chunked\r\n"
            elif method == b"SOCKET" and minor:
                content = b"\x82%ckeyz%b" % (0x82 + len(path), b"up" + path)
                more = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                more += b"Sec-WebSocket-Key: " + KEY + b"\r\n"
            verb = {b"CHUNKED": b"POST", b"SOCKET": b"GET"}.get(method, method)
            if more.startswith(b"Expect") and verb != b"POST":
                more = b""
            client.asked.append(Asked(path, verb, minor, method == b"SOCKET" and minor == 1))
            client.to_say += b"%b %b HTTP/1.%d\r\nHost: example.org\r\n%b\r\n%b" % (verb, path, minor, more, content)
            more = b""
        client.say(said)

    @rule(
        number=st.integers(0, 3),
        garbage=st.sampled_from([*[b"\r\n"] * 6, b"\r", b"\nGET", b"GET / HTTP/2.0\r\n", b"\0"]),
    )
    def ask_badly(self, number: int, garbage: bytes) -> None:
        client = self.client(number)
        if client is not None and not client.ended and not any(each.tunnel for each in client.asked):
            client.to_say += garbage
            client.ended = garbage != b"\r\n"
            client.say(10_000)

    @rule(number=st.integers(0, 3), size=st.sampled_from([1, 7, 60, 100, 10_000, 10_000]))
    def client_says(self, number: int, size: int) -> None:
        client = self.client(number)
        if client is not None:
            client.say(size)

    @rule(number=st.integers(0, 3), size=st.sampled_from([10, 500, None]))
    def client_reads(self, number: int, size: int | None) -> None:
        client = self.client(number)
        if client is not None:
            client.transport.drain(size)

    @rule(number=st.integers(0, 3), how=st.sampled_from([*[""] * 6, "half", "half", "done", "reset"]))
    def client_leaves(self, number: int, how: str) -> None:
        client = self.client(number)
        if client is not None and how:
            client.ended = True
            client.to_say = b""
            if how == "half":
                client.transport.half_close()
            else:
                client.transport.lose(ConnectionDone() if how == "done" else ConnectionLost())

    # Backends.

    @rule(what=st.sampled_from(["hold", "hold", "accept", "refuse", "all"]))
    def let_in(self, what: str) -> None:
        endpoint = self.house.endpoints["b"]
        if what == "hold":
            endpoint.hold = True
        while endpoint._waiting and what != "hold":
            if what == "refuse":
                endpoint.refuse(ConnectError())
            else:
                endpoint.accept()
        if what == "all":
            endpoint.hold = False

    @rule(refuse=st.sampled_from([True, False, False, False]))
    def refuse_at_a(self, refuse: bool) -> None:
        self.house.endpoints["a"].error = ConnectError() if refuse else None

    def waiting(self, number: int) -> Served | None:
        there = [served for served in self.served.values() if served.open and served.path]
        return there[number % len(there)] if there else None

    @rule(
        number=st.integers(0, 7),
        kind=st.sampled_from(["length", "length", "chunked", "close", "empty", "204", "304", "early", "beyond"]),
        interim=st.sampled_from([b"", b"", b"", b"100 Continue", b"103 Early Hints"]),
        said=SAID,
    )
    def answer(self, number: int, kind: str, interim: bytes, said: int) -> None:
        served = self.waiting(number)
        if served is None or (kind != "early" and served.body() is None):
            return
        path, content = served.path, served.path * SIZE
        status, fields = b"200 OK", b"X-For: %b\r\n" % path
        if kind == "chunked":
            fields += b"Transfer-Encoding: chunked\r\n"
            content = b"%x\r\n%b\r\n1;e\r\n%b\r\n0\r\nX-T: t\r\n\r\n" % (len(content) - 1, content[:-1], content[-1:])
        elif kind == "empty":
            fields, content = fields + b"Content-Length: 0\r\n", b""
        elif kind in ("204", "304"):
            status, content = kind.encode() + b" X", b""
        elif kind == "close" and served.method != b"HEAD":
            served.ends_by_close = True
        else:
            fields += b"Content-Length: %d\r\n" % len(content)
        if served.method == b"HEAD":
            content = b""
        if interim:
            served.to_say += b"HTTP/1.1 %b\r\nX-For: %b\r\n\r\n" % (interim, path)
        served.to_say += b"HTTP/1.1 %b\r\n%b\r\n%b" % (status, fields, content)
        if kind == "beyond":
            served.uncut = b"HTTP/1.1 200 OK\r\nX-For: wrong\r\nContent-Length: 5\r\n\r\nwrong"
        rest = served.body()
        served.cut_off, served.read = rest is None, rest or b""
        served.finishing, served.path = path, b""
        self.say(served, said)

    def say(self, served: Served, size: int) -> None:
        beyond = bool(served.uncut)
        if served.say(size):
            served.transport.turn()
            assert not (beyond and served.open), "bytes beyond the answer, and the connection lives on"
            if served.finishing and not served.ends_by_close:
                self.whole.add(served.finishing)
                served.finishing = b""

    @rule(
        kind=st.sampled_from(["length", "length", "chunked", "close", "204", "beyond", "early", "leave", "reset"]),
        rounds=st.integers(1, 4),
    )
    def all_is_answered(self, kind: str, rounds: int) -> None:
        for _ in range(rounds):
            for client in self.clients:
                if client.open:
                    client.say(10_000)
                    client.transport.drain()
            self.all_is_well()
            for served in list(self.served.values()):
                if served.open:
                    self.say(served, 10_000)
                if served.open and served.path and kind in ("leave", "reset"):
                    served.transport.lose(ConnectionDone() if kind == "leave" else ConnectionLost())
                elif served.open and served.path and b"upgrade" in served.fields:
                    self.switch(self.place(served), True, 10_000)
                elif served.open and served.path:
                    self.answer(self.place(served), kind, b"", 10_000)
            self.all_is_well()

    def place(self, served: Served) -> int:
        return [each for each in self.served.values() if each.open and each.path].index(served)

    @rule(number=st.integers(0, 7), right=st.sampled_from([True, True, True, False]), said=SAID)
    def switch(self, number: int, right: bool, said: int) -> None:
        served = self.waiting(number)
        if served is not None and served.fields.get(b"upgrade") == b"websocket":
            accept = ACCEPT if right else b"x" * 28
            served.to_say += (
                b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-For: %b\r\n" % served.path
            )
            served.to_say += b"Sec-WebSocket-Accept: %b\r\n\r\n%b" % (accept, down(served.path))
            served.tunnel, served.path = True, b""
            served.say(said)

    @rule(
        number=st.integers(0, 7),
        what=st.sampled_from([b"", b"", b"", b"HTTP/1.1 200 OK\nA: b\r\n\r\n", b"\0", b"HTTP/1.1 101 X\r\n\r\n"]),
    )
    def answer_badly(self, number: int, what: bytes) -> None:
        served = self.waiting(number)
        if served is not None and what:
            served.say(10_000)
            served.to_say = what
            served.say(10_000)

    @rule(number=st.integers(0, 7), size=st.sampled_from([1, 20, 100, 10_000, 10_000]))
    def backend_says(self, number: int, size: int) -> None:
        there = [served for served in self.served.values() if served.open]
        if there:
            self.say(there[number % len(there)], size)

    @rule(number=st.integers(0, 7), how=st.sampled_from([*[""] * 5, "half", "done", "reset"]))
    def backend_leaves(self, number: int, how: str) -> None:
        there = [served for served in self.served.values() if served.open]
        if there and how:
            served = there[number % len(there)]
            if not served.to_say and served.finishing and how != "reset":
                self.whole.add(served.finishing)
            if how == "half":
                served.transport.half_close()
            else:
                served.transport.lose(ConnectionDone() if how == "done" else ConnectionLost())

    @rule(number=st.integers(0, 7), drain=st.booleans())
    def backend_stops_reading(self, number: int, drain: bool) -> None:
        there = [served for served in self.served.values() if served.open]
        if there:
            transport = there[number % len(there)].transport
            if transport.high_water is None:
                transport.high_water = 50
            elif drain:
                transport.drain()

    # Everybody.

    @rule(seconds=st.sampled_from([0.2, 0.2, 1.0, 2.6]))
    def wait(self, seconds: float) -> None:
        self.house.wait(seconds)

    @rule(really=st.integers(0, 20))
    def operator_aborts(self, really: int) -> None:
        if really == 20:
            for connection in list(self.house.factory.connections):
                connection.abort()

    def transports(self) -> list[MemoryTransport]:
        backends = [transport for endpoint in self.house.endpoints.values() for transport in endpoint.transports]
        return [client.transport for client in self.clients] + backends

    @invariant()
    def all_is_well(self) -> None:
        for _ in range(3):
            for transport in self.transports():
                transport.turn()
        for endpoint in self.house.endpoints.values():
            for transport in endpoint.transports:
                served = self.served.setdefault(transport, Served(transport))
                path = served.hear()
                if path is not None:
                    self.reached[path] = self.reached.get(path, 0) + 1
                    assert self.reached[path] <= (1 if served.method == b"POST" else 3), path
                if served.path and served.method != b"POST" and not served.tunnel and b"upgrade" not in served.fields:
                    assert served.body() == b"", served.read
        for client in self.clients:
            client.read += client.transport.take()
            self.look_at(client)
        for member in self.house.cluster.members.values():
            endpoint = self.house.endpoints[member.id]
            assert 0 <= member.active <= len(endpoint.transports) + endpoint.waiting
        assert not self.failures, self.failures

    def look_at(self, client: Client) -> None:
        """The answers that ``client`` has read."""
        data = client.read
        for asked in client.asked:
            while (head := split(data)) is not None and head[0].startswith((b"HTTP/1.1 100", b"HTTP/1.1 103")):
                assert asked.minor == 1 and head[1][b"x-for"] == asked.path
                data = head[2]
            if head is None:
                return
            line, fields, data = head
            status = line[9:12]
            client.cookie = fields.get(b"Set-Cookie", client.cookie).partition(b";")[0]
            if status == b"101":
                assert asked.tunnel and fields[b"x-for"] == asked.path
                frame = down(asked.path)
                assert frame.startswith(data[: len(frame)]) and data[len(frame) :][:1] in (b"", b"\x88"), data
                return
            if (asked.method == b"HEAD" and status != b"408") or status in (b"204", b"304"):  # 408: not read as HEAD
                content, rest = b"", data
            elif (
                fields.get(b"connection") == b"close" and not {b"content-length", b"transfer-encoding"} & fields.keys()
            ):
                content, rest = data, None
                if client.transport.half_closed or (not client.transport.connected and not client.transport.aborted):
                    rest = b"" if not client.ended else None
            else:
                content, rest = content_of(fields, data)
            if b"x-for" in fields:
                assert fields[b"x-for"] == asked.path, (asked, line, fields)
                assert content == (asked.path * SIZE)[: len(content)], (asked, content)
                assert rest is None or asked.path in self.whole, (asked, line, fields, content)
            else:
                assert status in (b"400", b"408", b"413", b"502", b"503", b"504", b"505"), (line, content)
            if rest is None:
                return
            data = rest
        assert not data or data.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505")), data

    def teardown(self) -> None:
        try:
            # Nobody says or reads anything more: the timeouts end it all.
            for _ in range(8):
                self.house.clock.pump([1.0] * 10)
                self.all_is_well()
            it = self.house
            assert [client for client in self.clients if client.transport.connected] == []
            assert it.factory.connections == set()
            assert {member.active for member in it.cluster.members.values()} == {0}
            assert not any(transport.connected for transport in self.transports())
            assert it.sweep._watched == set()
            assert it.clock.getDelayedCalls() == []
        finally:
            globalLogPublisher.removeObserver(self.observe)  # type: ignore[arg-type]  # a function will do


HTTPMachine.TestCase.settings = settings(
    max_examples=400,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestHTTPMachine = HTTPMachine.TestCase
