"""A process that serves, beside others like it: what ``control.fleet`` starts, with a parent at descriptor 3. Floor 7.

    python -m stickyproxy.worker MODULE

``MODULE`` installs the reactor (it has an ``install``), the one that the parent has.
"""

from __future__ import annotations

import signal
import socket
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from twisted.logger import globalLogBeginner

from stickyproxy.config import parse
from stickyproxy.control.sockets import Sockets
from stickyproxy.control.worker import PARENT, Serving, Worker
from stickyproxy.control.workerlog import Writing
from stickyproxy.extensions import find_extensions
from stickyproxy.service import build

#: Those that terminals and supervisors send to all processes of a service: what follows is the parent's to say.
LEFT_TO_THE_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def main(module: str) -> None:
    """Serve until the parent has no more use for it, or is gone."""
    for number in LEFT_TO_THE_PARENT:
        signal.signal(number, signal.SIG_IGN)
    globalLogBeginner.beginLoggingTo([Writing(sys.stderr)], redirectStandardIO=False)
    import_module(module).install()
    from twisted.internet import reactor  # noqa: TID251 - another process, another place where it is chosen

    extensions = find_extensions()

    def make(document: bytes, path: Path, sockets: Sockets) -> Serving:
        configuration = parse(document, extensions, path)
        return build(configuration, reactor, extensions, listen=sockets.listen, probing=False, share=sockets.share)

    worker = Worker(reactor, make)
    running: Any = reactor
    running.callWhenRunning(worker.connect, socket.socket(fileno=PARENT))
    running.run(installSignalHandlers=False)


if __name__ == "__main__":
    main(sys.argv[1])
