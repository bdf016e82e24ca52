"""HTTP as curl, raw sockets and bad peers speak it, through a real proxy to real backends."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from clients import (
    FRIEND,
    STRANGER,
    Script,
    body_of,
    configuration,
    connect,
    field,
    hung_up,
    port_of,
    read_all,
    read_until,
    run,
    start_and_fail,
    trusting,
)
from parts import TROUBLE, Backend, Proxy, converse, free_port

LARGE = 20 * 1024 * 1024
#: A PROXY header, version 2: 203.0.113.7 port 5555 to 127.0.0.1 port 80.
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([203, 0, 113, 7, 127, 0, 0, 1]) + b"\x15\xb3\0\x50"


class Site(NamedTuple):
    """A proxy that the tests of this module share."""

    proxy: Proxy
    http: str
    https: str
    strict: int
    authority: Path
    curl: str

    def fetch(self, *arguments: str | Path, input_: bytes | None = None) -> Any:
        """The JSON with which a backend answers curl."""
        ended = run(self.curl, "-sS", "--fail", "--cacert", self.authority, *arguments, input_=input_)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def _site(
    certificate: Callable[..., Path],
    authority_file: Path,
    needs: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    with Backend("a") as a, Backend("b") as b:
        toml = configuration(
            [a, b],
            f'frontend.web.trusted_proxies = ["{FRIEND}"]',
            'frontend.strict.timeouts = { head = "1s", body = "1s", keep_alive = "1s" }',
            'frontend.strict.limits = { target = "100B", head = "1KiB", fields = 5, body = "1000B" }',
            "frontend.strict.routes = ["
            '{ path = "/nobody/", cluster = "nobody" }, { path = "/gone/", cluster = "gone" }]',
            f'cluster.nobody.backends.x = {{ endpoint = "{a.endpoint}", state = "maintenance" }}',
            f'cluster.gone.backends.x = "tcp:127.0.0.1:{free_port()}"',
            'cluster.app.timeouts.answer = "1s"',
            frontends=("web", "strict"),
            certificate=certificate("localhost"),
        )
        with Proxy(tmp_path_factory.mktemp("site"), toml) as proxy:
            http, https = f"http://localhost:{port_of(proxy)}", f"https://localhost:{port_of(proxy, 'secure')}"
            yield Site(proxy, http, https, port_of(proxy, "strict"), authority_file, needs("curl"))


@pytest.fixture
def site(_site: Site) -> Iterator[Site]:
    yield _site
    assert not TROUBLE.search(_site.proxy.log), _site.proxy.log


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large"
    path.write_bytes(os.urandom(LARGE))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# curl


@pytest.mark.needs("curl")
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("options", "method"),
    [
        (["--data-binary", "@{}"], "POST"),
        (["-T", "{}"], "PUT"),
        (["-T", "{}", "-H", "Transfer-Encoding: chunked"], "PUT"),
        (["-T", "{}", "-H", "Expect: 100-continue"], "PUT"),
        (["-F", "file=@{}"], "POST"),
        (["--data-binary", "@{}", "--no-keepalive", "-H", "Connection: close"], "POST"),
    ],
    ids=["data", "put", "chunked", "expect", "form", "close"],
)
def test_large_uploads_arrive_whole(site: Site, large: Path, scheme: str, options: list[str], method: str) -> None:
    """I upload 20 MiB with curl, in any of its ways, and the backend has every byte."""
    told = site.fetch(*(option.format(large) for option in options), f"{getattr(site, scheme)}/upload")
    assert told["method"] == method
    if method == "POST" and "-F" in options:
        assert LARGE < told["length"] < LARGE + 1000
    else:
        assert (told["length"], told["sha256"]) == (LARGE, digest(large))
    assert (field(told, "Transfer-Encoding") == "chunked") is ("Transfer-Encoding: chunked" in options)


@pytest.mark.needs("curl")
def test_form_is_posted(site: Site) -> None:
    """``curl -d`` posts my form."""
    told = site.fetch("-d", "a=b", "-d", "c=d", f"{site.http}/form?x=y")
    assert (told["method"], told["target"], told["length"]) == ("POST", "/form?x=y", 7)
    assert field(told, "Content-Type") == "application/x-www-form-urlencoded"


@pytest.mark.needs("curl")
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("framing", ["", "&chunked=1", "&until_close=1"])
@pytest.mark.parametrize("version", ["--http1.1", "-0"])
def test_large_downloads_arrive_whole(site: Site, scheme: str, framing: str, version: str) -> None:
    """20 MiB come down whole, whatever framing the backend uses, to old clients too."""
    url = f"{getattr(site, scheme)}/stream?n={LARGE}{framing}"
    ended = run(site.curl, "-sS", version, "--cacert", site.authority, url)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout == bytes(LARGE)


@pytest.mark.needs("curl")
def test_expect_is_answered_by_the_backend(site: Site) -> None:
    """curl waits for 100 Continue, gets it, and sends its body then."""
    ended = run(site.curl, "-sSv", "-d", "a=b", "-H", "Expect: 100-continue", "--expect100-timeout", "9", site.http)
    trace = ended.stderr.decode()
    assert trace.index("HTTP/1.1 100 Continue") < trace.index("HTTP/1.1 200 OK")
    assert json.loads(ended.stdout)["length"] == 3


@pytest.mark.needs("curl")
def test_head_has_fields_and_no_body(site: Site) -> None:
    """``curl -I`` tells how long the answer would be, and the connection stays good."""
    ended = run(site.curl, "-sS", "-I", f"{site.http}/stream?n=1234", f"{site.http}/stream?n=5&chunked=1")
    assert ended.returncode == 0
    told = re.findall(rb"(?im)^HTTP/1.1 200|^content-length: \d+", ended.stdout)
    assert told == [b"HTTP/1.1 200", b"Content-Length: 1234", b"HTTP/1.1 200"]
    assert ended.stdout.endswith(b"\r\n\r\n")


@pytest.mark.needs("curl")
def test_connection_is_kept(site: Site) -> None:
    """Several URLs to curl take one connection; with ``Connection: close`` it is closed after each."""
    urls = [f"{site.http}/{number}" for number in range(3)]
    counted = ["-w", "%{num_connects}\n", "-o", "/dev/null", "-o", "/dev/null", "-o", "/dev/null", "-sS"]
    assert run(site.curl, *counted, *urls).stdout.split() == [b"1", b"0", b"0"]
    assert run(site.curl, *counted, "-H", "Connection: close", *urls).stdout.split() == [b"1"] * 3
    assert run(site.curl, *counted, "-0", *urls).stdout.split() == [b"1"] * 3


@pytest.mark.needs("curl")
@pytest.mark.parametrize("code", [204, 304, 404, 500, 302])
def test_answers_pass_through(site: Site, code: int) -> None:
    """The backend's own status, fields and cookies reach me, beside our one cookie."""
    query = f"code={code}&header=Set-Cookie:one=1&header=Set-Cookie:two=2&header=X-Mine:yes&header=Connection:X-Hop"
    ended = run(site.curl, "-sS", "-i", f"{site.http}/page?{query}&header=X-Hop:secret&header=Location:/there")
    head, _, body = ended.stdout.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % code)
    assert re.findall(rb"(?m)^Set-Cookie: (\w+)=", head) == [b"one", b"two", b"SRV"]
    assert b"X-Mine: yes" in head and b"Location: /there" in head and b"X-Hop" not in head
    assert (body == b"") is (code in (204, 304))


