"""docs/examples/site.py and services.tac, run as they say, between real backends and real clients."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import json
import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from clients import Backendlike, Script, configuration, port_of, read_all, read_until, run, trusting
from parts import ROOT, Backend, Program, rss
from websockets.sync.client import connect as websocket

EXAMPLES = ROOT / "docs" / "examples"
MiB = 1024 * 1024
#: Prepares the environment of a program: this checkout, and output as it comes.
ENV = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
#: The example's site behind our own TLS instead of Twisted's.
OWN_TLS = """
import importlib.util, sys
from pathlib import Path
from twisted.internet.task import react
from stickyproxy.tls import CertificateStore, server_connection_creator, tls_factory
spec = importlib.util.spec_from_file_location("own_site", sys.argv[1])
own_site = importlib.util.module_from_spec(spec)
spec.loader.exec_module(own_site)
plain = own_site.make_site
creator = server_connection_creator(CertificateStore.load([Path(sys.argv[2])]))
own_site.make_site = lambda reactor, backends: tls_factory(creator, plain(reactor, backends), reactor)
react(own_site.main, sys.argv[3:])
"""


class Answer(NamedTuple):
    """What a client got."""

    status: int
    cookie: str | None  #: ``SRV=token``
    body: bytes

    @property
    def backend(self) -> str:
        return str(json.loads(self.body)["backend"])


class OwnSite:
    """The example, running. ``tls`` is how a client of it trusts it."""

    def __init__(self, program: Program, tls: ssl.SSLContext | None = None) -> None:
        self.program = program
        self.port = int(program.wait_for(r"^listens on (\d+)$")[0][1])
        self.tls = tls

    def connect(self) -> socket.socket:
        plain = socket.create_connection(("127.0.0.1", self.port), 30)
        return plain if self.tls is None else self.tls.wrap_socket(plain, server_hostname="localhost")

    def ask(self, path: str = "/", *, cookie: str | None = None, method: str = "GET", body: Any = None) -> Answer:
        return ask(self.port, path, cookie=cookie, method=method, body=body, tls=self.tls)

    def websocket(self, cookie: str | None = None) -> Any:
        scheme = "ws" if self.tls is None else "wss"
        return websocket(
            f"{scheme}://localhost:{self.port}/socket",
            sock=socket.create_connection(("127.0.0.1", self.port), 10),
            ssl=self.tls,
            additional_headers={"Cookie": cookie} if cookie else None,
            proxy=None,
        )


def ask(
    port: int, path: str, *, cookie: str | None = None, method: str = "GET", body: Any = None, tls: Any = None
) -> Answer:
    maker = http.client.HTTPConnection if tls is None else http.client.HTTPSConnection
    connection = maker("localhost", port, timeout=30, **({} if tls is None else {"context": tls}))
    try:
        connection.request(method, path, body, {"Cookie": cookie} if cookie else {})
        answer = connection.getresponse()
        return Answer(answer.status, cookie_in(answer.getheader("Set-Cookie")), answer.read())
    finally:
        connection.close()


def cookie_in(value: str | None) -> str | None:
    return value and value.partition(";")[0]


@pytest.fixture(params=["http", "https", "own-tls"])
def site(
    request: pytest.FixtureRequest,
    program: Callable[..., Program],
    certificate: Callable[..., Path],
    authority_file: Path,
) -> Callable[..., OwnSite]:
    """``site(backends)`` runs the example, plain, on Twisted's TLS, and on ours."""

    def start(backends: list[Backendlike]) -> OwnSite:
        example = EXAMPLES / "site.py"
        named = [f"{backend.name}={backend.endpoint}" for backend in backends]
        listen = "tcp:0:interface=127.0.0.1"
        if request.param == "http":
            return OwnSite(program(sys.executable, example, listen, *named, env=ENV))
        pem = certificate("localhost")
        if request.param == "https":
            listen = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}:extraCertChain={pem}"
            return OwnSite(program(sys.executable, example, listen, *named, env=ENV), trusting(authority_file))
        started = program(sys.executable, "-c", OWN_TLS, example, pem, listen, *named, env=ENV)
        return OwnSite(started, trusting(authority_file))

    return start


