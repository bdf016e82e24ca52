"""``AffinityResource``: a cluster at a path of a twisted.web ``Site``. Floor 4."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from stickyproxy.cluster import Cluster
from stickyproxy.config.limits import Limits
from stickyproxy.config.websocket import WebSocket
from stickyproxy.sansio.networks import Networks
from stickyproxy.sweep import Sweep
from stickyproxy.wires.resource.client import WebClient
from stickyproxy.wires.resource.request import IStreamingResource


@implementer(IStreamingResource)
class AffinityResource(Resource):
    """Has ``cluster`` answer all requests at and below its path, WebSockets too, each client by its own backend.

    With ``Site(..., requestFactory=AffinityRequest)`` the content of a request is passed on as it comes, else when
    twisted.web has all of it. Children (``putChild``) are served as ever, before the cluster.

    Backends get the path as the client asked for it; with ``strip_prefix`` without the path of this resource.
    ``trusted_proxies`` (``"10.0.0.0/8"``, ``"::1"``) are peers whose X-Forwarded-* and Forwarded are believed.
    Of ``limits`` those of a head and ``body`` are looked at; ``send_timeout`` is for a client that takes nothing of its
    answer, ``tunnel_timeout`` for silence in a WebSocket, both in seconds; ``websocket`` is what is done for these.
    Everything else – heads that take their time, idle connections, how many there are, TLS – is the site's. Raises
    ValueError for a network that is none.
    """

    isLeaf = True

    def __init__(
        self,
        cluster: Cluster,
        reactor: IReactorTime,
        *,
        strip_prefix: bool = False,
        trusted_proxies: Iterable[str] = (),
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        send_timeout: float = 60.0,
        tunnel_timeout: float = 600.0,
        websocket: WebSocket = WebSocket(),  # noqa: B008 (frozen)
    ) -> None:
        super().__init__()
        self.cluster = cluster
        self.strip_prefix = strip_prefix
        self.trusted = Networks(trusted_proxies)
        self.limits = limits
        self.send_timeout = send_timeout
        self.tunnel_timeout = tunnel_timeout
        self.websocket = websocket
        self.sweep = Sweep.for_timeouts(reactor, [send_timeout, tunnel_timeout, cluster.timeouts.answer])
        self.connections: set[Any] = set()  #: the open WebSockets; they can ``abort()`` and ``drain()``
        self._random = Random()

    def putChild(self, path: bytes, child: IResource) -> None:
        super().putChild(path, child)
        self.isLeaf = False

    def getChild(self, path: bytes, request: Any) -> IResource:
        """No child of ours: the cluster's, with the whole path behind ours."""
        request.postpath.insert(0, request.prepath.pop())
        return _Rest(self)

    def render(self, request: Any) -> int:
        WebClient(self, request).begin()
        return NOT_DONE_YET

    def request_id(self) -> bytes:
        """An id for a request that has none: 32 hexadecimal digits."""
        return b"%032x" % self._random.getrandbits(128)


@implementer(IStreamingResource)
class _Rest:
    """What is at no child of an ``AffinityResource``."""

    isLeaf = True

    def __init__(self, resource: AffinityResource) -> None:
        self.render = resource.render

    def getChildWithDefault(self, path: bytes, request: Any) -> IResource:
        raise NotImplementedError("a leaf has no children")

    def putChild(self, path: bytes, child: IResource) -> None:
        raise NotImplementedError("a leaf has no children: give them to the AffinityResource")
