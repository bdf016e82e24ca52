"""The door of a frontend or a route: list, rate, password, in this order. Floor 4. RFC 9110 section 11.

Whom the list refuses costs no token, and whom the rate refuses no verification. A name and a password that were meant
for this door go no further: the backend does not see ``Authorization``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from twisted.internet.defer import Deferred

from stickyproxy.cluster import Cluster
from stickyproxy.config.access import Access
from stickyproxy.config.specs import Frontend, Route
from stickyproxy.errors import HTTPError
from stickyproxy.gate import Gate
from stickyproxy.model import RequestHead
from stickyproxy.passwords import Passwords
from stickyproxy.sansio.basicauth import challenge, credentials
from stickyproxy.sansio.fields import names, without
from stickyproxy.sansio.identity import Identity
from stickyproxy.sansio.routing import RouteTable
from stickyproxy.sharing import Memory, rate_region

_CREDENTIALS = names("authorization")


class Door:
    """One ``access`` table: a gate, and behind it, unless None, ``passwords``."""

    def __init__(self, gate: Gate, passwords: Passwords | None, realm: str) -> None:
        self._check = gate.check
        self._passwords = passwords
        self._challenge = challenge(realm)

    def admit(self, head: RequestHead, identity: Identity) -> tuple[RequestHead, Deferred[None] | None]:
        """The request as it may go on, and None: it may at once. Else what it has to wait for, or raises ``HTTPError``.

        403, 429, 401, or 503 where too many passwords are being verified; what it returns fails with 401.
        """
        client = identity.client(head)
        self._check(client, identity.sure(head))
        if self._passwords is None:
            return head, None
        given = credentials(head.values(b"authorization"))
        if given is None:
            raise self._unauthorized()
        head = head._replace(plain=without(head.plain, _CREDENTIALS))
        verdict = self._passwords.verify(*given, client)
        return head, None if isinstance(verdict, bool) else verdict.addCallback(self._judge)

    def _judge(self, right: bool) -> None:
        if not right:
            raise self._unauthorized()

    def _unauthorized(self) -> HTTPError:
        return HTTPError("a name and a password are needed", status=401, fields=self._challenge)


class Destination(NamedTuple):
    """Where a request goes to, and through which door."""

    cluster: Cluster | None  #: None: nothing is served there
    door: Door | None  #: None: open to everyone
    route: Route | None  #: that leads there; None: none matches


def destinations(
    spec: Frontend,
    clusters: Mapping[str, Cluster],
    seconds: Callable[[], float],
    passwords: Mapping[Path, Passwords],
    memory: Memory,
) -> RouteTable[Destination]:
    """The routes of a frontend. A route without ``access`` is behind the frontend's door, and counts with it."""

    def door(route: Route | None) -> Door | None:
        access = spec.access if route is None else route.access
        if access is None or access == Access():
            return None
        gate = Gate(access, seconds, memory, rate_region(spec, route))
        return Door(gate, passwords[access.users_file] if access.users_file is not None else None, access.realm)

    front = door(None)
    routes = [
        (route, Destination(clusters[route.cluster], front if route.access is None else door(route), route))
        for route in spec.routes
    ]
    return RouteTable(routes, Destination(clusters[spec.cluster] if spec.cluster is not None else None, front, None))
