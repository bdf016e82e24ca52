"""Traces as clients, backends and the log see them."""

from __future__ import annotations

import re
from random import Random

from house import House

from stickyproxy.config import specs
from stickyproxy.model import Backend, HTTPEntry
from stickyproxy.sansio.tracecontext import Tracing

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
REQUEST = f"GET / HTTP/1.1\r\nHost: a\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\ntracestate: a=1\r\n\r\n".encode()
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def house(trusted: str = "198.51.100.7") -> House:
    frontend = specs.Frontend("web", ("tcp:8080",), "app", trusted_proxies=(trusted,))
    return House(frontend, specs.Cluster("app", (Backend("a", "tcp:127.0.0.1:1"),)))


def traced(it: House) -> tuple[list[bytes], HTTPEntry]:
    """What the backend is told of the trace, and what the log is."""
    it.client().deliver(REQUEST)
    it.accepted().deliver(ANSWER)
    (entry,) = it.entries
    assert isinstance(entry, HTTPEntry)
    return re.findall(rb"(?im)^trace\w+: .*(?=\r)", it.accepted().take()), entry


def test_without_tracing_the_fields_pass() -> None:
    """Where nothing is configured, what the client says of its trace reaches the backend as it came."""
    told, entry = traced(house())
    assert told == [f"traceparent: 00-{TRACE}-{SPAN}-01".encode(), b"tracestate: a=1"]
    assert entry.trace is None


def test_a_trace_goes_on() -> None:
    """A trusted proxy's trace goes on with a span of ours, which the log tells."""
    it = house()
    it.factory.tracing = Tracing("trusted", 1.0, Random(1), spans=True)
    told, entry = traced(it)
    assert entry.trace is not None and (entry.trace.trace, entry.trace.parent) == (TRACE, SPAN)
    assert told == [f"traceparent: 00-{TRACE}-{entry.trace.span}-01".encode(), b"tracestate: a=1"]


def test_a_stranger_begins_anew() -> None:
    """A stranger's trace ends here, and a new one begins."""
    it = house("192.0.2.1")
    it.factory.tracing = Tracing("trusted", 1.0, Random(1), spans=True)
    told, entry = traced(it)
    assert entry.trace is not None and entry.trace.trace != TRACE
    assert told == [f"traceparent: 00-{entry.trace.trace}-{entry.trace.span}-03".encode()]


def test_each_request_of_a_connection_has_its_own() -> None:
    """Two requests of one connection are two spans, and one that could not be read is in no trace."""
    it = house("192.0.2.1")
    it.factory.tracing = Tracing("trusted", 1.0, Random(1), spans=True)
    client = it.client()
    for _ in range(2):
        client.deliver(REQUEST)
        it.accepted().deliver(ANSWER)
    client.deliver(b"what is this\r\n\r\n")
    first, second, third = (entry for entry in it.entries if isinstance(entry, HTTPEntry))
    assert first.trace and second.trace and first.trace.trace != second.trace.trace
    assert (third.status, third.trace) == (400, None)
