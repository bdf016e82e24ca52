"""The configuration as frozen values: what the TOML file means. Floor 2.

Durations are seconds (float), sizes are bytes (int), None is "unlimited" or absent. ``load`` makes these; nothing else
reads TOML. The annotations are what values are checked against, and ``told`` is what the reference says of a key.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import attrs

from stickyproxy.config.access import Access
from stickyproxy.config.health import Eject
from stickyproxy.config.limits import AnswerLimits, ClusterTimeouts, FrontendTimeouts, Limits, Queue
from stickyproxy.config.logs import AccessLog, Log
from stickyproxy.config.named import Inspect, Named, Probe
from stickyproxy.config.process import Process
from stickyproxy.config.sessions import Sessions
from stickyproxy.config.tracing import OpenTelemetry, Traced
from stickyproxy.config.units import (
    AnyPath,
    ByName,
    ClusterName,
    Count,
    CountOrZero,
    Duration,
    ExistingPath,
    HostPattern,
    ListenEndpoint,
    Makes,
    Network,
    OwnDuration,
    PathPrefix,
    RetryShare,
    Secret,
    ServerName,
    told,
)
from stickyproxy.config.websocket import WebSocket
from stickyproxy.interfaces import IAffinity, IBalancer, IProbe, IStreamInspector
from stickyproxy.model import Backend

if TYPE_CHECKING:
    from stickyproxy.config.admin import Admin

#: What becomes of what is open when a reload takes away what it belongs to.
OnRemoval = Literal["keep", "drain", "cut"]


@attrs.frozen
class Route:
    """Which requests go to a cluster other than the frontend's own.

    An exact host wins over a wildcard, that over any host; then the longest path. The port in Host is ignored, and so
    is upper or lower case in the host.
    """

    cluster: ClusterName = attrs.field(
        metadata=told("Where the requests go.", "HAProxy `use_backend`, nginx `proxy_pass`, Envoy `route.cluster`")
    )
    host: HostPattern | None = attrs.field(
        default=None,
        metadata=told(
            "The host asked for: exact, or `*.example.org` for all below it. Absent: any.",
            "HAProxy `hdr(host)`, nginx `server_name`, Envoy `domains`",
        ),
    )
    path: PathPrefix = attrs.field(
        default="/",
        metadata=told("What the path must begin with.", "HAProxy `path_beg`, nginx `location`, Envoy `prefix`"),
    )
    access: Access | None = attrs.field(
        default=None,
        metadata=told(
            "Who may come in here: a table as `[frontend.NAME.access]`, and in its place as a whole; `{}` is open to "
            "everyone. Absent: as the frontend says.",
        ),
    )


@attrs.frozen
class FrontendTLS:
    """TLS termination. Without this table the frontend speaks plain."""

    certificates: tuple[ExistingPath, ...] = attrs.field(
        metadata=told(
            "PEM files (the chain and its key in each) or directories of them, chosen by the name that the client "
            "asks for (SNI); the first is the default.",
            "HAProxy `crt`, nginx `ssl_certificate`, Envoy `tls_certificates`",
        )
    )
    minimum_version: Literal["1.2", "1.3"] = attrs.field(
        default="1.2",
        metadata=told(
            "The oldest TLS that is spoken.",
            "HAProxy `ssl-min-ver`, nginx `ssl_protocols`, Envoy `tls_minimum_protocol_version`",
        ),
    )
    client_ca: ExistingPath | None = attrs.field(
        default=None,
        metadata=told(
            "Authorities (a PEM file) that sign the certificates of clients. Absent: clients are not asked for one.",
            "HAProxy `ca-file`, nginx `ssl_client_certificate`, Envoy `trusted_ca`",
        ),
    )
    client_certificates: Literal["required", "optional"] = attrs.field(
        default="required",
        metadata=told(
            "Whether a client without a certificate is turned away. Needs `client_ca`.",
            "HAProxy `verify`, nginx `ssl_verify_client`, Envoy `require_client_certificate`",
        ),
    )


@attrs.frozen
class Frontend:
    """A listening endpoint and its treatment."""

    name: str
    listen: tuple[ListenEndpoint, ...] = attrs.field(
        metadata=told(
            "Where clients connect: [endpoint strings]"
            "(https://docs.twisted.org/en/stable/core/howto/endpoints.html#servers) of Twisted. 1024 connections may "
            "wait for being accepted, if the system allows it and `:backlog=` does not say otherwise.",
            "HAProxy `bind`, nginx `listen`, Envoy `address`",
        )
    )
    cluster: ClusterName | None = attrs.field(
        default=None,
        metadata=told(
            "Where goes what no route matches. Absent: such a request is answered 404, a connection of TCP closed. "
            "Required where there are no `routes`.",
            "HAProxy `default_backend`, nginx `proxy_pass`, Envoy `route.cluster`",
        ),
    )
    protocol: Literal["http", "tcp"] = attrs.field(
        default="http",
        metadata=told(
            "HTTP with WebSockets, or the bytes of any other protocol.", "HAProxy `mode`, nginx `http {}`/`stream {}`"
        ),
    )
    routes: tuple[Route, ...] = attrs.field(
        default=(),
        metadata=told(
            "Requests that go elsewhere; see below. HTTP, or by `host` alone for TLS that is passed through: "
            '`inspect = "tls"`.',
            "HAProxy `use_backend`",
        ),
    )
    trusted_proxies: tuple[Network, ...] = attrs.field(
        default=(),
        metadata=told(
            "Peers whose `X-Forwarded-*`, `X-Real-IP` and `Forwarded` fields are believed. From everyone else these "
            "are removed. HTTP only.",
            "nginx `set_real_ip_from`, Envoy `xff_num_trusted_hops`",
        ),
    )
    accept_proxy_protocol: tuple[Network, ...] = attrs.field(
        default=(),
        metadata=told(
            "From these peers a PROXY header (v1 or v2) is required, and the address that it names is then the peer, "
            "for `trusted_proxies` too. Anyone else is a direct client, and a PROXY header from him a bad request.",
            "HAProxy `tcp-request connection expect-proxy`, nginx `listen … proxy_protocol`, Envoy `proxy_protocol`",
        ),
    )
    inspect: Annotated[Inspect, Makes(IStreamInspector)] | None = attrs.field(
        default=None,
        metadata=told(
            "What finds a key in the first bytes, for the affinity of the cluster; see Inspectors. TCP only. Absent: "
            "nothing is read before the backend is chosen, as a protocol needs whose server speaks first.",
            "HAProxy `tcp-request content`, nginx `ssl_preread`, Envoy `listener_filters`",
        ),
    )
    timeouts: FrontendTimeouts = FrontendTimeouts()  # noqa: RUF009 (frozen)
    limits: Limits = Limits()  # noqa: RUF009 (frozen)
    websocket: WebSocket = WebSocket()  # noqa: RUF009 (frozen)
    tls: FrontendTLS | None = None
    access: Access | None = None
    access_log: Log = attrs.field(
        default=AccessLog(),
        metadata=told(
            "A line for each request and each tunnel: `true` for standard output, `false`, a path, or a table as "
            "`[access_log]`. Absent: as the top-level `access_log` says.",
            "HAProxy `log`, nginx `access_log`, Envoy `access_log`",
        ),
    )

    trace: Traced = attrs.field(
        default=None,
        metadata=told(
            "Have every request be in a trace: `true`, or a table. Absent: `traceparent` is passed on as it came.",
            "Envoy `tracing`, nginx `otel_trace`",
        ),
    )
    on_removal: OnRemoval = attrs.field(
        default="keep",
        metadata=told(
            "What a reload that has no more of this frontend does to its open connections: `keep`, HTTP ends with the "
            "answer under way, WebSockets and TCP go on; `drain`, [WebSockets are closed](running.md#reload), and what "
            "is left after the time is cut; `cut`, all end at once.",
            "HAProxy `hard-stop-after`, nginx `worker_shutdown_timeout`",
        ),
    )

    def accesses(self) -> list[tuple[tuple[str | int, ...], Access]]:
        """Every table of ``access``, the frontend's and its routes', with the keys that lead to it."""
        routes = ((("routes", position, "access"), route.access) for position, route in enumerate(self.routes))
        return [(keys, access) for keys, access in ((("access",), self.access), *routes) if access is not None]


@attrs.frozen
class BackendTLS:
    """TLS to the backends of a cluster. ``tls = true`` is this table with every default."""

    ca: ExistingPath | None = attrs.field(
        default=None,
        metadata=told(
            "Authorities (a PEM file) that sign the backends' certificates. Absent: those that the system trusts.",
            "HAProxy `ca-file`, nginx `proxy_ssl_trusted_certificate`, Envoy `trusted_ca`",
        ),
    )
    server_name: ServerName | None = attrs.field(
        default=None,
        metadata=told(
            "The name that a backend must prove, and that it is asked for. Absent: the host of its endpoint.",
            "HAProxy `sni`/`verifyhost`, nginx `proxy_ssl_name`, Envoy `sni`",
        ),
    )
    certificate: ExistingPath | None = attrs.field(
        default=None,
        metadata=told(
            "Our own certificate and key (a PEM file), for backends that ask.",
            "HAProxy `crt`, nginx `proxy_ssl_certificate`, Envoy `tls_certificates`",
        ),
    )
    verify: bool = attrs.field(
        default=True,
        metadata=told(
            "Whether a backend must prove its name. `false` lets anyone between read and change everything.",
            "HAProxy `verify`, nginx `proxy_ssl_verify`",
        ),
    )


@attrs.frozen
class Pool:
    """Idle connections to backends, kept by each process. HTTP only."""

    size: CountOrZero = attrs.field(
        default=64,
        metadata=told(
            "How many for each backend; 0 keeps none.",
            "HAProxy `pool-max-conn`, nginx `keepalive`",
        ),
    )
    idle: Duration = attrs.field(
        default=60.0,
        metadata=told("For how long.", "HAProxy `pool-purge-delay`, nginx `keepalive_timeout`, Envoy `idle_timeout`"),
    )


@attrs.frozen
class Cluster:
    """Interchangeable backends with one balancer and one affinity."""  # keys: newest first

    name: str
    backends: Annotated[tuple[Backend, ...], ByName("id")] = attrs.field(
        metadata=told("The backends by their names; see below.", "HAProxy `server`, nginx `server`, Envoy `endpoints`")
    )
    balance: Annotated[Named, Makes(IBalancer)] = attrs.field(
        default=Named("round-robin"),
        metadata=told(
            "How a backend is picked for a client that is bound to none; see Balancers.",
            "HAProxy `balance`, nginx `least_conn`, Envoy `lb_policy`",
        ),
    )
    affinity: Annotated[Named, Makes(IAffinity)] = attrs.field(
        default=Named("none"),
        metadata=told(
            "How a client stays with its backend; see Affinities.",
            "HAProxy `cookie`/`stick-table`, nginx `sticky`, Envoy `stateful_session`",
        ),
    )
    probe: Annotated[Probe, Makes(IProbe)] | None = attrs.field(
        default=None,
        metadata=told(
            "How backends are asked whether they are well: a name, or a table; see Probes. Absent: they are not, and a "
            "backend is found to be down by whoever wants it.",
            "HAProxy `check`, nginx `health_check`, Envoy `health_checks`",
        ),
    )
    eject: Eject | None = None
    when_all_down: Literal["try", "fail"] = attrs.field(
        default="try",
        metadata=told(
            "When every backend is down by its probes, or ejected: `try` takes them as if none were; `fail` answers "
            "503. Needs `probe` or `eject`.",
            "Envoy `healthy_panic_threshold`",
        ),
    )
    slow_start: OwnDuration = attrs.field(
        default=None,
        metadata=told(
            "How long a backend that comes up, or in, takes to its whole share of new clients, from a tenth of it. "
            "Absent: it has that at once.",
            "HAProxy `slowstart`, nginx `slow_start`, Envoy `slow_start_config`",
        ),
    )
    use_backups: Literal["down", "full"] = attrs.field(
        default="down",
        metadata=told(
            "When backends with `backup = true` take new clients: `down`, when nobody else may take any; `full`, also "
            "when all others serve `max_connections`.",
            "HAProxy `backup`, nginx `backup`, Envoy `priority`",
        ),
    )
    max_connections: Count | None = attrs.field(
        default=None,
        metadata=told(
            "How many requests and WebSockets, or TCP connections, each backend serves at a time. More wait; see "
            "`queue`. With several processes each has its part of that.",
            "HAProxy `maxconn` (server), nginx `max_conns`, Envoy `max_requests`",
        ),
    )
    queue: Queue = Queue()  # noqa: RUF009 (frozen)
    retry_budget: RetryShare | None = attrs.field(
        default=1.0,
        metadata=told(
            "Retries, and ways to another backend because one cannot be reached, are at most this share of the "
            "requests of the last ten seconds, and 10 a second beside that: who is down is not trampled.",
            "Envoy `retry_budget`, Finagle `RetryBudget`",
        ),
    )
    sessions: Sessions = Sessions()  # noqa: RUF009 (frozen)
    timeouts: ClusterTimeouts = ClusterTimeouts()  # noqa: RUF009 (frozen)
    limits: AnswerLimits = AnswerLimits()  # noqa: RUF009 (frozen)
    pool: Pool = Pool()
    on_removal: OnRemoval = attrs.field(
        default="keep",
        metadata=told(
            "What a reload does to the open requests, WebSockets and TCP connections of a backend that is no more: "
            "`keep`, they go on; `drain`, [WebSockets are closed](running.md#reload), and what is left after the time "
            "is cut; `cut`, they end at once.",
            "HAProxy `hard-stop-after`, nginx `worker_shutdown_timeout`",
        ),
    )
    send_proxy_protocol: Literal[1, 2] | None = attrs.field(
        default=None,
        metadata=told(
            "Begin each connection to a backend with a PROXY header of this version. Absent: none.",
            "HAProxy `send-proxy`/`send-proxy-v2`, nginx `proxy_protocol` (stream), Envoy `proxy_protocol`",
        ),
    )
    tls: BackendTLS | None = None
    keys: tuple[Secret, ...] = attrs.field(
        default=(),
        metadata=told(
            "What sessions are signed with: the first signs, all verify. Proxies that share clients share these. "
            "Absent: `key_file`.",
            "HAProxy `dynamic-cookie-key`",
        ),
    )
    key_file: AnyPath | None = attrs.field(
        default=None,
        metadata=told(
            "Where the keys are kept instead; made with a new key where it does not exist. Absent: `stickyproxy.key` "
            "beside the configuration file."
        ),
    )


@attrs.frozen
class Configuration:
    """A whole file, valid: every cluster that a frontend names exists, and has a backend."""

    frontends: tuple[Frontend, ...]
    clusters: tuple[Cluster, ...]
    path: Path | None = None
    admin: Admin | None = None
    opentelemetry: OpenTelemetry | None = None
    process: Process = Process()  # noqa: RUF009 (frozen)
