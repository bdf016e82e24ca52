"""``trace`` and ``[opentelemetry]``: how they are written, and what is wrong in them."""

from __future__ import annotations

from typing import Any

import pytest

from stickyproxy.config import Configuration, ConfigurationErrors, from_tables
from stickyproxy.config.tracing import OpenTelemetry, Tracing
from stickyproxy.extensions import find_extensions


def read(top: dict[str, Any] | None = None, **frontend: Any) -> Configuration:
    web = {"listen": "tcp:8080", "cluster": "app", **frontend}
    cluster = {"app": {"backends": {"a": "tcp:127.0.0.1:9001"}}}
    return from_tables({"frontend": {"web": web}, "cluster": cluster, **(top or {})}, find_extensions())


@pytest.mark.parametrize(
    ("written", "means"),
    [
        (False, None),
        (True, Tracing()),
        ({}, Tracing("trusted", 1.0)),
        ({"believe": "everyone", "sample": 0.1}, Tracing("everyone", 0.1)),
    ],
)
def test_written(written: Any, means: Tracing | None) -> None:
    """Traces are on, off, or a table; without a word they are off."""
    assert read(trace=written).frontends[0].trace == means
    assert read().frontends[0].trace is None


def test_where_spans_go() -> None:
    """The table says who takes the spans, and its defaults are those of OTLP."""
    assert read({"opentelemetry": {}}, trace=True).opentelemetry == OpenTelemetry("http://127.0.0.1:4318/v1/traces")
    table = {"endpoint": "https://t.example/v1", "service": "edge", "queue": 9, "interval": "1s", "timeout": "2s"}
    assert read({"opentelemetry": table}, trace=True).opentelemetry == OpenTelemetry(
        "https://t.example/v1", "edge", 9, 1.0, 2.0
    )


@pytest.mark.parametrize(
    ("top", "frontend", "complaint"),
    [
        ({}, {"trace": "on"}, "trace: expected true, false or a table, found a string"),
        ({}, {"trace": {"believe": "all"}}, "trace.believe: expected"),
        ({}, {"trace": True, "protocol": "tcp"}, 'trace: only for protocol = "http"'),
        ({"opentelemetry": {}}, {}, "opentelemetry: no frontend has trace"),
        ({"opentelemetry": {"endpoint": "grpc://a"}}, {"trace": True}, "opentelemetry.endpoint: expected an http URL"),
        ({"opentelemetry": {"endpoint": "http://me:s3cret@a"}}, {"trace": True}, "without a user in it"),
        ({"opentelemetry": {"service": ""}}, {"trace": True}, "found an empty string"),
    ],
)
def test_wrong(top: dict[str, Any], frontend: dict[str, Any], complaint: str) -> None:
    """A mistake is told with its key."""
    with pytest.raises(ConfigurationErrors, match=complaint):
        read(top, **frontend)
