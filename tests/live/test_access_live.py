"""Who may come in, as curl and sockets find it at a real proxy."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import bcrypt
import pytest
from clients import FRIEND, HANDSHAKE, STRANGER, configuration, connect, port_of, read_until, run, trusting
from parts import TROUBLE, Backend, Proxy

RULES = """
frontend.web.trusted_proxies = ["127.0.0.77"]
frontend.web.routes = [
    { cluster = "app", path = "/listed", access = { allow = "127.0.0.0/8", deny = ["127.0.0.66", "203.0.113.0/24"] } },
    { cluster = "app", path = "/slow", access = { rate = { requests = 2, per = "1h" } } },
    { cluster = "app", path = "/locked", access = { users_file = "users", realm = "staff" } },
]
frontend.door.protocol = "tcp"
frontend.door.access = { deny = ["127.0.0.66"], rate = { requests = 3, per = "1h" } }
frontend.secure.protocol = "tcp"
frontend.secure.access.deny = ["127.0.0.66"]
"""


class Site(NamedTuple):
    proxy: Proxy
    curl: str

    def status(self, path: str, *arguments: str | Path) -> int:
        """What curl gets."""
        url = f"http://127.0.0.1:{port_of(self.proxy)}{path}"
        done = run(self.curl, "-sS", "-o", "/dev/null", "-w", "%{http_code}", *arguments, url)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)


@pytest.fixture(scope="module")
def _site(
    needs: Callable[[str], str], certificate: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("access")
    (directory / "users").write_bytes(b"# staff\nann:" + bcrypt.hashpw(b"s3cret", bcrypt.gensalt(8)) + b"\n")
    with Backend("a") as backend:
        pem = certificate("localhost")
        toml = configuration([backend], RULES, frontends=("web", "door"), cookie=False, certificate=pem)
        with Proxy(directory, toml) as proxy:
            yield Site(proxy, needs("curl"))


@pytest.fixture
def site(_site: Site) -> Iterator[Site]:
    yield _site
    assert not TROUBLE.search(_site.proxy.log), _site.proxy.log


@pytest.mark.needs("curl")
def test_lists(site: Site) -> None:
    """403 for whom the list denies, himself or behind a trusted proxy; 200 for others, and where there is no list."""
    told = ("-H", "X-Forwarded-For: 203.0.113.9")
    assert site.status("/listed/x") == 200
    assert site.status("/listed", "--interface", STRANGER) == 403
    assert site.status("/listed", "--interface", FRIEND) == 200
    assert site.status("/listed", "--interface", FRIEND, *told) == 403
    assert site.status("/listed", *told) == 200
    assert site.status("/x/../%6cisted", "--path-as-is", "--interface", STRANGER) == 403
    assert site.status("/else", "--interface", STRANGER) == 200
    site.proxy.wait_for(rf'^{STRANGER} - - \[[^]]*\] "GET /listed HTTP/1.1" 403 ')


@pytest.mark.needs("curl")
def test_rates(site: Site) -> None:
    """429 with Retry-After past the rate, for that address alone."""
    assert [site.status("/slow") for _ in range(3)] == [200, 200, 429]
    assert site.status("/slow", "--interface", STRANGER) == 200
    done = run(site.curl, "-sS", "-D", "-", "-o", "/dev/null", f"http://127.0.0.1:{port_of(site.proxy)}/slow")
    assert re.search(rb"\r\nRetry-After: 1[0-9]{3}\r\n", done.stdout)


@pytest.mark.needs("curl")
def test_passwords(site: Site, tmp_path: Path) -> None:
    """401 without the password, 200 with it, for many at once and for uploads too; the password is in no log."""
    assert site.status("/locked") == 401
    for wrong in ("ann:wrong", "eve:s3cret", "ann:", "ann"):
        assert site.status("/locked", "-u", f"{wrong}{'' if ':' in wrong else ':'}") == 401
    with ThreadPoolExecutor(8) as pool:
        statuses = pool.map(lambda _: site.status("/locked", "-u", "ann:s3cret"), range(16))
        assert set(statuses) == {200}
    large = tmp_path / "large"
    large.write_bytes(bytes(3_000_000))
    for user, expected in (("ann:s3cret", 200), ("ann:wrong", 401)):
        assert site.status("/locked/echo", "-u", user, "-H", "Expect:", "--data-binary", f"@{large}") == expected
    assert "s3cret" not in site.proxy.log


def test_websockets(site: Site) -> None:
    """The handshake of a WebSocket needs the password as well."""
    handshake = HANDSHAKE.replace(b"/live", b"/locked")
    for fields, expected in ((b"", b" 401 "), (b"Authorization: Basic YW5uOnMzY3JldA==\r\n", b" 101 ")):
        with connect(port_of(site.proxy)) as client:
            client.sendall(handshake + fields + b"\r\n")
            assert expected in read_until(client, b"\r\n\r\n").partition(b"\r\n")[0]


def test_tcp(site: Site, authority_file: Path) -> None:
    """Who may not come in is closed, plain and before a handshake; past the rate everyone is."""

    def served(source: str, *, tls: bool = False) -> bool:
        port = port_of(site.proxy, "secure" if tls else "door")
        with suppress(ConnectionError, ssl.SSLError), connect(port, source=source) as plain:
            client = trusting(authority_file).wrap_socket(plain, server_hostname="localhost") if tls else plain
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            return client.recv(12) == b"HTTP/1.1 200"
        return False

    assert [served("127.0.0.1") for _ in range(4)] == [True, True, True, False]
    assert (served(STRANGER), served(FRIEND)) == (False, True)
    assert [served(source, tls=True) for source in (FRIEND, STRANGER)] == [True, False]
    site.proxy.wait_for(rf'^{STRANGER} - - \[[^]]*\] "TCP" - 0 "-" "-" cluster=app backend=- ')
