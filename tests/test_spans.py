"""Requests in traces as spans, as the SDK hands them on and as a receiver of OTLP gets them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from stickyproxy import spans as spans_module
from stickyproxy.config.tracing import OpenTelemetry
from stickyproxy.model import HTTPEntry, Outcome, RelayEntry, RequestHead, Side, Trace
from stickyproxy.spans import CannotTrace, Spans

TRACE, SPAN, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
HEAD = RequestHead(b"GET", b"/a?token=s3cret&b=c", 1, [], {}, 0, b"example.org", True, None)
KEPT = Trace(TRACE, SPAN, PARENT, 1)
REQUEST = HTTPEntry("192.0.2.7", HEAD, 200, 42, 100.5, 0.5, "app", "a", Outcome.KEPT, b"made", "web", KEPT)


class Threads:
    """What stands in for the reactor's threads: done at once."""

    def getThreadPool(self) -> Threads:
        return self

    def callInThreadWithCallback(self, then: Any, act: Any, *arguments: Any) -> None:  # noqa: N802
        then(True, act(*arguments))

    def callFromThread(self, act: Any, *arguments: Any) -> None:
        act(*arguments)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def spans(exporter: InMemorySpanExporter) -> Spans:
    return Spans(OpenTelemetry(service="edge"), Threads(), SimpleSpanProcessor(exporter))


def test_a_request_is_a_span(spans: Spans, exporter: InMemorySpanExporter) -> None:
    """A request is a span with its times, in the trace and under the parent that it came with, secrets masked."""
    spans.take([REQUEST])
    (span,) = exporter.get_finished_spans()
    assert span.context is not None and span.parent is not None and span.attributes is not None
    assert (span.name, span.kind, span.status.status_code) == ("GET", SpanKind.SERVER, StatusCode.UNSET)
    assert (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}") == (TRACE, SPAN)
    assert (f"{span.parent.span_id:016x}", span.parent.is_remote) == (PARENT, True)
    assert (span.start_time, span.end_time) == (100_000_000_000, 100_500_000_000)
    assert span.resource.attributes["service.name"] == "edge"
    assert dict(span.attributes) == {
        "client.address": "192.0.2.7", "http.request.method": "GET", "http.response.status_code": 200,
        "http.response.body.size": 42, "url.path": "/a", "url.query": "token=***&b=c", "server.address": "example.org",
        "network.protocol.version": "1.1", "stickyproxy.frontend": "web", "stickyproxy.cluster": "app",
        "stickyproxy.backend": "a", "stickyproxy.affinity": "kept", "stickyproxy.request_id": "made",
    }  # fmt: skip


def test_a_failed_request_is_a_failed_span(spans: Spans, exporter: InMemorySpanExporter) -> None:
    """An answer of 500 and more is an error; one of 404 is the client's."""
    spans.take([REQUEST._replace(status=502), REQUEST._replace(status=404)])
    assert [span.status.status_code for span in exporter.get_finished_spans()] == [StatusCode.ERROR, StatusCode.UNSET]


def test_a_websocket_is_a_span_below_its_request(spans: Spans, exporter: InMemorySpanExporter) -> None:
    """A WebSocket is a span of its own, as long as it lived; its parent is the request that opened it."""
    spans.take(
        [
            RelayEntry(
                "192.0.2.7", "websocket", 1, 2, 200.0, 99.0, "app", "a", Outcome.KEPT, Side.CLIENT, HEAD, trace=KEPT
            )
        ]
    )
    (span,) = exporter.get_finished_spans()
    assert span.context is not None and span.parent is not None and span.attributes is not None
    assert (span.name, f"{span.parent.span_id:016x}") == ("WEBSOCKET", SPAN)
    assert span.context.span_id != span.parent.span_id
    assert span.attributes["stickyproxy.closed"] == "client"


def test_what_shall_not_be_kept_is_not_sent(spans: Spans, exporter: InMemorySpanExporter) -> None:
    """The flag of the trace decides; a request in no trace is no span."""
    spans.take([REQUEST._replace(trace=KEPT._replace(flags=2)), REQUEST._replace(trace=None)])
    assert exporter.get_finished_spans() == ()


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[Any]]]:
    """A receiver of OTLP over HTTP, and what it got."""
    got: list[Any] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, ExportTraceServiceRequest.FromString(content)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", got
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_receiver_of_otlp_gets_them(receiver: tuple[str, list[Any]]) -> None:
    """What is left when the proxy ends reaches the receiver, by OTLP."""
    url, got = receiver
    spans = Spans(OpenTelemetry(url, "edge"), Threads())
    spans.startService()
    spans.take([REQUEST] * 3)
    spans.stopService()
    spans.take([REQUEST])  # too late, and no harm
    ((path, told),) = got
    assert path == "/v1/traces"
    (resource,) = told.resource_spans
    (scope,) = resource.scope_spans
    assert [span.trace_id.hex() for span in scope.spans] == [TRACE] * 3
    assert {span.parent_span_id.hex() for span in scope.spans} == {PARENT}


def test_without_the_sdk_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for spans without the extra is told how to install it."""
    monkeypatch.setattr(spans_module, "INSTALLED", False)
    with pytest.raises(CannotTrace, match=r"pip install 'stickyproxy\[opentelemetry\]'"):
        Spans(OpenTelemetry(), Threads())
