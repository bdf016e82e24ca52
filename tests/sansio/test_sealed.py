"""Tokens that end, are bound to a place, or are encrypted."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.conformance import make_arrival
from stickyproxy.model import GONE, Connection
from stickyproxy.sansio.sealed import PLACES, SealedTokens
from stickyproxy.sansio.tokens import SEALED_SIZES, KeyRing, Tokens, looks_like_token

OLD, NEW = b"o" * 32, b"n" * 32
NOW = 1_700_000_000.0
SOMEBODY = make_arrival(1)


class Place:
    """Where tokens are issued and read, at a time that the test sets."""

    def __init__(self, *keys: bytes, ids: Iterable[str] = "abc", encrypt: bool = False, **options: object) -> None:
        self.now = NOW
        nonces: Callable[[int], bytes] | None = Random(1).randbytes if encrypt else None
        self.tokens = SealedTokens(
            KeyRing(keys or (NEW,)),
            "app",
            b"SRV",
            lambda: self.now,
            random_bytes=nonces,
            **options,  # type: ignore[arg-type]
        )
        self.tokens.members(ids)

    def issue(self, backend: str = "a", former: bytes | None = None, lifetime: float | None = None) -> bytes:
        return self.tokens.issue(backend, self.now, SOMEBODY, former, lifetime)

    def recall(self, token: bytes) -> str | None:
        return self.tokens.recall(token, SOMEBODY)

    def is_current(self, token: bytes, backend: str = "a") -> bool:
        return self.tokens.is_current(token, backend, SOMEBODY)


@pytest.mark.parametrize("encrypt", [False, True])
def test_round_trip(encrypt: bool) -> None:
    """What was issued names its backend again elsewhere, in any order of backends, and when that is back."""
    token = Place(encrypt=encrypt).issue("b")
    there = Place(encrypt=encrypt, ids="cab")
    assert there.recall(token) == "b" and there.is_current(token, "b") and not there.is_current(token, "a")
    there.tokens.members("ac")
    assert there.recall(token) == GONE
    there.tokens.members("abc")
    assert there.recall(token) == "b"


def test_form() -> None:
    """Both have the length that is told, and the form of a token; what has another form is none."""
    issued = [Place(encrypt=encrypt).issue() for encrypt in (False, True)]
    assert tuple(map(len, issued)) == SEALED_SIZES
    assert all(map(looks_like_token, issued))
    assert not any(map(looks_like_token, (b"", b"a", b"~" * 44, issued[0][:-1], issued[1] + b"A")))


def test_encrypted_tokens_look_unrelated() -> None:
    """Of encrypted tokens nobody can tell which are for the same backend: they share their key's id alone."""
    place = Place(encrypt=True)
    raw = [base64.urlsafe_b64decode(place.issue("a")) for _ in range(50)]
    assert len({one[16:] for one in raw}) == len({one[5:16] for one in raw}) == 50
    assert all(len({one[at] for one in raw}) > 10 for at in range(5, 48))


def test_idle() -> None:
    """A token ends when it is not used for its time; used, it is renewed now and then, and goes on."""
    place = Place(idle=800.0)
    token = place.issue()
    place.now += 100
    assert place.is_current(token)
    place.now += 1
    assert not place.is_current(token) and place.recall(token) == "a"
    renewed = place.issue("a", token)
    place.now += 800
    assert place.recall(token) is None and place.recall(renewed) == "a"
    place.now += 200
    assert place.recall(renewed) is None and not place.is_current(renewed)


@pytest.mark.parametrize("encrypt", [False, True])
def test_lifetime(encrypt: bool) -> None:
    """However often a token is renewed, the session ends when its time is over; then another begins."""
    place = Place(idle=800.0, lifetime=1000.0, encrypt=encrypt)
    token = place.issue()
    place.now += 700
    token = place.issue("a", token)
    place.now += 299
    assert place.recall(token) == "a"
    place.now += 2
    assert place.recall(token) is None
    assert place.recall(place.issue("b", token)) == "b"


def test_a_lifetime_of_its_own() -> None:
    """A backend that says for how long is believed, even if that is longer than configured."""
    place = Place(lifetime=10.0)
    token = place.issue("a", None, 60.0)
    place.now += 59
    assert place.recall(token) == "a"
    place.now += 1
    assert place.recall(token) is None


