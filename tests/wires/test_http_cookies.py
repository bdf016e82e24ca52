"""Every mode and option of cookies, as a client and a backend see them on the wire."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from stickyproxy.config import from_tables
from stickyproxy.extensions import find_extensions, make
from stickyproxy.interfaces import IAffinity
from stickyproxy.model import Outcome
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.sansio.tokens import KeyRing

if TYPE_CHECKING:
    from house import House

    Make = Callable[..., House]

EXTENSIONS = find_extensions()


class Browser:
    """A client with a cookie jar, in a house whose affinity is configured as ``options`` say."""

    def __init__(self, make_house: Make, **options: Any) -> None:
        self.now = 1_000_000.0
        self.house = make_house(affinity=self._affinity({"by": "cookie", **options}))
        self.jar: dict[bytes, bytes] = {}
        self.seen = b""  # by the backend
        self.set: list[bytes] = []  # by the answer
        self.answer = b""

    def _affinity(self, affinity: dict[str, Any]) -> IAffinity:
        tables = {
            "frontend": {"web": {"listen": "tcp:8080", "cluster": "app"}},
            "cluster": {"app": {"affinity": affinity, "backends": {"a": "tcp:127.0.0.1:1", "b": "tcp:127.0.0.1:2"}}},
        }
        named = from_tables(tables, EXTENSIONS).clusters[0].affinity
        context = {"key_ring": KeyRing([bytes(32)]), "random": Random(1), "clock": lambda: self.now, "cluster": "app"}
        sessions = SessionTable(lambda: self.now)
        made: IAffinity = make(EXTENSIONS.of(IAffinity)[named.name], named.options, sessions=sessions, **context)
        return made

    def get(self, *fields: bytes, method: bytes = b"GET", status: bytes = b"200 OK", host: str = "198.51.100.7") -> str:
        """Ask, and be answered with ``fields``; returns who answered."""
        counts = {id: len(endpoint.transports) for id, endpoint in self.house.endpoints.items()}
        client = self.house.client(host=host)
        cookies = b"; ".join(b"%b=%b" % pair for pair in self.jar.items())
        lines = [method + b" / HTTP/1.1", b"Host: example.org", *([b"Cookie: " + cookies] if cookies else []), b"", b""]
        client.deliver(b"\r\n".join(lines))
        (served,) = (id for id, count in counts.items() if len(self.house.endpoints[id].transports) > count)
        backend = self.house.accepted(served)
        self.seen = backend.take()
        backend.deliver(
            b"\r\n".join((b"HTTP/1.1 " + status, *fields, b"Content-Length: 0", b"Connection: close", b"", b""))
        )
        self.answer = client.take()
        self.set = [line[12:] for line in self.answer.split(b"\r\n") if line.startswith(b"Set-Cookie: ")]
        for line in self.set:
            pair, _, attributes = line.partition(b";")
            name, _, value = pair.partition(b"=")
            self.jar[name] = value
            if b"Max-Age=0" in attributes:
                del self.jar[name]
        client.lose()
        return served

    def outcomes(self) -> list[Outcome]:
        return [entry.outcome for entry in self.house.entries if entry.outcome is not None]


def test_insert(house: Make) -> None:
    """By default: one cookie of ours, once, which the backend does not see."""
    browser = Browser(house)
    first = browser.get()
    assert len(browser.set) == 1 and browser.set[0].endswith(b"; Path=/; HttpOnly; SameSite=Lax")
    for _ in range(3):
        assert browser.get() == first
        assert browser.set == [] and b"Cookie" not in browser.seen
    assert browser.outcomes() == [Outcome.NEW, *[Outcome.KEPT] * 3]


def test_prefix(house: Make) -> None:
    """A token goes before the application's value, and the application gets its value back."""
    browser = Browser(house, mode="prefix", name="ID")
    first = browser.get(b"Set-Cookie: ID=me; Path=/app; HttpOnly", b"Set-Cookie: lang=de")
    token, _, value = browser.jar[b"ID"].partition(b"~")
    assert len(token) == 44 and value == b"me" and browser.set[0].endswith(b"; Path=/app; HttpOnly")
    for _ in range(3):
        assert browser.get() == first
        assert b"Cookie: ID=me; lang=de\r\n" in browser.seen


