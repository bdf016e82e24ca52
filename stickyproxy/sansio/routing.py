"""Where a request goes to, by its host and path. Floor 2, pure.

A route is a predicate, and the most specific one that holds wins: the host first (exact, then the longest wildcard,
then routes for any host), and among the routes of one host the longest path. A request that no route of its host
matches goes on to the less specific hosts, and at last to the default: routes are alternatives, not virtual servers.

Hosts are compared without port, case and a trailing dot. ``*.example.org`` stands for one or more labels, so
``a.b.example.org`` matches and ``example.org`` does not (as in nginx and Envoy).

A path is a prefix that ends where a segment ends: ``/api`` matches ``/api``, ``/api/x`` and ``/api?x`` but not
``/apix``; ``/v1/`` matches what is below, but not ``/v1``. (Envoy's ``path_separated_prefix`` does the same; nginx's
``location``, HAProxy's ``path_beg`` and Envoy's ``prefix`` compare bytes, so that ``/api`` takes ``/apix``.)

What is compared is the path as a backend may come to read it, as in nginx: ``%XX`` decoded once, ``.`` and ``..``
resolved (RFC 3986 section 5.2.4), repeated slashes merged. So ``/public/%2e%2e/admin`` and ``//admin`` go where
``/admin`` goes. (Envoy does that with ``normalize_path`` and ``merge_slashes``, HAProxy with ``http-request
normalize-uri``.) Only the comparison sees that path: the backend gets the target as it was sent.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Generic, NamedTuple, Protocol, TypeVar
from urllib.parse import unquote_to_bytes

T = TypeVar("T")

_DOT_SEGMENT = re.compile(rb"[/\\]\.\.?(?:[/\\;?#\x00-\x20]|\Z)").search


class RouteLike(Protocol):
    """``config.specs.Route``, or anything that looks like it."""

    @property
    def host(self) -> str | None: ...

    @property
    def path(self) -> str: ...


class _Matcher(NamedTuple, Generic[T]):
    """The routes that may hold for one host, best first, as one pattern: group n leads to the n-th place."""

    match: Callable[[bytes], re.Match[bytes] | None]
    places: tuple[T, ...]

    def find(self, target: bytes, default: T) -> T:
        if 0x25 in target or target.find(b"//") >= 0 or target.find(b"/.") >= 0 or target == b"*":  # quicker than "in"
            target = routed_path(target)
        found = self.match(target)
        return default if found is None else self.places[found.lastindex - 1]  # type: ignore[operator]


class RouteTable(Generic[T]):
    """The routes of one frontend, compiled: each with where it leads to, and ``default`` for what no route matches.

    ``find(authority, target)`` is one of these places. ``authority`` is host and perhaps port, ``target`` the request
    target in origin-form, or ``*`` (which counts as ``/``). A route that cannot be is a ValueError.
    """

    find: Callable[[bytes, bytes], T]

    def __init__(self, routes: Iterable[tuple[RouteLike, T]], default: T) -> None:
        self._default = default
        by_host: dict[bytes, dict[bytes, T]] = {}
        for route, place in routes:
            paths = by_host.setdefault(_host_key(route.host), {})
            prefix = _prefix(route.path)
            if prefix in paths:
                raise ValueError(f"two routes for host {route.host or 'any'} and path {route.path!r}: remove one")
            paths[prefix] = place
        self._by_host = {host: _compile(by_host, host) for host in by_host}
        self._any = any_host = self._by_host.get(b"", _Matcher[T](re.compile(rb"(?!)").match, ()))
        self._remembered = lru_cache(maxsize=1024)(self._matcher)
        if not by_host:
            self.find = lambda authority, target: default
        elif set(by_host) == {b""}:
            self.find = lambda authority, target: any_host.find(target, default)
        else:
            self.find = self._find

    def _find(self, authority: bytes, target: bytes) -> T:
        matcher = self._remembered(authority) if len(authority) < 256 else self._any  # no name is so long (RFC 1035)
        return matcher.find(target, self._default)

    def _matcher(self, authority: bytes) -> _Matcher[T]:
        host = bare_host(authority)
        matcher = None if host.startswith(b".") else self._by_host.get(host)
        dot = host.find(b".", 1)
        while matcher is None and dot > 0:
            matcher = self._by_host.get(host[dot:])
            dot = host.find(b".", dot + 1)
        return matcher or self._any


def bare_host(authority: bytes) -> bytes:
    """The host of ``authority``: without port and trailing dot, in lower case, an IPv6 literal in its shortest form."""
    if authority.startswith(b"["):
        literal, _, _ = authority[1:].partition(b"]")
        try:
            return b"[%b]" % ipaddress.IPv6Address(literal.decode("ascii")).compressed.encode()
        except ValueError:
            return authority.lower()
    host, _, _ = authority.partition(b":")
    if host.endswith(b"."):
        host = host[:-1]
    return host.lower()


def routed_path(target: bytes) -> bytes:
    """The path of ``target`` as routes see it: decoded once, without dot segments and repeated slashes.

    Only a question mark stays ``%3F``, for it ends the path of a target that needs none of this.
    """
    path, _, _ = target.partition(b"?")
    if b"%" in path:
        path = unquote_to_bytes(path).replace(b"?", b"%3F")
    if b"/." in path or b"//" in path:
        path = _resolved(path)
    return path if path.startswith(b"/") else b"/"


def has_dot_segments(target: bytes) -> bool:
    """Whether a backend may find a ``.`` or ``..`` in the path of ``target``, in whatever way it reads that.

    Decoded twice, a backslash for a slash, parameters (``..;x``) dropped. Browsers resolve such segments themselves.
    """
    path, _, _ = target.partition(b"?")
    if 0x25 in path:
        path = unquote_to_bytes(unquote_to_bytes(path))
    return 0x2E in path and _DOT_SEGMENT(path) is not None


def _resolved(path: bytes) -> bytes:
    kept: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    end = b"/" if kept and segments[-1] in (b"", b".", b"..") else b""
    return b"/" + b"/".join(kept) + end


def _host_key(host: str | None) -> bytes:
    """The key of a route's host: the host, the ending (with its dot) of a wildcard, nothing for any host."""
    if host is None:
        return b""
    name = host[1:] if host.startswith("*.") else host
    if name is host and ":" in name:
        try:
            literal = name[1:-1] if name.startswith("[") and name.endswith("]") else name
            return b"[%b]" % ipaddress.IPv6Address(literal).compressed.encode()
        except ValueError:
            raise ValueError(f"host {host!r}: routes have no port; write the name alone") from None
    if not re.fullmatch(r"\.?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?", name) or (name is host and name.startswith(".")):
        raise ValueError(f"host {host!r}: expected a name (international ones as xn--…) or '*.' and a name")
    return name.rstrip(".").lower().encode()


def _prefix(path: str) -> bytes:
    if not path.startswith("/") or "?" in path or "#" in path:
        raise ValueError(f"path {path!r}: expected a prefix that begins with '/', without query and fragment")
    return routed_path(path.encode())


def _compile(by_host: dict[bytes, dict[bytes, T]], host: bytes) -> _Matcher[T]:
    """All routes that may hold for ``host``, its own and those of less specific hosts, best first."""
    less = [other for other in by_host if other.startswith(b".") and other != host and host.endswith(other)]
    order = [host, *sorted(less, key=len, reverse=True), *([b""] if host and b"" in by_host else [])]
    routes = [route for each in order for route in sorted(by_host[each].items(), key=lambda item: -len(item[0]))]
    ends = [b"" if prefix.endswith(b"/") else rb"(?:[/?]|\Z)" for prefix, _ in routes]
    pattern = b"|".join(b"(" + re.escape(prefix) + b")" + end for (prefix, _), end in zip(routes, ends, strict=True))
    return _Matcher(re.compile(pattern, re.DOTALL).match, tuple(place for _, place in routes))
