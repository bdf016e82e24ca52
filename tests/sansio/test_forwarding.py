"""Heads as they are sent on, judged by h11, an independent parser."""

from __future__ import annotations

import re

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.config.specs import Limits
from stickyproxy.errors import BadRequest, HTTPError, NoBackend
from stickyproxy.model import CHUNKED, UNTIL_CLOSE, Field, Peer, RequestHead, ResponseHead
from stickyproxy.sansio.cookies import strip
from stickyproxy.sansio.forwarding import (
    DateClock,
    Hide,
    check_hops,
    error_page,
    forward_answer,
    forward_interim,
    forward_request,
    forward_trailers,
    http_date,
    request_id_of,
)
from stickyproxy.sansio.http1 import parse_request_head, parse_response_head
from stickyproxy.sansio.identity import Identity
from stickyproxy.sansio.networks import NOBODY, Networks


def without_srv(value: bytes) -> bytes:
    return strip(value, b"SRV=")


CLIENT = Peer("192.0.2.7", 40000)
DATE = b"Mon, 23 Nov 2026 06:46:44 GMT"


def request_head(*lines: str, line: str = "GET / HTTP/1.1", host: str | None = "example.org") -> RequestHead:
    fields = ([] if host is None else [f"Host: {host}"]) + list(lines)
    return parse_request_head("\r\n".join([line, *fields, "", ""]).encode("latin-1"), Limits())


def answer_head(*lines: str, line: str = "HTTP/1.1 200 OK", method: bytes = b"GET") -> ResponseHead:
    return parse_response_head("\r\n".join([line, *lines, "", ""]).encode("latin-1"), method)


def read(sent: bytes) -> tuple[bytes, dict[bytes, list[bytes]]]:
    """The first line and the fields by their lower-case names."""
    assert sent.endswith(b"\r\n\r\n") and sent.count(b"\r\n\r\n") == 1
    first, *lines = sent[:-4].split(b"\r\n")
    fields: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, value = line.split(b": ", 1)
        fields.setdefault(name.lower(), []).append(value)
    return first, fields


def forwarded(
    head: RequestHead, *, trusted: bool = False, hide: Hide | None = without_srv, upgrade: bool = False
) -> dict[bytes, list[bytes]]:
    believed = Networks([CLIENT.host]) if trusted else NOBODY
    identity = Identity(CLIENT, 8080, False, believed)
    request_id = request_id_of(head, identity, b"made")
    sent = forward_request(head, identity, hide=hide, request_id=request_id, upgrade=upgrade)
    return read(sent)[1]


def answered(
    head: ResponseHead,
    *,
    body: int = 0,
    client_minor: int = 1,
    keep_alive: bool = True,
    set_cookie: bytes | None = None,
    head_only: bool = False,
    upgrade: bool = False,
) -> dict[bytes, list[bytes]]:
    sent = forward_answer(
        head,
        body=body,
        client_minor=client_minor,
        keep_alive=keep_alive,
        set_cookie=set_cookie,
        date=DATE,
        head_only=head_only,
        upgrade=upgrade,
    )
    return read(sent)[1]


# Requests


def test_request_line_and_plain_fields_pass() -> None:
    """The request line and fields that are none of ours reach the backend as I sent them, obs-text included."""
    head = request_head("Accept: */*", "X-Odd: caf\xe9", "X-Empty:", "accept: b", line="GET /a%20b?c=d HTTP/1.0")
    first, fields = read(forward_request(head, Identity(CLIENT, 80, False), hide=None, request_id=b"made"))
    assert first == b"GET /a%20b?c=d HTTP/1.1"
    assert fields[b"accept"] == [b"*/*", b"b"]
    assert fields[b"x-odd"] == [b"caf\xe9"]
    assert fields[b"x-empty"] == [b""]


@pytest.mark.parametrize("host", ["example.org", "Example.ORG:8080", "[2001:db8::1]:80"])
def test_host_is_preserved(host: str) -> None:
    """The backend sees the Host that I asked for, letter by letter, and once."""
    assert forwarded(request_head(host=host))[b"host"] == [host.encode()]


