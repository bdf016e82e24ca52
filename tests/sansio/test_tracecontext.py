"""Where a request stands in a trace: what is believed, begun, dropped and told on."""

from __future__ import annotations

import re
import time
from random import Random

import pytest

from stickyproxy.config.specs import Limits
from stickyproxy.model import RequestHead, Trace
from stickyproxy.sansio.http1 import parse_request_head
from stickyproxy.sansio.tracecontext import Tracing, read

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"traceparent: 00-{TRACE}-{SPAN}-01"


def head_of(*fields: str) -> RequestHead:
    return parse_request_head("\r\n".join(["GET / HTTP/1.1", "Host: a", *fields, "", ""]).encode(), Limits())


def tracing(believe: str = "trusted", sample: float = 1.0, *, spans: bool = True) -> Tracing:
    return Tracing(believe, sample, Random(1), spans=spans)


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-01", 1),
        (f"00-{TRACE}-{SPAN}-ff", 3),
        (f"01-{TRACE}-{SPAN}-01", 1),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", 1),
    ],
)
def test_well_formed(value: str, flags: int) -> None:
    """A traceparent is read, of a later version as far as it is like this one."""
    assert read(head_of(f"TraceParent:  {value} ")) == Trace(TRACE, SPAN, "", flags)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [PARENT, PARENT],
        ["traceparent: "],
        [f"traceparent: 00-{TRACE.upper()}-{SPAN}-01"],
        [f"traceparent: 00-{'0' * 32}-{SPAN}-01"],
        [f"traceparent: 00-{TRACE}-{'0' * 16}-01"],
        [f"traceparent: 00-{TRACE}-{SPAN}-1"],
        [f"traceparent: 00-{TRACE}-{SPAN}-01-more"],
        [f"traceparent: 00-{TRACE}-{SPAN}-01."],
        [f"traceparent: cc-{TRACE}-{SPAN}-01.more"],
        [f"traceparent: ff-{TRACE}-{SPAN}-01"],
        [f"traceparent: 00-{TRACE[1:]}-{SPAN}-01"],
        [f"traceparent: 00-{TRACE}-{SPAN}-0g"],
    ],
)
def test_malformed(fields: list[str]) -> None:
    """What is not well-formed is as none: a trace is begun, and neither field goes further."""
    head = head_of(*fields, "tracestate: a=1")
    assert read(head) is None
    begun = tracing("everyone").trace(head, trusted=True)
    assert (begun.trace != TRACE, begun.parent) == (True, "")
    told = tracing().tell(head, begun)
    assert told.values(b"traceparent") == [f"00-{begun.trace}-{begun.span}-03".encode()]
    assert told.values(b"tracestate") == []


@pytest.mark.parametrize(
    ("believe", "trusted", "goes_on"),
    [
        ("trusted", True, True),
        ("trusted", False, False),
        ("everyone", False, True),
        ("nobody", True, False),
    ],
)
def test_who_is_believed(believe: str, trusted: bool, goes_on: bool) -> None:
    """The trace of a stranger ends here, unless the configuration believes everyone."""
    trace = tracing(believe).trace(head_of(PARENT), trusted=trusted)
    assert (trace.trace == TRACE, trace.parent == SPAN) == (goes_on, goes_on)


def test_a_span_of_ours_is_the_parent() -> None:
    """Where spans are sent, the backend's parent is ours, and ours is the client's; the state goes with it."""
    head = head_of("traceState: a=1", PARENT, "tracestate: b@c=2,, d=3", "X-Other: 1")
    trace = tracing().trace(head, trusted=True)
    told = tracing().tell(head, trace)
    assert (trace.trace, trace.parent, trace.flags) == (TRACE, SPAN, 1)
    assert trace.span != SPAN and re.fullmatch("[0-9a-f]{16}", trace.span)
    assert told.values(b"traceparent") == [f"00-{TRACE}-{trace.span}-01".encode()]
    assert told.values(b"tracestate") == [b"a=1,b@c=2,, d=3"]
    assert told.values(b"x-other") == [b"1"]


def test_without_spans_the_parent_stays() -> None:
    """Where none are sent, the backend's parent is the client's: nobody could find ours."""
    head = head_of(PARENT)
    trace = tracing(spans=False).trace(head, trusted=True)
    assert trace == Trace(TRACE, SPAN, "", 1)
    assert tracing(spans=False).tell(head, trace).values(b"traceparent") == [f"00-{TRACE}-{SPAN}-01".encode()]


@pytest.mark.parametrize("state", ["A=1", "a", "a=\u00e4", ",".join(f"k{n}=1" for n in range(33)), "a=" + "x" * 257])
def test_a_malformed_state_is_dropped(state: str) -> None:
    """A tracestate that no one could read is dropped, and the trace goes on."""
    head = head_of(PARENT)._replace()
    head = head._replace(plain=[*head.plain, b"tracestate", b": ", state.encode(), b"\r\n"])
    told = tracing().tell(head, tracing().trace(head, trusted=True))
    assert told.values(b"tracestate") == [] and told.values(b"traceparent")[0].startswith(f"00-{TRACE}".encode())


@pytest.mark.parametrize("member", ["a=b   ", "", "   "])
def test_a_state_of_spaces_takes_no_time(member: str) -> None:
    """Whoever sends members with spaces about them, and a mistake behind, keeps the proxy busy for no longer."""
    head = head_of(PARENT)
    state = ",".join(["a=b", *[member] * 12, "!"]).encode()
    head = head._replace(plain=[*head.plain, b"tracestate", b": ", state, b"\r\n"])
    began = time.process_time()
    told = tracing().tell(head, tracing().trace(head, trusted=True))
    assert told.values(b"tracestate") == [] and time.process_time() - began < 2


def test_the_share_that_shall_be_kept() -> None:
    """Of those begun here, sample are flagged to be kept; those begun elsewhere say it themselves."""
    kept = tracing(sample=0.25)
    flags = [kept.trace(head_of(), trusted=True).flags & 1 for _ in range(1000)]
    assert 150 < sum(flags) < 350
    assert kept.trace(head_of(PARENT), trusted=True).flags == 1
