"""What can be drained: the connections of a frontend, or of the whole process. Floor 5."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet

from stickyproxy.control.draining import Connection


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
