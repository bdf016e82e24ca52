"""A process that serves, beside others like it: what ``control.life`` starts, with a parent at descriptor 3. Floor 7.

    python -m stickyproxy.worker MODULE SLOT

``MODULE`` installs the reactor (it has an ``install``), the one that the parent has. ``SLOT`` is our place in the
memory that the processes share.
"""

from __future__ import annotations

import signal
import socket
import sys
import time
from importlib import import_module
from typing import Any

from twisted.logger import globalLogBeginner

from stickyproxy.control.worker import MEMORY, PARENT, SESSIONS
from stickyproxy.control.workerlog import Writing
from stickyproxy.extensions import find_extensions
from stickyproxy.replication import ChildSessions
from stickyproxy.service.workers import make_worker
from stickyproxy.sharing import SharedMemory

#: Those that terminals and supervisors send to all processes of a service: what follows is the parent's to say.
LEFT_TO_THE_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(module: str, slot: int) -> None:
    """Serve until the parent has no more use for it, or is gone."""
    for number in LEFT_TO_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    globalLogBeginner.beginLoggingTo([Writing(sys.stderr)], redirectStandardIO=False)
    import_module(module).install()
    from twisted.internet import reactor  # noqa: TID251 - another process, another place where it is chosen

    sessions = ChildSessions(reactor, time.time)
    worker = make_worker(reactor, find_extensions(), SharedMemory(MEMORY, slot), sessions)
    running: Any = reactor
    running.callWhenRunning(sessions.connect, socket.socket(fileno=SESSIONS))
    running.callWhenRunning(worker.connect, socket.socket(fileno=PARENT))
    running.addSystemEventTrigger("before", "shutdown", sessions.stop)
    running.run(installSignalHandlers=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
