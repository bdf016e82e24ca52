"""Affinity of SockJS, by the session in the path: ``PREFIX/SERVER/SESSION/TRANSPORT``. Floor 2.

The client makes the session up; all requests of its transport have it, and ``/info`` and the page have none. (SockJS
protocol 0.3.3, "Session URLs". https://sockjs.github.io/sockjs-protocol/sockjs-protocol-0.3.3.html)
"""

from __future__ import annotations

from stickyproxy.model import Arrival
from stickyproxy.sansio.keys import LONGEST_PATH, KeyFinder, bounded
from stickyproxy.sansio.routing import routed_path

_TRANSPORTS = frozenset(b"websocket xhr xhr_send xhr_streaming jsonp jsonp_send eventsource htmlfile".split())


def sockjs_session(prefix: str | None = None) -> KeyFinder:
    """What finds the session below ``prefix``, or below any path."""
    wanted = None if prefix is None else prefix.rstrip("/").encode()

    def find_session(arrival: Arrival) -> bytes | None:
        if arrival.head is None:
            return None
        path = routed_path(arrival.head.target)
        parts = path.rsplit(b"/", 3)
        if len(path) > LONGEST_PATH or len(parts) != 4 or parts[3] not in _TRANSPORTS:
            return None
        before, server, session, _ = parts
        if not server or b"." in server or b"." in session or (wanted is not None and before != wanted):
            return None
        return bounded(session)

    return find_session
