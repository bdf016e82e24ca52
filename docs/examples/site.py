"""A site of one's own, most of which is served by several backends, each client always by the same.

python docs/examples/site.py tcp:8080:interface=127.0.0.1 a=tcp:127.0.0.1:9001 b=tcp:127.0.0.1:9002
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import react
from twisted.web.server import Site
from twisted.web.static import Data

from stickyproxy.api import AffinityRequest, AffinityResource, cluster_of


def make_site(reactor: Any, backends: Mapping[str, str]) -> Site:
    """``/mine`` is ours, everything else the backends'."""
    cluster = cluster_of(reactor, backends, balance="least-connections", affinity={"by": "cookie", "name": "SRV"})
    root = AffinityResource(cluster, reactor)
    root.putChild(b"mine", Data(b"A page of my own.\n", "text/plain"))
    return Site(root, requestFactory=AffinityRequest)


async def main(reactor: Any, listen: str, *backends: str) -> None:
    site = make_site(reactor, dict(backend.split("=", 1) for backend in backends))
    port = await serverFromString(reactor, listen).listen(site)
    print("listens on", port.getHost().port, flush=True)
    await Deferred()  # until it is told to stop


if __name__ == "__main__":
    react(main, sys.argv[1:])
