"""docs/http.md: the statuses in it are those that a client gets, the defaults are those of the configuration."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

import attrs
import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.task import Clock

from stickyproxy.cluster import Cluster
from stickyproxy.config import specs
from stickyproxy.member import Member
from stickyproxy.model import Backend, BackendState
from stickyproxy.sansio.admission import CROWDED, FULL, Admission
from stickyproxy.sansio.affinity import NoAffinity
from stickyproxy.sansio.balancing import RoundRobin
from stickyproxy.sweep import Sweep
from stickyproxy.testing import MemoryEndpoint, MemoryTransport
from stickyproxy.wires.admission import AdmissionFactory
from stickyproxy.wires.http import HTTPFrontendFactory, RefusalFactory

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "http.md").read_text()
LISTED = {
    status
    for row in re.findall(r"^\| ([0-9, ]+) \|", PAGE.partition("## Requests that are refused")[2], re.MULTILINE)
    for status in row.split(", ")
}
HOST = b"Host: example.org\r\n"
WEBSOCKET = HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
REFUSED = [
    ("400", b"GET  / HTTP/1.1\r\n" + HOST),
    ("400", b"GET / HTTP/1.1\r\nHost: example.org\r\nX: a\n b\r\n"),
    ("400", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n folded\r\n"),
    ("400", b"GET / HTTP/1.1\r\n" + HOST + b"X : a\r\n"),
    ("400", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n"),
    ("400", b"GET / HTTP/1.1\r\n"),
    ("400", b"GET / HTTP/1.1\r\n" + HOST * 2),
    ("400", b"GET / HTTP/1.1\r\nHost: a/b\r\n"),
    ("400", b"GET ftp://example.org/ HTTP/1.1\r\n" + HOST),
    ("400", b"GET http://other.example/ HTTP/1.1\r\n" + HOST),
    ("400", b"GET /a\\b HTTP/1.1\r\n" + HOST),
    ("400", b"GET /#a HTTP/1.1\r\n" + HOST),
    ("400", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +1\r\n"),
    ("400", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1000000000000000000\r\n"),
    ("400", b"TRACE / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n"),
    ("400", b"OPTIONS / HTTP/1.1\r\n" + HOST + b"Max-Forwards: -1\r\n"),
    ("400", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n" * 2),
    ("400", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
    ("400", b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n"),
    ("400", b"POST / HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n"),
    ("400", b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n"),
    ("400", b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n"),
    ("400", b"GET / HTTP/1.1\r\n" + WEBSOCKET),
    ("426", b"GET / HTTP/1.1\r\n" + WEBSOCKET + b"Sec-WebSocket-Version: 8\r\n"),
    ("404", b"GET / HTTP/1.1\r\nHost: other.example\r\n"),
    ("413", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 2000\r\n"),
    ("414", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST),
    ("417", b"GET / HTTP/1.1\r\n" + HOST + b"Expect: gold\r\n"),
    ("431", b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70000 + b"\r\n"),
    ("431", b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 100),
    ("501", b"BREW / HTTP/1.1\r\n" + HOST),
    ("501", b"CONNECT example.org:443 HTTP/1.1\r\n" + HOST),
    ("501", b"TRACE / HTTP/1.1\r\n" + HOST + b"Max-Forwards: 0\r\n"),
    ("505", b"GET / HTTP/2.0\r\n" + HOST),
]


class House:
    """A frontend for example.org before one backend."""

    def __init__(self, endpoint: MemoryEndpoint, state: BackendState = BackendState.UP) -> None:
        self.clock = Clock()
        spec = specs.Cluster("app", (Backend("a", "tcp:127.0.0.1:9001", state=state),))
        (backend,) = spec.backends
        member = Member(backend, endpoint, self.clock, connect_timeout=spec.timeouts.connect)
        cluster = Cluster(spec, [member], NoAffinity(), RoundRobin())
        routes = (specs.Route("app", host="example.org"),)
        frontend = specs.Frontend("web", ("tcp:8080",), routes=routes, limits=specs.Limits(body=1000))
        self.factory = HTTPFrontendFactory(frontend, {"app": cluster}, Sweep(self.clock), Random(1), self.clock.seconds)

    def client(self, data: bytes) -> MemoryTransport:
        client = MemoryTransport(self.factory.buildProtocol(IPv4Address("TCP", "198.51.100.7", 40000)))
        if data:
            client.deliver(data)
        return client

    def wait(self, seconds: int) -> None:
        self.clock.pump([0.5] * (2 * seconds))


def status(client: MemoryTransport) -> str:
    return client.take().split(b" ", 2)[1].decode()


@pytest.mark.parametrize(("expected", "request_bytes"), REFUSED, ids=lambda value: repr(value[:60]))
def test_what_is_refused(expected: str, request_bytes: bytes) -> None:
    """I get the status that the page promises, and no backend hears of it, or none hears it out."""
    assert expected in LISTED
    endpoint = MemoryEndpoint()
    end = b"" if b"\r\n\r\n" in request_bytes else b"\r\n"
    head, _, page = House(endpoint).client(request_bytes + end).take().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %b " % expected.encode()) and page.startswith(expected.encode())
    assert (b"\r\nConnection: close" in head) is (expected != "404")
    assert not any(transport.connected for transport in endpoint.transports)


def test_what_the_backend_is_to_blame_for() -> None:
    """A backend that refuses, lies or leaves is a 502, none that may be used a 503, one that is silent a 504."""
    get = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
    assert status(House(MemoryEndpoint(error=Refused())).client(get)) == "502"
    assert status(House(MemoryEndpoint(), BackendState.MAINTENANCE).client(get)) == "503"
    assert status(House(MemoryEndpoint(), BackendState.DRAIN).client(get)) == "503"
    house = House(MemoryEndpoint(hold=True))
    client = house.client(get)
    house.wait(7)
    assert status(client) == "504"
    for answer in (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"hello\r\n\r\n"):
        endpoint = MemoryEndpoint()
        client = House(endpoint).client(get)
        endpoint.transports[0].deliver(answer)
        assert status(client) == "502"
    endpoint = MemoryEndpoint()
    house = House(endpoint)
    client = house.client(get)
    house.wait(62)
    assert status(client) == "504"
    assert {"502", "503", "504"} <= LISTED


def test_who_is_slow() -> None:
    """A head or a content that stops coming is a 408; who has said nothing is closed without a word."""
    assert "408" in LISTED
    for began in (b"GET / HT", b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nabc"):
        house = House(MemoryEndpoint())
        client = house.client(began)
        house.wait(32)
        assert status(client) == "408"
    house = House(MemoryEndpoint())
    silent = house.client(b"")
    house.wait(12)
    silent.turn()
    assert silent.take() == b"" and silent.half_closed


@pytest.mark.parametrize(("limits", "expected"), [((1, None), "503"), ((None, 1), "429")])
def test_who_there_is_no_room_for(limits: tuple[int | None, int | None], expected: str) -> None:
    """One connection more than there may be, in all or of one address, is told so."""
    assert expected in LISTED
    inner = House(MemoryEndpoint()).factory
    refusing = {error.status: RefusalFactory(inner, error) for error in (FULL, CROWDED)}
    factory = AdmissionFactory("web", inner, Admission(*limits), inner.sweep, refusing)
    address = IPv4Address("TCP", "198.51.100.7", 40000)
    _, beyond = (MemoryTransport(factory.buildProtocol(address)) for _ in range(2))
    beyond.deliver(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    assert b"\r\nRetry-After: " in beyond.written and status(beyond) == expected


def test_every_status_is_tried() -> None:
    """No status is in the page that nothing is answered with."""
    doors = {"401", "403"}  # tests/wires/test_door.py
    assert {expected for expected, _ in REFUSED} | {"408", "429", "502", "503", "504"} | doors == LISTED


def test_the_limits_are_those_of_the_configuration() -> None:
    """The page's table of limits names every one of them, with its default."""
    table = PAGE.partition("## Limits")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \| ([^|]+) \|", table, re.MULTILINE)
    shown = {
        key: value for keys, values in rows for key, value in zip(keys.split(", "), values.split(", "), strict=True)
    }
    reference = (
        (DOCS / "configuration.md").read_text().partition("## `[frontend.NAME.limits]`")[2].partition("\n## ")[0]
    )
    assert shown == dict(re.findall(r"^\| (`\w+`) \| [^|]+ \| (`[^|]+`) \|", reference, re.MULTILINE))


def test_the_defaults_are_those_of_the_configuration() -> None:
    """The page's table of timeouts names every one of them, with its default."""
    reference = (DOCS / "configuration.md").read_text()
    shown = dict(re.findall(r"^\| `((?:frontend|cluster)\.[a-z_.]+)` \| `(\"[0-9a-z]+\")` \|", PAGE, re.MULTILINE))
    keys = {f"frontend.timeouts.{field.name}" for field in attrs.fields(specs.FrontendTimeouts)}
    keys |= {f"cluster.timeouts.{field.name}" for field in attrs.fields(specs.ClusterTimeouts)} | {"cluster.pool.idle"}
    assert shown.keys() == keys
    for key, default in shown.items():
        table, group, name = key.split(".")
        section = reference.partition(f"## `[{table}.NAME.{group}]`")[2].partition("\n## ")[0]
        assert re.search(rf"^\| `{name}` \| [^|]+ \| `{default}` \|", section, re.MULTILINE), key
