"""The calls of the admin API as values: what each path and method does, takes and gives. Floor 5.

The same values answer requests (``control.web``) and describe the API (``control.openapi``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import attrs

from stickyproxy.errors import StickyproxyError

#: A JSON schema (2020-12).
Schema = Mapping[str, Any]


class Problem(StickyproxyError):
    """A request that is not answered as it was meant: RFC 9457. ``more`` are members beside ``detail``."""

    def __init__(
        self, status: int, detail: str, *, fields: Iterable[tuple[str, str]] = (), more: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.fields = tuple(fields)
        self.more = dict(more or {})


class Call(NamedTuple):
    """A request that has been judged: what a route's function gets to see."""

    names: dict[str, str]  #: the parts of the path, by name
    query: dict[str, str]
    body: Any  #: the JSON value, or text where the route takes TOML; None: there is none
    by: str  #: who asks, for the log: ``"alice at 127.0.0.1"``
    accept: str = ""  #: the value of the Accept field


class Content(NamedTuple):
    """An answer that is no JSON value."""

    type: str
    data: bytes
    fields: tuple[tuple[str, str], ...] = ()


#: What answers a call: a JSON-able value or ``Content``. It may raise ``Problem`` and ``Refusal``.
Answer = Callable[[Call], Awaitable[Any]]


@attrs.frozen
class Parameter:
    """A parameter of the query."""

    text: str
    schema: Schema = attrs.field(factory=lambda: {"type": "string"})
    longest: int = 1024


@attrs.frozen
class Route:
    """One method of one path, as ``/api/clusters/{cluster}``. What ``changes`` something needs a token."""

    method: str
    path: str
    answer: Answer
    text: str  #: what it does, in a sentence
    gives: Schema = attrs.field(factory=lambda: {"type": "object"})
    takes: Schema | None = None  #: the body: a JSON object, or ``TOML``
    query: Mapping[str, Parameter] = attrs.field(factory=dict)
    changes: bool = False
    free: bool = False  #: without a token from everywhere: there is nothing in it
    type: str = "application/json"
    problems: Mapping[int, str] = attrs.field(factory=dict)  #: further statuses, and why

    @property
    def parts(self) -> list[str]:
        return self.path.split("/")[1:]


#: ``takes`` of a route whose body is a configuration.
TOML: Schema = {"type": "string"}


class RouteTable:
    """Finds the route of a request. Names in a path are percent-decoded once."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)

    def find(self, method: str, path: bytes) -> tuple[Route, dict[str, str]]:
        """The route, and the parts of the path by name. Raises ``Problem``: 404, or 405 with ``Allow``."""
        found = self._of(path)
        wanted = "GET" if method == "HEAD" else method
        if wanted not in found:
            raise self._other(found, 405)
        return found[wanted]

    def options(self, path: bytes) -> Problem:
        """The answer to ``OPTIONS``; likewise."""
        return self._other(self._of(path), 204)

    def _of(self, path: bytes) -> dict[str, tuple[Route, dict[str, str]]]:
        parts = _decoded(path)
        matches = ((route, _names(route.parts, parts)) for route in self.routes)
        found = {route.method: (route, names) for route, names in matches if names is not None}
        if not found:
            raise Problem(404, "there is nothing under this path; GET /api/openapi.json tells what there is")
        return found

    def _other(self, found: Collection[str], status: int) -> Problem:
        allowed = ", ".join(sorted({*found, "OPTIONS", *(["HEAD"] if "GET" in found else [])}))
        return Problem(status, f"this path knows {allowed}", fields=[("Allow", allowed)])


def _decoded(path: bytes) -> list[str]:
    try:
        return [unquote_to_bytes(part).decode() for part in path.split(b"/")[1:]]
    except UnicodeDecodeError:
        raise Problem(400, "the path is not UTF-8") from None


def _names(wanted: list[str], found: list[str]) -> dict[str, str] | None:
    """The named parts of a path, None: it is another."""
    if len(wanted) != len(found):
        return None
    names = {}
    for want, part in zip(wanted, found, strict=True):
        if want.startswith("{"):
            if not part:
                return None
            names[want[1:-1]] = part
        elif want != part:
            return None
    return names
