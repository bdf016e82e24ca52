"""The reference of the configuration, as Markdown, from the specs and the extensions' options. Floor 2.

``python docs/reference.py`` writes it to ``docs/configuration.md``; a test compares.
"""

from __future__ import annotations

import enum
import inspect
import json
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from stickyproxy.config import (
    accepted,
    access,
    admin,
    forms,
    health,
    limits,
    logs,
    named,
    process,
    sessions,
    specs,
    tracing,
    websocket,
)
from stickyproxy.config.structure import (
    Extensions,
    describe,
    kind_of,
    may_be_unlimited,
    options,
)
from stickyproxy.config.units import Shorthand, Told
from stickyproxy.interfaces import IAffinity, IBalancer, IProbe, IStreamInspector

#: The tables of a file in the order of the reference: how they are written, and their spec.
TABLES: tuple[tuple[str, type], ...] = (
    ("", forms.Document),
    ("access_log", logs.AccessLog),
    ("process", process.Process),
    ("frontend.NAME", specs.Frontend),
    ("frontend.NAME.routes", specs.Route),
    ("frontend.NAME.inspect", named.Inspect),
    ("frontend.NAME.timeouts", limits.FrontendTimeouts),
    ("frontend.NAME.limits", limits.Limits),
    ("frontend.NAME.websocket", websocket.WebSocket),
    ("frontend.NAME.websocket.rate", websocket.MessageRate),
    ("frontend.NAME.tls", specs.FrontendTLS),
    ("frontend.NAME.access", access.Access),
    ("frontend.NAME.access.rate", access.Rate),
    ("frontend.NAME.trace", tracing.Tracing),
    ("opentelemetry", tracing.OpenTelemetry),
    ("cluster.NAME", specs.Cluster),
    ("cluster.NAME.backends.NAME", forms.BackendTable),
    ("cluster.NAME.probe", named.Probe),
    ("cluster.NAME.eject", health.Eject),
    ("cluster.NAME.queue", limits.Queue),
    ("cluster.NAME.sessions", sessions.Sessions),
    ("cluster.NAME.timeouts", limits.ClusterTimeouts),
    ("cluster.NAME.limits", limits.AnswerLimits),
    ("cluster.NAME.pool", specs.Pool),
    ("cluster.NAME.tls", specs.BackendTLS),
    ("admin", admin.Admin),
)
HEAD = ("key", "value", "default", "meaning", "elsewhere")
OPENING = """\
# Configuration

<!-- Written by `python docs/reference.py`: change the specs in stickyproxy/config/ instead. -->

A configuration is a [TOML](https://toml.io) file: `twistd -n stickyproxy --config FILE` serves it, `--check` beside
that tells every mistake in it and serves nothing. `conf/` has samples.

- A **duration** is a string: `"500ms"`, `"2s"`, `"5m"`, `"1h"`, `"7d"`.
- A **size** is a string, `"64KiB"`, `"16MiB"`, `"1GiB"`, or a number of bytes.
- `"unlimited"` is possible where it is named.
- A **path** that is relative starts at the directory of the file.
- A list of one string may be written as the string.
- The names of frontends, clusters and backends have up to 64 letters, digits, `.`, `-` and `_`.
- An unknown key is a mistake, never ignored.
"""


AFFINITIES = """\
## Affinities

How a client keeps its backend: `affinity = "NAME"`, or a table of `by` and options. `"header:X-User"` gives the
first option of `"header"`, and so on.

`by = ["cookie", "header:X-User"]` makes several one: the first that knows the client is right, and all remember it. An
entry may be a table of its own.
"""
COOKIES = """\
## Cookies of other proxies

What `accept_cookies_of` of the affinity `cookie` takes: a list of names, or of tables of `by` and these keys, as
`{ by = "haproxy", name = "SERVERID" }`. [More](affinity.md#coming-from-another-proxy).
"""


def render(extensions: Extensions) -> str:
    """The whole reference, for ``extensions``."""
    return "\n".join(
        [
            OPENING,
            *(_table(where, spec) for where, spec in TABLES),
            AFFINITIES,
            *_extensions(extensions, IAffinity),
            COOKIES,
            *(_keys(f"### Cookies of `{name}`", cls) for name, cls in accepted.ACCEPTED.items()),
            '## Balancers\n\nHow a new client gets its backend: `balance = "NAME"`, or a table of `by` and options.\n',
            *_extensions(extensions, IBalancer),
            '## Inspectors\n\nHow a TCP client is known by its first bytes: `inspect = "NAME"`, or a table as above.\n',
            *_extensions(extensions, IStreamInspector),
            '## Probes\n\nHow a backend is asked whether it is well: `probe = "NAME"`, or a table as above.\n',
            *_extensions(extensions, IProbe),
        ]
    )


def _ticked(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in sorted(words))


def _table(where: str, spec: type) -> str:
    return _keys(f"## `[{where}]`" if where else "## At the top", spec)


def _keys(title: str, spec: type) -> str:
    attrs.resolve_types(spec)
    fields = [f for f in attrs.fields(spec) if f.metadata]
    rows = ((f.name, f.type, f.default, f.metadata["text"], f.metadata["elsewhere"]) for f in fields)
    return _section(title, spec.__doc__, HEAD, rows)


def _extensions(extensions: Extensions, interface: Any) -> Iterator[str]:
    for name, extension in sorted(extensions.of(interface).items()):
        rows = [
            (key, p.annotation, p.default, *attrs.astuple(_told(p.annotation))) for key, p in options(extension).items()
        ]
        by, _, mode = name.partition("/")
        title = f'### `{by}`, `mode = "{mode}"`' if mode else f"### `{by}`"
        yield _section(title, extension.make.__doc__, ("option", *HEAD[1:]), rows)


def _told(annotation: Any) -> Told:
    return next((mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Told)), Told("", ""))


def _section(title: str, text: str | None, head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    """A table whose first cells are name, type and default."""
    lines = [title, "", inspect.cleandoc(text or "").replace("``", "`"), ""]
    cells = [(f"`{key}`", describe(type_), _default(default, type_), *rest) for key, type_, default, *rest in rows]
    if cells:
        lines += [_line(head), "|" + "---|" * len(head), *map(_line, cells), ""]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(value: Any, type_: Any) -> str:
    """A default as one would write it, or what happens without the key."""
    if value in (attrs.NOTHING, inspect.Parameter.empty):
        return "required"
    if isinstance(value, attrs.Factory):  # type: ignore[arg-type]  # a class at run time
        return "absent"
    if value is None:
        return '`"unlimited"`' if may_be_unlimited(type_) else "absent"
    kind = kind_of(type_)
    if kind is not None and kind.write is not None:
        value = kind.write(value)
    for mark in getattr(type_, "__metadata__", ()):
        if isinstance(mark, Shorthand):
            value = mark.default
    if isinstance(value, named.Named):
        value = value.name
    if isinstance(value, enum.Enum):
        value = value.value
    return "none" if value == () else f"`{json.dumps(value)}`"