def test_rewrite(house: Make) -> None:
    """The application sets the cookie, and its value becomes a token; before that nobody is bound."""
    browser = Browser(house, mode="rewrite", name="SRV")
    assert [browser.get(), browser.get()] == ["a", "b"]
    first = browser.get(b"Set-Cookie: SRV=anything; Path=/; Max-Age=60")
    assert (
        len(browser.set) == 1 and browser.set[0].endswith(b"; Path=/; Max-Age=60") and b"anything" not in browser.set[0]
    )
    assert [browser.get() for _ in range(3)] == [first] * 3
    assert b"Cookie: SRV=" + browser.jar[b"SRV"] in browser.seen


def test_passive(house: Make) -> None:
    """The application names the backend, and nothing is changed."""
    browser = Browser(house, mode="passive", name="ROUTE")
    assert browser.get(b"Set-Cookie: ROUTE=b") == "a"
    assert browser.set == [b"ROUTE=b"]
    assert [browser.get() for _ in range(3)] == ["b"] * 3
    assert b"Cookie: ROUTE=b\r\n" in browser.seen
    browser.jar[b"ROUTE"] = b"nobody"
    assert {browser.get() for _ in range(4)} == {"a", "b"}


def test_learned(house: Make) -> None:
    """The application's cookie is learned, not touched, and forgotten when it ends."""
    browser = Browser(house, by="learned", name="ID")
    assert [browser.get(), browser.get()] == ["a", "b"]
    first = browser.get(b"Set-Cookie: ID=1; Path=/")
    assert browser.set == [b"ID=1; Path=/"]
    assert [browser.get() for _ in range(3)] == [first] * 3
    assert b"Cookie: ID=1\r\n" in browser.seen
    browser.get(b"Set-Cookie: ID=; Max-Age=0")
    assert len({browser.get() for _ in range(2)}) == 2


def test_learned_field(house: Make) -> None:
    """A field that the answer has is learned as well."""
    browser = Browser(house, by="learned", name="header:X-Session")
    first = browser.get(b"X-Session: 7")
    for _ in range(3):
        client = browser.house.client()
        client.deliver(b"GET / HTTP/1.1\r\nHost: x\r\nX-Session: 7\r\n\r\n")
        assert b"X-Session: 7" in browser.house.accepted(first).take()


def test_not_indirect(house: Make) -> None:
    """With ``indirect = false`` backends see the cookie."""
    browser = Browser(house, indirect=False)
    browser.get()
    browser.get()
    assert b"Cookie: SRV=" + browser.jar[b"SRV"] + b"\r\n" in browser.seen


def test_nocache(house: Make) -> None:
    """With ``nocache`` an answer that sets the cookie is not for shared caches; others are as they were."""
    browser = Browser(house, nocache=True)
    browser.get(b"Cache-Control: max-age=60")
    assert browser.set and browser.answer.count(b"Cache-Control: ") == 2
    assert b"Cache-Control: private\r\n" in browser.answer
    browser.get(b"Cache-Control: max-age=60")
    assert not browser.set and browser.answer.count(b"Cache-Control: ") == 1
    browser.jar.clear()
    browser.get(b"Cache-Control: max-age=60, Private")
    assert browser.set and browser.answer.count(b"Cache-Control: ") == 1


def test_postonly(house: Make) -> None:
    """With ``postonly`` who only looks around is bound to nobody."""
    browser = Browser(house, postonly=True)
    assert [browser.get() for _ in range(4)] == ["a", "b", "a", "b"] and not browser.jar
    first = browser.get(method=b"POST")
    assert browser.set
    assert [browser.get() for _ in range(3)] == [first] * 3


def test_preserve(house: Make) -> None:
    """With ``preserve`` an application may end the session, or forbid one, and that is what the client gets."""
    browser = Browser(house, preserve=True)
    browser.get(b"Set-Cookie: SRV=; Max-Age=0")
    assert browser.set == [b"SRV=; Max-Age=0"] and not browser.jar
    first = browser.get()
    assert browser.set and browser.get() == first
    browser.get(b"Set-Cookie: SRV=; Max-Age=0")
    assert len({browser.get(b"Set-Cookie: SRV=; Max-Age=0") for _ in range(2)}) == 2


def test_preserve_and_mirror(house: Make) -> None:
    """What an application says of our cookie is what the client gets, also where its own would be mirrored."""
    browser = Browser(house, preserve=True, attributes="mirror", application="ID")
    browser.get(b"Set-Cookie: ID=1; Path=/a")
    assert len(browser.set) == 2
    browser.get(b"Set-Cookie: ID=2; Path=/a\r\nSet-Cookie: SRV=; Max-Age=0")
    assert sorted(browser.set) == [b"ID=2; Path=/a", b"SRV=; Max-Age=0"]


