"""Clients and backends of the HTTP wire, as scripts: these bytes come in, those go out."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost

from stickyproxy.config.specs import FrontendTimeouts, Limits, Pool, Route
from stickyproxy.model import BackendState, Outcome, Side
from stickyproxy.relay import Relay

if TYPE_CHECKING:
    from house import House

    Make = Callable[..., House]

GET = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def parted(data: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """First line, fields by lower-case name, and what follows."""
    head, _, rest = data.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    return line, {name.lower(): value for name, value in (field.split(b": ", 1) for field in fields)}, rest


def cookie(data: bytes) -> bytes:
    """``SRV=token`` from an answer."""
    found = re.search(rb"Set-Cookie: (SRV=[^;]+)", data)
    assert found, data
    return found[1]


def get(path: bytes = b"/", *fields: bytes, method: bytes = b"GET") -> bytes:
    return b"\r\n".join((method + b" " + path + b" HTTP/1.1", b"Host: example.org", *fields, b"", b""))


def test_one_request(house: Make) -> None:
    """A request goes to a backend with the client's identity, its answer comes back with a cookie."""
    it = house()
    client = it.client()
    client.deliver(get(b"/hello?x", b"Accept: */*"))
    backend = it.accepted()
    line, fields, rest = parted(backend.take())
    assert (line, rest) == (b"GET /hello?x HTTP/1.1", b"")
    assert fields[b"host"] == b"example.org" and fields[b"x-forwarded-for"] == b"198.51.100.7"
    assert fields[b"accept"] == b"*/*"
    backend.deliver(OK)
    line, fields, rest = parted(client.take())
    assert (line, rest) == (b"HTTP/1.1 200 OK", b"ok")
    assert fields[b"set-cookie"].startswith(b"SRV=") and fields[b"via"] == b"1.1 stickyproxy"
    assert client.connected and not client.disconnecting
    assert [(e.status, e.backend, e.outcome) for e in it.entries] == [(200, "a", Outcome.NEW)]


def test_the_cookie_keeps_the_client_at_its_backend(house: Make) -> None:
    """With its cookie a client comes back to its backend, which does not see that cookie."""
    it = house()
    client = it.client()
    client.deliver(GET)
    it.accepted().deliver(OK)
    bound = cookie(client.take())
    for _ in range(3):
        client.deliver(get(b"/", b"Cookie: x=y; " + bound))
        assert b"Cookie: x=y\r\n" in it.accepted().take()
        it.accepted().deliver(OK)
        assert b"Set-Cookie" not in client.take()
    assert not it.endpoints["b"].transports
    assert [e.outcome for e in it.entries[1:]] == [Outcome.KEPT] * 3


def test_backend_connections_are_kept(house: Make) -> None:
    """The next request, of any client, uses the connection that is idle."""
    it = house()
    for _ in range(2):
        for backend in "ab":
            client = it.client()
            client.deliver(GET)
            it.accepted(backend).deliver(OK)
            assert client.take().endswith(b"ok")
    assert it.endpoints["a"].attempts == it.endpoints["b"].attempts == 1


def test_idle_connections_are_bounded_and_aged(house: Make) -> None:
    """The pool keeps as many as it may, as long as it may; one that the backend closes is not used again."""
    it = house({"pool": Pool(size=1, idle=5.0)})
    clients = [it.client() for _ in range(4)]
    for client in clients:
        client.deliver(GET)
    first, second = it.endpoints["a"].transports
    first.deliver(OK)
    second.deliver(OK)
    assert first.aborted and not second.aborted
    it.wait(6)
    assert second.aborted
    for transport in it.endpoints["b"].transports:
        transport.deliver(OK)
    kept = it.accepted("b")
    kept.lose(ConnectionDone())
    it.client().deliver(GET)
    it.client().deliver(GET)
    assert len(it.endpoints["b"].transports) == 3