def test_max_age() -> None:
    """A browser that keeps a cookie for longer than it was told gains nothing."""
    place = Place(max_age=60.0)
    token = place.issue()
    place.now += 61
    assert place.recall(token) is None


@pytest.mark.parametrize("encrypt", [False, True])
def test_rotation(encrypt: bool) -> None:
    """After a new key was put in front, old sessions stay and get new tokens; without the old key they end."""
    token = Place(OLD, encrypt=encrypt).issue()
    both = Place(NEW, OLD, encrypt=encrypt)
    assert both.recall(token) == "a" and not both.is_current(token)
    assert both.is_current(both.issue("a", token))
    assert Place(NEW, encrypt=encrypt).recall(token) is None


@pytest.mark.parametrize("encrypt", [False, True])
def test_tokens_of_before(encrypt: bool) -> None:
    """Who begins to use these options moves nobody: tokens of before are good, with the time they have."""
    before = Tokens(KeyRing([NEW]), "app", b"SRV")
    before.members("abc")
    token = before.issue("b", NOW)
    place = Place(encrypt=encrypt, lifetime=60.0)
    assert place.recall(token) == "b" and not place.is_current(token, "b")
    renewed = place.issue("b", token)
    place.now += 61
    assert place.recall(token) is None and place.recall(renewed) is None


def test_encrypting_or_not_any_more() -> None:
    """Signed tokens are good where they are encrypted from now on, and the other way round; both are replaced."""
    plain, encrypted = Place(), Place(encrypt=True)
    for one, other in ((plain, encrypted), (encrypted, plain)):
        token = one.issue()
        assert other.recall(token) == "a" and not other.is_current(token)


@pytest.mark.parametrize("encrypt", [False, True])
def test_bound_to_an_address(encrypt: bool) -> None:
    """A token that somebody else shows, from another network, is as if absent; and so is one that is not bound."""
    tokens = Place(encrypt=encrypt, place_of=PLACES["address"]).tokens
    home, near, away = (SOMEBODY._replace(client=client) for client in ("192.0.2.1", "192.0.2.200", "198.51.100.1"))
    token = tokens.issue("a", NOW, home, None, None)
    for _ in range(2):
        assert tokens.recall(token, home) == tokens.recall(token, near) == "a"
        assert tokens.recall(token, away) is None and not tokens.is_current(token, "a", away)
    former = Tokens(KeyRing([NEW]), "app", b"SRV")
    assert tokens.recall(former.issue("a", NOW), home) is None
    assert tokens.recall(Place(encrypt=encrypt).issue(), home) is None


def test_bound_to_tls() -> None:
    """A token of a TLS connection is nothing on a plain one, nor with another certificate of the client."""
    tokens = Place(place_of=PLACES["tls"]).tokens
    plain, secure = SOMEBODY, SOMEBODY._replace(secure=True)
    certified = secure._replace(connection=Connection(None, b"c" * 32))
    issued = [tokens.issue("a", NOW, arrival, None, None) for arrival in (plain, secure, certified)]
    for at, token in enumerate(issued):
        known = [tokens.recall(token, arrival) for arrival in (plain, secure, certified)]
        assert known == ["a" if at == position else None for position in range(3)]


@given(
    st.binary(max_size=80) | st.sampled_from(SEALED_SIZES).flatmap(lambda size: st.binary(min_size=size, max_size=size))
)
def test_no_bytes_pass(token: bytes) -> None:
    """No byte string that we did not issue is a token, none raises, and none is remembered."""
    tokens = Place(NEW, OLD, encrypt=True, idle=60.0).tokens
    assert tokens.recall(token, SOMEBODY) is None and not tokens.is_current(token, "a", SOMEBODY)
    assert len(tokens) == 0


@given(encrypt=st.booleans(), data=st.data())
def test_every_bit_counts(encrypt: bool, data: st.DataObject) -> None:
    """No changed bit goes unnoticed, wherever it is."""
    place = Place(encrypt=encrypt)
    raw = bytearray(base64.urlsafe_b64decode(place.issue()))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    assert place.recall(base64.urlsafe_b64encode(raw)) is None


def test_memory_is_bounded() -> None:
    """However many tokens come, only so many are remembered, and all are honoured."""
    tokens = Place(capacity=10).tokens
    issued = [tokens.issue("a", NOW + second, SOMEBODY, None, None) for second in range(100)]
    for _ in range(2):
        assert {tokens.recall(token, SOMEBODY) for token in issued} == {"a"}
        assert len(tokens) == 10