def test_host_of_an_absolute_target() -> None:
    """A target with a host and no Host field asks the backend for that host."""
    head = request_head(line="GET http://Example.org/a HTTP/1.0", host=None)
    assert forwarded(head)[b"host"] == [b"example.org"]


def test_host_of_an_old_client() -> None:
    """For an HTTP/1.0 client without Host it is empty, or what the frontend has for that case."""
    head = request_head(line="GET / HTTP/1.0", host=None)
    assert forwarded(head)[b"host"] == [b""]
    identity = Identity(CLIENT, 8080, False, default_host=b"127.0.0.1:8080")
    fields = read(forward_request(head, identity, hide=None, request_id=b"made"))[1]
    assert fields[b"host"] == [b"127.0.0.1:8080"]


@pytest.mark.parametrize(
    "field",
    [
        "Connection: close",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "TE: trailers",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
        "Proxy-Authorization: Basic eDp5",
        "Proxy-Authenticate: Basic",
        "Proxy: http://203.0.113.9/",
    ],
)
def test_hop_by_hop_fields_stay_here(field: str) -> None:
    """What concerns my connection to the proxy alone does not reach the backend."""
    assert field.split(":")[0].lower().encode() not in forwarded(request_head(field))


def test_fields_that_connection_names_are_removed() -> None:
    """Every field that Connection names is removed, however it is listed."""
    head = request_head("Connection: X-A ,close,, x-b", "Connection: X-C", "X-A: 1", "X-B: 2", "x-c: 3", "X-D: 4")
    fields = forwarded(head)
    assert not {b"connection", b"x-a", b"x-b", b"x-c"} & fields.keys()
    assert fields[b"x-d"] == [b"4"]


def test_connection_may_not_name_what_others_rely_on() -> None:
    """Nobody can make the proxy lose Host, cookies, the length, credentials or the client's identity."""
    head = request_head(
        "Connection: host, cookie, content-length, authorization, x-forwarded-for",
        "Connection: X-Real-IP, Forwarded, X-Request-ID, Via",
        "Cookie: a=b",
        "Content-Length: 3",
        "Authorization: Basic eDp5",
        "X-Request-ID: mine",
        line="POST / HTTP/1.1",
    )
    fields = forwarded(head)
    assert fields[b"host"] == [b"example.org"]
    assert fields[b"cookie"] == [b"a=b"]
    assert fields[b"content-length"] == [b"3"]
    assert fields[b"authorization"] == [b"Basic eDp5"]
    assert fields[b"x-forwarded-for"] == fields[b"x-real-ip"] == [b"192.0.2.7"]
    assert fields[b"x-request-id"] == [b"made"]
    assert fields[b"via"] == [b"1.1 stickyproxy"]


@pytest.mark.parametrize(
    ("line", "field", "length", "coding"),
    [
        ("GET / HTTP/1.1", None, None, None),
        ("DELETE / HTTP/1.1", None, None, None),
        ("GET / HTTP/1.1", "Content-Length: 0", [b"0"], None),
        ("POST / HTTP/1.1", None, [b"0"], None),
        ("PUT / HTTP/1.1", None, [b"0"], None),
        ("POST / HTTP/1.1", "Content-Length: 0012", [b"12"], None),
        ("GET / HTTP/1.1", "Content-Length: 7", [b"7"], None),
        ("POST / HTTP/1.1", "Transfer-Encoding: Chunked", None, [b"chunked"]),
    ],
)
def test_request_framing_is_written_anew(
    line: str, field: str | None, length: list[bytes] | None, coding: list[bytes] | None
) -> None:
    """The backend gets one canonical length, or chunks, or neither."""
    fields = forwarded(request_head(*([field] if field else []), line=line))
    assert (fields.get(b"content-length"), fields.get(b"transfer-encoding")) == (length, coding)


@pytest.mark.parametrize(
    "name",
    ["Content_Length", "TRANSFER_ENCODING", "content.length", "Transfer~Encoding", "X_Forwarded_For", "X-Forwarded_For",
     "x_real-ip", "X_REQUEST_ID", "x.forwarded.for", "X_Client_IP"],
)  # fmt: skip
@pytest.mark.parametrize("trusted", [False, True])
def test_imitations_are_removed(name: str, trusted: bool) -> None:
    """A field that CGI or WSGI would take for one of ours, or for framing, is dropped, whoever sends it."""
    fields = forwarded(request_head(f"{name}: 5"), trusted=trusted)
    assert name.lower().encode() not in fields
    assert [b"5"] not in fields.values()


