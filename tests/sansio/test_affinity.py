"""The affinities: who is recalled, what is set, and what garbage does (nothing)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.conformance import MemoryCandidate, check_affinity, make_arrival
from stickyproxy.interfaces import IAffinity
from stickyproxy.model import GONE, Arrival
from stickyproxy.sansio.affinity import ChainAffinity, CookieAffinity, HashAffinity, NoAffinity, TableAffinity
from stickyproxy.sansio.balancing import ConsistentHash
from stickyproxy.sansio.cookies import CookieTemplate
from stickyproxy.sansio.keys import find_key
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.sansio.tokens import KeyRing, Tokens

KEY, OLD_KEY = b"k" * 32, b"o" * 32


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def by_cookie(*keys: bytes, cluster: str = "app", ids: str = "abc", clock: Clock | None = None) -> CookieAffinity:
    tokens = Tokens(KeyRing(keys or (KEY,)), cluster, b"SRV")
    affinity = CookieAffinity(CookieTemplate("SRV"), tokens, clock or Clock())
    affinity.members(ids)
    return affinity


def by_key(word: str, sessions: SessionTable | None = None, space: str = "") -> TableAffinity:
    affinity = TableAffinity(find_key(word), space or word, SessionTable(Clock()) if sessions is None else sessions)
    affinity.members("abc")
    return affinity


def by_source() -> TableAffinity:
    return by_key("source")


def by_hash() -> HashAffinity:
    affinity = HashAffinity(find_key("source"))
    affinity.members("abcd")
    return affinity


def by_chain() -> ChainAffinity:
    sessions = SessionTable(Clock())
    return ChainAffinity([by_cookie(), by_key("header:x-user", sessions), by_key("query:client", sessions)])


def from_address(address: str) -> Arrival:
    return Arrival(address, secure=False)


def given_cookie(answer: bytes | None) -> bytes:
    """The Cookie field of a browser that got this Set-Cookie."""
    assert answer is not None
    return answer.partition(b";")[0]


@pytest.mark.parametrize("make", [by_cookie, by_source, by_chain, NoAffinity])
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
    affinity = by_key("source/24")
    affinity.bind(from_address(first), "b")
    assert (affinity.recall(from_address(second)) == "b") is same


@pytest.mark.parametrize("client", ["unix", "", "nonsense", "192.0.2.1:80", "192.0.2.1\x00"])
def test_source_without_an_address(client: str) -> None:
    """Who has no IP address is bound to nothing, and fills no memory."""
    sessions = SessionTable(Clock())
    affinity = by_key("source", sessions)
    affinity.bind(from_address(client), "b")
    assert affinity.recall(from_address(client)) is None
    assert len(sessions) == 0


def test_source_keeps_who_is_bound_when_backends_change() -> None:
    """Adding a backend moves nobody, and a backend that comes back has its clients back."""
    affinity = by_source()
    affinity.bind(from_address("192.0.2.1"), "b")
    for ids in ("abcd", "dcba", "ac", "abc"):
        affinity.members(ids)
        assert affinity.recall(from_address("192.0.2.1")) == "b"


@given(st.text(max_size=40))
def test_source_no_text_raises(client: str) -> None:
    """Whatever stands where an address should be, nobody is bound outside the cluster and nothing is raised."""
    affinity = by_source()
    assert affinity.recall(from_address(client)) is None
    affinity.bind(from_address(client), "a")
    assert affinity.recall(from_address(client)) in (None, "a")


def user(name: str, *cookies: bytes, query: str = "") -> Arrival:
    """A request of somebody with a name in X-User, perhaps cookies, perhaps ``?client=``."""
    arrival = make_arrival(0, cookies)
    assert arrival.head is not None
    plain = [b"X-User", b": ", name.encode(), b"\r\n"] if name else []
    return arrival._replace(head=arrival.head._replace(plain=plain, target=b"/?client=" + query.encode()))


def test_a_chain_knows_by_any() -> None:
    """Known by the cookie, a client is then known by its name alone, too; and who comes with his name gets a cookie."""
    affinity = by_chain()
    affinity.members("abc")
    first = given_cookie(affinity.bind(user(""), "b"))
    assert affinity.bind(user("ann", first), "b") is None
    assert affinity.recall(user("ann")) == "b"
    again = given_cookie(affinity.bind(user("ann"), "b"))
    assert affinity.recall(user("", again)) == "b"
    assert affinity.hide(b"x=y; " + again) == b"x=y"


def test_a_chain_asks_in_order() -> None:
    """Where two of a chain differ the first is right, unless its backend is gone."""
    affinity = by_chain()
    affinity.members("abc")
    cookie = given_cookie(affinity.bind(user(""), "a"))
    affinity.bind(user("ann"), "b")
    assert affinity.recall(user("ann", cookie)) == "a"
    affinity.members("bc")
    assert affinity.recall(user("ann", cookie)) == "b"
    assert affinity.recall(user("", cookie)) == GONE


def test_one_session_of_all_keys() -> None:
    """All keys that a chain has seen together are one session: moved by one of them, it is moved for all."""
    sessions = SessionTable(Clock())
    affinity = ChainAffinity([by_key("header:x-user", sessions), by_key("query:client", sessions)])
    affinity.members("abc")
    affinity.bind(user("ann", query="7"), "a")
    assert (len(sessions), affinity.recall(user("", query="7"))) == (1, "a")
    affinity.bind(user("ann"), "c")
    assert affinity.recall(user("", query="7")) == "c"
    affinity.forget(user("", query="7"))
    assert (len(sessions), affinity.recall(user("ann"))) == (0, None)


def test_two_cookies_in_a_chain() -> None:
    """Two cookies of ours in one chain are refused: an answer can set only one."""
    with pytest.raises(ValueError, match="only one"):
        ChainAffinity([by_cookie(), by_cookie()])


def test_a_space_is_shared_by_protocols() -> None:
    """What HTTP shows in a field and TCP in its first bytes is the same client where both name the same space."""
    sessions = SessionTable(Clock())
    web, device = by_key("header:x-user", sessions, "user"), by_key("key", sessions, "user")
    web.bind(user("ann"), "b")
    assert device.recall(Arrival("192.0.2.9", False, None, b"ann")) == "b"
    assert by_key("key", sessions).recall(Arrival("192.0.2.9", False, None, b"ann")) is None


def test_hash_moves_few() -> None:
    """By hash, clients come back without any memory; about one in n moves when one of n backends comes or goes."""
    clients = [from_address(f"10.{number >> 8}.{number & 255}.1") for number in range(4000)]
    affinity = by_hash()
    homes = [affinity.recall(client) for client in clients]
    assert [by_hash().recall(client) for client in clients] == homes
    assert all(850 < homes.count(id) < 1150 for id in "abcd")
    affinity.members("edcba")
    moved = sum(affinity.recall(client) != home for client, home in zip(clients, homes, strict=True))
    assert 650 < moved < 950  # a fifth is 800
    affinity.members("abc")
    for client, home in zip(clients, homes, strict=True):
        assert home == "d" or affinity.recall(client) == home
    assert by_hash().recall(Arrival("unix", False)) is None


def test_hash_has_a_second_choice() -> None:
    """While a backend is away, each of its clients by hash has one other backend, and always the same."""
    affinity = by_hash()
    clients = [from_address(f"10.0.{number}.1") for number in range(200)]
    for client in clients:
        first, second, *_ = affinity.ranking(client)
        affinity.members(set("abcd") - {first})
        assert affinity.recall(client) == second
        affinity.members("abcd")


def test_hash_goes_by_weight() -> None:
    """By hash, a backend has the share of clients that its weight says; of weight 0 it has none, unless all have."""
    clients = [from_address(f"10.{number >> 8}.{number & 255}.1") for number in range(4000)]
    affinity = ChainAffinity([by_hash()])
    affinity.weights({"a": 1, "b": 2, "c": 0, "d": 5})
    homes = [affinity.recall(client) for client in clients]
    assert [round(homes.count(id) / 500, 1) for id in "abcd"] == pytest.approx([1, 2, 0, 5], abs=0.2)
    assert {affinity.ranking(client)[-1] for client in clients} == {"c"}
    affinity.weights({"a": 1, "b": 2, "c": 2, "d": 5})
    assert {new for old, new in zip(homes, map(affinity.recall, clients), strict=True) if old != new} == {"c"}
    affinity.weights(dict.fromkeys("abcd", 0))
    assert {affinity.recall(client) for client in clients} == set("abcd")


def test_hash_and_balancer_agree() -> None:
    """What is bound by hash goes where ``balance = "consistent-hash"`` sends it for the same key and weights."""
    affinity = by_hash()
    affinity.weights({"a": 1, "b": 3, "c": 2, "d": 1})
    candidates = [MemoryCandidate(*each) for each in (("d", 1), ("b", 3), ("a", 1), ("c", 2))]
    balancer = ConsistentHash(find_key("source"))
    for number in range(500):
        client = from_address(f"10.0.{number >> 8}.{number & 255}")
        assert balancer.choose(candidates, client).id == affinity.recall(client)
