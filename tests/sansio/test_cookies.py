"""Our cookie among all others: found, hidden from the backend, set."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.sansio.cookies import CookieTemplate, find, strip

#: Bytes as a Cookie field may hold them, with more than a fair share of what matters here.
cookie_fields = st.lists(
    st.sampled_from([b"SRV=", b"SRV", b"=", b";", b"; ", b" ", b"\t", b"a=1", b"XSRV=", b"tok", b"\xff", b'"'])
    | st.binary(max_size=8)
).map(b"".join)


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ([b"SRV=x"], b"x"),
        ([b"a=1; SRV=x; b=2"], b"x"),
        ([b"a=1;SRV=x"], b"x"),
        ([b"a=1;\tSRV=x;b"], b"x"),
        ([b"a=1", b"SRV=x"], b"x"),
        ([b"SRV="], b""),
        ([b"SRV=a=b"], b"a=b"),
        ([b"XSRV=1; SRV=x"], b"x"),
        ([b"SRV=x; SRV=x"], b"x"),
        ([b"SRV=x", b"a=1; SRV=x"], b"x"),
        ([b"SRV=x; SRV=y"], None),
        ([b"SRV=x", b"SRV=y"], None),
        ([b"XSRV=x"], None),
        ([b"srv=x"], None),
        ([b"a=SRV=x"], None),
        ([b"SRV"], None),
        ([b""], None),
        ([], None),
    ],
)
def test_find(fields: list[bytes], value: bytes | None) -> None:
    """My cookie is found wherever it stands, and is nobody's when it is there with two values."""
    assert find(fields, b"SRV=") == value


@pytest.mark.parametrize(
    ("value", "rest"),
    [
        (b"SRV=x", b""),
        (b"SRV=x;", b""),
        (b"SRV=x; a=1", b"a=1"),
        (b"a=1; SRV=x", b"a=1"),
        (b"a=1; SRV=x; b=2", b"a=1; b=2"),
        (b"a=1;SRV=x;b=2", b"a=1;b=2"),
        (b"SRV=x; a=1; SRV=y", b"a=1"),
        (b"SRV=x; SRV=y", b""),
        (b'a=1;; b=\xff"; SRV=x', b'a=1;; b=\xff"'),
        (b"XSRV=1; SRVX=2; a=SRV=3", b"XSRV=1; SRVX=2; a=SRV=3"),
        (b"XSRV=1; SRV=x", b"XSRV=1"),
        (b"a=1", b"a=1"),
    ],
)
def test_strip(value: bytes, rest: bytes) -> None:
    """The application sees its own cookies as they were sent, and never the proxy's."""
    assert strip(value, b"SRV=") == rest


@given(cookie_fields)
def test_nothing_of_ours_is_left(value: bytes) -> None:
    """Whatever a client sends: after hiding nothing is found, and every other cookie is as it was, in order."""
    rest = strip(value, b"SRV=")
    others = [pair for pair in value.split(b";") if not pair.lstrip(b" \t").startswith(b"SRV=")]
    assert find([rest], b"SRV=") is None
    assert [pair.strip(b" \t") for pair in rest.split(b";")] in ([pair.strip(b" \t") for pair in others], [b""])
    assert strip(rest, b"SRV=") == rest


@given(st.lists(cookie_fields, max_size=3))
def test_the_quick_way_finds_the_same(fields: list[bytes]) -> None:
    """A cookie means the same alone in its field and beside a field that has none of it."""
    assert find(fields, b"SRV=") == find([*fields, b"", b""], b"SRV=")


def test_default_cookie() -> None:
    """By default the cookie is of the browser session, for the whole host, not for scripts, and Secure on TLS."""
    template = CookieTemplate("SRV")
    assert template.set(b"x", secure=False) == b"SRV=x; Path=/; HttpOnly; SameSite=Lax"
    assert template.set(b"x", secure=True) == b"SRV=x; Path=/; Secure; HttpOnly; SameSite=Lax"


def test_all_attributes() -> None:
    """Every attribute that I configure reaches the browser."""
    template = CookieTemplate(
        "SRV", "/app", ".example.org", 3600.0, secure=True, http_only=False, same_site="none", partitioned=True
    )
    assert template.set(b"x", secure=False) == (
        b"SRV=x; Path=/app; Domain=example.org; Max-Age=3600; Secure; SameSite=None; Partitioned"
    )


def test_never_secure() -> None:
    """secure = false means it, even on TLS."""
    assert b"Secure" not in CookieTemplate("SRV", secure=False).set(b"x", secure=True)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"name": ""}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "a;b"}, "name"),
        ({"name": "a=b"}, "name"),
        ({"name": "a\r\nX: y"}, "name"),
        ({"name": "é"}, "name"),
        ({"path": "app"}, "path"),
        ({"path": "/;x"}, "path"),
        ({"path": "/\r\nX: y"}, "path"),
        ({"path": "/é"}, "path"),
        ({"domain": "a b"}, "domain"),
        ({"domain": "example.org; Secure"}, "domain"),
        ({"domain": ""}, "domain"),
        ({"max_age": 0.0}, "max_age"),
        ({"same_site": "loose"}, "same_site"),
        ({"secure": "yes"}, "secure"),
        ({"same_site": "none"}, "secure = true"),
        ({"partitioned": True}, "secure = true"),
        ({"name": "__Secure-SRV"}, "secure = true"),
        ({"name": "__Host-SRV"}, "secure = true"),
        ({"name": "__Host-SRV", "secure": True, "path": "/app"}, 'path = "/"'),
        ({"name": "__host-SRV", "secure": True, "domain": "example.org"}, "without domain"),
    ],
)
def test_what_browsers_refuse_is_refused_at_once(options: dict[str, Any], complaint: str) -> None:
    """A cookie that no browser would take, or that would break the header, does not get into production."""
    with pytest.raises(ValueError, match=complaint):
        CookieTemplate(**{"name": "SRV", **options})


def test_prefixed_names() -> None:
    """The name prefixes that browsers enforce work when their rules are kept."""
    assert CookieTemplate("__Host-SRV", secure=True).set(b"x", secure=False).startswith(b"__Host-SRV=x; Path=/; Secure")