def test_pipelined_requests_are_answered_in_order(house: Make) -> None:
    """What a client sends ahead waits, unread beyond one read, until it is its turn."""
    it = house()
    client = it.client()
    client.deliver(get(b"/1") + get(b"/2") + get(b"/3")[:10])
    assert client.paused
    for number in (b"1", b"2"):
        served = [b for b in "ab" if it.endpoints[b].transports and it.accepted(b).written]
        assert len(served) == 1
        backend = it.accepted(served[0])
        assert backend.take().startswith(b"GET /" + number)
        backend.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n" + number)
        assert client.take().endswith(number)
    assert not client.paused
    client.deliver(get(b"/3")[10:])
    assert any(it.accepted(b).take().startswith(b"GET /3") for b in "ab")


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_the_last_pipelined_request_may_still_be_coming(house: Make, framing: bytes) -> None:
    """A request whose head came with others, and whose content comes later, is read on and answered."""
    it = house()
    client = it.client()
    head = b"POST /last HTTP/1.1\r\nHost: example.org\r\n" + framing + b"\r\n\r\n"
    client.deliver(GET * 3 + head)
    for number in range(3):  # the third is on the connection of the first, which is kept
        it.accepted("b" if number == 1 else "a").deliver(OK)
    client.deliver(b"12345" if b"Length" in framing else b"5\r\n12345\r\n0\r\n\r\n")
    assert b"12345" in it.accepted("b").take()
    it.accepted("b").deliver(OK)
    assert client.take().count(b"HTTP/1.1 200 OK") == 4


def test_a_client_that_pipelines_and_does_not_read(house: Make) -> None:
    """Its next request waits until it has taken the answer before."""
    it = house()
    client = it.client(high_water=100)
    client.deliver(GET + get(b"/2"))
    it.accepted().deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
    assert client.paused and not it.endpoints["b"].transports
    client.drain()
    assert it.accepted("b").take().startswith(b"GET /2 ") and not it.entries[1:]


def test_empty_lines_before_a_request(house: Make) -> None:
    """They are passed over, whole or in pieces."""
    it = house()
    client = it.client()
    for data in (b"\r\n\r\n" + GET, b"\r\n", b"\r", b"\n", b"\r", b"\n\r\n", GET):
        client.deliver(data)
        for backend in "ab":
            if it.endpoints[backend].transports and it.accepted(backend).take():
                it.accepted(backend).deliver(OK)
    assert [entry.status for entry in it.entries] == [200, 200]


def test_in_single_bytes(house: Make) -> None:
    """However slowly bytes come, from either side, the messages are the same."""
    it = house()
    client = it.client()
    for byte in get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"3\r\nabc\r\n0\r\n\r\n":
        client.deliver(bytes([byte]))
    backend = it.accepted()
    sent = backend.take()
    assert sent.endswith(b"\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n")
    for byte in b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n":
        backend.deliver(bytes([byte]))
    assert client.take().endswith(b"\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n")
    client.deliver(GET)
    assert it.accepted("b").take().startswith(b"GET /")


@pytest.mark.parametrize(
    ("answer", "version", "content", "closes"),
    [
        (b"Content-Length: 2\r\n\r\nok", b"1.1", b"ok", False),
        (b"Transfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\n\r\n", b"1.1", b"2\r\nok\r\n0\r\n\r\n", False),
        (
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n",
            b"1.1",
            b"2\r\nok\r\n0\r\nX-T: 1\r\n\r\n",
            False,
        ),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"1.0", b"ok", True),
        (b"Content-Length: 2\r\n\r\nok", b"1.0", b"ok", True),
        (b"\r\nok", b"1.1", b"2\r\nok\r\n0\r\n\r\n", False),
        (b"\r\nok", b"1.0", b"ok", True),
    ],
)
def test_answers_in_every_framing(house: Make, answer: bytes, version: bytes, content: bytes, closes: bool) -> None:
    """Length, chunks, and until-close, to clients of both versions: the content is the same."""
    it = house()
    client = it.client()
    client.deliver(b"GET / HTTP/" + version + b"\r\nHost: example.org\r\n\r\n")
    backend = it.accepted()
    backend.deliver(b"HTTP/1.1 200 OK\r\n" + answer)
    if answer.startswith(b"\r\n"):
        backend.lose(ConnectionDone())
    client.turn()
    _, fields, rest = parted(client.take())
    assert rest == content
    assert (fields.get(b"connection") == b"close") is closes
    assert client.half_closed is closes