@pytest.mark.needs("curl")
def test_tls_names_its_protocol(site: Site) -> None:
    """curl over TLS checks the certificate, is offered http/1.1, and the backend is told https."""
    ended = run(site.curl, "-sSv", "--http1.1", "--cacert", site.authority, site.https)
    assert b"ALPN: server accepted http/1.1" in ended.stderr
    told = json.loads(ended.stdout)
    assert field(told, "X-Forwarded-Proto") == "https"
    assert b"Secure" in next(line for line in ended.stderr.splitlines() if b"< Set-Cookie" in line)
    assert run(site.curl, "-sS", site.https).returncode == 60  # curl's word for an authority that it does not know


@pytest.mark.needs("curl")
def test_cookie_jar_of_curl(site: Site, tmp_path: Path) -> None:
    """curl's cookie file keeps me on one backend, which does not see our cookie but sees mine."""
    jar = tmp_path / "jar"
    answers = [site.fetch("-b", jar, "-c", jar, "-b", "mine=1", site.http) for _ in range(2)]
    answers += [site.fetch("-b", jar, "-c", jar, site.http) for _ in range(4)]
    assert len({told["backend"] for told in answers[2:]}) == 1
    assert field(answers[0], "Cookie") == "mine=1"
    assert field(answers[-1], "Cookie") is None


