"""The inspectors: what finds a key in a connection's first bytes. Each provides ``interfaces.IStreamInspector``.

Floor 2, pure. One module for each protocol; ``cursor`` is what they read with.
"""

from stickyproxy.sansio.inspecting.bounded import BoundedInspector
from stickyproxy.sansio.inspecting.mqtt import MQTTInspector
from stickyproxy.sansio.inspecting.postgresql import PostgreSQLInspector
from stickyproxy.sansio.inspecting.rdp import RDPInspector
from stickyproxy.sansio.inspecting.redis import RedisInspector
from stickyproxy.sansio.inspecting.tls import TLSInspector

__all__ = [
    "BoundedInspector",
    "MQTTInspector",
    "PostgreSQLInspector",
    "RDPInspector",
    "RedisInspector",
    "TLSInspector",
]
