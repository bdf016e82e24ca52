"""A configuration served by several processes: the parent's side of it, and what a worker makes of it. Floor 6."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from stickyproxy.config import Configuration, parse
from stickyproxy.control.cores import worker_count
from stickyproxy.control.fleet import Fleet
from stickyproxy.control.life import Common
from stickyproxy.control.reloading import Loaded
from stickyproxy.control.sockets import Sockets
from stickyproxy.control.worker import Worker
from stickyproxy.extensions import Extensions
from stickyproxy.replication import ChildSessions, ParentSessions
from stickyproxy.service.proxy import Proxy, build
from stickyproxy.sharing import SharedMemory, regions_of


def build_fleet(loaded: Loaded, reactor: Any, extensions: Extensions, fail: Callable[[str], object]) -> Fleet:
    """What serves ``loaded`` by workers. Raises as ``build`` does.

    ``fail`` is called with the reason when no worker can serve.
    """
    configuration = loaded.configuration
    count = worker_count(configuration.process.workers)
    common = Common(SharedMemory.create(2 * count), ParentSessions(reactor, time.time))
    common.memory.provide(regions_of(configuration))
    sockets = Sockets(reactor, accepting=False, opening=True, copies=count)
    proxy = build(configuration, reactor, extensions, listen=sockets.listen, sessions=common.sessions.table)
    fleet = Fleet(proxy, loaded.document, sockets, common, reactor, fail)
    proxy.setServiceParent(fleet)
    return fleet


def make_worker(reactor: Any, extensions: Extensions, memory: SharedMemory, sessions: ChildSessions) -> Worker:
    """A worker that serves what it is told."""

    def make(configuration: Configuration, sockets: Sockets, share: tuple[int, int]) -> Proxy:
        return build(
            configuration,
            reactor,
            extensions,
            listen=sockets.listen,
            memory=memory,
            sessions=sessions.table,
            probing=False,
            share=share,
        )

    return Worker(reactor, lambda document, path: parse(document, extensions, path), make)