def test_other_underscores_pass() -> None:
    """A field of my own with an underscore in its name reaches the backend."""
    assert forwarded(request_head("X_My_Field: 1"))[b"x_my_field"] == [b"1"]


@pytest.mark.parametrize(
    ("cookies", "expected"),
    [
        (["SRV=token"], None),
        (["SRV=token; a=b"], [b"a=b"]),
        (["a=b; SRV=token"], [b"a=b"]),
        (["a=b; SRV=token; c=d"], [b"a=b; c=d"]),
        (["a=b; SRV=token", "SRV=other", "c=d"], [b"a=b", b"c=d"]),
        (["a=SRV; XSRV=1"], [b"a=SRV; XSRV=1"]),
        (["a=b"], [b"a=b"]),
    ],
)
def test_affinity_cookie_is_removed(cookies: list[str], expected: list[bytes] | None) -> None:
    """The backend sees my cookies, and not the proxy's."""
    assert forwarded(request_head(*[f"Cookie: {value}" for value in cookies])).get(b"cookie") == expected


def test_cookies_pass_without_cookie_affinity() -> None:
    """Where no cookie is ours, all of them pass."""
    assert forwarded(request_head("Cookie: SRV=1; a=b"), hide=None)[b"cookie"] == [b"SRV=1; a=b"]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([], b"made"),
        (["0af7651916cd43dd-8448eb211c80319c"], b"0af7651916cd43dd-8448eb211c80319c"),
        (["Root=1-67:a+b/c="], b"Root=1-67:a+b/c="),
        (["a b"], b"made"),
        (['a"b'], b"made"),
        ([""], b"made"),
        (["a" * 128], b"a" * 128),
        (["a" * 129], b"made"),
        (["one", "two"], b"made"),
    ],
)
def test_request_id(sent: list[str], expected: bytes) -> None:
    """The request id of a trusted proxy is kept if it is one and well-formed; a stranger's request gets a new one."""
    head = request_head(*[f"X-Request-ID: {value}" for value in sent])
    assert forwarded(head, trusted=True)[b"x-request-id"] == [expected]
    assert forwarded(head)[b"x-request-id"] == [b"made"]


@pytest.mark.parametrize(
    ("line", "sent", "expected"),
    [
        ("GET / HTTP/1.1", [], b"1.1 stickyproxy"),
        ("GET / HTTP/1.0", [], b"1.0 stickyproxy"),
        ("GET / HTTP/1.1", ["1.0 fred", "1.1 p.example.net"], b"1.0 fred, 1.1 p.example.net, 1.1 stickyproxy"),
    ],
)
def test_via_is_appended(line: str, sent: list[str], expected: bytes) -> None:
    """Via tells the way of the request, in order, ours last."""
    assert forwarded(request_head(*[f"Via: {value}" for value in sent], line=line))[b"via"] == [expected]


@pytest.mark.parametrize(
    ("line", "length", "expected"),
    [
        ("POST / HTTP/1.1", "Content-Length: 3", [b"100-continue"]),
        ("POST / HTTP/1.1", "Transfer-Encoding: chunked", [b"100-continue"]),
        ("POST / HTTP/1.0", "Content-Length: 3", None),
        ("POST / HTTP/1.1", "Content-Length: 0", None),
    ],
)
def test_expect_passes_where_it_has_a_meaning(line: str, length: str, expected: list[bytes] | None) -> None:
    """Expect: 100-continue reaches the backend if content follows and I speak HTTP/1.1."""
    assert forwarded(request_head(length, "Expect: 100-Continue", line=line)).get(b"expect") == expected


