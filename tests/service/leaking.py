"""Reloads and restarts a proxy in its own process, with clients meanwhile: ``python leaking.py DIRECTORY``.

``DIRECTORY`` has ``one.pem`` and ``two.pem``. Prints, as JSON, what there was of descriptors, timed calls, parts of a
proxy and memory, after a few rounds and after many.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

try:
    from stickyproxy.reactor.uv import install
except ImportError:  # Twisted's own
    pass
else:
    install()

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater, react
from twisted.logger import globalLogBeginner

from stickyproxy.config import Configuration, from_tables
from stickyproxy.extensions import find_extensions
from stickyproxy.service import Proxy, build

RELOADS, RESTARTS, WARM = 200, 40, 20
EXTENSIONS = find_extensions()
PARTS = (
    *("Proxy", "Cluster", "Member", "Frontend", "Listener", "HTTPFrontendFactory", "TCPFrontendFactory"),
    *("HTTPFrontend", "BackendConnection", "CertificateStore", "Probing", "SessionTable", "Relay", "Drain"),
)


def _nobody(event: Any) -> None:
    """What is logged."""
    if "log_failure" in event:
        print(event["log_failure"].getTraceback(), file=sys.stderr)


class Backend(Protocol):
    """Answers."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class Client(Protocol):
    """Asks once."""

    def __init__(self) -> None:
        self.ended: Deferred[bytes] = Deferred()
        self._received = b""

    def connectionMade(self) -> None:
        self.transport.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    def dataReceived(self, data: bytes) -> None:
        self._received += data

    def connectionLost(self, reason: Any) -> None:
        self.ended.callback(self._received)


def configuration(directory: Path, backend: int, odd: bool) -> Configuration:
    """One of two: the odd one has a backend, a frontend, a cluster and a probe more, and another certificate."""
    one = f"tcp:127.0.0.1:{backend}"
    app: dict[str, Any] = {"backends": {"a": one}, "affinity": "source", "on_removal": "drain"}
    tables: dict[str, Any] = {
        "access_log": False,
        "process": {"drain": "2s"},
        "frontend": {
            "web": {"listen": "tcp:0:interface=127.0.0.1", "cluster": "app"},
            "secure": {
                "listen": "tcp:0:interface=127.0.0.1:backlog=9",
                "cluster": "app",
                "tls": {"certificates": [str(directory / ("two.pem" if odd else "one.pem"))]},
            },
        },
        "cluster": {"app": app},
    }
    if odd:
        app["backends"]["b"] = {"endpoint": one, "weight": 3}
        app["eject"] = {}
        tables["frontend"]["more"] = {
            "listen": "tcp:0:interface=127.0.0.1:backlog=7", "protocol": "tcp", "cluster": "more"
        }  # fmt: skip
        tables["cluster"]["more"] = {"backends": {"c": one}, "probe": {"by": "tcp", "interval": "50ms"}}
    return from_tables(tables, EXTENSIONS)


def found(reactor: Any) -> dict[str, Any]:
    """What there is."""
    gc.collect()
    kinds = (type(each) for each in gc.get_objects())
    parts = Counter(kind.__name__ for kind in kinds if ".config." not in str(kind.__module__))
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return {
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "calls": len(reactor.getDelayedCalls()),
        "parts": {part: parts[part] for part in PARTS if parts[part]},
        "memory": resident,
    }


async def ask(proxy: Proxy, reactor: Any) -> None:
    (address,) = proxy.frontends["web"].addresses
    client = Client()
    await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", address.port), client)  # type: ignore[attr-defined]
    answer = await client.ended
    assert answer.startswith(b"HTTP/1.1 200 "), answer


async def settled(reactor: Any) -> None:
    """Time for what has been closed to be gone."""
    await deferLater(reactor, 0.7)


async def main(reactor: Any, directory: str) -> None:
    globalLogBeginner.beginLoggingTo([_nobody], redirectStandardIO=False)  # else all is kept for later
    place = Path(directory)
    backend = reactor.listenTCP(0, Factory.forProtocol(Backend), interface="127.0.0.1").getHost().port
    both = [configuration(place, backend, odd) for odd in (False, True)]
    told = {}
    proxy = build(both[0], reactor, EXTENSIONS)
    proxy.startService()
    for count in range(1, RELOADS + 1):
        await proxy.reconfigure(both[count % 2])
        await ask(proxy, reactor)
        if count in (WARM, RELOADS):
            await settled(reactor)
            told[f"{count} reloads"] = found(reactor)
    await proxy.stopService()
    del proxy
    for count in range(1, RESTARTS + 1):
        proxy = build(both[count % 2], reactor, EXTENSIONS)
        proxy.startService()
        await ask(proxy, reactor)
        await proxy.stopService()
        del proxy
        if count in (WARM, RESTARTS):
            await settled(reactor)
            told[f"{count} restarts"] = found(reactor)
    print(json.dumps(told))


if __name__ == "__main__":
    react(main, sys.argv[1:])
