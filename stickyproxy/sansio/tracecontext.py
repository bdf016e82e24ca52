"""Where a request stands in a trace, read and told on. Floor 2, pure. W3C Trace Context (Level 1, with the flag of 2).

A traceparent that is not well-formed, or came twice, is as none, and its tracestate goes with it (section 4.3). What a
stranger says is not believed unless the configuration says so: he could fill the operator's traces (section 8).
"""

from __future__ import annotations

import re
from random import Random

from stickyproxy.model import RequestHead, Trace
from stickyproxy.sansio.fields import without

SAMPLED, RANDOM = 1, 2
_NAMES = frozenset((b"traceparent", b"tracestate"))
#: Section 3.2: of a later version than 00, what this one knows is read.
_PARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?").fullmatch
#: A value ends with what is no space; so there is one way only to match spaces, and no time is lost on others.
_MEMBER = rb"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_STATE = re.compile(rb"%b(?:[ \t]*,(?:[ \t]*%b)?){0,31}[ \t]*" % (_MEMBER, _MEMBER)).fullmatch


def read(head: RequestHead) -> Trace | None:
    """What the traceparent of ``head`` says, None: there is none that counts."""
    values = head.values(b"traceparent")
    found = _PARENT(values[0].strip(b" \t")) if len(values) == 1 else None
    if found is None or found[1] == b"ff" or (found[1] == b"00" and found[5] is not None):
        return None
    trace, span, flags = found[2].decode(), found[3].decode(), int(found[4], 16)
    if not trace.strip("0") or not span.strip("0"):
        return None
    return Trace(trace, span, "", flags & (SAMPLED | RANDOM))


class Tracing:
    """Has every request be in a trace.

    ``believe``: whose trace goes on: ``"everyone"``'s, ``"trusted"`` peers' or ``"nobody"``'s; for all others one is
    begun, and ``sample`` is the share of those that shall be kept. ``spans``: each request is a span of ours, and its
    backend's parent; else the backend's parent is the client's.
    """

    __slots__ = ("_believe", "_random", "_sample", "_spans")

    def __init__(self, believe: str, sample: float, random: Random, *, spans: bool) -> None:
        self._believe = believe
        self._sample = sample
        self._random = random
        self._spans = spans

    def trace(self, head: RequestHead, *, trusted: bool) -> Trace:
        """Where ``head``, of a peer that is ``trusted`` or not, stands."""
        believed = self._believe == "everyone" or (trusted and self._believe == "trusted")
        told = read(head) if believed else None
        if told is None:
            flags = SAMPLED | RANDOM if self._random.random() < self._sample else RANDOM
            return Trace(self._id(128), self._id(64), "", flags)
        return Trace(told.trace, self._id(64), told.span, told.flags) if self._spans else told

    def tell(self, head: RequestHead, trace: Trace) -> RequestHead:
        """``head`` as its backend shall see it: in ``trace``."""
        told = read(head)
        plain = without(head.plain, _NAMES)
        plain += (
            b"traceparent",
            b": ",
            b"00-%b-%b-%02x" % (trace.trace.encode(), trace.span.encode(), trace.flags),
            b"\r\n",
        )
        if told is not None and told.trace == trace.trace:
            state = b",".join(head.values(b"tracestate"))
            if _STATE(state):
                plain += (b"tracestate", b": ", state, b"\r\n")
        return head._replace(plain=plain)

    def _id(self, bits: int) -> str:
        """Random digits that are not all zero."""
        return f"{self._random.getrandbits(bits) or 1:0{bits // 4}x}"
