"""How much, and for how long: the timeouts and limits of frontends and clusters, as frozen values. Floor 2.

Durations are seconds (float), sizes are bytes (int), None is "unlimited".
"""

from __future__ import annotations

import attrs

from stickyproxy.config.units import Count, CountOrZero, Duration, Size, told


@attrs.frozen
class FrontendTimeouts:
    """How long a client may take."""

    head: Duration = attrs.field(
        default=10.0,
        metadata=told(
            "For the whole request head, from its first byte (or from the accept, for the first); for a PROXY "
            "header and a TLS handshake as well. HTTP, or with `accept_proxy_protocol` or `tls`.",
            "HAProxy `timeout http-request`, nginx `client_header_timeout`, Envoy `request_headers_timeout`",
        ),
    )
    body: Duration = attrs.field(
        default=30.0,
        metadata=told(
            "Silence of the client within a request body. HTTP only.",
            "HAProxy `timeout client`, nginx `client_body_timeout`, Envoy `stream_idle_timeout`",
        ),
    )
    send: Duration = attrs.field(
        default=60.0,
        metadata=told(
            "A client that takes nothing of its answer. HTTP only.",
            "HAProxy `timeout client`, nginx `send_timeout`, Envoy `stream_idle_timeout`",
        ),
    )
    keep_alive: Duration = attrs.field(
        default=75.0,
        metadata=told(
            "Between two requests on a connection. HTTP only.",
            "HAProxy `timeout http-keep-alive`, nginx `keepalive_timeout`, Envoy `idle_timeout`",
        ),
    )
    linger: Duration = attrs.field(
        default=30.0,
        metadata=told(
            "For a client to read the last answer of its connection while it is still sending, as one whose content is "
            "too large: what it sends is thrown away, since closing at once would take the answer back. One that is "
            "silent for 5 seconds is closed before that. HTTP only.",
            "nginx `lingering_time`, `lingering_timeout`, Envoy `delayed_close_timeout`",
        ),
    )
    tunnel: Duration = attrs.field(
        default=600.0,
        metadata=told(
            "Silence in both directions of a WebSocket or a TCP relay.",
            "HAProxy `timeout tunnel`, nginx `proxy_timeout` (stream), Envoy `idle_timeout` (TCP proxy)",
        ),
    )


@attrs.frozen
class Limits:
    """How much a client may send, and how many connections it may have. All but the connections: HTTP only."""

    target: Size = attrs.field(
        default=8 * 1024,
        metadata=told("The request line; a longer one is answered 414.", "nginx `large_client_header_buffers`"),
    )
    head: Size = attrs.field(
        default=64 * 1024,
        metadata=told(
            "All fields together; more is answered 431.",
            "HAProxy `tune.bufsize`, nginx `large_client_header_buffers`, Envoy `max_request_headers_kb`",
        ),
    )
    fields: Count = attrs.field(
        default=100,
        metadata=told(
            "How many fields; more are answered 431.",
            "HAProxy `tune.http.maxhdr`, nginx `max_headers`, Envoy `max_headers_count`",
        ),
    )
    body: Size | None = attrs.field(
        default=None,
        metadata=told(
            "A request's content; more is answered 413.", "nginx `client_max_body_size`, Envoy `max_request_bytes`"
        ),
    )
    body_rate: Size = attrs.field(
        default=0,
        metadata=told(
            "Bytes of content that must come in each second: whoever falls behind by more than `timeouts.body` is "
            "answered 408, so that nobody holds a backend with a byte now and then. 0: silence alone counts. That is "
            "the default since what is streamed as it happens (a log, a sensor, an RPC) is as slow as this attack; "
            '`"500B"` suits frontends without such requests.',
            "Apache `RequestReadTimeout body=…,MinRate=…`",
        ),
    )
    chunk_extensions: Size = attrs.field(
        default=16 * 1024,
        metadata=told(
            "All chunk extensions of one content together, which nobody gets; more is answered 400. One chunk's may "
            "have about 256 bytes."
        ),
    )
    trailers: Size = attrs.field(
        default=8 * 1024,
        metadata=told("The trailers of one content; more is answered 400.", "HAProxy `tune.bufsize`"),
    )
    requests: Count | None = attrs.field(
        default=None,
        metadata=told(
            "How many requests on a connection: the last answer says `Connection: close`.",
            "nginx `keepalive_requests`, Envoy `max_requests_per_connection`",
        ),
    )
    pipelined: Size = attrs.field(
        default=64 * 1024,
        metadata=told(
            "Bytes of further requests that a client may have sent while an answer is awaited. With more, that answer "
            "is the connection's last, and they are lost."
        ),
    )
    connections: Count | None = attrs.field(
        default=None,
        metadata=told(
            "Open connections of this frontend, of all workers together. Of HTTP clients that come then up to 64 at a "
            "time are answered 503, with `Retry-After`; others are closed at once.",
            "HAProxy `maxconn`, Envoy `max_connections`",
        ),
    )
    connections_per_address: Count | None = attrs.field(
        default=None,
        metadata=told(
            "The same for one client: its IPv4 address, the /64 of its IPv6 address. It is answered 429. The address "
            "is that of a PROXY header where one is accepted. Peers in `trusted_proxies` are not counted, since they "
            "bring many clients, nor those of a Unix socket.",
            "HAProxy `src_conn_cur`, nginx `limit_conn`",
        ),
    )


@attrs.frozen
class ClusterTimeouts:
    """How long a backend may take."""

    connect: Duration = attrs.field(
        default=5.0,
        metadata=told(
            "To accept a connection; then another backend is tried.",
            "HAProxy `timeout connect`, nginx `proxy_connect_timeout`, Envoy `connect_timeout`",
        ),
    )
    answer: Duration = attrs.field(
        default=60.0,
        metadata=told(
            "Silence before and within an answer. HTTP only.",
            "HAProxy `timeout server`, nginx `proxy_read_timeout`, Envoy `timeout`",
        ),
    )


@attrs.frozen
class AnswerLimits:
    """How much a backend may answer before the content. Past that the client gets a 502. HTTP only."""

    head: Size = attrs.field(
        default=64 * 1024,
        metadata=told(
            "The head of an answer, its status line included.",
            "HAProxy `tune.bufsize`, nginx `proxy_buffer_size`, Envoy `max_response_headers_kb`",
        ),
    )
    interim: CountOrZero = attrs.field(
        default=32, metadata=told("Interim answers (100, 102, 103 …) before the answer itself.")
    )


@attrs.frozen
class Queue:
    """Clients that wait because every backend that may take them serves `max_connections`. Needs that."""

    size: CountOrZero = attrs.field(
        default=1000,
        metadata=told(
            "How many may wait, in each process; more are answered 503 at once, with `Retry-After`. 0: nobody waits.",
            "HAProxy `maxqueue`, nginx `queue`, Envoy `max_pending_requests`",
        ),
    )
    timeout: Duration = attrs.field(
        default=5.0,
        metadata=told("How long; then 503. A connection of TCP is closed.", "HAProxy `timeout queue`, nginx `queue`"),
    )
