"""Heads: what is read, what is refused, and with which status."""

from __future__ import annotations

import tracemalloc

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stickyproxy.config.specs import Limits
from stickyproxy.errors import BadAnswer, BadRequest, HTTPError
from stickyproxy.model import CHUNKED, UNTIL_CLOSE
from stickyproxy.sansio.http1 import HeadCollector, parse_request_head, parse_response_head

LIMITS = Limits()


def request(*lines: bytes) -> bytes:
    return b"\r\n".join((*lines, b"", b""))


def test_a_plain_request() -> None:
    """A browser's GET is read field by field, names compared in lower case."""
    head = parse_request_head(
        request(b"GET /a?b=c HTTP/1.1", b"Host: Example.org:8080", b"Cookie: a=b", b"cookie: c=d", b"X-Any:  v \t"),
        LIMITS,
    )
    assert (head.method, head.target, head.minor, head.body) == (b"GET", b"/a?b=c", 1, 0)
    assert head.authority == b"example.org:8080"
    assert head.keep_alive and head.upgrade is None
    assert head.named[b"cookie"] == [b"a=b", b"c=d"]
    assert head.plain == [b"X-Any", b": ", b"v \t", b"\r\n"]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((b"GET / HTTP/1.1",), 400),
        ((b"GET / HTTP/1.1", b"Host: a", b"Host: a"), 400),
        ((b"GET / HTTP/1.1", b"Host: a, b"), 400),
        ((b"GET / HTTP/1.1", b"Host:"), 400),
        ((b"GET / HTTP/1.1", b"Host: a:99999"), 400),
        ((b"GET / HTTP/1.1", b"Host: a/b"), 400),
        ((b"GET / HTTP/1.1", b"Host: u@a"), 400),
        ((b"GET  / HTTP/1.1", b"Host: a"), 400),
        ((b"GET /a b HTTP/1.1", b"Host: a"), 400),
        ((b"GET /\xff HTTP/1.1", b"Host: a"), 400),
        ((b"GET /#f HTTP/1.1", b"Host: a"), 400),
        ((b"GET a HTTP/1.1", b"Host: a"), 400),
        ((b"GET /a\\b HTTP/1.1", b"Host: a"), 400),
        ((b"GET http://a/b\\c HTTP/1.1", b"Host: a"), 400),
        ((b"GET / HTTP/1.1", b"Host: [::::]"), 400),
        ((b"GET / HTTP/1.1", b"Host: [fe80::1%25eth0]"), 400),
        ((b"GET / HTTP/1.1", b"Host: a%2fb"), 400),
        ((b"TRACE / HTTP/1.1", b"Host: a", b"Content-Length: 1"), 400),
        ((b"TRACE / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 9223372036854775808"), 400),
        ((b"GET * HTTP/1.1", b"Host: a"), 400),
        ((b"GET http://b/ HTTP/1.1", b"Host: a"), 400),
        ((b"GET http://u@a/ HTTP/1.1", b"Host: a"), 400),
        ((b"GET /",), 400),
        ((b"GET / HTTP/0.9", b"Host: a"), 505),
        ((b"GET / HTTP/1.2", b"Host: a"), 505),
        ((b"GET / HTTP/2.0", b"Host: a"), 505),
        ((b"GET / http/1.1", b"Host: a"), 400),
        ((b"DESCRIBE / RTSP/1.0", b"Host: a"), 400),
        ((b"get / HTTP/1.1", b"Host: a"), 400),
        ((b"NOSUCH / HTTP/1.1", b"Host: a"), 501),
        ((b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2",), 400),
        ((b"CONNECT a:443 HTTP/1.1", b"Host: a:443"), 501),
        ((b"GET / HTTP/1.1", b"Host : a"), 400),
        ((b"GET / HTTP/1.1", b"Host: a", b": x"), 400),
        ((b"GET / HTTP/1.1", b"Host: a", b"X: a\x00b"), 400),
        ((b"GET / HTTP/1.1", b"Host: a", b"X: a\rb"), 400),
        ((b"GET / HTTP/1.1", b"Host: a", b"X: a\nY: b"), 400),
        ((b"GET / HTTP/1.1", b"Host: a", b"X: a", b" folded"), 400),
        ((b"GET / HTTP/1.1", b"Host: a", b"Expect: cake"), 417),
        ((b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 1", b"Content-Length: 1"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 1, 1"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Content-Length: +1"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 0x1"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Content-Length:"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 99999999999999999999"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 1", b"Transfer-Encoding: chunked"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked", b"Content-Length: 1"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: gzip, chunked"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: identity"), 400),
        ((b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: \x0bchunked"), 400),
        ((b"POST / HTTP/1.0", b"Host: a", b"Transfer-Encoding: chunked"), 400),
        ((b"GET /" + b"a" * 8192 + b" HTTP/1.1", b"Host: a"), 414),
        ((b"GET / HTTP/1.1", b"Host: a", *[b"X: y"] * 100), 431),
        ((b"GET / HTTP/1.1", b"Host: a", b"X: " + b"y" * 65536), 431),
    ],
)
def test_what_is_refused(lines: tuple[bytes, ...], status: int) -> None:
    """Whatever two parsers might read differently is refused, with the status that says why."""
    with pytest.raises(HTTPError) as refused:
        parse_request_head(request(*lines), LIMITS)
    assert refused.value.status == status


def test_limits_to_the_byte() -> None:
    """What is exactly as large as allowed passes, one more does not."""
    line = b"GET / HTTP/1.1"
    small = Limits(target=len(line), head=len(request(line, b"Host: a")), fields=1)
    assert parse_request_head(request(line, b"Host: a"), small).target == b"/"
    for tighter in (Limits(target=len(line) - 1), Limits(head=small.head - 1), Limits(fields=0)):
        with pytest.raises(BadRequest):
            parse_request_head(request(line, b"Host: a"), tighter)


@pytest.mark.parametrize(
    ("lines", "keep_alive"),
    [
        ((b"GET / HTTP/1.1", b"Host: a"), True),
        ((b"GET / HTTP/1.1", b"Host: a", b"Connection: Close"), False),
        ((b"GET / HTTP/1.1", b"Host: a", b"Connection: x, close"), False),
        ((b"GET / HTTP/1.0",), False),
        ((b"GET / HTTP/1.0", b"Connection: Keep-Alive"), True),
        ((b"GET / HTTP/1.0", b"Connection: keep-alive, close"), False),
    ],
)
def test_keep_alive(lines: tuple[bytes, ...], keep_alive: bool) -> None:
    """Whether the client goes on is its version's default, or what Connection says."""
    assert parse_request_head(request(*lines), LIMITS).keep_alive is keep_alive


@pytest.mark.parametrize(
    ("lines", "body"),
    [
        ((b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 5"), 5),
        ((b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 005"), 5),
        ((b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: Chunked"), CHUNKED),
        ((b"POST / HTTP/1.1", b"Host: a"), 0),
    ],
)
def test_request_framing(lines: tuple[bytes, ...], body: int) -> None:
    """A request's body has a length, or chunks, or is not there."""
    assert parse_request_head(request(*lines), LIMITS).body == body


def test_upgrade_only_where_connection_names_it() -> None:
    """An Upgrade that Connection does not name, or of HTTP/1.0, is no upgrade."""
    fields = (b"Host: a", b"Upgrade: WebSocket")
    assert parse_request_head(request(b"GET / HTTP/1.1", *fields), LIMITS).upgrade is None
    named = (*fields, b"Connection: keep-alive, Upgrade")
    assert parse_request_head(request(b"GET / HTTP/1.1", *named), LIMITS).upgrade == b"websocket"
    assert parse_request_head(request(b"GET / HTTP/1.0", *named), LIMITS).upgrade is None


def test_absolute_form() -> None:
    """A target with its host is taken apart; it has to agree with Host."""
    head = parse_request_head(request(b"GET HTTP://A:80?x HTTP/1.1", b"Host: a:80"), LIMITS)
    assert (head.target, head.authority) == (b"/?x", b"a:80")
    assert parse_request_head(request(b"OPTIONS * HTTP/1.1", b"Host: a"), LIMITS).target == b"*"
    assert parse_request_head(request(b"OPTIONS http://a HTTP/1.1", b"Host: a"), LIMITS).target == b"*"
    assert parse_request_head(request(b"GET http://a HTTP/1.1", b"Host: a"), LIMITS).target == b"/"


def answer(*lines: bytes) -> bytes:
    return b"\r\n".join((*lines, b"", b""))


@pytest.mark.parametrize(
    ("lines", "method", "body", "keep_alive"),
    [
        ((b"HTTP/1.1 200 OK", b"Content-Length: 3"), b"GET", 3, True),
        ((b"HTTP/1.1 200 OK", b"Content-Length: 3"), b"HEAD", 0, True),
        ((b"HTTP/1.1 304 Not Modified", b"Content-Length: 3"), b"GET", 0, True),
        ((b"HTTP/1.1 204 No Content",), b"GET", 0, True),
        ((b"HTTP/1.1 200 OK",), b"GET", UNTIL_CLOSE, False),
        ((b"HTTP/1.1 200 OK",), b"HEAD", 0, True),
        ((b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked"), b"GET", CHUNKED, True),
        ((b"HTTP/1.0 200 OK", b"Content-Length: 3"), b"GET", 3, False),
        ((b"HTTP/1.0 200 OK", b"Content-Length: 3", b"Connection: keep-alive"), b"GET", 3, True),
        ((b"HTTP/1.1 200 OK", b"Content-Length: 3", b"Connection: close"), b"GET", 3, False),
        ((b"HTTP/1.1 101 Switching Protocols", b"Upgrade: websocket", b"Connection: Upgrade"), b"GET", 0, True),
        ((b"HTTP/1.1 100 Continue",), b"POST", 0, True),
    ],
)
def test_answer_framing(lines: tuple[bytes, ...], method: bytes, body: int, keep_alive: bool) -> None:
    """Where an answer ends follows RFC 9112 section 6.3, and so does whether its connection may be used again."""
    head = parse_response_head(answer(*lines), method)
    assert (head.body, head.keep_alive) == (body, keep_alive)


@pytest.mark.parametrize(
    "lines",
    [
        (b"HTTP/1.1 200 OK", b"Content-Length: 3", b"Content-Length: 4"),
        (b"HTTP/1.1 200 OK", b"Content-Length: 3", b"Transfer-Encoding: chunked"),
        (b"HTTP/1.1 200 OK", b"Transfer-Encoding: gzip"),
        (b"HTTP/1.0 200 OK", b"Transfer-Encoding: chunked"),
        (b"HTTP/1.1 2000 OK",),
        (b"HTTP/1.1 99 No",),
        (b"HTTP/1.1 OK",),
        (b"HTTP/2 200 OK",),
        (b"ICE/1.0 200 OK",),
        (b"HTTP/1.1 200 OK", b"X: a\rb"),
        (b"HTTP/1.1 200 OK", b"X: a\nSet-Cookie: b"),
        (b"HTTP/1.1 200 OK", b"X: " + b"y" * 65536),
        (b"SSH-2.0-OpenSSH_9.2",),
    ],
)
def test_bad_answers(lines: tuple[bytes, ...]) -> None:
    """A backend is not believed either: its malformed answer is a 502."""
    with pytest.raises(BadAnswer) as refused:
        parse_response_head(answer(*lines), b"GET")
    assert refused.value.status == 502


def test_head_in_single_bytes() -> None:
    """A head that comes byte by byte is the same head, and what follows it is left alone."""
    data = request(b"GET / HTTP/1.1", b"Host: a") + b"rest"
    collector = HeadCollector(is_request=True, limit=1000, target_limit=100)
    split = None
    for at in range(len(data) - 4):
        assert split is None
        split = collector.feed(data[at : at + 1])
    assert split == (data[:-4], b"")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a", 400),
        (b"GET /" + b"a" * 200, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 2000, 431),
    ],
)
def test_what_cannot_become_a_head_is_refused_at_once(data: bytes, status: int) -> None:
    """TLS on a plain port, a bare line feed, endless lines: nobody waits for their end."""
    collector = HeadCollector(is_request=True, limit=1000, target_limit=100)
    with pytest.raises(HTTPError) as refused:
        for at in range(0, len(data), 7):
            collector.feed(data[at : at + 7])
    assert refused.value.status == status


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    """No bytes raise anything but a refusal."""
    try:
        parse_request_head(b"GET / HTTP/1.1\r\nHost: a\r\n" + data + b"\r\n\r\n", LIMITS)
    except HTTPError as error:
        assert 400 <= error.status < 600


_NAMES = st.from_regex(rb"\AX-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,12}\Z")
_VALUES = st.from_regex(rb"\A[\x21-\x7e]([\t\x20-\x7e]{0,20}[\x21-\x7e])?\Z")


@example([(b"Connection", b"X-A"), (b"x-a", b"1"), (b"X_Forwarded_For", b"1"), (b"Host", b"a")][2:3], b"/")
@given(st.lists(st.tuples(_NAMES, _VALUES), max_size=8), st.from_regex(rb"\A/[a-z0-9/%?=&.-]{0,30}\Z"))
def test_h11_reads_the_same(fields: list[tuple[bytes, bytes]], target: bytes) -> None:
    """An independent strict parser reads the same method, target and fields from what we accept."""
    data = request(b"GET " + target + b" HTTP/1.1", b"Host: a", *(name + b": " + value for name, value in fields))
    head = parse_request_head(data, LIMITS)
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(data)
    event = judge.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.target) == (head.method, head.target)
    read = [(name.lower(), value.rstrip()) for name, value in zip(head.plain[::4], head.plain[2::4], strict=True)]
    read += [(name, value) for name, values in head.named.items() for value in values]
    assert sorted(read) == sorted(event.headers)


@pytest.mark.parametrize("line", [b"\nGET / HTTP/1.1", b"\rGET / HTTP/1.1", b"\n\n\nGET / HTTP/1.1"])
def test_nothing_stands_before_the_method(line: bytes) -> None:
    """llhttp skips bare line ends there; passed on in the method they would forge lines of the access log."""
    with pytest.raises(BadRequest) as refused:
        parse_request_head(line + b"\r\nHost: a\r\n\r\n", Limits())
    assert refused.value.status == 400


@pytest.mark.parametrize("target", [b"/", b"/x", b"a:80", b"*", b"http://a/"])
def test_connect_never_reaches_a_backend(target: bytes) -> None:
    """A backend that said yes would take the next client's request on that connection for a tunnel's bytes."""
    with pytest.raises(BadRequest) as refused:
        parse_request_head(b"CONNECT " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n", Limits())
    assert refused.value.status in (400, 501)


@pytest.mark.parametrize("reason", [b"O\0K", b"O\x1b[2JK", b"O\x7fK"])
def test_a_reason_phrase_is_text(reason: bytes) -> None:
    """Control characters in it go no further."""
    with pytest.raises(BadAnswer):
        parse_response_head(b"HTTP/1.1 200 " + reason + b"\r\n\r\n", b"GET")
    assert parse_response_head(b"HTTP/1.1 200 \xc3\x9c\tb\r\n\r\n", b"GET").reason == b"\xc3\x9c\tb"


def test_what_is_remembered_is_small() -> None:
    """A client that sends a thousand huge values of Host and Connection is not remembered with them."""
    tracemalloc.start()
    try:
        for number in range(100):
            names = b"%d," % number + b",".join(b"%x" % name for name in range(8000))
            parse_request_head(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + names + b"\r\n\r\n", Limits())
            for head in (b"GET / HTTP/1.1\r\nHost: %d%s\r\n\r\n", b"GET http://%d%s/ HTTP/1.0\r\n\r\n"):
                with pytest.raises(BadRequest):
                    parse_request_head(head % (number, b"a" * 8000), Limits())
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()
