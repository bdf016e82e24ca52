"""Affinity of Engine.IO, and so of Socket.IO, by the ``sid`` in the query: for clients without cookies. Floor 2.

A client that polls first gets its ``sid`` in the answer to a request without one, and shows it in every further request
and in the upgrade. (Engine.IO protocol, revisions 3 and 4: "Handshake". https://github.com/socketio/engine.io-protocol)
A client of WebSockets alone has one connection, which needs no affinity.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from json import JSONDecoder

from zope.interface import implementer

from stickyproxy.interfaces import IReadingAffinity, ISessionStore
from stickyproxy.model import Arrival, ResponseHead
from stickyproxy.sansio.affinity.application import ApplicationAffinity
from stickyproxy.sansio.keys import find_key

_TRANSPORT = find_key("query:transport")
#: Around the packets where scripts poll (JSONP), and before each in revision 3: its length, as text or in bytes.
_SCRIPT = re.compile(r'___eio\[[0-9]{1,9}\]\((?=")')
_OPEN = re.compile("(?:[0-9]{1,5}:|\x00[\x00-\x09]{1,5}\ufffd)?0(?=\\{)")
_read_json = JSONDecoder().raw_decode


@implementer(IReadingAffinity)
class EngineIOAffinity(ApplicationAffinity):
    """``warn(reason)`` is told of an answer that should have had a ``sid``."""

    def __init__(self, sessions: ISessionStore, warn: Callable[[str], None]) -> None:
        super().__init__(find_key("query:sid"), "engine.io", sessions)
        self._warn = warn

    def reader(self, arrival: Arrival, backend_id: str, head: ResponseHead) -> Callable[[bytes, bool], bool] | None:
        request = arrival.head
        if request is None or request.method != b"GET" or head.status != 200:
            return None
        if self._find_key(arrival) is not None or _TRANSPORT(arrival) != b"polling":
            return None
        if head.values(b"content-encoding"):
            self._warn("is compressed")
            return None
        return partial(self._read, backend_id)

    def _read(self, backend_id: str, content: bytes, last: bool) -> bool:
        sid = opened(content)
        if sid:
            self._learn(sid, backend_id)
        elif last:
            self._warn("is not an Engine.IO handshake")
        return sid != b""


def opened(content: bytes) -> bytes:
    """The ``sid`` in the packet "open" that ``content`` begins with; empty: there is none, or not the whole of it."""
    text = content.decode("utf-8", "replace")
    try:
        script = _SCRIPT.match(text)
        if script is not None:
            text = _read_json(text, script.end())[0]
        packet = _OPEN.match(text)
        said = _read_json(text, packet.end())[0] if packet is not None else {}
    except (ValueError, RecursionError):
        return b""
    sid = said.get("sid")
    return sid.encode("utf-8", "replace") if isinstance(sid, str) else b""
