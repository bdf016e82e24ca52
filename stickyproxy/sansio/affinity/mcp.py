"""Affinity of the Model Context Protocol, by ``Mcp-Session-Id``. Floor 2.

A server names its session in the answer to ``initialize``, and the client shows that name in every further request:
POST, the event stream of GET, and DELETE, which ends it. Who gets 404 to a request with a session must initialize anew:
so this is the answer where the backend of a session is gone, for no other would know it. (MCP, "Transports", "Session
Management". https://modelcontextprotocol.io/specification/2025-06-18/basic/transports)
"""

from __future__ import annotations

from zope.interface import implementer

from stickyproxy.interfaces import ISessionStore, IStrictAffinity
from stickyproxy.model import Arrival, ResponseHead
from stickyproxy.sansio.affinity.application import ApplicationAffinity
from stickyproxy.sansio.keys import find_key

_FIELD = b"mcp-session-id"


@implementer(IStrictAffinity)
class MCPAffinity(ApplicationAffinity):
    """Sessions of MCP's streamable HTTP."""

    def __init__(self, sessions: ISessionStore) -> None:
        super().__init__(find_key("header:mcp-session-id"), "mcp", sessions)

    def lost_status(self, arrival: Arrival) -> int:
        return 404 if self._find_key(arrival) is not None else 0

    def answered(self, arrival: Arrival, backend_id: str, head: ResponseHead) -> ResponseHead:
        super().answered(arrival, backend_id, head)
        if head.status < 300:
            if arrival.head is not None and arrival.head.method == b"DELETE":
                self._confirmed = None
                self.forget(arrival)
                return head
            made = head.values(_FIELD)
            if len(made) == 1:
                self._learn(made[0].strip(b" \t"), backend_id)
        return head
