"""A client that wants to be told why: every answer says so in its fields. Floor 3."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from stickyproxy.cluster import Cluster
from stickyproxy.errors import HTTPError
from stickyproxy.exchange.connection import BackendConnection
from stickyproxy.exchange.exchange import ClientSide, Exchange
from stickyproxy.model import Arrival, Field, ResponseHead
from stickyproxy.sansio.explaining import FIELD, explain_affinity, explain_choice, explain_members

_NOT_PRINTABLE = re.compile(rb"[^ -~]")


class Explained:
    """Stands before ``client``, and adds to its answer what led to it. ``exchange`` is set when that is made."""

    exchange: Exchange | None = None

    def __init__(self, client: ClientSide, route: str, cluster: Cluster, arrival: Arrival) -> None:
        self._client = client
        self._balancer = cluster.balancer_name
        members = cluster.members
        down = {id: str(member.health) for id, member in members.items() if member.health and member.health.down}
        self._before = (
            route,
            *explain_affinity(cluster.links, arrival, members),
            *explain_members(members.values(), down),
        )
        self.interim = client.interim
        self.answer_more = client.answer_more
        self.pause_request = client.pause_request
        self.resume_request = client.resume_request

    def answer(
        self, head: ResponseHead, content: bytes, ended: bool, trailers: Sequence[Field], set_cookie: bytes | None
    ) -> None:
        self._client.answer(self._told(head), content, ended, trailers, set_cookie)

    def switched(
        self, head: ResponseHead, connection: BackendConnection, early: bytes, set_cookie: bytes | None
    ) -> None:
        self._client.switched(self._told(head), connection, early, set_cookie)

    def failed(self, error: HTTPError) -> None:
        error.fields += b"".join(b"%b: %b\r\n" % (FIELD, line) for line in self._lines())
        self._client.failed(error)

    def _told(self, head: ResponseHead) -> ResponseHead:
        pieces = [piece for line in self._lines() for piece in (FIELD, b": ", line, b"\r\n")]
        return head._replace(plain=[*head.plain, *pieces])

    def _lines(self) -> Iterable[bytes]:
        choice = self.exchange.choice if self.exchange is not None else None
        lines = (*self._before, explain_choice(choice, self._balancer))
        return [_NOT_PRINTABLE.sub(b"?", line.encode("ascii", "replace")) for line in lines]
