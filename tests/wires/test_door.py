"""The door of a frontend and of a route: who comes in over HTTP, over WebSockets and over TCP, and what others hear."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import bcrypt
import pytest
from house import House
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from stickyproxy.config import specs
from stickyproxy.config.access import Access, Rate
from stickyproxy.gate import Gate
from stickyproxy.model import Backend
from stickyproxy.passwords import Passwords
from stickyproxy.testing import MemoryTransport
from stickyproxy.wires.tcp import TCPFrontendFactory

if TYPE_CHECKING:
    from stickyproxy.model import Entry

    Make = Callable[..., House]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
USERS = {b"ann": bcrypt.hashpw(b"secret", bcrypt.gensalt(4))}
FILE = Path("/users")
LOCKED = Access(users_file=FILE, realm="staff")
FRIEND, STRANGER = "198.51.100.7", "203.0.113.9"
UPGRADE = (
    b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)  # fmt: skip


def get(path: bytes = b"/", *fields: bytes, method: bytes = b"GET") -> bytes:
    return b"\r\n".join((method + b" " + path + b" HTTP/1.1", b"Host: example.org", *fields, b"", b""))


def basic(text: bytes) -> bytes:
    return b"Authorization: Basic " + b64encode(text)


def status(data: bytes) -> int:
    return int(data[9:12]) if data else 0


def ask(it: House, client: MemoryTransport, *request: bytes) -> int:
    """The status of a request that is answered by a backend if it reaches one."""
    client.deliver(get(*request))
    for endpoint in it.endpoints.values():
        for backend in endpoint.transports:
            if backend.take():
                backend.deliver(OK)
    return status(client.take())


class Locked(House):
    """A house that is behind a password; verifications wait until ``work``."""

    def __init__(self, **frontend: Any) -> None:
        self.waiting: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = []
        clock = Clock()
        backends = tuple(Backend(name, f"tcp:127.0.0.1:{port}") for name, port in (("a", 9001), ("b", 9002)))
        web = attrs.evolve(specs.Frontend("web", ("tcp:8080",), "app", access=LOCKED), **frontend)
        passwords = Passwords(USERS, self._run, b"secret", clock.seconds)
        super().__init__(web, specs.Cluster("app", backends), passwords={FILE: passwords})

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        self.waiting.append((Deferred(), function, arguments))
        return self.waiting[-1][0]

    def work(self) -> None:
        waiting, self.waiting = self.waiting, []
        for answer, function, arguments in waiting:
            answer.callback(function(*arguments))

    @property
    def reached(self) -> int:
        return sum(endpoint.attempts for endpoint in self.endpoints.values())


# Addresses


def test_an_address_that_may_not_come_in(house: Make) -> None:
    """A stranger is told 403 on a connection that goes on, no backend hears of it, and the log has a line."""
    it = house(access=Access(allow=("198.51.100.0/24",)))
    stranger = it.client(host=STRANGER)
    assert [ask(it, stranger), ask(it, stranger)] == [403, 403]
    assert stranger.connected and sum(endpoint.attempts for endpoint in it.endpoints.values()) == 0
    assert ask(it, it.client(host=FRIEND)) == 200
    assert [(entry.client, getattr(entry, "status", 0)) for entry in it.entries] == [
        (STRANGER, 403), (STRANGER, 403), (FRIEND, 200),
    ]  # fmt: skip


def test_the_address_is_the_one_that_is_believed(house: Make) -> None:
    """Behind a trusted proxy its clients are told apart, and whom it cannot name stays out; nobody names himself."""
    it = house(access=Access(deny=("203.0.113.0/24",)), trusted_proxies=(FRIEND,))
    proxy, direct = it.client(host=FRIEND), it.client(host="192.0.2.1")
    assert ask(it, proxy, b"/", b"X-Forwarded-For: 203.0.113.9") == 403
    assert ask(it, proxy, b"/", b"X-Forwarded-For: 203.0.113.9, 192.0.2.1") == 200
    assert ask(it, proxy, b"/", b"X-Forwarded-For: unknown") == 403
    assert ask(it, proxy, b"/", b'Forwarded: for="') == 403
    assert ask(it, proxy) == 200
    assert ask(it, direct, b"/", b"X-Forwarded-For: 203.0.113.9") == 200


def test_a_route_has_its_own_door(house: Make) -> None:
    """A route's access stands in place of the frontend's; without one the route is behind the frontend's."""
    it = house(
        access=Access(deny=("0.0.0.0/0",)),
        routes=(
            specs.Route("app", None, "/open", Access()),
            specs.Route("app", None, "/friends", Access(allow=(FRIEND,))),
            specs.Route("app", None, "/else"),
        ),
        cluster=None,
    )
    answers = [
        [ask(it, it.client(host=host), path) for path in (b"/open", b"/friends", b"/else", b"/nowhere")]
        for host in (FRIEND, STRANGER)
    ]
    assert answers == [[200, 200, 403, 403], [200, 403, 403, 403]]
    assert ask(it, it.client(host=STRANGER), b"/open/%2e%2e/friends") == 403