@pytest.mark.parametrize(
    ("method", "sent", "expected", "stops"),
    [
        ("OPTIONS", "3", b"2", False),
        ("TRACE", "1", b"0", False),
        ("OPTIONS", "0", b"", True),
        ("OPTIONS", "00", b"", True),
        ("TRACE", "0", b"", True),
        ("OPTIONS", "x", b"", True),
        ("TRACE", "-1", b"", True),
        ("GET", "3", b"3", False),
        ("GET", "0", b"0", False),
    ],
)
def test_max_forwards(method: str, sent: str, expected: bytes, stops: bool) -> None:
    """Max-Forwards is counted down for OPTIONS and TRACE, and tells where to stop."""
    head = request_head(f"Max-Forwards: {sent}", line=f"{method} / HTTP/1.1")
    if stops:
        with pytest.raises(HTTPError, match="Max-Forwards"):
            check_hops(head)
    else:
        check_hops(head)
        assert forwarded(head)[b"max-forwards"] == [expected]


@pytest.mark.parametrize("secure", [False, True])
def test_an_upgrade_is_asked_for(secure: bool) -> None:
    """A WebSocket handshake reaches the backend whole, with the same identity as any request."""
    head = request_head(
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: chat",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "Origin: http://example.org",
        "X-Forwarded-For: 203.0.113.66",
        "Cookie: SRV=token; a=b",
    )
    identity = Identity(CLIENT, 8443, secure)
    sent = forward_request(head, identity, hide=without_srv, request_id=b"made", upgrade=True)
    fields = read(sent)[1]
    assert fields[b"connection"] == [b"Upgrade"]
    assert fields[b"upgrade"] == [b"websocket"]
    assert fields[b"sec-websocket-key"] == [b"dGhlIHNhbXBsZSBub25jZQ=="]
    assert fields[b"sec-websocket-version"] == [b"13"]
    assert fields[b"sec-websocket-protocol"] == [b"chat"]
    assert fields[b"sec-websocket-extensions"] == [b"permessage-deflate"]
    assert fields[b"origin"] == [b"http://example.org"]
    assert fields[b"cookie"] == [b"a=b"]
    assert fields[b"x-forwarded-for"] == [b"192.0.2.7"]
    assert fields[b"x-forwarded-proto"] == [b"https" if secure else b"http"]


# Answers


def test_answer_passes() -> None:
    """Status, reason and the backend's fields reach me, every Set-Cookie on a line of its own."""
    head = answer_head(
        "Server: x", "Set-Cookie: a=1", "Set-Cookie: b=2", "Content-Length: 5", line="HTTP/1.0 299 Rather Good"
    )
    sent = forward_answer(head, body=5, client_minor=1, keep_alive=True, set_cookie=b"SRV=t", date=DATE)
    first, fields = read(sent)
    assert first == b"HTTP/1.1 299 Rather Good"
    assert fields == {
        b"server": [b"x"],
        b"set-cookie": [b"a=1", b"b=2", b"SRV=t"],
        b"date": [DATE],
        b"content-length": [b"5"],
        b"via": [b"1.0 stickyproxy"],
    }


@pytest.mark.parametrize("line", ["HTTP/1.1 200 OK", "HTTP/1.1 200", "HTTP/1.1 404 Nicht da", "HTTP/1.1 599 x"])
def test_status_line(line: str) -> None:
    """The status line is the backend's, whatever it calls the status."""
    head = answer_head("Content-Length: 0", line=line)
    sent = forward_answer(head, body=0, client_minor=1, keep_alive=True, set_cookie=None, date=DATE)
    assert read(sent)[0].rstrip() == line.encode()


def test_date_of_the_backend_is_kept() -> None:
    """The Date of the answer is the backend's where it sent one."""
    assert answered(answer_head("Date: Tue, 15 Nov 1994 08:12:31 GMT"))[b"date"] == [b"Tue, 15 Nov 1994 08:12:31 GMT"]


def test_hop_by_hop_fields_of_an_answer_stay_here() -> None:
    """What concerns the connection to the backend alone does not reach me; Connection can not remove what matters."""
    head = answer_head(
        "Connection: X-A, Set-Cookie, Content-Length, Date, keep-alive",
        "Keep-Alive: timeout=5",
        "Upgrade: h2c",
        "Proxy-Authenticate: Basic",
        "Set-Cookie: a=1",
        "Date: Tue, 15 Nov 1994 08:12:31 GMT",
        "X-A: 1",
        "X-B: 2",
        "Content-Length: 4",
    )
    assert answered(head, body=4) == {
        b"set-cookie": [b"a=1"],
        b"date": [b"Tue, 15 Nov 1994 08:12:31 GMT"],
        b"x-b": [b"2"],
        b"content-length": [b"4"],
        b"via": [b"1.1 stickyproxy"],
    }