@pytest.mark.parametrize(
    ("request_bytes", "answer"),
    [
        (get(method=b"HEAD"), b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        (get(), b"HTTP/1.1 204 No Content\r\n\r\n"),
        (get(), b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
    ],
)
def test_answers_without_content(house: Make, request_bytes: bytes, answer: bytes) -> None:
    """HEAD, 204 and 304 end with their head, and the connections go on."""
    it = house()
    client = it.client()
    client.deliver(request_bytes)
    it.accepted().deliver(answer)
    line, fields, rest = parted(client.take())
    assert line == answer.partition(b"\r\n")[0] and rest == b""
    assert (b"content-length" in fields) is (b"Content-Length" in answer)
    assert b"transfer-encoding" not in fields and client.connected
    assert "idle connections 1" in repr(it.cluster.members["a"])


def test_http_1_0_keep_alive(house: Make) -> None:
    """An old client that asks for it may go on, and is told so."""
    it = house()
    client = it.client()
    client.deliver(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    it.accepted().deliver(OK)
    assert parted(client.take())[1][b"connection"] == b"keep-alive" and client.connected


def test_continue(house: Make) -> None:
    """Expect goes to the backend, its 100 to the client, and then the body to the backend."""
    it = house()
    client = it.client()
    client.deliver(get(b"/", b"Content-Length: 3", b"Expect: 100-continue", method=b"POST"))
    backend = it.accepted()
    assert b"Expect: 100-continue" in backend.take()
    backend.deliver(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    client.deliver(b"abc")
    assert backend.take() == b"abc"
    backend.deliver(OK)
    assert client.take().endswith(b"ok")


def test_an_early_answer(house: Make) -> None:
    """A backend that answers before it has the whole body is heard, and the connection closes so that it is read."""
    it = house()
    client = it.client()
    client.deliver(get(b"/", b"Content-Length: 10", method=b"POST") + b"abc")
    backend = it.accepted()
    backend.deliver(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
    line, fields, rest = parted(client.take())
    assert line.startswith(b"HTTP/1.1 413") and rest == b"no" and fields[b"connection"] == b"close"
    client.turn()
    assert backend.aborted and client.half_closed and client.connected
    client.deliver(b"defghij")
    client.half_close()
    assert not client.connected and not client.aborted


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\x05", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (get(b"/", b"Content-Length: 1", b"Transfer-Encoding: chunked", method=b"POST"), 400),
        (get(b"/", b"Content-Length: 6", method=b"POST"), 413),
        (get(b"/" + b"a" * 200), 414),
        (get(b"/", b"X: " + b"a" * 2000), 431),
        (get(b"/", method=b"NOSUCH"), 501),
        (get(b"/", b"Expect: x"), 417),
    ],
)
def test_refusals_close_the_connection(house: Make, data: bytes, status: int) -> None:
    """What is refused gets a plain page, no backend is bothered, and what follows is not read as a request."""
    it = house(limits=Limits(target=100, head=1000, body=5))
    client = it.client()
    client.deliver(data)
    line, fields, rest = parted(client.take())
    assert line.startswith(b"HTTP/1.1 %d " % status)
    assert fields[b"connection"] == b"close" and int(fields[b"content-length"]) == len(rest) > 0
    client.deliver(GET)
    assert client.take() == b"" and client.half_closed
    assert not it.endpoints["a"].attempts
    assert [entry.status for entry in it.entries] == [status]


def test_a_body_that_grows_past_its_limit(house: Make) -> None:
    """Chunks add up: past the limit the request is refused and the backend let go."""
    it = house(limits=Limits(body=5))
    client = it.client()
    client.deliver(get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"5\r\nabcde\r\n")
    assert it.accepted().take().endswith(b"abcde\r\n")
    client.deliver(b"1\r\nf\r\n")
    assert client.take().startswith(b"HTTP/1.1 413 ") and it.accepted().aborted


def test_a_broken_body(house: Make) -> None:
    """A chunk that is no chunk is a 400, and the backend's request is broken off."""
    it = house()
    client = it.client()
    client.deliver(get(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"zz\r\n")
    assert client.take().startswith(b"HTTP/1.1 400 ")
    assert all(transport.aborted for transport in it.endpoints["a"].transports)


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 40,
    ],
)
def test_bad_answers(house: Make, answer: bytes) -> None:
    """A backend's malformed answer is a 502, and its connection closes; the client's goes on."""
    it = house()
    client = it.client()
    client.deliver(GET)
    it.accepted().deliver(answer)
    assert b"HTTP/1.1 502 " in client.take() and it.accepted().aborted
    client.deliver(GET)
    it.accepted("b").deliver(OK)
    assert client.take().endswith(b"ok")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\n\r\nabc",
    ],
)
def test_a_truncated_answer_does_not_look_complete(house: Make, answer: bytes) -> None:
    """When the backend dies within its answer, so does the client's connection."""
    it = house()
    client = it.client()
    client.deliver(GET)
    it.accepted().deliver(answer)
    it.accepted().lose(ConnectionLost())
    assert client.aborted and b"0\r\n\r\n" not in client.take()


