"""Tokens: only we can make them, and only we can read them."""

from __future__ import annotations

import base64
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.model import GONE
from stickyproxy.sansio.tokens import (
    KEY_SIZE,
    TOKEN_SIZE,
    KeyRing,
    Token,
    Tokens,
    format_key_file,
    generate_key,
    parse_key_file,
)

OLD, NEW = b"o" * 32, b"n" * 32
NOW = 1_700_000_000.75


def tokens_of(
    *keys: bytes, cluster: str = "app", cookie: bytes = b"SRV", ids: Iterable[str] = "abc", capacity: int = 100
) -> Tokens:
    tokens = Tokens(KeyRing(keys or (NEW,)), cluster, cookie, capacity)
    tokens.members(ids)
    return tokens


def test_round_trip() -> None:
    """What was issued for a backend names it again, in another process too, and whatever the order of the backends."""
    token = tokens_of().issue("b", NOW)
    assert tokens_of(ids="cba").recall(token) == "b"
    assert tokens_of().read(token) == Token("b", 1_700_000_000, newest=True)


def test_form() -> None:
    """A token is 44 characters fit for a cookie, and neither names nor numbers its backend."""
    token = tokens_of(ids=["tcp-127.0.0.1"]).issue("tcp-127.0.0.1", NOW)
    assert len(token) == TOKEN_SIZE
    assert token.isascii()
    assert token.replace(b"-", b"").replace(b"_", b"").isalnum()
    assert b"127" not in base64.urlsafe_b64decode(token)


def test_backends_look_unrelated() -> None:
    """Tokens of two backends, clusters, cookies or keys share no tag by which one could be told from the other."""
    issued = [
        tokens_of().issue("a", NOW),
        tokens_of().issue("b", NOW),
        tokens_of(cluster="api").issue("a", NOW),
        tokens_of(cookie=b"X").issue("a", NOW),
        tokens_of(OLD).issue("a", NOW),
    ]
    assert len({base64.urlsafe_b64decode(token)[9:17] for token in issued}) == 5


@pytest.mark.parametrize("reader", [tokens_of(OLD), tokens_of(cluster="api"), tokens_of(cookie=b"SRW")])
def test_scope(reader: Tokens) -> None:
    """A token of another key, cluster or cookie is worth nothing."""
    assert reader.recall(tokens_of().issue("a", NOW)) is None


def test_the_scope_has_no_seams() -> None:
    """Names that look alike when glued together are still different scopes."""
    assert tokens_of(cluster="app", cookie=b"SRV").read(tokens_of(cluster="appS", cookie=b"RV").issue("a", NOW)) is None


def test_every_character_counts() -> None:
    """No changed character goes unnoticed, wherever it is."""
    tokens = tokens_of()
    token = tokens.issue("a", NOW)
    for at in range(TOKEN_SIZE):
        changed = token[:at] + (b"A" if token[at : at + 1] != b"A" else b"B") + token[at + 1 :]
        assert tokens.recall(changed) is None


@pytest.mark.parametrize(
    "spoil", [lambda t: t + b"=", lambda t: t[:-1], lambda t: t + b"\n", lambda t: b" " + t[1:], lambda t: t * 200]
)
def test_other_spellings(spoil: object) -> None:
    """A token has one spelling."""
    tokens = tokens_of()
    assert callable(spoil)
    assert tokens.recall(spoil(tokens.issue("a", NOW))) is None


def test_standard_base64_is_not_another_spelling() -> None:
    """+ and / do not stand for - and _."""
    tokens = tokens_of()
    token = next(t for s in range(100) if b"-" in (t := tokens.issue("a", NOW + s)))
    assert tokens.recall(token) == "a"
    assert tokens.recall(token.replace(b"-", b"+")) is None


@given(st.binary(max_size=100) | st.text("ABCDEFabcdef0123456789-_", min_size=44, max_size=44).map(str.encode))
def test_no_bytes_pass(token: bytes) -> None:
    """No byte string that we did not issue is a token, none raises, and none is remembered."""
    tokens = tokens_of()
    assert tokens.recall(token) is None
    assert not tokens.is_current(token, "a")
    assert len(tokens) == 0


def test_gone_backend() -> None:
    """A session of a removed backend is known to be one, and finds it again when it is back."""
    tokens = tokens_of()
    token = tokens.issue("a", NOW)
    tokens.members("bc")
    assert tokens.recall(token) == GONE
    assert not tokens.is_current(token, "a")
    tokens.members("abcd")
    assert tokens.recall(token) == "a"


def test_rotation() -> None:
    """After a new key was put in front, old sessions stay and get new tokens; without the old key they end."""
    token = tokens_of(OLD).issue("a", NOW)
    both = tokens_of(NEW, OLD)
    assert both.recall(token) == "a"
    assert not both.is_current(token, "a")
    assert both.is_current(both.issue("a", NOW), "a")
    assert tokens_of(NEW).recall(token) is None


def test_is_current() -> None:
    """A token needs no replacement for its own backend, and does for any other."""
    token = tokens_of().issue("a", NOW)
    reader = tokens_of()
    for _ in range(2):
        assert reader.is_current(token, "a")
        assert not reader.is_current(token, "b")
        assert reader.recall(token) == "a"


def test_memory_is_bounded() -> None:
    """However many tokens come, only so many are remembered, and all are honoured."""
    tokens = tokens_of(capacity=10)
    writer = tokens_of()
    issued = [writer.issue("a", NOW + second) for second in range(100)]
    for _ in range(2):
        assert {tokens.recall(token) for token in issued} == {"a"}
        assert len(tokens) <= 20


def test_one_in_steady_use_is_kept() -> None:
    """A token that is used stays known while many others come and go."""
    tokens, writer = tokens_of(capacity=4), tokens_of()
    steady = writer.issue("b", NOW)
    for second in range(1, 50):
        assert tokens.recall(steady) == "b"
        assert tokens.recall(writer.issue("a", NOW + second)) == "a"


def test_an_unknown_backend_can_be_bound() -> None:
    """A backend that was removed between the choice and its answer still gets a token, which is then of one gone."""
    tokens = tokens_of()
    assert tokens.recall(tokens.issue("late", NOW)) == GONE


def test_the_ring_hides_its_keys() -> None:
    """Keys do not get into logs by the repr of what holds them."""
    assert "nnn" not in repr(KeyRing([NEW]))


@pytest.mark.parametrize("keys", [[], [b"short"], [NEW, b""]])
def test_poor_keys(keys: list[bytes]) -> None:
    """A key that could be guessed is refused."""
    with pytest.raises(ValueError, match="key"):
        KeyRing(keys)


def test_key_file() -> None:
    """What is written to a key file is read from it again, and people may add comments."""
    keys = (generate_key(lambda size: bytes(range(size))), NEW)
    assert len(keys[0]) == KEY_SIZE
    text = format_key_file(keys)
    assert parse_key_file(text) == keys
    assert parse_key_file("\n# mine\n  " + text.replace("\n", "\r\n")) == keys


@pytest.mark.parametrize("text", ["", "# only words\n", "c2hvcnQ=\n", "secret!\n", "é\n"])
def test_bad_key_files(text: str) -> None:
    """A broken key file is refused, and the mistake does not show what is in it."""
    with pytest.raises(ValueError, match="key") as caught:
        parse_key_file(text)
    assert not text.strip() or text.strip() not in str(caught.value)