@pytest.mark.parametrize(
    ("line", "field", "method", "body", "length", "coding"),
    [
        ("200 OK", "Content-Length: 5", b"GET", 5, [b"5"], None),
        ("200 OK", "Content-Length: 0", b"GET", 0, [b"0"], None),
        ("200 OK", "Transfer-Encoding: chunked", b"GET", CHUNKED, None, [b"chunked"]),
        ("200 OK", "Transfer-Encoding: chunked", b"GET", UNTIL_CLOSE, None, None),
        ("200 OK", "X: y", b"GET", CHUNKED, None, [b"chunked"]),
        ("200 OK", "Content-Length: 5", b"HEAD", 0, [b"5"], None),
        ("200 OK", "Transfer-Encoding: chunked", b"HEAD", 0, None, None),
        ("200 OK", "X: y", b"HEAD", 0, None, None),
        ("304 Not Modified", "Content-Length: 5", b"GET", 0, [b"5"], None),
        ("304 Not Modified", "X: y", b"GET", 0, None, None),
        ("204 No Content", "Content-Length: 0", b"GET", 0, None, None),
        ("205 Reset Content", "Content-Length: 0", b"GET", 0, [b"0"], None),
    ],
)
def test_answer_framing(
    line: str, field: str, method: bytes, body: int, length: list[bytes] | None, coding: list[bytes] | None
) -> None:
    """Each kind of answer has the framing of RFC 9112 section 6, and only that."""
    head = answer_head(field, line=f"HTTP/1.1 {line}", method=method)
    fields = answered(head, body=body, head_only=method == b"HEAD")
    assert (fields.get(b"content-length"), fields.get(b"transfer-encoding")) == (length, coding)


@pytest.mark.parametrize(
    ("body", "minor", "keep_alive", "expected"),
    [
        (0, 1, True, None),
        (0, 1, False, [b"close"]),
        (0, 0, True, [b"keep-alive"]),
        (0, 0, False, [b"close"]),
        (UNTIL_CLOSE, 1, True, [b"close"]),
        (UNTIL_CLOSE, 0, True, [b"close"]),
    ],
)
def test_connection_of_an_answer(body: int, minor: int, keep_alive: bool, expected: list[bytes] | None) -> None:
    """I am told whether the connection goes on, in the words of my HTTP version."""
    fields = answered(answer_head("Content-Length: 0"), body=body, client_minor=minor, keep_alive=keep_alive)
    assert fields.get(b"connection") == expected