def test_bytes_beyond_the_answer_close_the_backend_connection(house: Make) -> None:
    """What a backend sends unasked is never given to the next request."""
    it = house()
    client = it.client()
    client.deliver(GET)
    it.accepted().deliver(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert client.take().endswith(b"ok") and it.accepted().aborted
    client.deliver(GET)
    client.take()
    it.accepted("b").deliver(OK)
    it.accepted("b").deliver(b"HTTP/1.1 200 OK\r\n")
    assert it.accepted("b").aborted


def test_nobody_is_there(house: Make) -> None:
    """Without an eligible backend it is 503, with unreachable ones 502, after each was tried once."""
    it = house()
    for member in it.cluster.members.values():
        member.state = BackendState.MAINTENANCE
    client = it.client()
    client.deliver(GET)
    assert client.take().startswith(b"HTTP/1.1 503 ")
    for member in it.cluster.members.values():
        member.state = BackendState.UP
        it.endpoints[member.id].error = ConnectError()
    client.deliver(GET)
    assert client.take().startswith(b"HTTP/1.1 502 ")
    assert [it.endpoints[b].attempts for b in "ab"] == [1, 1] and client.connected


def test_a_bound_backend_that_is_gone_is_replaced_once(house: Make) -> None:
    """The client of a dead backend is bound to another, by one new cookie."""
    it = house()
    client = it.client()
    client.deliver(GET)
    it.accepted().deliver(OK)
    bound = cookie(client.take())
    it.accepted().lose(ConnectionDone())
    it.endpoints["a"].error = ConnectError()
    client.deliver(get(b"/", b"Cookie: " + bound))
    it.accepted("b").deliver(OK)
    answer = client.take()
    assert answer.count(b"Set-Cookie") == 1 and cookie(answer) != bound
    assert it.entries[-1].outcome is Outcome.REBOUND
    client.deliver(get(b"/", b"Cookie: " + cookie(answer)))
    it.accepted("b").deliver(OK)
    assert b"Set-Cookie" not in client.take() and it.entries[-1].outcome is Outcome.KEPT


def reused(it: House) -> None:
    """Leave one idle connection to ``a``, and only ``a`` up."""
    it.cluster.members["b"].state = BackendState.MAINTENANCE
    client = it.client()
    client.deliver(GET)
    it.accepted().deliver(OK)


def test_the_keep_alive_race(house: Make) -> None:
    """A kept connection that closes under a GET is replaced without the client's noticing, once."""
    it = house()
    reused(it)
    client = it.client()
    client.deliver(GET)
    it.accepted().lose(ConnectionDone())
    assert it.endpoints["a"].attempts == 2 and client.take() == b""
    it.accepted().deliver(OK)
    assert client.take().endswith(b"ok")
    client.deliver(GET)
    it.accepted().lose(ConnectionDone())
    it.accepted().lose(ConnectionDone())
    assert client.take().startswith(b"HTTP/1.1 502 ") and it.endpoints["a"].attempts == 3


@pytest.mark.parametrize("answered", [b"", b"HTTP/1.1 2"])
def test_a_post_is_never_sent_twice(house: Make, answered: bytes) -> None:
    """What may have been done is not done again: the client gets a 502."""
    it = house()
    reused(it)
    client = it.client()
    client.deliver(get(b"/", b"Content-Length: 2", method=b"POST") + b"ab")
    if answered:
        it.accepted().deliver(answered)
    it.accepted().lose(ConnectionDone())
    assert client.take().startswith(b"HTTP/1.1 502 ") and it.endpoints["a"].attempts == 1


def test_timeouts(house: Make) -> None:
    """Head and body that do not come are 408, a silent backend is 504, an idle client is let go without a word."""
    it = house(timeouts=FrontendTimeouts(head=5, body=5, keep_alive=5))
    idle, head, body, waiting = (it.client() for _ in range(4))
    head.deliver(GET[:-5])
    body.deliver(get(b"/", b"Content-Length: 5", method=b"POST") + b"a")
    waiting.deliver(GET)
    it.wait(4)
    assert all(client.take() == b"" and client.connected for client in (idle, head, body, waiting))
    it.wait(2)
    idle.turn()
    assert idle.take() == b"" and idle.half_closed
    assert head.take().startswith(b"HTTP/1.1 408 ") and body.take().startswith(b"HTTP/1.1 408 ")
    it.wait(60)
    assert waiting.take().startswith(b"HTTP/1.1 504 ") and waiting.connected
    it.wait(6)
    waiting.turn()
    assert waiting.half_closed
    it.wait(31)
    for client in (idle, waiting):
        client.turn()
    assert not idle.connected and not waiting.connected


def test_a_slow_head_is_timed_from_its_first_byte(house: Make) -> None:
    """Bytes that trickle do not win time."""
    it = house(timeouts=FrontendTimeouts(head=5))
    client = it.client()
    for byte in GET[:8]:
        if client.connected and not client.written:
            client.deliver(bytes([byte]))
        it.wait(1)
    assert client.take().startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_cannot_be_made_in_time(house: Make) -> None:
    """A backend that does not accept is left after ``connect``, and the next one tried."""
    it = house()
    it.endpoints["a"].hold = True
    client = it.client()
    client.deliver(GET)
    assert client.take() == b"" and not it.endpoints["b"].attempts
    it.wait(6)
    it.accepted("b").deliver(OK)
    assert client.take().endswith(b"ok")
    it.endpoints["b"].hold = True
    it.cluster.members["b"].close_idle()
    client.deliver(GET)
    it.wait(12)
    assert client.take().startswith(b"HTTP/1.1 504 ")


def test_a_client_that_leaves(house: Make) -> None:
    """Nobody answers a client that is gone: the backend's request is broken off, or the connecting."""
    it = house()
    client = it.client()
    client.deliver(GET)
    client.lose()
    assert it.accepted().aborted and it.entries[-1].status == 499
    assert all(member.active == 0 for member in it.cluster.members.values())
    it.endpoints["b"].hold = True
    client = it.client()
    client.deliver(GET)
    client.lose()
    assert it.endpoints["b"].attempts == 1 and it.endpoints["a"].attempts == 1
    assert not it.factory.connections


def test_a_half_closed_client_is_answered(house: Make) -> None:
    """Who says after the request that no more will come still gets the answer."""
    it = house()
    client = it.client()
    client.deliver(GET)
    client.half_close()
    assert client.connected
    it.accepted().deliver(OK)
    assert client.take().endswith(b"ok")
    client.turn()
    assert not client.connected and not client.aborted


def test_back_pressure_to_the_backend(house: Make) -> None:
    """A client that does not read stops the backend's bytes, and reading lets them flow again."""
    it = house()
    client = it.client(high_water=100)
    client.deliver(GET)
    backend = it.accepted()
    backend.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000)
    assert backend.paused
    backend.deliver(b"y" * 1000)
    assert client.unread < 1500
    client.drain()
    assert not backend.paused
    it.wait(50)
    assert client.connected


