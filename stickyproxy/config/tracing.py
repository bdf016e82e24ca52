"""Traces: ``[frontend.NAME.trace]``, and where spans go, ``[opentelemetry]``. Floor 2.

Durations are seconds (float).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import attrs

from stickyproxy.config.units import (
    Count,
    Duration,
    Kind,
    Place,
    Shorthand,
    between,
    expect_filled,
    expect_text,
    found,
    told,
)

URL = 'an http URL such as "http://127.0.0.1:4318/v1/traces"'


def _url(value: object, _: Place) -> str:
    url = expect_text(value, URL)
    if not re.fullmatch(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?", url):
        raise ValueError(f"expected {URL}, without a user in it")
    return url


def _name(value: object, _: Place) -> str:
    return expect_filled(value, "a name")


@attrs.frozen
class Tracing:
    """Every request is in a trace ([W3C Trace Context](https://www.w3.org/TR/trace-context/)); HTTP only.

    `trace = true` is this table with every default. Absent: `traceparent` and `tracestate` are passed on as they came.
    """

    believe: Literal["trusted", "everyone", "nobody"] = attrs.field(
        default="trusted",
        metadata=told(
            "Whose traces go on: those of `trusted_proxies`, everyone's, or nobody's. For all others one is begun.",
            "Envoy `request_id_extension`, nginx `otel_trace_context`",
        ),
    )
    sample: Annotated[float, between(0, 1, 0.01)] = attrs.field(
        default=1.0,
        metadata=told(
            "The share of the traces begun here that shall be kept. Those begun elsewhere say it themselves.",
            "Envoy `random_sampling`, nginx `otel_trace`",
        ),
    )


@attrs.frozen
class OpenTelemetry:
    """Where the spans of requests in traces that shall be kept go; see [traces](logging.md#traces).

    Needs `pip install stickyproxy[opentelemetry]`, and frontends with `trace`.
    """

    endpoint: Annotated[str, Kind(URL, _url)] = attrs.field(
        default="http://127.0.0.1:4318/v1/traces",
        metadata=told("Who takes them, by OTLP over HTTP.", "Envoy `OpenTelemetryConfig`, nginx `otel_exporter`"),
    )
    service: Annotated[str, Kind("a name", _name)] = attrs.field(
        default="stickyproxy", metadata=told("The name of the service (`service.name`).", "nginx `otel_service_name`")
    )
    queue: Count = attrs.field(
        default=2048, metadata=told("How many spans wait for being sent; more are dropped.", "nginx `batch_count`")
    )
    interval: Duration = attrs.field(
        default=5.0, metadata=told("For how long at most they wait.", "nginx `otel_exporter` `interval`")
    )
    timeout: Duration = attrs.field(default=10.0, metadata=told("For a sending, with what is tried again."))


def _table(value: Any) -> dict[str, Any] | None:
    if isinstance(value, bool):
        return {} if value else None
    if not isinstance(value, dict):
        raise ValueError(f"expected true, false or a table, found {found(value)}")
    return value


#: What ``trace`` may be; None: not looked at.
Traced = Annotated[Tracing | None, Shorthand("true, false or a table", Tracing, _table, default=False)]