def test_a_body_that_may_not_come_in(house: Make) -> None:
    """Who is refused need not send what he had announced: he gets his answer, and the connection ends behind it."""
    it = house(access=Access(deny=(STRANGER,)))
    client = it.client(host=STRANGER)
    client.deliver(get(b"/", b"Content-Length: 100000", b"Expect: 100-continue", method=b"POST") + b"x")
    assert status(client.written) == 403 and b"Connection: close" in client.written and b" 100 " not in client.written


# Rates


def test_too_many_requests(house: Make) -> None:
    """Past his rate a client is told 429 and when to come again, on whatever connection; others are served."""
    it = house(access=Access(rate=Rate(2, 10.0, 3)))
    one, two = it.client(), it.client()
    assert [ask(it, client) for client in (one, two, one)] == [200, 200, 200]
    two.deliver(get())
    assert status(two.written) == 429 and b"\r\nRetry-After: 5\r\n" in two.take()
    assert ask(it, it.client(host=STRANGER)) == 200
    it.clock.advance(5.1)
    assert [ask(it, one), ask(it, two)] == [200, 429]


def test_whom_the_list_refuses_takes_no_token(house: Make) -> None:
    """The list comes before the rate: behind a proxy, what is refused does not count for those who may come in."""
    it = house(access=Access(deny=(STRANGER,), rate=Rate(1, 60.0)), trusted_proxies=(FRIEND,))
    proxy = it.client(host=FRIEND)
    assert [ask(it, proxy, b"/", b"X-Forwarded-For: 203.0.113.9") for _ in range(3)] == [403] * 3
    assert ask(it, proxy, b"/", b"X-Forwarded-For: unknown") == 403
    assert ask(it, proxy) == 200
    assert [ask(it, proxy, b"/", b"X-Forwarded-For: 192.0.2.%d" % last) for last in (1, 2, 1)] == [200, 200, 429]


def test_doors_count_for_themselves(house: Make) -> None:
    """What was asked of one route does not count at another one's door, and does at the frontend's."""
    access, path = Access(rate=Rate(1, 60.0)), (None, "/own")
    it = house(access=access, routes=(specs.Route("app", *path, access), specs.Route("app", None, "/shared")))
    client = it.client()
    paths = (b"/own", b"/own", b"/", b"/shared")
    assert [ask(it, client, path) for path in paths] == [200, 429, 200, 429]


# Passwords


def test_a_password_is_asked_for() -> None:
    """Without a name, with an odd one, or with the wrong password a browser is asked, and no backend hears of it."""
    it = Locked()
    client = it.client()
    for fields in ((), (b"Authorization: Bearer x",), (basic(b"ann:secret"), basic(b"ann:secret"))):
        client.deliver(get(b"/", *fields))
        answer = client.take()
        assert status(answer) == 401 and not it.waiting
        assert b'\r\nWWW-Authenticate: Basic realm="staff", charset="UTF-8"\r\n' in answer
    for wrong in (b"ann:wrong", b"eve:secret"):
        client.deliver(get(b"/", basic(wrong)))
        assert client.take() == b""
        it.work()
        assert b"WWW-Authenticate" in client.written and status(client.take()) == 401
    assert it.reached == 0 and client.connected


