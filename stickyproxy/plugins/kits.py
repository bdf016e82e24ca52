"""Affinities for applications that keep sessions in memory: Socket.IO, SockJS, MCP. Floor 3.

The parameters of the functions here, their types and defaults, are the options in the configuration.
"""

from __future__ import annotations

from typing import Annotated, Literal

from twisted.logger import Logger

from stickyproxy.config.units import PathPrefix, Told
from stickyproxy.extensions import Extension
from stickyproxy.interfaces import IAffinity, ISessionStore
from stickyproxy.sansio.affinity import ApplicationAffinity, EngineIOAffinity, HashAffinity, MCPAffinity, sockjs_session

_log = Logger()


def _engine_io(cluster: str, sessions: ISessionStore) -> IAffinity:
    """The `sid` of Engine.IO, and so of Socket.IO: for clients without cookies, polling and upgraded. HTTP only.

    It is learned from the answer to the first poll, which must not be compressed. WebSockets without polling need no
    affinity.
    """
    told = False

    def warn(reason: str) -> None:
        nonlocal told
        if not told:
            told = True
            text = "Cluster {cluster}: the answer to a first poll of Engine.IO {reason}: its session is not learned"
            _log.warn(text, cluster=cluster, reason=reason)

    made: IAffinity = EngineIOAffinity(sessions, warn)
    return made


def _sockjs(
    sessions: ISessionStore,
    prefix: Annotated[
        PathPrefix | None, Told('Where SockJS is, as "/echo". Absent: anywhere that a path ends like one of its own.')
    ] = None,
    memory: Annotated[
        Literal["table", "hash"],
        Told('`"table"` learns who is where, `"hash"` computes it; see the affinities by a key.'),
    ] = "table",
) -> IAffinity:
    """The session in the paths of SockJS, `PREFIX/SERVER/SESSION/TRANSPORT`. HTTP only."""
    find = sockjs_session(prefix)
    if memory == "hash":
        hashed: IAffinity = HashAffinity(find)
        return hashed
    learned: IAffinity = ApplicationAffinity(find, "sockjs", sessions)
    return learned


def _mcp(sessions: ISessionStore) -> IAffinity:
    """The `Mcp-Session-Id` of the Model Context Protocol, learned from the answer to `initialize`. HTTP only.

    When the backend of a session is gone, its client gets 404, and so initializes anew with another. DELETE ends it.
    """
    made: IAffinity = MCPAffinity(sessions)
    return made


engine_io = Extension("engine.io", IAffinity, _engine_io)
sockjs = Extension("sockjs", IAffinity, _sockjs)
mcp = Extension("mcp", IAffinity, _mcp)
