"""The affinities: who is recalled, what is set, and what garbage does (nothing)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.conformance import check_affinity, make_arrival
from stickyproxy.interfaces import IAffinity
from stickyproxy.model import GONE, Arrival
from stickyproxy.sansio.affinity import CookieAffinity, NoAffinity, SourceAffinity
from stickyproxy.sansio.cookies import CookieTemplate
from stickyproxy.sansio.tokens import KeyRing

KEY, OLD_KEY = b"k" * 32, b"o" * 32


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def by_cookie(*keys: bytes, cluster: str = "app", ids: str = "abc", clock: Clock | None = None) -> CookieAffinity:
    affinity = CookieAffinity(CookieTemplate("SRV"), KeyRing(keys or (KEY,)), cluster, clock or Clock())
    affinity.members(ids)
    return affinity


def by_source(clock: Clock | None = None, **options: int) -> SourceAffinity:
    affinity = SourceAffinity(clock or Clock(), **options)
    affinity.members("abc")
    return affinity


def from_address(address: str) -> Arrival:
    return Arrival(address, secure=False)


def given_cookie(answer: bytes | None) -> bytes:
    """The Cookie field of a browser that got this Set-Cookie."""
    assert answer is not None
    return answer.partition(b";")[0]


@pytest.mark.parametrize("make", [by_cookie, by_source, NoAffinity])
def test_contract(make: type[IAffinity]) -> None:
    """Every affinity that comes with stickyproxy keeps the contract that it asks of yours."""
    check_affinity(make)


def test_cookie_round_trip() -> None:
    """A new client gets a cookie, and with it is known to every process that has the key, in any order of backends."""
    affinity = by_cookie()
    assert affinity.recall(make_arrival()) is None
    cookie = given_cookie(affinity.bind(make_arrival(), "b"))
    assert affinity.recall(make_arrival(1, [cookie])) == "b"
    assert by_cookie(ids="cab").recall(make_arrival(1, [b"theme=dark; " + cookie + b"; lang=de"])) == "b"


def test_cookie_is_set_once() -> None:
    """A client that came with the right cookie is not sent another one."""
    affinity = by_cookie()
    arrival = make_arrival(0, [given_cookie(affinity.bind(make_arrival(), "b"))])
    assert affinity.bind(arrival, "b") is None
    assert by_cookie().bind(arrival, "b") is None
    assert affinity.bind(arrival, "a") is not None


def test_cookie_is_secure_on_tls() -> None:
    """The cookie is Secure exactly when the client came over TLS."""
    affinity = by_cookie()
    assert b"; Secure" in (affinity.bind(make_arrival(secure=True), "b") or b"")
    assert b"; Secure" not in (affinity.bind(make_arrival(), "b") or b"")


def test_cookie_of_a_removed_backend() -> None:
    """A session whose backend was removed is known as such, and gets one new cookie."""
    affinity = by_cookie()
    arrival = make_arrival(0, [given_cookie(affinity.bind(make_arrival(), "b"))])
    affinity.members("ac")
    assert affinity.recall(arrival) == GONE
    cookie = given_cookie(affinity.bind(arrival, "a"))
    assert affinity.recall(make_arrival(0, [cookie])) == "a"


def test_cookie_of_an_old_key() -> None:
    """After a key rotation clients keep their backends, and their cookies are replaced as they come."""
    arrival = make_arrival(0, [given_cookie(by_cookie(OLD_KEY).bind(make_arrival(), "b"))])
    rotated = by_cookie(KEY, OLD_KEY)
    assert rotated.recall(arrival) == "b"
    cookie = given_cookie(rotated.bind(arrival, "b"))
    assert by_cookie(KEY).recall(make_arrival(0, [cookie])) == "b"


def test_cookies_that_are_as_if_absent() -> None:
    """A forged, cut, foreign or ambiguous cookie binds nobody, and a fresh one is set."""
    affinity = by_cookie()
    cookie = given_cookie(affinity.bind(make_arrival(), "b"))
    other = given_cookie(affinity.bind(make_arrival(), "a"))
    foreign = given_cookie(by_cookie(cluster="other").bind(make_arrival(), "b"))
    for fields in (
        [cookie[:-1]],
        [cookie + b"x" * 9000],
        [b"SRV=b"],
        [foreign],
        [cookie, other],
        [cookie + b"; " + other],
    ):
        arrival = make_arrival(0, fields)
        assert affinity.recall(arrival) is None
        assert affinity.bind(arrival, "b") is not None


def test_the_same_cookie_twice() -> None:
    """A browser that sends the same cookie twice (set for two paths, say) is served all the same."""
    affinity = by_cookie()
    cookie = given_cookie(affinity.bind(make_arrival(), "b"))
    for fields in ([cookie + b"; " + cookie], [cookie, cookie]):
        assert affinity.recall(make_arrival(0, fields)) == "b"
        assert affinity.bind(make_arrival(0, fields), "b") is None


def test_cookie_without_http() -> None:
    """TCP clients have no cookies: they are strangers, and nothing is set."""
    affinity = by_cookie()
    assert affinity.recall(from_address("192.0.2.1")) is None
    assert affinity.bind(from_address("192.0.2.1"), "a") is None


@given(st.lists(st.binary(max_size=80) | st.binary(max_size=60).map(lambda value: b"SRV=" + value), max_size=3))
def test_no_bytes_as_a_cookie(fields: list[bytes]) -> None:
    """No byte string as a cookie raises, binds anybody, or is remembered."""
    affinity = by_cookie()
    assert affinity.recall(make_arrival(0, fields)) is None
    assert affinity.bind(make_arrival(0, fields), "a") is not None
    assert len(affinity._tokens) == 1  # the one that was just set


@given(st.data())
def test_no_altered_cookie(data: st.DataObject) -> None:
    """A cookie of ours in which any part was changed binds nobody."""
    affinity = by_cookie()
    cookie = given_cookie(affinity.bind(make_arrival(), "a"))
    at = data.draw(st.integers(4, len(cookie) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != cookie[at]))
    altered = cookie[:at] + bytes([byte]) + cookie[at + 1 :]
    recalled = affinity.recall(make_arrival(0, [altered]))
    assert recalled is None or altered.split(b";")[0].strip() == cookie


def test_source() -> None:
    """A client comes back to the backend that served its address; others do not follow it there."""
    affinity = by_source()
    assert affinity.bind(from_address("192.0.2.1"), "b") is None
    assert affinity.recall(from_address("192.0.2.1")) == "b"
    assert affinity.recall(from_address("192.0.2.2")) is None


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:DB8:0:0::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.9", True),
        ("0.0.0.1", "::1", False),
    ],
)
def test_source_networks(first: str, second: str, same: bool) -> None:
    """Clients of one network share a backend, however their addresses are written."""
    affinity = by_source(ipv4_prefix=24)
    affinity.bind(from_address(first), "b")
    assert (affinity.recall(from_address(second)) == "b") is same


@pytest.mark.parametrize("client", ["unix", "", "nonsense", "192.0.2.1:80", "192.0.2.1\x00"])
def test_source_without_an_address(client: str) -> None:
    """Who has no IP address is bound to nothing, and fills no memory."""
    affinity = by_source()
    affinity.bind(from_address(client), "b")
    assert affinity.recall(from_address(client)) is None
    assert len(affinity) == 0


def test_source_is_forgotten_when_idle() -> None:
    """A client is forgotten after the idle time, which starts anew with every visit; its memory goes as others come."""
    clock = Clock()
    affinity = by_source(clock, idle=60)
    affinity.bind(from_address("192.0.2.1"), "a")
    affinity.bind(from_address("192.0.2.2"), "b")
    clock.now += 50
    assert affinity.recall(from_address("192.0.2.1")) == "a"
    clock.now += 50
    assert affinity.recall(from_address("192.0.2.1")) == "a"
    assert affinity.recall(from_address("192.0.2.2")) is None
    clock.now += 61
    affinity.bind(from_address("192.0.2.3"), "c")
    assert len(affinity) == 1


def test_source_is_bounded() -> None:
    """However many clients come, memory stays within its bound, and the longest unseen goes first."""
    affinity = by_source(size=10)
    affinity.bind(from_address("192.0.2.0"), "a")
    for number in range(1, 100):
        affinity.bind(from_address(f"192.0.2.{number}"), "b")
        assert affinity.recall(from_address("192.0.2.0")) == "a"
    assert len(affinity) == 10


def test_source_keeps_who_is_bound_when_backends_change() -> None:
    """Adding a backend moves nobody, and a backend that comes back has its clients back."""
    affinity = by_source()
    affinity.bind(from_address("192.0.2.1"), "b")
    for ids in ("abcd", "dcba", "ac", "abc"):
        affinity.members(ids)
        assert affinity.recall(from_address("192.0.2.1")) == "b"


@pytest.mark.parametrize("options", [{"ipv4_prefix": 33}, {"ipv6_prefix": 0}, {"size": 0}, {"idle": 0}])
def test_source_bad_options(options: dict[str, Any]) -> None:
    """Options that cannot be are refused."""
    with pytest.raises(ValueError, match=r"prefix|idle"):
        by_source(**options)


@given(st.text(max_size=40))
def test_source_no_text_raises(client: str) -> None:
    """Whatever stands where an address should be, nobody is bound outside the cluster and nothing is raised."""
    affinity = by_source()
    assert affinity.recall(from_address(client)) is None
    affinity.bind(from_address(client), "a")
    assert affinity.recall(from_address(client)) in (None, "a")
