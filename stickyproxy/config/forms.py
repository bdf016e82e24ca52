"""How the file is written, where that is not how the specs are. Floor 2."""

from __future__ import annotations

from typing import Annotated

import attrs

from stickyproxy.config.admin import Admin
from stickyproxy.config.logs import AccessLog, Log
from stickyproxy.config.process import Process
from stickyproxy.config.specs import Cluster, Frontend
from stickyproxy.config.tracing import OpenTelemetry
from stickyproxy.config.units import BackendEndpoint, ByName, OwnCount, Weight, told
from stickyproxy.model import BackendState


@attrs.frozen
class BackendTable:
    """One place that a cluster forwards to. Affinity knows a backend by its key: address and order may change freely.

    An entry that is only an endpoint may be written as a string: ``a = "tcp:127.0.0.1:9001"``.
    """

    id: str
    endpoint: BackendEndpoint = attrs.field(
        metadata=told(
            "Where it listens: an [endpoint string]"
            "(https://docs.twisted.org/en/stable/core/howto/endpoints.html#clients) of Twisted.",
            "HAProxy `server`, nginx `server` in `upstream {}`, Envoy `endpoint`",
        )
    )
    weight: Weight = attrs.field(
        default=1,
        metadata=told(
            "Its share of new clients; with 0 it keeps those that it has.",
            "HAProxy `weight`, nginx `weight`, Envoy `load_balancing_weight`",
        ),
    )
    state: BackendState = attrs.field(
        default=BackendState.UP,
        metadata=told(
            "`up`; `drain` keeps the bound clients and takes no new ones; `maintenance` takes none.",
            "HAProxy `set server … state`, nginx `drain`/`down`, Envoy `health_status`",
        ),
    )
    max_connections: OwnCount = attrs.field(
        default=None,
        metadata=told(
            "How many requests and WebSockets, or TCP connections, it serves at a time. Absent: as the cluster says.",
            "HAProxy `maxconn`, nginx `max_conns`",
        ),
    )
    backup: bool = attrs.field(
        default=False,
        metadata=told(
            "It takes new clients only when no other may; see `use_backups`.", "HAProxy `backup`, nginx `backup`"
        ),
    )


@attrs.frozen
class Document:
    """What stands before the first table, and the tables that hold all else."""

    frontend: Annotated[tuple[Frontend, ...], ByName("name")] = attrs.field(
        metadata=told("The frontends by their names.")
    )
    cluster: Annotated[tuple[Cluster, ...], ByName("name")] = attrs.field(metadata=told("The clusters by their names."))
    access_log: Log = attrs.field(
        default=AccessLog(),
        metadata=told(
            "The access log of every frontend that says nothing else: `true` for standard output, `false`, a path, or "
            "a table; see below."
        ),
    )
    admin: Admin | None = attrs.field(
        default=None,
        metadata=told("Where operators look at the proxy and change it; see below. Absent: nowhere."),
    )
    opentelemetry: OpenTelemetry | None = attrs.field(
        default=None, metadata=told("Where the spans of traced requests go; see below. Absent: nowhere.")
    )
    process: Process = Process()  # noqa: RUF009 (frozen)
