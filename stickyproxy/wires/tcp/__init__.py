"""TCP passed through, and the two classes to subclass for a protocol of one's own. Floor 4."""

from stickyproxy.wires.tcp.factory import TCPFrontendFactory
from stickyproxy.wires.tcp.protocols import BackendProtocol, FrontendProtocol

__all__ = ["BackendProtocol", "FrontendProtocol", "TCPFrontendFactory"]
