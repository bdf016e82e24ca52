"""Which cluster gets a request, by host and path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.config.specs import Route
from stickyproxy.sansio.routing import RouteTable, bare_host, routed_path


def table(routes: list[Route], default: str | None) -> RouteTable[str | None]:
    """Routes that lead to the names of their clusters."""
    return RouteTable([(route, route.cluster) for route in routes], default)


TABLE = table(
    [
        Route("api", "api.example.org", "/v1/"),
        Route("api-root", "api.example.org"),
        Route("wild", "*.example.org"),
        Route("wild-deep", "*.eu.example.org", "/shop"),
        Route("static", None, "/static"),
        Route("static-js", None, "/static/js"),
        Route("six", "[2001:DB8::0:1]"),
        Route("partial", "partial.test", "/only"),
        Route("admin", None, "/admin"),
        Route("public", None, "/public/"),
    ],
    "app",
)


@pytest.mark.parametrize(
    ("authority", "target", "cluster"),
    [
        (b"api.example.org", b"/v1/users", "api"),
        (b"api.example.org:8443", b"/v1/users?a=/v2", "api"),
        (b"API.Example.ORG", b"/v1/", "api"),
        (b"api.example.org.", b"/v1/", "api"),
        (b"api.example.org.:80", b"/v1/", "api"),
        (b"api.example.org", b"/v1", "api-root"),
        (b"api.example.org", b"/v2", "api-root"),
        (b"api.example.org", b"/static/x", "api-root"),
        (b"www.example.org", b"/", "wild"),
        (b"a.b.example.org", b"/", "wild"),
        (b"de.eu.example.org", b"/shop/1", "wild-deep"),
        (b"de.eu.example.org", b"/other", "wild"),
        (b"example.org", b"/", "app"),
        (b"xexample.org", b"/", "app"),
        (b".example.org", b"/", "app"),
        (b"[2001:db8::1]", b"/", "six"),
        (b"[2001:db8:0:0:0:0:0:1]:80", b"/", "six"),
        (b"[2001:db8::2]", b"/", "app"),
        (b"[nonsense", b"/", "app"),
        (b"", b"/", "app"),
        (b"", b"/static", "static"),
        (b"x." * 5000 + b"example.org", b"/", "app"),
        (b"partial.test", b"/only", "partial"),
        (b"partial.test", b"/static", "static"),
        (b"partial.test", b"/else", "app"),
        (b"h", b"/static", "static"),
        (b"h", b"/static/", "static"),
        (b"h", b"/static?x", "static"),
        (b"h", b"/static/css", "static"),
        (b"h", b"/static/js/x", "static-js"),
        (b"h", b"/static/jsx", "static"),
        (b"h", b"/statics", "app"),
        (b"h", b"/Static", "app"),
        (b"h", b"/x/static", "app"),
        (b"h", b"/x?/static", "app"),
        (b"h", b"*", "app"),
        (b"api.example.org", b"*", "api-root"),
        (b"h", b"/static\n", "app"),
    ],
)
def test_routes(authority: bytes, target: bytes, cluster: str) -> None:
    """The most specific host wins, then the longest path; what matches nothing goes to the default."""
    assert TABLE.find(authority, target) == cluster


@pytest.mark.parametrize(
    ("target", "cluster"),
    [
        (b"/public/../admin", "admin"),
        (b"/public/%2e%2e/admin", "admin"),
        (b"/public/%2E./admin/x", "admin"),
        (b"/public/..%2fadmin", "admin"),
        (b"/public/x/../../admin", "admin"),
        (b"/public/./x", "public"),
        (b"/./public/x", "public"),
        (b"//admin", "admin"),
        (b"/public//..//admin", "admin"),
        (b"/%61dmin", "admin"),
        (b"/admin/../public/x", "public"),
        (b"/admin/..", "app"),
        (b"/../../admin", "admin"),
        (b"/admin%3fx", "app"),
        (b"/admin%253fx", "app"),
        (b"/%2561dmin", "app"),
        (b"/public/%", "public"),
        (b"/public/..admin", "public"),
        (b"/x?/../admin", "app"),
        (b"/admin?/../public/", "admin"),
        (b"/x?next=http://h/.well-known%2f", "app"),
    ],
)
def test_disguised_paths(target: bytes, cluster: str) -> None:
    """A path in disguise goes where the backend that reads it would expect it, not around the route meant for it."""
    assert TABLE.find(b"h", target) == cluster


def test_no_routes() -> None:
    """Without routes everything goes to the one cluster, and without that nowhere."""
    assert table([], "app").find(b"h", b"/x") == "app"
    assert table([], None).find(b"h", b"/x") is None


def test_no_default() -> None:
    """Without a default, what no route matches goes nowhere, by path and by host."""
    assert table([Route("a", None, "/a")], None).find(b"h", b"/b") is None
    assert table([Route("a", "a.test")], None).find(b"b.test", b"/") is None
    assert table([Route("a", "a.test")], None).find(b"a.test", b"/") == "a"


def test_the_order_means_nothing() -> None:
    """I may write my routes in any order."""
    routes = [Route("a", None, "/a"), Route("ab", None, "/a/b"), Route("h", "h.test"), Route("w", "*.test", "/a/b/c")]
    for order in (routes, routes[::-1]):
        it = table(order, None)
        assert [it.find(b"x", b"/a/b/c"), it.find(b"x", b"/a")] == ["ab", "a"]
        assert [it.find(b"h.test", b"/a/b/c"), it.find(b"x.test", b"/a/b/c")] == ["h", "w"]


@pytest.mark.parametrize(
    "route",
    [
        Route("a", "h.test:80"),
        Route("a", "*"),
        Route("a", "*."),
        Route("a", "a.*.test"),
        Route("a", ".test"),
        Route("a", ""),
        Route("a", "bücher.test"),
        Route("a", "[::1"),
        Route("a", "[nonsense:]"),
        Route("a", None, "x"),
        Route("a", None, "/x?y"),
    ],
)
def test_impossible_routes(route: Route) -> None:
    """A route that could never match is refused, with what is wrong."""
    with pytest.raises(ValueError, match=r"expected|port"):
        table([route], "app")


def test_twice() -> None:
    """Two routes for the same host and path are a mistake."""
    with pytest.raises(ValueError, match=r"two routes for host A\.test\. and path '/y"):
        table([Route("a", "a.test", "/x"), Route("b", "A.test.", "/y/../x")], "app")


@given(st.binary(max_size=60), st.binary(max_size=60).map(lambda rest: b"/" + rest))
def test_no_bytes_raise(authority: bytes, target: bytes) -> None:
    """Whatever is sent as Host and target, an answer is found."""
    assert TABLE.find(authority, target)
    assert bare_host(bare_host(authority)) is not None
    assert routed_path(target).startswith(b"/")


segments = st.lists(st.sampled_from(["a", "static", "js", "..", ".", "", "%2e", "%2E%2e", "%61", "%2f"]), max_size=6)


@given(segments)
def test_a_path_is_routed_like_its_plain_form(parts: list[str]) -> None:
    """A path and what it comes to when its dots, slashes and escapes are resolved go to the same cluster."""
    target = ("/" + "/".join(parts)).encode()
    assert TABLE.find(b"h", target) == TABLE.find(b"h", routed_path(target))
    assert not {b"..", b".", b""} & set(routed_path(target)[1:].split(b"/")[:-1])