def test_a_password_that_is_right() -> None:
    """Verified once, the client is served at once; the backend never sees the password, nor does the log."""
    it = Locked()
    client = it.client()
    client.deliver(get(b"/", basic(b"ann:secret"), b"Accept: */*"))
    assert (client.take(), it.reached) == (b"", 0)
    it.work()
    sent = it.accepted().take()
    assert b"Accept: */*" in sent and b"uthorization" not in sent and b64encode(b"ann:secret") not in sent
    it.accepted().deliver(OK)
    assert status(client.take()) == 200
    client.deliver(get(b"/again", basic(b"ann:secret")))
    assert not it.waiting and b"uthorization" not in it.accepted().take()


def test_elsewhere_authorization_passes(house: Make) -> None:
    """Where the proxy asks for no password, credentials are the backend's affair."""
    it = house(access=Access(rate=Rate(10)))
    it.client().deliver(get(b"/", basic(b"ann:secret")))
    assert basic(b"ann:secret") in it.accepted().take()


def test_a_body_waits_for_its_password() -> None:
    """While the password is verified nothing more is read; then the content goes on whole and in its order."""
    it = Locked()
    client = it.client()
    client.deliver(get(b"/", basic(b"ann:secret"), b"Transfer-Encoding: chunked", method=b"POST") + b"3\r\nabc\r\n")
    assert client.paused and it.reached == 0
    client.protocol.dataReceived(b"2\r\nde\r\n")  # libuv may have read it already
    it.work()
    assert not client.paused
    client.deliver(b"1\r\nf\r\n0\r\n\r\n")
    backend = it.accepted()
    head, _, content = backend.take().partition(b"\r\n\r\n")
    assert b"uthorization" not in head
    assert content == b"3\r\nabc\r\n2\r\nde\r\n1\r\nf\r\n0\r\n\r\n"
    backend.deliver(OK)
    assert status(client.take()) == 200


def test_a_body_for_a_connection_that_is_there() -> None:
    """The same where an idle connection to the backend is used again."""
    it = Locked()
    client = it.client()
    client.deliver(get(b"/", basic(b"ann:secret")))
    it.work()
    it.accepted().take()
    it.accepted().deliver(OK)
    set_cookie = client.take().partition(b"Set-Cookie: ")[2].partition(b";")[0]
    it.clock.advance(400)
    fields = (basic(b"ann:secret"), b"Content-Length: 6", b"Cookie: " + set_cookie)
    other = it.client()
    other.deliver(get(b"/", *fields, method=b"POST") + b"abc")
    it.work()
    other.deliver(b"def")
    assert it.accepted().take().endswith(b"\r\n\r\nabcdef")


def test_a_body_with_the_wrong_password() -> None:
    """It is refused as soon as that is known; the rest is thrown away."""
    it = Locked()
    client = it.client()
    client.deliver(get(b"/", basic(b"ann:wrong"), b"Content-Length: 10", method=b"POST") + b"abc")
    it.work()
    assert status(client.written) == 401 and b"Connection: close" in client.written
    client.deliver(b"defghij")
    assert it.reached == 0


def test_a_client_that_does_not_wait() -> None:
    """Who leaves before his password is verified leaves nothing behind, right or wrong."""
    it = Locked()
    for password in (b"secret", b"wrong"):
        client = it.client()
        client.deliver(get(b"/", basic(b"ann:" + password)))
        client.lose()
        it.work()
    assert it.reached == 0
    assert [getattr(entry, "status", 0) for entry in it.entries] == [499, 499]


def test_pipelined_requests_each_have_their_answer() -> None:
    """Answers stay in their order, whatever each had to wait for."""
    it = Locked(routes=(specs.Route("app", None, "/open", Access()),))
    client = it.client()
    client.deliver(get(b"/", basic(b"ann:wrong")) + get(b"/open") + get(b"/"))
    assert (client.written, it.reached) == (b"", 0)
    it.work()
    assert status(client.take()) == 401
    it.accepted().take()
    it.accepted().deliver(OK)
    answers = client.take()
    assert status(answers) == 200 and b"HTTP/1.1 401 " in answers


