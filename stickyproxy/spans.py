"""Requests in traces as spans of OpenTelemetry, by its SDK. Floor 3.

Spans are made of the entries of the log, by the batch; a thread of the SDK sends them (OTLP over HTTP). A request waits
for none of that, and what cannot be sent in time is dropped. The attributes are those of OpenTelemetry's semantic
conventions for HTTP servers, with ``stickyproxy.`` before what is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from stickyproxy.config.tracing import OpenTelemetry
from stickyproxy.errors import StickyproxyError
from stickyproxy.model import Entry, HTTPEntry, OpenEntry, RelayEntry, Trace
from stickyproxy.sansio.masking import SECRETS, mask_of
from stickyproxy.sansio.tracecontext import SAMPLED

try:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
    from opentelemetry.trace.status import Status, StatusCode
except ImportError:
    INSTALLED = False
else:
    INSTALLED = True


class CannotTrace(StickyproxyError):
    """The SDK of OpenTelemetry is not installed."""


class Spans(Service):
    """Sends a span for each traced request, and for each tunnel, that shall be kept.

    ``processor`` is the SDK's, which hands them on; None: to ``spec.endpoint``, from the start of the service on.
    Raises ``CannotTrace``. ``reactor``: ``IReactorThreads``.
    """

    def __init__(self, spec: OpenTelemetry, reactor: Any, processor: Any = None) -> None:
        if not INSTALLED:
            raise CannotTrace("[opentelemetry] needs its SDK: pip install 'stickyproxy[opentelemetry]'")
        self.spec = spec
        self._reactor = reactor
        self._processor = processor
        self._mask = mask_of(SECRETS)
        self._resource = Resource.create({"service.name": spec.service})
        self._scope = InstrumentationScope("stickyproxy")

    def startService(self) -> None:
        """Begin to send: not before, since twistd has forked by now, and threads would not survive that."""
        super().startService()
        if self._processor is None:
            self._processor = _processor(self.spec)

    def stopService(self) -> Deferred[Any] | None:
        """Send what is left; whoever is to take it may be slow, or gone, and is not waited for in the reactor."""
        super().stopService()
        processor, self._processor = self._processor, None
        if processor is None:
            return None
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), processor.shutdown)

    def take(self, entries: Sequence[Entry]) -> None:
        """Send the spans of ``entries``, soon."""
        processor = self._processor
        if processor is None:
            return
        for entry in entries:
            if not isinstance(entry, OpenEntry) and entry.trace is not None and entry.trace.flags & SAMPLED:
                processor.on_end(self._span(entry, entry.trace))

    def _span(self, entry: HTTPEntry | RelayEntry, trace: Trace) -> Any:
        request = isinstance(entry, HTTPEntry)
        context = _context(trace, trace.span, remote=False)
        parent = _context(trace, trace.parent, remote=True) if trace.parent else None
        if not request:  # the span of its request is the parent of that of a tunnel
            parent, context = context, _context(trace, f"{int(trace.span, 16) ^ (1 << 63) or 1:016x}", remote=False)
        failed = isinstance(entry, HTTPEntry) and entry.status >= 500
        method = entry.head.method.decode() if entry.head is not None else "HTTP"
        return ReadableSpan(
            method if isinstance(entry, HTTPEntry) else entry.protocol.upper(),
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=self._attributes(entry),
            kind=SpanKind.SERVER if request else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR if failed else StatusCode.UNSET),
            start_time=int((entry.ended - entry.duration) * 1e9),
            end_time=int(entry.ended * 1e9),
            instrumentation_scope=self._scope,
        )

    def _attributes(self, entry: HTTPEntry | RelayEntry) -> dict[str, Any]:
        told: dict[str, Any] = {
            "client.address": entry.client,
            "stickyproxy.frontend": entry.frontend,
            "stickyproxy.cluster": entry.cluster,
            "stickyproxy.backend": entry.backend,
            "stickyproxy.affinity": entry.outcome.value,
            "stickyproxy.request_id": entry.request_id.decode("latin-1"),
        }
        if entry.head is not None:
            path, _, query = self._mask(entry.head.target).decode("utf-8", "backslashreplace").partition("?")
            told |= {"http.request.method": entry.head.method.decode(), "url.path": path, "url.query": query}
            told["server.address"] = entry.head.authority.decode("ascii", "backslashreplace")
            told["network.protocol.version"] = f"1.{entry.head.minor}"
        if isinstance(entry, HTTPEntry):
            told |= {"http.response.status_code": entry.status, "http.response.body.size": entry.sent}
        else:
            closed = entry.closed_by.value if entry.closed_by is not None else "proxy"
            told |= {
                "stickyproxy.received": entry.received,
                "stickyproxy.sent": entry.sent,
                "stickyproxy.closed": closed,
            }
        return {name: value for name, value in told.items() if value != ""}


def _context(trace: Trace, span: str, *, remote: bool) -> Any:
    return SpanContext(int(trace.trace, 16), int(span, 16), is_remote=remote, trace_flags=TraceFlags(trace.flags))


def _processor(spec: OpenTelemetry) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(endpoint=spec.endpoint, timeout=spec.timeout)
    return BatchSpanProcessor(
        exporter,
        max_queue_size=spec.queue,
        schedule_delay_millis=spec.interval * 1000,
        max_export_batch_size=min(512, spec.queue),
        export_timeout_millis=spec.timeout * 1000,
    )
