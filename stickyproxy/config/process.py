"""The process, its workers and its end: ``[process]``. Floor 2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import attrs

from stickyproxy.config.mistakes import Keys
from stickyproxy.config.units import AnyPath, Duration, Kind, OwnDuration, Place, found, read_duration, told

#: More than any machine has use for.
MOST = 1024
_WORKERS = f'a whole number from 1 to {MOST}, or "auto"'


def _workers(value: object, _: Place) -> int | str:
    if value == "auto" or (type(value) is int and 1 <= value <= MOST):
        return value
    shown = f'"{value}"' if isinstance(value, str) else value if type(value) is int else found(value)
    raise ValueError(f"expected {_WORKERS}, found {shown}")


Workers = Annotated[int | Literal["auto"], Kind(_WORKERS, _workers)]


@attrs.frozen
class Process:
    """The process as a whole: [its workers](workers.md), and [how it ends](running.md#stopping)."""

    workers: Workers = attrs.field(
        default=1,
        metadata=told(
            'Processes that serve; `"auto"` is one for each core that this process may use. With more than 1 a parent '
            "holds the sockets, and probes.",
            "nginx `worker_processes`, HAProxy `nbthread`, Envoy `--concurrency`",
        ),
    )
    stuck: Duration = attrs.field(
        default=10.0,
        metadata=told(
            "A worker that is silent for as long is killed, and replaced. Needs `workers`.",
            "HAProxy's watchdog, Envoy `watchdogs`",
        ),
    )
    drain: Duration | None = attrs.field(
        default=30.0,
        metadata=told(
            "When it stops: for how long open requests, WebSockets and TCP connections may go on, the time that "
            "WebSockets have to close included. What is left then is cut.",
            "HAProxy `hard-stop-after`, nginx `worker_shutdown_timeout`, Envoy `--drain-time-s`",
        ),
    )
    drain_window: OwnDuration = attrs.field(
        default=None,
        metadata=told(
            "Over which time WebSockets are told to close then, evenly with jitter, so that they do not all connect "
            "again at once. Absent: 100 in a second, or as many as it takes to be done in half of `drain`.",
            "HAProxy `close-spread-time`",
        ),
    )
    drain_delay: OwnDuration = attrs.field(
        default=None,
        metadata=told(
            "For how long new connections are still taken before it begins to drain, while the admin API answers no "
            "more: for balancers in front that look there every so often. Absent: none are.",
            "HAProxy `grace`, Kubernetes `preStop`",
        ),
    )
    watch: Duration | None = attrs.field(
        default=None,
        metadata=told(
            "How often the configuration and the files that it names are looked at, to be reloaded when one has "
            "changed. Absent: SIGHUP and the admin API reload.",
            "Traefik `providers.file.watch`, Caddy `--watch`",
        ),
    )
    takeover: AnyPath | None = attrs.field(
        default=None,
        metadata=told(
            "A Unix socket at which a new process takes over from the running one, with its listening sockets and "
            "sessions, so that nobody is refused: see [Upgrading](running.md#upgrading). Absent: a new one cannot "
            "listen before the old one has stopped.",
            "HAProxy `expose-fd listeners`/`-x`, nginx `USR2`, Envoy hot restart",
        ),
    )


def broken_rules(table: Mapping[str, Any]) -> list[tuple[Keys, str]]:
    """What does not go together in ``[process]``."""
    broken: list[tuple[Keys, str]] = []
    if "stuck" in table and table.get("workers", 1) == 1:
        broken.append((("stuck",), "only where there are several workers: leave this out"))
    try:
        if read_duration(table["drain_window"]) > read_duration(table.get("drain", "30s")):
            broken.append((("drain_window",), "expected no more than drain"))
    except (KeyError, ValueError):  # there is none, or the mistake is told elsewhere
        pass
    return broken
