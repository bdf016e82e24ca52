"""HTTP/1.1 to clients, WebSockets included. Floor 4."""

from stickyproxy.wires.http.factory import HTTPFrontendFactory
from stickyproxy.wires.http.refusal import RefusalFactory

__all__ = ["HTTPFrontendFactory", "RefusalFactory"]