def test_back_pressure_to_the_client(house: Make) -> None:
    """A backend that does not read stops the client's bytes, and so does one that is not connected yet."""
    it = house()
    it.endpoints["a"].high_water = 100
    it.endpoints["a"].hold = True
    client = it.client()
    client.deliver(get(b"/", b"Content-Length: 100000", method=b"PUT") + b"x" * 100)
    client.deliver(b"x" * 100)
    assert client.paused
    backend = it.endpoints["a"].accept()
    assert client.paused
    backend.drain()
    assert not client.paused
    client.deliver(b"x" * 1000)
    assert client.paused
    it.wait(40)
    assert client.connected
    backend.drain()
    assert not client.paused


def test_a_client_that_never_reads_is_dropped(house: Make) -> None:
    """It does not hold a backend for ever."""
    it = house(timeouts=FrontendTimeouts(send=10))
    client = it.client(high_water=100)
    client.deliver(GET)
    it.accepted().deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000)
    it.wait(9)
    assert client.connected
    it.wait(3)
    assert client.aborted and it.accepted().aborted


def test_routes(house: Make) -> None:
    """What no route takes is a 404 where the frontend has no cluster."""
    it = house(cluster=None, routes=(Route("app", host="a.example", path="/v1/"),))
    client = it.client()
    client.deliver(GET)
    assert client.take().startswith(b"HTTP/1.1 404 ")
    client.deliver(b"GET /v1/x HTTP/1.1\r\nHost: A.example:81\r\n\r\n")
    assert it.accepted().take().startswith(b"GET /v1/x ")


KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
UPGRADE = get(
    b"/ws",
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: " + KEY,
    b"Sec-WebSocket-Protocol: chat, superchat",
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
)


def test_a_websocket(house: Make) -> None:
    """An upgrade is verified on both legs, sets the cookie, and is a tunnel then; its end is in the log."""
    it = house()
    client = it.client()
    client.deliver(UPGRADE)
    backend = it.accepted()
    line, fields, _ = parted(backend.take())
    assert line == b"GET /ws HTTP/1.1" and fields[b"upgrade"] == b"websocket" and fields[b"connection"] == b"Upgrade"
    assert fields[b"x-forwarded-for"] == b"198.51.100.7" and fields[b"sec-websocket-key"] == KEY
    backend.deliver(SWITCH + b"\x81\x01a")
    answer = client.take()
    line, fields, rest = parted(answer)
    assert line == b"HTTP/1.1 101 Switching Protocols" and rest == b"\x81\x01a" and cookie(answer)
    assert fields[b"sec-websocket-accept"] == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    client.deliver(b"\x81\x81mmmm\x00")
    assert backend.take() == b"\x81\x81mmmm\x00"
    assert it.cluster.members["a"].active == 1
    it.wait(100)
    backend.deliver(b"\x88\x00")
    assert client.take() == b"\x88\x00"
    backend.lose(ConnectionDone())
    client.turn()
    assert not client.connected
    assert it.cluster.members["a"].active == 0
    upgrade, relay = it.entries
    assert (upgrade.status, upgrade.outcome) == (101, Outcome.NEW)
    assert (relay.received, relay.sent, relay.closed_by) == (7, 5, Side.BACKEND)


def test_an_open_websocket_keeps_nothing_of_its_request(house: Make) -> None:
    """However long it lasts: what served the request is freed at the 101, without the garbage collector."""
    for record in (True, False):
        it = house()
        if not record:
            it.factory.record = None
        client = it.client()
        gone = [weakref.ref(client.protocol)]
        client.deliver(UPGRADE)
        backend = it.accepted()
        gone.append(weakref.ref(backend.protocol))
        gc.collect()
        others = [one for one in gc.get_objects() if isinstance(one, Relay)]
        gc.disable()
        try:
            backend.deliver(SWITCH)
            assert [one() for one in gone] == [None, None]
            client.deliver(b"\x81\x81keyza")
            backend.deliver(b"\x81\x01b")
            assert backend.take().endswith(b"keyza") and client.take().endswith(b"\r\n\r\n\x81\x01b")
            client.lose(ConnectionDone())
            backend.turn()
            assert not backend.connected and not it.factory.connections
            assert all(one in others for one in gc.get_objects() if isinstance(one, Relay))
        finally:
            gc.enable()
        assert it.cluster.members["a"].active == 0