def test_every_client_stays_with_its_backend(
    site: Callable[..., OwnSite], backends: Callable[..., list[Backend]]
) -> None:
    """Twenty requests of a client reach the backend of its first one, WebSockets too; new clients get the others."""
    own = site(backends("a", "b", "c"))
    assert own.ask("/mine") == Answer(200, None, b"A page of my own.\n")
    reached = set()
    for _ in range(3):
        first = own.ask()
        assert first.cookie
        reached.add(first.backend)
        answers = [own.ask(f"/{number}", cookie=first.cookie, method="POST", body=b"abc") for number in range(20)]
        assert {(answer.backend, answer.cookie) for answer in answers} == {(first.backend, None)}
        with own.websocket(first.cookie) as tunnel:
            assert json.loads(tunnel.recv(10))["backend"] == first.backend
            assert "Set-Cookie" not in tunnel.response.headers
            for message in ("short", "long" * 100_000):
                tunnel.send(message)
                assert tunnel.recv(10) == message
    assert reached == {"a", "b", "c"}
    with own.websocket() as tunnel:
        bound = cookie_in(tunnel.response.headers["Set-Cookie"])
        assert own.ask(cookie=bound).backend == json.loads(tunnel.recv(10))["backend"]


def test_a_backend_that_went_down(site: Callable[..., OwnSite], backends: Callable[..., list[Backend]]) -> None:
    """Its clients are bound to another one, once; a WebSocket too."""
    started = {backend.name: backend for backend in backends("a", "b")}
    own = site(list(started.values()))
    first = own.ask()
    started[first.backend].kill()
    with own.websocket(first.cookie) as tunnel:
        other = json.loads(tunnel.recv(10))["backend"]
        rebound = cookie_in(tunnel.response.headers["Set-Cookie"])
        assert other != first.backend and rebound
    for _ in range(3):
        answer = own.ask(cookie=rebound)
        assert (answer.status, answer.backend, answer.cookie) == (200, other, None)
    started[other].kill()
    assert own.ask(cookie=rebound).status == 502