def test_idle(house: Make) -> None:
    """A session that is used goes on, and is renewed only now and then; one that is not ends."""
    browser = Browser(house, idle="800s")
    first = browser.get()
    renewals = 0
    for _ in range(40):
        browser.now += 60
        assert browser.get() == first
        renewals += len(browser.set)
    assert renewals == 20  # what is older than 100 s, an eighth of the time, when it comes
    browser.now += 1000
    browser.get()
    assert browser.outcomes()[-1] is Outcome.NEW and browser.set


@pytest.mark.parametrize("options", [{"lifetime": "10m"}, {"lifetime": "10m", "idle": "5m"}, {"max_age": "10m"}])
def test_lifetime(house: Make, options: dict[str, str]) -> None:
    """However much it is used a session ends when its time is over, even in a browser that keeps the cookie."""
    browser = Browser(house, **options)
    first = browser.get()
    for _ in range(9):
        browser.now += 60
        assert browser.get() == first
    browser.now += 61
    browser.get()
    assert browser.outcomes()[-1] is Outcome.NEW and browser.set


@pytest.mark.parametrize("mode", [{}, {"mode": "prefix", "name": "ID"}, {"mode": "rewrite", "name": "ID"}])
def test_encrypt(house: Make, mode: dict[str, str]) -> None:
    """Encrypted, no two cookies are alike, and each is good."""
    browser = Browser(house, encrypt=True, **mode)
    given = set()
    for _ in range(4):
        browser.jar.clear()
        first = browser.get(b"Set-Cookie: ID=me")
        given.add(browser.set[-1].partition(b"=")[2][:64])
        assert [browser.get() for _ in range(2)] == [first] * 2
    assert len(given) == 4


@pytest.mark.parametrize("mode", [{}, {"mode": "prefix", "name": "ID"}, {"mode": "rewrite", "name": "ID"}])
def test_bound_to_the_address(house: Make, mode: dict[str, str]) -> None:
    """A cookie that somebody else shows, from elsewhere, is as if absent."""
    browser = Browser(house, bind_to="address", **mode)
    first = browser.get(b"Set-Cookie: ID=me")
    assert browser.get(host="198.51.100.99") == first
    browser.get(host="203.0.113.1")
    assert browser.outcomes() == [Outcome.NEW, Outcome.KEPT, Outcome.NEW]


def test_mirror(house: Make) -> None:
    """The cookie goes as far and lives as long as that of the application, from when that is set until it ends."""
    browser = Browser(house, attributes="mirror", application="ID", http_only=False)
    first = browser.get()
    assert browser.set[0].endswith(b"; Path=/; SameSite=Lax")
    token = browser.jar[b"SRV"]
    assert (
        browser.get(b"Set-Cookie: ID=1; path=/shop; Max-Age=60; HttpOnly; SameSite=None; Secure; Partitioned") == first
    )
    assert browser.set[1] == b"SRV=" + token + b"; path=/shop; Max-Age=60; SameSite=None; Secure; Partitioned"
    assert browser.get() == first and browser.set == []
    browser.get(b"Set-Cookie: ID=; Path=/shop; Max-Age=0")
    assert not browser.jar
    browser.get(b"Set-Cookie: ID=2; Domain=example.org; Expires=Fri, 31 Dec 2100 23:59:59 GMT")
    assert browser.set[1].endswith(b"; Domain=example.org; Expires=Fri, 31 Dec 2100 23:59:59 GMT")


def test_partitioned(house: Make) -> None:
    """Every attribute that is configured is there."""
    browser = Browser(
        house, path="/x", domain="example.org", max_age="1h", secure=True, same_site="none", partitioned=True
    )
    browser.get()
    attributes = b"; Path=/x; Domain=example.org; Max-Age=3600; Secure; HttpOnly; SameSite=None; Partitioned"
    assert browser.set[0].endswith(attributes)


def test_websockets_are_bound_too(house: Make) -> None:
    """The answer to a handshake is looked at as any other: the application's cookie in it is marked."""
    browser = Browser(house, mode="prefix", name="ID")
    client = browser.house.client()
    client.deliver(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    browser.house.accepted("a").deliver(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSet-Cookie: ID=me\r\n\r\n"
    )
    answer = client.take()
    assert answer.startswith(b"HTTP/1.1 101 ")
    browser.jar[b"ID"] = answer.partition(b"Set-Cookie: ID=")[2].partition(b"\r\n")[0]
    assert browser.jar[b"ID"].endswith(b"~me")
    assert [browser.get() for _ in range(3)] == ["a"] * 3