def test_a_websocket_lost_on_one_side_is_lost_on_the_other(house: Make) -> None:
    """An abrupt loss goes through within a second, a client at a boundary is told 1014."""
    for losing in ("client", "backend"):
        it = house()
        client = it.client()
        client.deliver(UPGRADE)
        it.accepted().deliver(SWITCH)
        sides = {"client": client, "backend": it.accepted()}
        lost = sides.pop(losing)
        lost.lose(ConnectionLost())
        it.wait(1)
        assert client.written.endswith(b"\x88\x02\x03\xf6") if losing == "backend" else sides["backend"].aborted


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"Version: 13", b"Version: 8", 426),
        (KEY, b"short", 400),
        (b"GET /ws", b"POST /ws", 400),
    ],
)
def test_a_wrong_handshake_is_refused_without_the_backend(house: Make, old: bytes, new: bytes, status: int) -> None:
    """The client hears what is wrong; no backend is bothered."""
    it = house()
    client = it.client()
    client.deliver(UPGRADE.replace(old, new))
    line, fields, _ = parted(client.take())
    assert line.startswith(b"HTTP/1.1 %d " % status) and not it.endpoints["a"].attempts
    assert status != 426 or fields[b"sec-websocket-version"] == b"13"


def test_a_backend_that_lies(house: Make) -> None:
    """A wrong Accept, or a subprotocol that nobody offered, is a 502."""
    for old, new in ((b"s3pP", b"XXXX"), (b": chat", b": other")):
        it = house()
        client = it.client()
        client.deliver(UPGRADE)
        it.accepted().deliver(SWITCH.replace(old, new))
        assert client.take().startswith(b"HTTP/1.1 502 ") and it.accepted().aborted


def test_a_backend_that_refuses_an_upgrade(house: Make) -> None:
    """Its answer goes through as it is, and the client's connection goes on."""
    it = house()
    client = it.client()
    client.deliver(UPGRADE)
    it.accepted().deliver(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    line, _, rest = parted(client.take())
    assert line == b"HTTP/1.1 403 Forbidden" and rest == b"no" and client.connected


def test_an_upgrade_is_retried_before_the_101(house: Make) -> None:
    """A dead backend is no reason to refuse a WebSocket."""
    it = house()
    it.endpoints["a"].error = ConnectError()
    client = it.client()
    client.deliver(UPGRADE)
    it.accepted("b").deliver(SWITCH)
    assert client.take().startswith(b"HTTP/1.1 101 ")


def test_other_upgrades_are_plain_requests(house: Make) -> None:
    """h2c is not offered to the backend."""
    it = house()
    it.client().deliver(get(b"/", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAA"))
    _, fields, _ = parted(it.accepted().take())
    assert b"upgrade" not in fields and b"http2-settings" not in fields


def test_proxy_header_to_backends(house: Make) -> None:
    """Where PROXY headers are sent, a backend connection belongs to one client."""
    it = house({"send_proxy_protocol": 1})
    it.cluster.members["b"].state = BackendState.MAINTENANCE
    client = it.client()
    for _ in range(2):
        client.deliver(GET)
        it.accepted().deliver(OK)
    sent = it.accepted().take()
    assert sent.startswith(b"PROXY TCP4 198.51.100.7 192.0.2.2 40000 80\r\nGET / ") and sent.count(b"GET /") == 2
    peer = client.getPeer()
    peer.port += 1
    other = it.factory.buildProtocol(peer)
    type(client)(other, peer=peer).deliver(GET)
    assert it.endpoints["a"].attempts == 2


@pytest.mark.parametrize("trusted", [False, True])
def test_a_line_of_the_log_is_found_by_the_request_id(house: Make, trusted: bool) -> None:
    """The log has the id that the backend was told: of a trusted proxy its own, of anyone else a new one."""
    it = house(trusted_proxies=("198.51.100.7",) if trusted else ())
    it.client().deliver(get(b"/", b"X-Request-ID: mine"))
    told = parted(it.accepted().take())[1][b"x-request-id"]
    it.accepted().deliver(OK)
    assert (told == b"mine") is trusted
    assert [entry.request_id for entry in it.entries] == [told]
