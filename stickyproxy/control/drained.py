"""What can be drained: a backend, and the connections of a frontend or of the whole process. Floor 5."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from collections.abc import Set as AbstractSet

from stickyproxy.cluster import Cluster
from stickyproxy.control.draining import Connection
from stickyproxy.member import Member
from stickyproxy.model import BackendState
from stickyproxy.sansio.affinity.chain import ChainAffinity
from stickyproxy.sansio.affinity.table import TableAffinity
from stickyproxy.sansio.sessions import SessionTable

#: How many sockets other processes still have of what drains under this name.
Elsewhere = Callable[[str], int]


def nobody(name: str) -> int:
    """There are no other processes."""
    return 0


class BackendSubject:
    """``member`` of ``cluster``. ``serving`` finds the clients' connections whose requests a member is answering."""

    def __init__(
        self,
        cluster: Cluster,
        member: Member,
        serving: Callable[[Member], Iterable[Connection]] = lambda member: (),
        elsewhere: Elsewhere = nobody,
    ) -> None:
        self.name = f"backend {member.id} of {cluster.name}"
        self._cluster = cluster
        self._member = member
        self._serving = serving
        self._elsewhere = elsewhere
        self._before = self._now = member.state

    def stay(self) -> None:
        self._enter(BackendState.DRAIN)

    def close(self) -> None:
        self._enter(BackendState.MAINTENANCE)
        self._member.close_idle()

    def restore(self) -> None:
        self._enter(self._before)

    def now(self) -> tuple[str, str, str, int]:
        """Cluster, backend, its state and its weight."""
        return self._cluster.name, self._member.id, self._member.state.value, self._member.weight

    def given_up(self) -> bool:
        return self._member.state is not self._now

    def connections(self) -> AbstractSet[Connection]:
        return self._member.tunnels

    def tunnels(self) -> AbstractSet[Connection]:
        return self._member.tunnels

    def remainder(self) -> Collection[Connection]:
        return {*self._member.tunnels, *self._serving(self._member)}

    def sockets(self) -> int:
        return self._member.active + self._elsewhere(self.name)

    def sessions(self) -> int | None:
        return session_count(self._cluster, self._member.id)

    def _enter(self, state: BackendState) -> None:
        self._now = state
        self._member.set_state(state)


class ConnectionsSubject:
    """The open connections of a frontend, or of all. ``begin`` and ``stop`` are called first of all, if given.

    ``connections`` and ``tunnels`` give those that are open now; not all tunnels need to be among the connections.
    """

    def __init__(
        self,
        name: str,
        connections: Callable[[], AbstractSet[Connection]],
        tunnels: Callable[[], AbstractSet[Connection]],
    ) -> None:
        self.name = name
        self.connections = connections
        self.remainder = connections
        self._tunnels = tunnels

    def stay(self) -> None:
        """Nobody is bound to a frontend."""

    def close(self) -> None:
        """Who drains it has stopped listening."""

    def restore(self) -> None:
        """Nor is anything to be put back."""

    def given_up(self) -> bool:
        return False

    def tunnels(self) -> AbstractSet[Connection]:
        return self.connections() & self._tunnels()

    def sockets(self) -> int:
        return len(self.connections())

    def sessions(self) -> int | None:
        return None


class ClosedSubject(ConnectionsSubject):
    """The connections of ``frontend``, which is closed already; None: of the whole process."""

    def __init__(
        self,
        frontend: str | None,
        connections: Callable[[], AbstractSet[Connection]],
        tunnels: Callable[[], AbstractSet[Connection]],
        elsewhere: Elsewhere = nobody,
    ) -> None:
        super().__init__("process" if frontend is None else f"frontend {frontend}", connections, tunnels)
        self.frontend = frontend
        self._elsewhere = elsewhere

    def sockets(self) -> int:
        return super().sockets() + self._elsewhere(self.name)


def session_count(cluster: Cluster, backend: str) -> int | None:
    """How many sessions ``backend`` has: 0 without affinity, None where clients keep them, in cookies say."""
    affinity = cluster.affinity
    if not affinity.remembers:
        return 0
    links = affinity.links if isinstance(affinity, ChainAffinity) else (affinity,)
    stores = {id(link.sessions): link.sessions for link in links if isinstance(link, TableAffinity)}
    if len(stores) != 1 or not all(isinstance(link, TableAffinity) for link in links):
        return None
    (store,) = stores.values()
    return store.counts().get(backend, 0) if isinstance(store, SessionTable) else None
