"""``twisted.web.proxy`` in front of one backend, for comparison: ``twisted_web_proxy.py PORT BACKEND_PORT``."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.web import proxy, server


class QuietSite(server.Site):
    """The access log is off, as everywhere in the bench."""

    def log(self, request: Any) -> None:
        pass


def main(reactor: Any, port: str, backend: str) -> Deferred[None]:
    """Serve until a signal comes."""
    resource: Any = proxy.ReverseProxyResource
    site: Any = QuietSite
    reactor.listenTCP(int(port), site(resource("127.0.0.1", int(backend), b"", reactor=reactor)), interface="127.0.0.1")
    return Deferred()


if __name__ == "__main__":
    task.react(main, sys.argv[1:])
