"""Sessions of another proxy: recalled by its cookie, bound by ours, and the other cookie ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.config.accepted import AcceptedCookie, CaddyCookie, EnvoyCookie, HAProxyCookie, StickyModuleCookie
from stickyproxy.conformance import check_affinity, make_arrival
from stickyproxy.model import Backend, ResponseHead
from stickyproxy.plugins.migrating import migrating
from stickyproxy.sansio.affinity import ChainAffinity, CookieAffinity
from stickyproxy.sansio.cookies import CookieTemplate
from stickyproxy.sansio.tokens import KeyRing, Tokens

BACKENDS = [
    Backend("a", "tcp:127.0.0.1:9301"),
    Backend("b", "tcp:host=127.0.0.1:port=9302"),
    Backend("c", "unix:/run/c"),
]
HEAD = ResponseHead(200, b"OK", 1, [b"Server", b": ", b"app", b"\r\n"], {}, 0, True)
INDEX = StickyModuleCookie(index=True)


def made(*accepted: AcceptedCookie, name: str = "SRV", **options: str) -> ChainAffinity:
    template = CookieTemplate(name, **options)  # type: ignore[arg-type]
    own = CookieAffinity(template, Tokens(KeyRing([b"k" * 32]), "app", name.encode()), lambda: 1_700_000_000.0)
    affinity = migrating(own, template, accepted, BACKENDS)
    affinity.members("abc")
    assert isinstance(affinity, ChainAffinity)
    return affinity


def test_conforms() -> None:
    """Our own cookie works as if no other were accepted."""
    check_affinity(lambda: made(HAProxyCookie(), EnvoyCookie(name="sess")))


def test_one_cookie_for_another() -> None:
    """Who comes with the other's cookie keeps the backend, gets ours with the answer, and then loses the other."""
    affinity = made(HAProxyCookie(name="SERVERID"))
    first = make_arrival(1, [b"x=1; SERVERID=b|abcde"])
    assert affinity.recall(first) == "b"
    assert affinity.answered(first, "b", HEAD) is HEAD  # he does not show ours yet: he may have refused it
    ours = affinity.bind(first, "b")
    assert ours is not None
    second = make_arrival(1, [b"x=1; SERVERID=b|abcde; " + ours.partition(b";")[0]])
    assert affinity.recall(second) == "b"
    assert affinity.bind(second, "b") is None
    head = affinity.answered(second, "b", HEAD)
    assert head.values(b"set-cookie") == [b"SERVERID=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0"]
    assert head.plain[:4] == HEAD.plain
    third = make_arrival(1, [b"x=1; " + ours.partition(b";")[0]])
    assert affinity.recall(third) == "b"
    assert affinity.answered(third, "b", HEAD) is HEAD
    assert affinity.answered(make_arrival(2), "b", HEAD) is HEAD


def test_ours_wins() -> None:
    """A client that shows our cookie is where that says, whatever else it shows; a forged one counts nothing."""
    affinity = made(HAProxyCookie(name="SERVERID"))
    ours = affinity.bind(make_arrival(1), "a")
    assert ours is not None
    token = ours.partition(b";")[0]
    assert affinity.recall(make_arrival(1, [b"SERVERID=b; " + token])) == "a"
    assert affinity.recall(make_arrival(1, [b"SERVERID=b; " + token[:-1]])) == "b"


def test_under_the_same_name() -> None:
    """Ours takes the place of the other's cookie of the same name at once, and the backend sees neither."""
    affinity = made(HAProxyCookie())
    first = make_arrival(1, [b"SRV=b"])
    assert affinity.recall(first) == "b"
    ours = affinity.bind(first, "b")
    assert ours is not None and ours.startswith(b"SRV=")
    assert affinity.hide(b"SRV=b; x=1") == b"x=1"
    second = make_arrival(1, [ours.partition(b";")[0]])
    assert affinity.recall(second) == "b"
    assert affinity.answered(second, "b", HEAD) is HEAD


@pytest.mark.parametrize(
    ("accepted", "value", "expected"),
    [
        ([HAProxyCookie(name="S")], b"S=gone", None),
        ([HAProxyCookie(name="S")], b"S=a; S=b", None),  # nobody can say which one is meant
        ([HAProxyCookie(name="S")], b"S=a; S=a", "a"),
        ([HAProxyCookie(name="S"), INDEX], b"S=x; route=1", "b"),
        ([HAProxyCookie(name="S"), INDEX], b"S=a; route=1", "a"),
        ([INDEX, HAProxyCookie(name="S")], b"S=a; route=1", "b"),
        ([HAProxyCookie(name="S")], b"XS=a", None),
        ([CaddyCookie()], b"lb=4162fc5ba4b706161e5195d8c5cbf8a0211f7be125741fb23411f1eb4e5b51d1", "b"),
        ([EnvoyCookie(name="e")], b'e="Cg4xMjcuMC4wLjE6OTMwMhCnuJDYBg=="', "b"),
    ],
)
def test_who_is_meant(accepted: list[AcceptedCookie], value: bytes, expected: str | None) -> None:
    """The first of the proxies whose cookie names a backend of the cluster is right."""
    assert made(*accepted).recall(make_arrival(1, [value])) == expected


def test_removed_backend() -> None:
    """A cookie of a backend that is not in the cluster any more binds nobody, and stays with the client."""
    affinity = made(HAProxyCookie(name="S"))
    affinity.members("ac")
    assert affinity.recall(make_arrival(1, [b"S=b"])) is None


def test_the_application_keeps_its_part() -> None:
    """A cookie to which the sticky module added its route is the application's: it is not ended."""
    affinity = made(StickyModuleCookie(name="JSESSIONID", index=True, delimiter="."))
    ours = affinity.bind(make_arrival(1), "b")
    assert ours is not None
    arrival = make_arrival(1, [b"JSESSIONID=1.4711; " + ours.partition(b";")[0]])
    assert affinity.recall(make_arrival(1, [b"JSESSIONID=1.4711"])) == "b"
    assert affinity.answered(arrival, "b", HEAD) is HEAD


def test_two_under_one_name() -> None:
    """A cookie called as ours, but for another path or domain, is refused: browsers would keep both."""
    with pytest.raises(ValueError, match='"haproxy" is called SRV, as ours is, but has another path or domain'):
        made(HAProxyCookie(domain="example.org"))
    with pytest.raises(ValueError, match="give ours another name"):
        made(HAProxyCookie(), path="/app")
    made(HAProxyCookie(name="S"), path="/app")
    made(HAProxyCookie(path="/app"), path="/app")


@given(st.lists(st.binary(max_size=60), max_size=3), st.sampled_from([b"", b"SRV=", b"route=", b"lb=", b"e="]))
def test_any_bytes(values: list[bytes], mark: bytes) -> None:
    """No Cookie field raises, or binds to a backend outside the cluster."""
    arrival = make_arrival(1, [mark + value for value in values])
    assert EVERY.recall(arrival) in {"a", "b", "c", None}
    EVERY.answered(arrival, "a", HEAD)


EVERY = made(HAProxyCookie(dynamic_key="k"), INDEX, CaddyCookie(), EnvoyCookie(name="e"))
