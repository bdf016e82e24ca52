"""The admin API: what each call asks of ``Controls``. Floor 5.

Paths that a deployment relies on are those of DESIGN.md section 5; ``GET /api/openapi.json`` describes all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

from stickyproxy import __version__
from stickyproxy.control.controls import Controls
from stickyproxy.control.events import Events
from stickyproxy.control.figures import figures
from stickyproxy.control.metrics import exposition
from stickyproxy.control.openapi import describe
from stickyproxy.control.refusal import Refusal
from stickyproxy.control.routes import TOML, Call, Content, Parameter, Route, RouteTable
from stickyproxy.control.sessions import MOST
from stickyproxy.control.web import PAGE_POLICY

#: What metrics are for who does not ask for another format.
PLAIN = "text/plain; version=0.0.4; charset=utf-8"
_STATES = ["up", "drain", "maintenance"]
_CHANGE = {
    "type": "object",
    "properties": {
        "state": {"type": "string", "enum": _STATES},
        "weight": {"type": "integer", "minimum": 0, "maximum": 256},
    },
    "minProperties": 1,
    "additionalProperties": False,
}
_CLUSTER = {"type": "object", "required": ["backends"], "properties": {"backends": {"type": "object"}}}
_BACKEND = {
    "type": "object",
    "required": ["endpoint", "state", "weight", "status", "why", "since", "file"],
    "properties": {"state": {"enum": _STATES}, "weight": {"type": "integer"}, "file": {"type": "object"}},
}

_SESSION = {
    "type": "object",
    "required": ["id", "cluster", "backend", "keys", "since", "seen", "ends", "pinned", "why"],
    "properties": {"pinned": {"type": "boolean"}, "keys": {"type": "array"}, "why": {"type": "string"}},
}
_MOVE = {
    "type": "object",
    "properties": {"backend": {"type": "string"}, "pinned": {"type": "boolean"}},
    "minProperties": 1,
    "additionalProperties": False,
}
_KEPT = {409: "No sessions of this cluster are kept here: their clients keep them, or nobody."}
_QUERY = {
    "cluster": Parameter("Those of this cluster."),
    "backend": Parameter("Those that this backend serves."),
    "key": Parameter("The one that is known by this key, as its client sends it."),
    "address": Parameter("The one that is known by this IP address."),
    "limit": Parameter("How many at most; 100 without.", {"type": "integer", "minimum": 1, "maximum": MOST}),
    "after": Parameter("`next` of the answer before."),
}
_REQUEST = {
    "type": "object",
    "required": ["url"],
    "properties": {
        "url": {"type": "string", "examples": ["http://example.org/path"]},
        "method": {"type": "string"},
        "headers": {"type": "array", "items": {"type": "string", "examples": ["Cookie: SRV=…"]}},
        "address": {"type": "string", "description": "The client's IP address."},
        "frontend": {"type": "string", "description": "Where it comes in; else the first one for HTTP."},
    },
    "additionalProperties": False,
}
_DRAIN = {"type": "object", "required": ["id", "stage", "ended", "sessions", "sockets"]}
_WAIT = {"wait": Parameter("A duration such as `30s`, of at most a minute.")}
_DRAINING = {
    "type": "object",
    "oneOf": [{"required": [*keys]} for keys in (("cluster", "backend"), ("frontend",), ("process",))],
    "properties": {
        "cluster": {"type": "string"},
        "backend": {"type": "string"},
        "frontend": {"type": "string"},
        "process": {"const": True, "description": "All frontends."},
        "stay": {
            "type": "string",
            "description": "For how long clients stay that are bound to the backend; else not at all.",
        },
        "window": {"type": "string", "description": "Over which its WebSockets are closed."},
        "deadline": {"type": "string", "description": "After which the rest is cut; else 30 seconds."},
        "code": {"type": "integer", "description": "Of the Close frames."},
    },
    "additionalProperties": False,
}
_BUSY = {503: "Too many look already."}
_NO_FILE = {503: "The configuration is not in a file."}
_WRONG = {409: "It cannot be made to run.", 422: "It has mistakes, which are told."}
_EXPLANATION = {
    "type": "object",
    "required": ["frontend", "cluster", "backend", "outcome", "why"],
    "properties": {"why": {"type": "array", "items": {"type": "string"}}},
}


def api_routes(controls: Controls, events: Events) -> RouteTable:
    """Every path of the API, asking ``controls``."""
    api = _API(controls, events)
    routes: list[Route] = [*api.reading(), *api.changing(), *_page()]
    description = describe(routes)

    async def openapi(call: Call) -> Any:
        return description

    routes.append(Route("GET", "/api/openapi.json", openapi, "This description of the API, OpenAPI 3.1."))
    return RouteTable(routes)


def part_of(snapshot: dict[str, Any], key: str, name: str) -> Any:
    """One of the frontends, clusters … of a snapshot. Raises ``Refusal``."""
    if name not in snapshot[key]:
        raise Refusal("unknown", f"there is no {key.removesuffix('s')} of this name")
    return snapshot[key][name]


class _API:
    def __init__(self, controls: Controls, events: Events) -> None:
        self._controls = controls
        self._events = events

    def reading(self) -> Iterator[Route]:
        parts = {
            "clusters": "Every cluster by its name, with its backends.",
            "frontends": "Every frontend by its name: where it listens, its routes, its connections.",
            "certificates": "The certificates that are shown to clients, with their names and when they expire.",
        }
        for key, text in parts.items():
            yield Route("GET", f"/api/{key}", self._part(key), text, gives={"type": "object", "required": [key]})
        yield Route("GET", "/api/clusters/{cluster}", self._cluster, "One cluster with its backends.", gives=_CLUSTER)
        path = "/api/clusters/{cluster}/backends/{backend}"
        yield Route("GET", path, self._backend, "One backend.", gives=_BACKEND)
        yield Route("GET", "/api/snapshot", self._snapshot, "All that there is to see, but for single sessions.")
        text = "Metrics, as Prometheus reads them."
        yield Route("GET", "/metrics", self._metrics, text, gives={"type": "string"}, type=PLAIN)
        text = "What metrics count, by frontend, cluster and backend, as the dashboard reads it."
        yield Route("GET", "/api/figures", self._figures, text)
        text = "Single sessions, a page at a time, or those of a key, an address, a backend."
        listed = {"type": "object", "required": ["sessions", "next", "clusters"]}
        yield Route("GET", "/api/sessions", self._sessions, text, gives=listed, query=_QUERY)
        text = "Which backend a request would go to, and why. Nobody is bound by it."
        yield Route("POST", "/api/explain", self._explain, text, gives=_EXPLANATION, takes=_REQUEST)
        text = "Server-sent events: `snapshot` and `figures` every second, and `log` for what the proxy says of itself."
        kind = "text/event-stream"
        yield Route("GET", "/api/events", self._stream, text, gives={"type": "string"}, type=kind, problems=_BUSY)
        yield Route("GET", "/api/drains", self._drains, "Every drain, and the last ones that have ended.")
        text = "One drain: how far it is, as soon as it has ended, or when `wait` is over."
        yield Route("GET", "/api/drains/{drain}", self._drain, text, gives=_DRAIN, query=_WAIT)
        yield Route("GET", "/api/version", self._version, "Which version runs, since when, in which processes.")

    def changing(self) -> Iterator[Route]:
        path = "/api/clusters/{cluster}/backends/{backend}"
        text = "Set the state of a backend, its weight, or both; the answer is the backend as it is then."
        yield Route("PUT", path, self._change_backend, text, gives=_BACKEND, takes=_CHANGE, changes=True)

        path = "/api/clusters/{cluster}/sessions/{session}"
        text = "Bind a session to another backend, pin it to where it is, or both; the answer is the session then."
        yield Route("PUT", path, self._change_session, text, gives=_SESSION, takes=_MOVE, changes=True, problems=_KEPT)
        text = "End a session: its client is a new one at its next request. The answer is the session as it was."
        yield Route("DELETE", path, self._forget_session, text, gives=_SESSION, changes=True, problems=_KEPT)
        text = (
            "Drain a backend, a frontend or the process: nobody new comes, and its WebSockets are closed over a window."
        )
        yield Route("POST", "/api/drains", self._begin_drain, text, gives=_DRAIN, takes=_DRAINING, changes=True)
        text = "End a drain: all is as before, and a frontend listens again; who was told to go goes all the same."
        yield Route("DELETE", "/api/drains/{drain}", self._cancel_drain, text, gives=_DRAIN, changes=True)
        text = "What would change if this configuration were loaded, and what it would move. Nothing is changed."
        yield Route("POST", "/api/plan", self._plan, text, takes=TOML, changes=True, problems=_NO_FILE)
        text = "Load the configuration file again; answers when the new configuration serves."
        yield Route("POST", "/api/reload", self._reload, text, changes=True, problems=_NO_FILE | _WRONG)

    async def _sessions(self, call: Call) -> Any:
        return await self._controls.sessions(call.query)

    async def _change_session(self, call: Call) -> Any:
        names = call.names
        return await self._controls.change_session(names["cluster"], names["session"], call.body, call.by)

    async def _forget_session(self, call: Call) -> Any:
        return await self._controls.forget_session(call.names["cluster"], call.names["session"], call.by)

    async def _explain(self, call: Call) -> Any:
        return await self._controls.explain(call.body)

    async def _stream(self, call: Call) -> Any:
        return self._events.stream()

    async def _drains(self, call: Call) -> Any:
        return await self._controls.drains()

    async def _drain(self, call: Call) -> Any:
        return await self._controls.drained(call.names["drain"], call.query.get("wait"))

    async def _begin_drain(self, call: Call) -> Any:
        return await self._controls.drain(call.body, call.by)

    async def _cancel_drain(self, call: Call) -> Any:
        return await self._controls.cancel_drain(call.names["drain"], call.by)

    async def _plan(self, call: Call) -> Any:
        return await self._controls.plan(call.body)

    async def _reload(self, call: Call) -> Any:
        return await self._controls.reload(call.by)

    async def _snapshot(self, call: Call) -> Any:
        return await self._controls.snapshot()

    async def _figures(self, call: Call) -> Any:
        return figures(await self._controls.samples())

    async def _metrics(self, call: Call) -> Any:
        data, kind = exposition(await self._controls.samples(), call.accept)
        return Content(kind, data)

    def _part(self, key: str) -> Callable[[Call], Any]:
        async def answer(call: Call) -> Any:
            return {key: (await self._controls.snapshot())[key]}

        return answer

    async def _cluster(self, call: Call) -> Any:
        return part_of(await self._controls.snapshot(), "clusters", call.names["cluster"])

    async def _backend(self, call: Call) -> Any:
        return part_of(await self._cluster(call), "backends", call.names["backend"])

    async def _version(self, call: Call) -> Any:
        snapshot = await self._controls.snapshot()
        return {"version": __version__, **{key: snapshot[key] for key in ("started", "processes", "configuration")}}

    async def _change_backend(self, call: Call) -> Any:
        return await self._controls.change_backend(call.names["cluster"], call.names["backend"], call.body, call.by)


def _page() -> Iterator[Route]:
    """The files of the dashboard, read once; there is nothing in them that is worth a token."""
    types = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    top = files("stickyproxy.control").joinpath("page")
    for under, folder in (("/", top), ("/vendor/", top.joinpath("vendor"))):
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            kind = types.get("." + file.name.rpartition(".")[2])
            if kind is not None:
                path = "/" if file.name == "index.html" else under + file.name
                yield Route("GET", path, _file(kind, file.read_bytes()), "A part of the page.", free=True, type=kind)


def _file(kind: str, data: bytes) -> Callable[[Call], Any]:
    content = Content(kind, data, (("Content-Security-Policy", PAGE_POLICY),))

    async def answer(call: Call) -> Any:
        return content

    return answer
