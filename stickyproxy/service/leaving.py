"""What a reload has taken away, as long as somebody is connected to it. Floor 6."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import Any

from twisted.logger import Logger

from stickyproxy.cluster import Cluster
from stickyproxy.config.specs import OnRemoval
from stickyproxy.control.drained import BackendSubject, ConnectionsSubject
from stickyproxy.control.draining import Drains, Manner
from stickyproxy.member import Member
from stickyproxy.service.frontends import Frontend

_log = Logger()


class Leaving:
    """Frontends and backends that are no more. ``drains`` has those whose connections are to end.

    ``deadline()``: for how long they may go on, in seconds, None: without end. ``connections()``: those of all clients.
    """

    def __init__(
        self, drains: Drains, deadline: Callable[[], float | None], connections: Callable[[], Iterable[Any]]
    ) -> None:
        self.frontends: list[Frontend] = []
        self._drains = drains
        self._deadline = deadline
        self._connections = connections

    def lose_backend(self, cluster: Cluster, member: Member, policy: OnRemoval) -> None:
        """``member`` was one of ``cluster``."""
        if not member.active:
            return
        _log.info(
            "Backend {backend} of {cluster} is gone, {count} requests and tunnels are left: {policy}",
            backend=member.id,
            cluster=cluster.name,
            count=member.active,
            policy=policy,
        )
        if policy != "keep":
            self._drains.start(BackendSubject(cluster, member, self._served_by), self._manner(policy))

    def lose_frontend(self, frontend: Frontend, policy: OnRemoval) -> None:
        """Nobody comes to ``frontend`` any more. What HTTP has under way ends with its answer in any case."""
        self.frontends = [each for each in (*self.frontends, frontend) if each.connections]
        if not frontend.connections:
            return
        _log.info(
            "Frontend {frontend} is gone, {count} connections are left: {policy}",
            frontend=frontend.spec.name,
            count=len(frontend.connections),
            policy=policy,
        )
        if policy == "keep":
            for connection in frontend.connections - frontend.tunnels():
                connection.drain()
            return
        name = f"frontend {frontend.spec.name}"
        subject = ConnectionsSubject(name, lambda: frontend.connections, frontend.tunnels)
        self._drains.start(subject, self._manner(policy))

    def abort(self) -> None:
        """End every connection of a frontend that is no more."""
        for frontend in self.frontends:
            frontend.abort()

    def _manner(self, policy: OnRemoval) -> Manner:
        return Manner(deadline=0.0) if policy == "cut" else Manner(deadline=self._deadline())

    def _served_by(self, member: Member) -> AbstractSet[Any]:
        return {connection for connection in self._connections() if connection.is_served_by(member)}
