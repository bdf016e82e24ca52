"""``drained_proxy.py FILE CODE``: a proxy that drains every tunnel of its backends at SIGUSR2."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from stickyproxy.reactor.uv import install

install()

from twisted.internet import reactor  # noqa: E402 (installed by now)
from twisted.logger import globalLogBeginner, textFileLogObserver  # noqa: E402

from stickyproxy.api import build, find_extensions, load  # noqa: E402
from stickyproxy.control.onsignal import OnSignal  # noqa: E402


def main(file: str, code: str) -> None:
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
    extensions = find_extensions()
    proxy = build(load(Path(file), extensions), reactor, extensions)

    def drain() -> None:
        tunnels = [
            tunnel for cluster in proxy.clusters.values() for m in cluster.members.values() for tunnel in m.tunnels
        ]
        for tunnel in tunnels:
            tunnel.drain(int(code))
        print(f"drained {len(tunnels)}", flush=True)

    OnSignal(signal.SIGUSR2, drain, reactor).setServiceParent(proxy)
    proxy.startService()
    reactor.addSystemEventTrigger("before", "shutdown", proxy.stopService)
    reactor.run()


main(*sys.argv[1:])