def test_the_101_of_a_websocket() -> None:
    """A verified 101 begins the tunnel and the session: it carries the affinity cookie, and no framing."""
    head = answer_head(
        "Connection: upgrade",
        "Upgrade: WebSocket",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "Sec-WebSocket-Protocol: chat",
        line="HTTP/1.1 101 Switching Protocols",
    )
    assert answered(head, set_cookie=b"SRV=t", upgrade=True) == {
        b"sec-websocket-accept": [b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="],
        b"sec-websocket-protocol": [b"chat"],
        b"set-cookie": [b"SRV=t"],
        b"connection": [b"Upgrade"],
        b"upgrade": [b"websocket"],
        b"date": [DATE],
        b"via": [b"1.1 stickyproxy"],
    }


def test_a_426_still_tells_what_to_upgrade_to() -> None:
    """A backend's 426 keeps its Upgrade field, without which I could not know what it wants."""
    head = answer_head(
        "Upgrade: websocket", "Connection: upgrade", "Content-Length: 0", line="HTTP/1.1 426 Upgrade Required"
    )
    fields = answered(head, keep_alive=False)
    assert fields[b"upgrade"] == [b"websocket"]
    assert fields[b"connection"] == [b"Upgrade", b"close"]


def test_interim_answers_pass() -> None:
    """103 Early Hints reach me with their links, 100 Continue as it is."""
    hints = answer_head("Link: </a.css>; rel=preload", "Connection: x-a", "X-A: 1", line="HTTP/1.1 103 Early Hints")
    assert forward_interim(hints) == b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    assert forward_interim(answer_head(line="HTTP/1.1 100 Continue")) == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_trailers_that_would_rewrite_the_head_are_dropped() -> None:
    """Trailers pass, but none that a recipient could take for framing, routing, identity or credentials."""

    def field(name: bytes) -> Field:
        return name.lower(), name, b"1"

    bad = [
        b"Transfer-Encoding", b"Content-Length", b"Content_Length", b"Host", b"Trailer", b"TE", b"Connection",
        b"Cookie", b"Authorization", b"Set-Cookie", b"Content-Type", b"Content-Encoding", b"Content-Range",
        b"X-Forwarded-For", b"x_forwarded_for", b"Forwarded", b"X-Real-IP", b"X-Request-ID", b"Cache-Control",
        b"If-Match", b"Expect", b"Sticky-Pin", b"sticky-move",
    ]  # fmt: skip
    good = [b"Server-Timing", b"Digest", b"grpc-status", b"X-Checksum", b"ETag"]
    assert forward_trailers([field(name) for name in bad + good]) == [field(name) for name in good]
    head = request_head("Connection: close, Digest, X-Checksum")
    assert [name for _, name, _ in forward_trailers(map(field, good), head)] == [
        b"Server-Timing", b"grpc-status", b"ETag",
    ]  # fmt: skip


# Our own answers


def test_error_page() -> None:
    """An error is a small plain page with its status, and is not cached."""
    page = error_page(
        NoBackend("no backend is up", fields=b"Retry-After: 5\r\n"), keep_alive=True, head_only=False, date=DATE
    )
    answer, content = answer_by_h11(page, b"GET")
    assert (answer.status_code, answer.reason) == (503, b"Service Unavailable")
    fields = dict(answer.headers)
    assert fields[b"content-type"] == b"text/plain; charset=utf-8"
    assert fields[b"retry-after"] == b"5"
    assert fields[b"cache-control"] == b"no-store"
    assert fields[b"connection"] == b"keep-alive"
    assert content == b"503 Service Unavailable\n\nno backend is up\n"


def test_error_page_for_head_has_no_content() -> None:
    """A HEAD request gets the head of the error page alone, and a bad request closes."""
    page = error_page(BadRequest("no \ud800"), keep_alive=False, head_only=True, date=DATE)
    first, fields = read(page)
    assert first == b"HTTP/1.1 400 Bad Request"
    assert fields[b"connection"] == [b"close"]
    assert fields[b"content-length"] == [b"%d" % len(b"400 Bad Request\n\nno ?\n")]


def test_dates() -> None:
    """Dates are of the form that RFC 9110 section 5.6.7 gives, made once a second."""
    assert http_date(784111777.9) == b"Sun, 06 Nov 1994 08:49:37 GMT"
    clock = DateClock()
    first = clock.at(784111777.0)
    assert first == b"Sun, 06 Nov 1994 08:49:37 GMT"
    assert clock.at(784111777.99) is first
    assert clock.at(784111778.0) == b"Sun, 06 Nov 1994 08:49:38 GMT"


# Whatever the fields, another parser reads the same


def answer_by_h11(data: bytes, method: bytes) -> tuple[h11.Response, bytes]:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    answer, content = connection.next_event(), b""
    assert isinstance(answer, h11.Response)
    while isinstance(event := connection.next_event(), h11.Data):
        content += event.data
    assert event is h11.NEED_DATA or isinstance(event, h11.EndOfMessage)
    return answer, content


OURS = [
    "Connection", "Keep-Alive", "Proxy-Connection", "TE", "Upgrade", "Cookie", "X-Forwarded-For", "X-Forwarded-Proto",
    "X-Forwarded-Host", "X-Forwarded-Port", "X-Real-IP", "Forwarded", "Via", "X-Request-ID", "Max-Forwards", "Trailer",
    "Content_Length", "Transfer_Encoding", "Set-Cookie", "Date", "Authorization",
]  # fmt: skip
NAMES = st.sampled_from(OURS) | st.from_regex(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,12}", fullmatch=True).filter(
    lambda name: name.lower() not in {"host", "content-length", "transfer-encoding", "expect"}
)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40)
FIELDS = st.lists(st.tuples(NAMES, VALUES.map(str.strip)), max_size=12)
FRAMINGS = st.sampled_from(["", "Content-Length: 0\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"])