def test_an_upload_streams(site: Callable[..., OwnSite], backends: Callable[..., list[Backend]]) -> None:
    """50 MiB to a backend that reads 40 MiB a second: they arrive whole, and the site does not hold them."""
    own = site(backends("a"))
    content = hashlib.sha256(b"seed").digest() * (50 * MiB // 32)
    own.ask("/warm", method="POST", body=content[:MiB])
    before, most = rss(own.program.pid), [0]
    ended = threading.Event()

    def measure() -> None:
        while not ended.wait(0.02):
            most[0] = max(most[0], rss(own.program.pid))

    watcher = threading.Thread(target=measure)
    watcher.start()
    try:
        answer = own.ask(f"/sink?rate={40 * MiB}", method="PUT", body=content)
    finally:
        ended.set()
        watcher.join()
    told = json.loads(answer.body)
    assert (told["length"], told["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert most[0] - before < 16 * MiB, f"{(most[0] - before) / MiB:.1f} MiB more"


def test_a_download_streams(site: Callable[..., OwnSite], backends: Callable[..., list[Backend]]) -> None:
    """50 MiB to a client that reads 40 MiB a second, while it sends as much to a backend that gives it back."""
    own = site(backends("a"))
    size, rate = 50 * MiB, 40 * MiB

    async def download(head: str, content: bytes) -> int:
        """The most memory that the site has meanwhile."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", own.port, ssl=own.tls, server_hostname=own.tls and "localhost", limit=64 * 1024
        )
        writer.write(f"{head} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n".encode())
        writer.write(content)
        assert b" 200 OK\r\n" in await reader.readuntil(b"\r\n\r\n")
        received, most, began = 0, 0, time.monotonic()
        while received < size:
            piece = await reader.read(size - received)
            assert piece, f"closed after {received}"
            received += len(piece)
            most = max(most, rss(own.program.pid))
            await asyncio.sleep(began + received / rate - time.monotonic())
        writer.close()
        return most

    own.ask(f"/stream?n={MiB}")
    before = rss(own.program.pid)
    for head, content in ((f"GET /stream?n={size}", b""), ("POST /echo", bytes(size))):
        most = asyncio.run(asyncio.wait_for(download(head, content), 30))
        assert most - before < 16 * MiB, f"{(most - before) / MiB:.1f} MiB more"


def test_an_early_answer_reaches_a_client_that_still_sends(site: Callable[..., OwnSite]) -> None:
    """Neither a backend's no nor ours is lost because the client is still sending."""

    def refuse(connection: socket.socket) -> None:
        read_until(connection, b"\r\n\r\n")
        connection.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")
        with contextlib.suppress(ConnectionResetError):  # what it does not read is taken back
            connection.recv(1)

    with Script(refuse) as backend:
        own = site([backend])
        for host, expected in (("x", b"HTTP/1.1 403 No"), ("x y", b"HTTP/1.1 400 Bad Request")):
            with own.connect() as connection:
                head = f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5000000\r\n\r\n"
                connection.sendall(head.encode() + bytes(100_000))
                answer = read_until(connection, b"\r\n\r\n")
                assert answer.startswith(expected) and b"Connection: close" in answer
                connection.sendall(bytes(4_900_000))
                assert b"HTTP/1.1" not in read_all(connection)


def test_a_truncated_answer(site: Callable[..., OwnSite], backends: Callable[..., list[Backend]]) -> None:
    """A client sees that its answer is not complete."""
    own = site(backends("a"))
    with pytest.raises((http.client.IncompleteRead, ConnectionError, ssl.SSLError)):
        own.ask("/truncate")


@pytest.mark.needs("curl")
@pytest.mark.parametrize("site", ["https"], indirect=True)
def test_http2(site: Callable[..., OwnSite], backends: Callable[..., list[Backend]], authority_file: Path) -> None:
    """Where twisted.web speaks HTTP/2, the backends serve it: sticky, with contents, never cut off unnoticed."""
    own = site(backends("a", "b"))

    def curl(path: str, *options: str, content: bytes | None = None) -> tuple[int, str, bytes]:
        ended = run(
            *("curl", "--silent", "--http2", "--cacert", authority_file, "--write-out", "%{stderr}%{http_version}"),
            *("--resolve", f"localhost:{own.port}:127.0.0.1", f"https://localhost:{own.port}{path}", *options),
            input_=content,
        )
        return ended.returncode, ended.stderr.decode(), ended.stdout

    first = own.ask()
    for content in (b"x" * 10, b"x" * 300_000):
        status, version, body = curl("/", "--cookie", f"a=1; {first.cookie}", "--upload-file", "-", content=content)
        told = json.loads(body)
        assert (status, version, told["backend"], told["length"]) == (0, "2", first.backend, len(content))
        assert ["Cookie", "a=1"] in told["headers"]
    assert [len(curl(f"/stream?n={n}")[2]) for n in (0, 5_000_000)] == [0, 5_000_000]
    assert curl("/truncate")[:2] == (18, "2")  # curl's number for a part of a file
    assert curl("/?code=304", "--head")[2].startswith(b"HTTP/2 304")


def test_in_a_service_of_ones_own(
    program: Callable[..., Program], backends: Callable[..., list[Backend]], tmp_path: Path
) -> None:
    """A configuration's frontends and my own site are parts of my application; a client of both keeps its backend."""
    tac = (EXAMPLES / "services.tac").read_text()
    assert '"tcp:8081"' in tac
    (tmp_path / "services.tac").write_text(tac.replace('"tcp:8081"', '"tcp:0:interface=127.0.0.1"'))
    (tmp_path / "proxy.toml").write_text(configuration(backends("a", "b", "c")))
    twistd = Path(sys.executable).with_name("twistd")
    mine = program(twistd, "--pidfile=", "-ny", "services.tac", cwd=tmp_path, env=ENV)
    own = int(mine.wait_for(r"\bSite starting on (\d+)")[0][1])
    frontend = port_of(mine)  # type: ignore[arg-type]
    assert ask(own, "/mine").body == b"A page of my own.\n"
    for one, other in ((own, frontend), (frontend, own)):
        first = ask(one, "/")
        assert first.cookie
        for port in (one, other, other, one):
            again = ask(port, "/", cookie=first.cookie)
            assert (again.backend, again.cookie) == (first.backend, None)
    assert mine.stop() == 0 or "Server Shut Down." in mine.log
    assert not re.search("Traceback|Unhandled", mine.log), mine.log


def test_the_page_shows_what_works(tmp_path: Path) -> None:
    """What docs/in-your-own-site.md quotes of the examples is in them, and the rest of its code runs."""
    shown = re.findall(r"```python\n(.*?)```", (EXAMPLES.parent / "in-your-own-site.md").read_text(), re.DOTALL)
    examples = "".join((EXAMPLES / name).read_text() for name in ("site.py", "services.tac"))
    whole = [part for part in shown if part.startswith("from ")]
    quoted = [part for part in shown if part not in whole]
    assert quoted and all(line.strip() in examples for part in quoted for line in part.splitlines())
    (part,) = whole
    assert part.count("tcp:8080:") == part.count("reactor.run()") == 1
    look = "reactor.callLater(0, lambda: (print(reactor.getReaders()), reactor.stop()))\nreactor.run()"
    script = tmp_path / "shown.py"
    script.write_text(part.replace("tcp:8080:", "tcp:0:").replace("reactor.run()", look))
    ended = run(sys.executable, script)
    assert ended.returncode == 0 and b"twisted.web.server.Site" in ended.stdout, ended.stderr.decode()
