"""The description of the admin API in OpenAPI 3.1, from its routes. Floor 5."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from stickyproxy import __version__
from stickyproxy.control.routes import TOML, Route

#: What every call may answer, and why.
_PROBLEMS = {
    400: "The request is malformed.",
    403: "A page of another site asks, or nothing can be changed here.",
    421: "It is asked for under a name that is not ours.",
}
_PROBLEM = {
    "type": "object",
    "required": ["title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "mistakes": {"type": "array", "items": {"type": "object"}},
    },
}


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole document."""
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "stickyproxy", "version": __version__, "summary": "What a running proxy does, and changes."},
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    parameters += [
        {"name": name, "in": "query", "description": parameter.text, "schema": parameter.schema}
        for name, parameter in route.query.items()
    ]
    words = re.findall(r"\w+", route.path) or ["page"]
    operation: dict[str, Any] = {
        "operationId": "_".join([route.method.lower(), *words]),
        "summary": route.text,
        "parameters": parameters,
        "responses": {
            "200": {"description": route.text, "content": {route.type.partition(";")[0]: {"schema": route.gives}}},
            **{str(status): _problem(text) for status, text in _problems(route)},
        },
    }
    if route.takes is not None:
        kind = "application/toml" if route.takes is TOML else "application/json"
        operation["requestBody"] = {"required": True, "content": {kind: {"schema": route.takes}}}
    if not route.free:
        operation["security"] = [{"token": []}] if route.changes else [{}, {"token": []}]
    return operation


def _problems(route: Route) -> Iterable[tuple[int, str]]:
    yield from _PROBLEMS.items()
    yield 413, "The body is too large."
    if not route.free:
        yield 401, "There is no token, or it is nobody's."
        yield 429, "Too many tokens were wrong."
    if "{" in route.path or route.query or route.takes is not None:
        yield 404, "There is no such thing."
    if route.takes is not None:
        yield 415, "The body is of another type."
    if route.takes is not None or route.query or route.method == "GET":
        yield 422, "Something has a value that it cannot have."
    yield from route.problems.items()


def _problem(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": text, "content": {"application/problem+json": {"schema": schema}}}