# By hand


def test_pipelined_requests_are_answered_in_order(site: Site) -> None:
    """A hundred requests in one write, with bodies and HEADs among them, are answered one after another."""
    requests = []
    for number in range(100):
        kind = number % 4
        head = f"{('GET', 'HEAD', 'POST', 'PUT')[kind]} /{number} HTTP/1.1\r\nHost: x\r\n"
        if kind == 2:
            head += "Content-Length: 5\r\n\r\nhello"
        elif kind == 3:
            head += "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        else:
            head += "\r\n"
        requests.append(head)
    last = "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answer = converse(port_of(site.proxy), ("".join(requests) + last).encode())
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 101
    told = [json.loads(body) for body in re.findall(rb"^\{.*?\}(?=HTTP/1.1|\Z)", answer, re.MULTILINE)]
    expected = [f"/{number}" for number in range(100) if number % 4 != 1] + ["/last"]
    assert [each["target"] for each in told] == expected
    assert [each["length"] for each in told if each["method"] == "POST"] == [5] * 25
    assert [each["length"] for each in told if each["method"] == "PUT"] == [3] * 25


def test_request_comes_a_byte_at_a_time(site: Site) -> None:
    """However the network cuts my request up, it is the same request."""
    head = b"POST /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    request = head + b"4\r\nabcd\r\n0\r\n\r\n"
    with connect(port_of(site.proxy)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in request:
            client.sendall(bytes([byte]))
        told = body_of(read_all(client))
    assert (told["target"], told["length"]) == ("/slow", 4)


def test_trailers_reach_the_backend(site: Site) -> None:
    """What I send behind a chunked body arrives there, but nothing that would lie about the message."""
    request = (
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        b"3\r\nabc\r\n0\r\nX-Sum: 42\r\nContent-Length: 99\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"
    )
    told = body_of(converse(port_of(site.proxy), request))
    assert (told["length"], told["trailers"]) == (3, ["X-Sum: 42"])


def test_trailers_and_hints_reach_the_client(proxy: Callable[..., Proxy]) -> None:
    """103 Early Hints and the trailers of an answer come through, the hints not to an old client."""

    def play(connection: socket.socket) -> None:
        read_until(connection, b"\r\n\r\n")
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n")

    with Script(play) as script:
        port = port_of(proxy(configuration([script])))
        request = b"GET / HTTP/1.1\r\nHost: x\r\nTE: trailers\r\nConnection: TE, close\r\n\r\n"
        answer = converse(port, request)
        assert answer.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 42\r\n\r\n")
        old = converse(port, b"GET / HTTP/1.0\r\n\r\n")
        assert old.startswith(b"HTTP/1.1 200 OK\r\n") and old.endswith(b"\r\n\r\nabc")
        assert b"103" not in old and b"chunked" not in old.lower()


@pytest.mark.needs("curl")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_early_refusal_of_an_upload_is_seen(
    proxy: Callable[..., Proxy],
    needs: Callable[[str], str],
    certificate: Callable[..., Path],
    authority_file: Path,
    large: Path,
    scheme: str,
) -> None:
    """A backend that refuses at the head of a large upload, and closes at once: I see its page, not a broken pipe."""

    def play(connection: socket.socket) -> None:
        read_until(connection, b"\r\n\r\n")
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n")

    with Script(play) as script:
        running = proxy(configuration([script], certificate=certificate("localhost")))
        url = f"{scheme}://localhost:{port_of(running, 'web' if scheme == 'http' else 'secure')}/"
        for options in (["-T", large], ["-T", large, "-H", "Expect:"], ["--data-binary", f"@{large}"]):
            ended = run(needs("curl"), "-sS", "--cacert", authority_file, *options, "-w", "%{http_code}", url)
            assert (ended.stdout, ended.stderr) == (b"no\n403", b"")


# What is refused


STRICT = [
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: x\r\n folded: y\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (V2 + b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    (b"GET / HTTP/1.1\r\nHost: x\r\n", 408),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", 408),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n", 413),
    (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + bytes(1001) + b"\r\n", 413),
    (b"GET /" + b"a" * 100 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 1024 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 5 + b"\r\n", 431),
    (b"BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    (b"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", 501),
    (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    (b"POST /drop HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 502),
    (b"GET /drop HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 502),
    (b"GET /gone/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 502),
    (b"GET /nobody/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 503),
    (b"GET /?seconds=5 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 504),
]


@pytest.mark.parametrize(("request_", "status"), STRICT, ids=[f"{status}-{n}" for n, (_, status) in enumerate(STRICT)])
def test_refusals_are_small_plain_pages(site: Site, request_: bytes, status: int) -> None:
    """Every refusal is one complete answer with the right status, and the connection closes behind it."""
    answer = converse(site.strict, request_)
    head, _, page = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"Content-Type: text/plain" in head and b"Connection: close" in head
    assert page.startswith(b"%d " % status) and len(page) < 200
    assert b"Content-Length: %d\r\n" % len(page) in head + b"\r\n"


def test_idle_connection_is_closed(site: Site) -> None:
    """A kept connection that asks nothing more is closed after its time, without another word."""
    answer = converse(site.strict, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.count(b"HTTP/1.1") == 2  # the status line, and the JSON that quotes mine
    assert converse(site.strict, b"") == b""


@pytest.mark.needs("curl")
def test_truncated_answer_does_not_look_whole(site: Site) -> None:
    """A backend that breaks off is a broken transfer for me as well, with TLS and without."""
    for url in (site.http, site.https):
        ended = run(site.curl, "-sS", "--cacert", site.authority, f"{url}/truncate")
        assert ended.returncode in (18, 56), ended  # partial file, or reset
        assert ended.stdout in (b"", bytes(500))
        ended = run(site.curl, "-sS", "-0", "--cacert", site.authority, f"{url}/truncate")
        assert ended.returncode in (18, 56), ended


def test_routes_go_by_host_and_longest_path(
    proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]]
) -> None:
    """Host exact, wildcard, any; port and case do not matter; the longest path wins; else 404."""
    exact, wild, deep = backends("exact", "wild", "deep")
    toml = "\n".join(
        [
            'frontend.web.listen = "tcp:0:interface=127.0.0.1"',
            "frontend.web.routes = [",
            '{ host = "app.example.org", cluster = "exact" }, { host = "*.example.org", cluster = "wild" },',
            '{ host = "app.example.org", path = "/a/b/", cluster = "deep" }, { path = "/open/", cluster = "deep" }]',
            *(f'cluster.{each.name}.backends.{each.name} = "{each.endpoint}"' for each in (exact, wild, deep)),
        ]
    )
    port = port_of(proxy(toml))

    def served(host: str, path: str) -> str:
        answer = converse(port, f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return str(body_of(answer)["backend"]) if b" 200 OK" in answer else answer.split(b" ", 2)[1].decode()

    assert served("app.example.org", "/") == "exact"
    assert served("APP.Example.org:8080", "/a/b") == "exact"
    assert served("app.example.org", "/a/b/c?d") == "deep"
    assert served("other.example.org", "/a/b/c") == "wild"
    assert served("elsewhere.test", "/open/") == "deep"
    assert served("elsewhere.test", "/closed") == "404"


# Who the client is


LIES = {
    "X-Forwarded-For": "192.0.2.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "shop.example.org",
    "X-Forwarded-Port": "443",
    "X-Real-IP": "192.0.2.9",
    "Forwarded": "for=192.0.2.1;proto=https",
    "X_Forwarded_For": "192.0.2.2",
    "x-real_ip": "192.0.2.2",
}


@pytest.mark.needs("curl")
@pytest.mark.parametrize("source", [STRANGER, FRIEND])
def test_identity_fields_are_believed_from_trusted_peers_only(site: Site, source: str) -> None:
    """A stranger's fields are replaced by what is true, in all their spellings; a trusted proxy's are carried on."""
    told_us = [option for name, value in LIES.items() for option in ("-H", f"{name}: {value}")]
    port = port_of(site.proxy)
    told = site.fetch("--interface", source, *told_us, "-H", "Host: my.test", f"http://127.0.0.1:{port}/")
    forged = f"for=192.0.2.1;proto=https, for={FRIEND};host=my.test;proto=http"
    expected = {
        STRANGER: (source, "http", "my.test", str(port), source, f"for={source};host=my.test;proto=http"),
        FRIEND: (f"192.0.2.1, {source}", "https", "shop.example.org", "443", "192.0.2.1", forged),
    }[source]
    assert tuple(field(told, name) for name in list(LIES)[:6]) == expected
    assert field(told, "X_Forwarded_For") is None and field(told, "x-real_ip") is None
    assert field(told, "Host") == "my.test"
    assert field(told, "Via") == "1.1 stickyproxy"
    assert re.fullmatch(r"[0-9a-f]{16}[0-9a-f-]*", field(told, "X-Request-ID") or "")


@pytest.mark.needs("curl")
def test_request_id_and_via_are_carried_on(site: Site) -> None:
    """The X-Request-ID of a trusted proxy stays, a stranger's is replaced; Via grows."""
    url = f"http://127.0.0.1:{port_of(site.proxy)}/"
    sent = ("-H", "X-Request-ID: mine-1", "-H", "Via: 1.0 fred")
    for source, kept in ((FRIEND, True), (STRANGER, False)):
        told = site.fetch("--interface", source, *sent, url)
        assert (field(told, "X-Request-ID") == "mine-1") is kept
        assert field(told, "Via") == "1.0 fred, 1.1 stickyproxy"


@pytest.mark.needs("curl")
def test_hop_by_hop_fields_end_here(site: Site) -> None:
    """What ``Connection`` names goes no further, but it may name neither Host nor cookies nor who I am."""
    names = "close, X-Hop, Host, Cookie, Authorization, X-Forwarded-For"
    told = site.fetch(
        *("-H", f"Connection: {names}", "-H", "X-Hop: 1", "-H", "Keep-Alive: timeout=5", "-H", "TE: gzip"),
        *("-H", "Proxy-Connection: keep-alive", "-b", "c=d", "-u", "me:secret", site.http),
    )
    for gone in ("X-Hop", "Keep-Alive", "TE", "Proxy-Connection"):
        assert field(told, gone) is None
    assert field(told, "Cookie") == "c=d"
    assert field(told, "Host") and field(told, "Authorization") and field(told, "X-Forwarded-For")


# The PROXY protocol


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "header", [b"PROXY TCP4 203.0.113.7 127.0.0.1 5555 80\r\n", b"PROXY TCP6 2001:db8::7 ::1 5555 80\r\n", V2]
)
def test_proxy_header_names_the_client(
    proxy: Callable[..., Proxy],
    backends: Callable[..., list[Backend]],
    certificate: Callable[..., Path],
    authority_file: Path,
    header: bytes,
    tls: bool,
) -> None:
    """A balancer before us tells the client by PROXY v1 or v2, before TLS too; without it, it is not served."""
    name = "secure" if tls else "web"
    accept = [f'frontend.{each}.accept_proxy_protocol = ["{FRIEND}"]' for each in ("web", "secure")]
    trust = f'frontend.{name}.trusted_proxies = ["203.0.113.0/24"]'
    running = proxy(configuration(backends("a"), *accept, trust, certificate=certificate("localhost")))
    port = port_of(running, name)

    def ask(source: str, *pieces: bytes) -> Any:
        with connect(port, source=source) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                plain.sendall(piece)
            client = trusting(authority_file).wrap_socket(plain, server_hostname="localhost") if tls else plain
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close\r\n\r\n")
            return body_of(read_all(client))

    v4 = b"TCP6" not in header
    expected = "192.0.2.1, 203.0.113.7" if v4 else "2001:db8::7"  # the address it names is who is trusted, or not
    assert field(ask(FRIEND, header), "X-Forwarded-For") == expected
    assert field(ask(FRIEND, *(bytes([byte]) for byte in header)), "X-Forwarded-For") == expected
    assert field(ask(STRANGER), "X-Forwarded-For") == STRANGER
    for source, pieces in ((FRIEND, ()), (STRANGER, (header,))):
        with pytest.raises((OSError, ValueError)):
            ask(source, *pieces)


@pytest.mark.needs("curl")
def test_curl_speaks_the_proxy_protocol(
    proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]], needs: Callable[[str], str]
) -> None:
    """``curl --haproxy-protocol`` is served where it is expected, and a bad request where it is not."""
    accept = f'frontend.web.accept_proxy_protocol = ["{FRIEND}"]'
    url = f"http://127.0.0.1:{port_of(proxy(configuration(backends('a'), accept)))}/"
    ended = run(needs("curl"), "-sS", "--interface", FRIEND, "--haproxy-protocol", url)
    assert field(json.loads(ended.stdout), "X-Real-IP") == FRIEND
    ended = run(needs("curl"), "-sS", "--haproxy-protocol", "-o", os.devnull, "-w", "%{http_code}", url)
    assert ended.stdout == b"400"


@pytest.mark.parametrize("version", [1, 2])
def test_backend_is_told_by_the_proxy_protocol(
    proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]], version: int
) -> None:
    """Two proxies in a row, PROXY between them: the backend knows each client, also on kept connections."""
    inner = proxy(configuration(backends("a"), 'frontend.web.accept_proxy_protocol = ["127.0.0.1"]'))

    class Inner:
        name, endpoint = "inner", f"tcp:127.0.0.1:{port_of(inner)}"

    outer = port_of(proxy(configuration([Inner], f"cluster.app.send_proxy_protocol = {version}")))
    for _ in range(2):
        for source in (STRANGER, FRIEND, "127.0.0.1"):
            with connect(outer, source=source) as client:
                for _ in range(2):
                    client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    told = body_of(read_until(client, b'"}'))
                    assert field(told, "X-Forwarded-For") == source


# Bad peers


def test_bad_peers_do_not_keep_others_from_service(
    proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]]
) -> None:
    """500 idle connections, peers that read nothing or send a byte a second: everybody else is served at once."""
    timeouts = 'frontend.web.timeouts = { head = "2s", send = "2s" }'
    running = proxy(configuration(backends("a", "b"), timeouts))
    port = port_of(running)
    began = time.monotonic()
    idle = [connect(port) for _ in range(500)]
    assert time.monotonic() - began < 1  # nobody had to knock a second time
    deaf = [connect(port) for _ in range(5)]
    for client in deaf:
        client.sendall(b"GET /stream?n=100000000 HTTP/1.1\r\nHost: x\r\n\r\n")
    answered: list[bytes] = []

    def drip() -> None:
        with connect(port) as client:
            client.settimeout(1)
            for byte in b"GET / HTTP/1.1\r\nHost: slow":
                client.sendall(bytes([byte]))
                try:
                    answered.append(client.recv(65536))
                    return
                except TimeoutError:
                    continue

    dripping = threading.Thread(target=drip)
    dripping.start()
    longest = 0.0
    served = 0
    while dripping.is_alive() or served < 200:
        began = time.monotonic()
        assert b" 200 OK" in converse(port, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        longest = max(longest, time.monotonic() - began)
        served += 1
    dripping.join()
    assert longest < 1
    assert answered[0].startswith(b"HTTP/1.1 408 ")
    for client in idle:
        with client:
            assert client.recv(1) == b""
    for client in deaf:
        with client:
            assert hung_up(client), "who takes nothing of his answer for two seconds is dropped"


# What does not start


def test_bad_configuration_does_not_start(tmp_path: Path) -> None:
    """Every mistake is told with file and key, and nothing else; the status is not 0."""
    toml = configuration([], 'frontend.web.clutser = "app"', 'cluster.other.backends.a = "tcp:nowhere"')
    status, said = start_and_fail(tmp_path, toml)
    assert status == 1
    assert "Traceback" not in said
    for part in (str(tmp_path / "bad.toml"), "clutser", "cluster.other.backends.a", "cluster.app"):
        assert part in said


def test_port_that_is_taken_is_told(
    proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]], tmp_path: Path
) -> None:
    """Somebody listens there already: the message names the endpoint, and the status is not 0."""
    servers = backends("a")
    port = port_of(proxy(configuration(servers)))
    taken = configuration(servers).replace("tcp:0:", f"tcp:{port}:")
    status, said = start_and_fail(tmp_path, taken)
    assert status != 0
    assert "Traceback" not in said
    assert re.search(rf"frontend web.*tcp:{port}:interface=127.0.0.1.*Address already in use", said, re.IGNORECASE)
