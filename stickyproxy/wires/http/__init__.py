"""HTTP/1.1 to clients, WebSockets included. Floor 4."""

from stickyproxy.wires.http.factory import HTTPFrontendFactory

__all__ = ["HTTPFrontendFactory"]
