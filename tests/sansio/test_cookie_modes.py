"""Affinity by the application's own cookie: marked, rewritten, naming a backend, or learned."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.conformance import check_affinity, make_answer, make_arrival
from stickyproxy.interfaces import IAffinity, IAnsweringAffinity
from stickyproxy.model import GONE, Arrival, ResponseHead
from stickyproxy.sansio.affinity import (
    ChainAffinity,
    CookieAffinity,
    LearnedAffinity,
    NamedAffinity,
    PrefixAffinity,
    RewriteAffinity,
)
from stickyproxy.sansio.affinity.manners import mirroring, not_cached, post_only, preserving
from stickyproxy.sansio.cookies import CookieTemplate
from stickyproxy.sansio.keys import find_key
from stickyproxy.sansio.sealed import PLACES, SealedTokens
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.sansio.tokens import KeyRing, Tokens

NOW = 1_700_000_000.0
KEYS = KeyRing([b"k" * 32])


def clock() -> float:
    return NOW


def signed() -> Tokens:
    return Tokens(KEYS, "app", b"ID")


def sealed() -> SealedTokens:
    nonces = Random(1).randbytes
    return SealedTokens(
        KEYS, "app", b"ID", clock, idle=60.0, lifetime=600.0, place_of=PLACES["address"], random_bytes=nonces
    )


def by_prefix() -> PrefixAffinity:
    return PrefixAffinity("ID", signed(), clock)


def by_sealed_prefix() -> PrefixAffinity:
    return PrefixAffinity("ID", sealed(), clock)


def by_rewriting() -> RewriteAffinity:
    return RewriteAffinity("ID", signed(), clock)


def by_passive() -> NamedAffinity:
    return NamedAffinity(find_key("cookie:ID"))


def by_learned() -> LearnedAffinity:
    return LearnedAffinity("ID", "learned", SessionTable(clock), clock)


def by_sealed() -> CookieAffinity:
    manners = [mirroring(b"ID", b"APP", True), preserving(b"ID"), not_cached]
    return CookieAffinity(CookieTemplate("ID"), sealed(), clock, manners=manners, indirect=False)


def by_several() -> ChainAffinity:
    return ChainAffinity([by_sealed(), by_learned()])


def application(number: int, backend_id: str | None) -> ResponseHead:
    """An application that gives everybody a cookie of his own."""
    return make_answer(b"ID=%d; Path=/; HttpOnly" % number if backend_id else b"ID=; Path=/; Max-Age=0")


def naming(number: int, backend_id: str | None) -> ResponseHead:
    """An application that names itself."""
    return make_answer(b"ID=%b" % backend_id.encode() if backend_id else b"ID=; Max-Age=0")


def started(make: Callable[[], IAffinity]) -> IAffinity:
    affinity = make()
    affinity.members("abc")
    return affinity


def answered(affinity: IAffinity, answer: bytes, backend_id: str, arrival: Arrival | None = None) -> list[bytes]:
    """The Set-Cookie fields that the client sees of ``answer``."""
    assert IAnsweringAffinity.providedBy(affinity)
    head = affinity.answered(arrival or make_arrival(), backend_id, make_answer(answer))
    return list(head.values(b"set-cookie"))


@pytest.mark.parametrize(
    ("make", "respond"),
    [
        (by_prefix, application),
        (by_sealed_prefix, application),
        (by_rewriting, application),
        (by_passive, naming),
        (by_learned, application),
        (by_sealed, None),
        (by_several, application),
    ],
)
def test_contract(make: Callable[[], IAffinity], respond: Callable[[int, str | None], ResponseHead] | None) -> None:
    """Every mode keeps the contract of affinities, with an application that does its part."""
    check_affinity(make, respond=respond)


@pytest.mark.parametrize("make", [by_prefix, by_sealed_prefix])
def test_prefix(make: Callable[[], PrefixAffinity]) -> None:
    """The client's cookie has a token before its value, and the application sees its own cookie again."""
    affinity = started(make)
    (set_cookie,) = answered(affinity, b"ID=x~y; Path=/app; SameSite=Lax", "b")
    assert set_cookie.endswith(b"~x~y; Path=/app; SameSite=Lax")
    cookie = set_cookie.partition(b";")[0]
    assert affinity.recall(make_arrival(300, [b"a=b; " + cookie])) == (None if make is by_sealed_prefix else "b")
    assert affinity.recall(make_arrival(0, [b"a=b; " + cookie])) == "b"
    assert affinity.hide(b"a=b; " + cookie + b"; MYID=c~d") == b"a=b; ID=x~y; MYID=c~d"