def test_nothing_is_served_there_either() -> None:
    """Where no route leads there is nothing to be had, with or without a password."""
    it = Locked(cluster=None, routes=(specs.Route("app", None, "/there"),))
    client = it.client()
    for fields, expected in (((), 401), ((basic(b"ann:wrong"),), 404)):
        client.deliver(get(b"/nowhere", *fields))
        assert status(client.take()) == expected
    it.work()
    assert client.connected


@pytest.mark.parametrize("fields", [(), (basic(b"ann:secret"),)])
def test_a_websocket_comes_through_the_same_door(fields: tuple[bytes, ...]) -> None:
    """The handshake of a WebSocket needs what any request needs."""
    it = Locked()
    client = it.client()
    client.deliver(get(b"/", *UPGRADE, *fields))
    it.work()
    if fields:
        assert b"Upgrade: websocket" in it.accepted().take()
        it.accepted().deliver(
            b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
    assert status(client.take()) == (101 if fields else 401)


def test_without_a_door_there_is_none(house: Make) -> None:
    """A frontend without ``access``, or with an empty one, looks at nobody."""
    for access in (None, Access()):
        it = house(access=access, routes=(specs.Route("app", None, "/a"),))
        places = {it.factory._find(b"h", target) for target in (b"/", b"/a")}
        assert {place.door for place in places} == {None}


# TCP


def test_tcp_ends_where_it_may_not_come_in() -> None:
    """A refused connection is closed before anything is read, and has a line in the log; others are not touched."""
    clock, entries = Clock(), list["Entry"]()
    gate = Gate(Access(deny=(STRANGER,), rate=Rate(2, 60.0)), clock.seconds)
    backends = (Backend("a", "tcp:127.0.0.1:9001"),)
    cluster = House(specs.Frontend("x", (), "app"), specs.Cluster("app", backends)).cluster
    factory = TCPFrontendFactory(cluster, Any, record=entries.append, now=lambda: 1000.0, gate=gate)  # type: ignore[arg-type]

    def came(address: IPv4Address | IPv6Address) -> bool:
        return factory.buildProtocol(address) is not None

    assert [came(IPv4Address("TCP", host, 1)) for host in (STRANGER, FRIEND, FRIEND, FRIEND)] == [
        False, True, True, False,
    ]  # fmt: skip
    six = [came(IPv6Address("TCP", f"2001:db8::{last}", 1)) for last in range(3)]
    assert six == [True, True, False]
    assert [(e.client, e.protocol, e.cluster, e.backend, e.received, e.closed_by) for e in entries] == [
        (host, "tcp", "app", "", 0, None) for host in (STRANGER, FRIEND, "2001:db8::2")
    ]


@pytest.mark.parametrize(
    "path",
    [
        b"/open/../staff", b"/open/..;/staff", b"/open/%2e%2e;a=b/staff", b"/open/%252e%252e/staff",
        b"/open/..%5cstaff", b"/staff/../open", b"/staff/x%2f..%2f..%2fopen", b"/staff//../open", b"/open/..",
        b"/open/.%00/staff", b"/./open", b"http://example.org/open/..%3b/staff",
    ],
)  # fmt: skip
def test_nobody_gets_round_a_door_by_dot_segments(house: Make, path: bytes) -> None:
    """Where routes have doors of their own, no path comes in that a backend may take for one behind another door."""
    it = house(access=Access(deny=("0.0.0.0/0",)), routes=(specs.Route("app", None, "/open", Access()),))
    assert ask(it, it.client(), path) == 403
    it = house(routes=(specs.Route("app", None, "/staff", Access(deny=("0.0.0.0/0",))),))
    assert ask(it, it.client(), path) == 403
    it = house(routes=(specs.Route("app", None, "/staff"),))
    assert ask(it, it.client(), path) == 200


def test_dots_that_are_no_segments_come_in(house: Make) -> None:
    """Files and parameters with dots are none of these."""
    it = house(access=Access(deny=("0.0.0.0/0",)), routes=(specs.Route("app", None, "/open", Access()),))
    client = it.client()
    for path in (b"/open/.well-known/a..b", b"/open/...", b"/open/a.%20b;v=..", b"/open?/../x", b"/open/..a/b.."):
        assert ask(it, client, path) == 200
