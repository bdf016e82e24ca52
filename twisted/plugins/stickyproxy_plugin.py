"""How ``twistd`` finds stickyproxy. Never put an ``__init__.py`` here or above: it would hide Twisted itself."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

stickyproxy = ServiceMaker(
    "stickyproxy",
    "stickyproxy.tap",
    "Sticky sessions, WebSockets and TLS termination together: a load balancer and reverse proxy.",
    "stickyproxy",
)

stickyproxy_uv = Reactor("stickyproxy-uv", "stickyproxy.reactor.uv", "TCP by libuv's own transports (needs uvloop).")