def text_of(fields: list[tuple[str, str]]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in fields)


@given(
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]),
    st.from_regex(r"/[!-~]{0,20}", fullmatch=True).filter(lambda target: "#" not in target and "\\" not in target),
    FIELDS,
    FRAMINGS,
    st.booleans(),
)
def test_h11_reads_the_same_request(
    method: str, target: str, fields: list[tuple[str, str]], framing: str, trusted: bool
) -> None:
    """Whatever fields I send, an independent parser reads one request: same method, target, Host and content."""
    text = f"{method} {target} HTTP/1.1\r\nHost: example.org\r\n{text_of(fields)}{framing}\r\n"
    head = parse_request_head(text.encode("latin-1"), Limits())
    try:
        check_hops(head)
    except HTTPError:
        return
    identity = Identity(CLIENT, 8080, True, Networks([CLIENT.host]) if trusted else NOBODY)
    sent = forward_request(head, identity, hide=without_srv, request_id=b"made")
    content = {0: b"", 5: b"hello", CHUNKED: b"5\r\nhello\r\n0\r\n\r\n"}[head.body]

    server = h11.Connection(h11.SERVER)
    server.receive_data(sent + content)
    request = server.next_event()
    assert isinstance(request, h11.Request)
    assert (request.method, request.target) == (method.encode(), target.encode())
    received = b""
    while isinstance(event := server.next_event(), h11.Data):
        received += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert received == (b"hello" if head.body else b"")
    assert server.trailing_data == (b"", False)

    values: dict[bytes, list[bytes]] = {}
    for name, value in request.headers:
        values.setdefault(name, []).append(value)
    assert values[b"host"] == [b"example.org"]
    for once in (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-request-id"):
        assert len(values[once]) == 1
    if not trusted:
        assert values[b"x-forwarded-for"] == values[b"x-real-ip"] == [b"192.0.2.7"]
        assert values[b"forwarded"] == [b"for=192.0.2.7;host=example.org;proto=https"]
    assert not {b"connection", b"keep-alive", b"te", b"upgrade", b"content_length"} & values.keys()


@given(
    st.sampled_from([200, 204, 206, 301, 304, 404, 426, 500, 599]),
    FIELDS,
    st.sampled_from(["Content-Length: 5\r\n", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n", ""]),
    st.sampled_from([b"GET", b"HEAD"]),
    st.booleans(),
)
def test_h11_reads_the_same_answer(
    status: int, fields: list[tuple[str, str]], framing: str, method: bytes, keep_alive: bool
) -> None:
    """Whatever the backend answers, an independent parser reads one answer: same status and content."""
    text = f"HTTP/1.1 {status} Some Reason\r\n{text_of(fields)}{framing}\r\n"
    head = parse_response_head(text.encode("latin-1"), method)
    sent = forward_answer(
        head,
        body=head.body,
        client_minor=1,
        keep_alive=keep_alive,
        set_cookie=b"SRV=t",
        date=DATE,
        head_only=method == b"HEAD",
    )
    content = {0: b"", 5: b"hello", CHUNKED: b"5\r\nhello\r\n0\r\n\r\n", UNTIL_CLOSE: b"hello"}[head.body]
    answer, received = answer_by_h11(sent + content, method)
    assert (answer.status_code, answer.reason) == (status, b"Some Reason")
    assert received == (b"hello" if head.body else b"")
    names = [name for name, _ in answer.headers]
    assert names.count(b"date") == 1
    assert (b"set-cookie", b"SRV=t") in list(answer.headers)
    closing = any(name == b"connection" and value == b"close" for name, value in answer.headers)
    assert closing is (not keep_alive or head.body == UNTIL_CLOSE)
    assert not re.search(rb"(?i)\r\n(keep-alive|te|proxy-connection):", sent)