def test_prefix_leaves_the_rest() -> None:
    """Other cookies, ended ones, and values that have no token before them are none of its business."""
    affinity = started(by_prefix)
    for value in (b"ID=; Max-Age=0", b"MYID=1", b"other=ID=1", b"ID"):
        assert answered(affinity, value, "b") == [value]
    for value in (b"x=y", b"ID=plain", b"ID=some~thing", b"MYID=a~b", b"; ;ID", b""):
        assert affinity.hide(value) == value


def test_prefix_of_former_times() -> None:
    """A token of a former key is taken off as well: the application's session outlives the keys."""
    (set_cookie,) = answered(started(by_prefix), b"ID=1", "a")
    now = PrefixAffinity("ID", Tokens(KeyRing([b"n" * 32]), "app", b"ID"), clock)
    now.members("abc")
    assert now.recall(make_arrival(0, [set_cookie])) is None
    assert now.hide(set_cookie) == b"ID=1"


def test_prefix_of_a_gone_backend() -> None:
    """A session of a removed backend is known to be one, and whoever answers with the cookie has it from then on."""
    affinity = started(by_prefix)
    (cookie,) = answered(affinity, b"ID=1", "b")
    affinity.members("ac")
    assert affinity.recall(make_arrival(0, [cookie])) == GONE
    assert affinity.recall(make_arrival(0, answered(affinity, b"ID=1", "a"))) == "a"


def test_rewrite() -> None:
    """The application says when and for how long; what it says as the value is lost."""
    affinity = started(by_rewriting)
    (set_cookie,) = answered(affinity, b"ID=secret-of-b; Max-Age=60; Secure", "b")
    assert set_cookie.endswith(b"; Max-Age=60; Secure") and b"secret" not in set_cookie
    assert affinity.recall(make_arrival(0, [set_cookie.partition(b";")[0]])) == "b"
    assert answered(affinity, b"ID=; Max-Age=0", "b") == [b"ID=; Max-Age=0"]


def test_passive() -> None:
    """The cookie names a backend of the cluster, or nobody; two of them that differ name nobody."""
    affinity = started(by_passive)
    for cookies, expected in (
        ([b"ID=b"], "b"),
        ([b"x=y; ID=c"], "c"),
        ([b"ID=d"], None),
        ([b"ID=a; ID=b"], None),
        ([b"ID=\xff"], None),
        ([b"ID="], None),
    ):
        assert affinity.recall(make_arrival(0, cookies)) == expected


def test_learned() -> None:
    """What an answer sets is known when it comes back; another backend that sets it anew has the session then."""
    affinity = started(by_learned)
    assert affinity.recall(make_arrival(0, [b"ID=1"])) is None
    assert answered(affinity, b"ID=1; Path=/", "b") == [b"ID=1; Path=/"]
    assert affinity.recall(make_arrival(0, [b"ID=1"])) == "b"
    answered(affinity, b"ID=1", "c")
    assert affinity.recall(make_arrival(0, [b"ID=1"])) == "c"
    affinity.bind(make_arrival(0, [b"ID=1"]), "a")
    assert affinity.recall(make_arrival(0, [b"ID=1"])) == "a"


@pytest.mark.parametrize(
    "end",
    [b"ID=", b"ID=x; Max-Age=0", b"ID=x; max-age=-1", b"ID=deleted; Expires=Thu, 01-Jan-1970 00:00:01 GMT"],
)
def test_learned_and_ended(end: bytes) -> None:
    """When the application ends its cookie, however it says so, the session is forgotten."""
    affinity = started(by_learned)
    answered(affinity, b"ID=1", "b")
    answered(affinity, end, "b", make_arrival(0, [b"ID=1"]))
    assert affinity.recall(make_arrival(0, [b"ID=1"])) is None
    assert len(affinity.sessions) == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "on", [b"Expires=Fri, 31 Dec 2100 23:59:59 GMT", b"Max-Age=1; Expires=Thu, 1 Jan 1970 00:00:00 GMT"]
)
def test_learned_and_not_ended(on: bytes) -> None:
    """A cookie that has time left is one to learn; Max-Age goes before Expires."""
    affinity = started(by_learned)
    answered(affinity, b"ID=1; " + on, "b")
    assert affinity.recall(make_arrival(0, [b"ID=1"])) == "b"


def test_learned_field() -> None:
    """A field of an answer that the client sends back is learned in the same way."""
    affinity = LearnedAffinity("header:X-Session", "learned", SessionTable(clock), clock)
    affinity.members("abc")
    head = make_answer()._replace(plain=[b"x-session", b": ", b"42 ", b"\r\n"])
    affinity.answered(make_arrival(), "b", head)
    arrival = make_arrival()
    assert arrival.head is not None
    back = arrival._replace(head=arrival.head._replace(plain=[b"X-Session", b": ", b"42", b"\r\n"]))
    assert affinity.recall(back) == "b"


def test_mirror_by_itself() -> None:
    """A mirrored cookie that the application ends is ended as well; what it does not set means nothing."""
    mirror = mirroring(b"ID", b"APP", http_only=True)
    head = make_answer(b"APP=; Path=/x; Max-Age=0; HttpOnly; Priority=High")
    assert mirror(make_arrival(), head, b"ID=token; Path=/")[1] == b"ID=token; Path=/x; Max-Age=0; HttpOnly"
    assert mirror(make_arrival(), make_answer(), b"ID=token; Path=/")[1] == b"ID=token; Path=/"
    assert mirror(make_arrival(), head, None)[1] is None
    assert mirror(make_arrival(), head, b"ID=; Max-Age=0")[1] == b"ID=; Max-Age=0"


def test_post_only_is_for_new_cookies() -> None:
    """Nothing is set where the method is another than POST."""
    assert post_only(make_arrival(), make_answer(), b"ID=1")[1] is None


@given(
    cookies=st.lists(st.binary(max_size=80) | st.binary(max_size=90).map(lambda value: b"ID=" + value), max_size=3),
    answers=st.lists(st.binary(max_size=60) | st.binary(max_size=60).map(lambda value: b"ID=" + value), max_size=3),
)
def test_no_bytes(cookies: list[bytes], answers: list[bytes]) -> None:
    """No bytes of a client or a backend raise, bind anybody elsewhere, or are kept without bound."""
    sessions = SessionTable(clock, size=2)
    learned = LearnedAffinity("ID", "learned", sessions, clock)
    chain = ChainAffinity([by_several(), by_prefix(), by_rewriting(), learned])
    for affinity in (by_prefix(), by_sealed_prefix(), by_rewriting(), by_passive(), learned, by_sealed(), chain):
        affinity.members("abc")
        arrival, head = make_arrival(0, cookies), make_answer(*answers)
        assert affinity.recall(arrival) in ("a", "b", "c", None, GONE)
        if IAnsweringAffinity.providedBy(affinity):
            head = affinity.answered(arrival, "a", head)
        affinity.bind(arrival, "a")
        affinity.forget(arrival)
        if isinstance(affinity, PrefixAffinity | ChainAffinity | CookieAffinity):
            assert len(affinity.hide(b";".join(cookies))) <= len(b";".join(cookies))
        if isinstance(affinity, CookieAffinity | ChainAffinity):
            affinity.setting(arrival, head, None)
    assert len(sessions) <= 2
