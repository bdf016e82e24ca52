"""What the connections of one TCP frontend share. Floor 4."""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from stickyproxy.addresses import peer_of
from stickyproxy.cluster import Cluster
from stickyproxy.errors import HTTPError
from stickyproxy.gate import Gate
from stickyproxy.interfaces import IStreamInspector
from stickyproxy.model import Entry, Peer, RelayEntry
from stickyproxy.sweep import Sweep
from stickyproxy.tally import Tally
from stickyproxy.wires.tcp.protocols import BackendProtocol, FrontendProtocol


class TCPFrontendFactory(Factory):
    """Passes TCP connections to the backends of ``cluster``.

    ``name``: of the frontend, for the log. ``idle``: seconds of silence in both directions that end a connection;
    ``handshake``: seconds that TLS may take.
    ``record`` gets an entry for every connection that reached a backend, when it has ended; ``now`` is the time of day
    in it, seconds since the epoch; ``opens``: it gets one when a backend is reached, too. ``gate``: whom it refuses, is
    closed before anything is read, and recorded.
    ``inspector`` finds a key in the first bytes, and ``cluster_for`` may say what cluster it leads to, instead of
    ``cluster`` (None: it is refused). ``connections`` are those that are open.
    """

    noisy = False

    def __init__(
        self,
        cluster: Cluster | None,
        sweep: Sweep,
        *,
        name: str = "",
        idle: float = 600.0,
        handshake: float = 10.0,
        frontend_protocol: Callable[[TCPFrontendFactory, Peer], FrontendProtocol] = FrontendProtocol,
        backend_protocol: Callable[[FrontendProtocol], BackendProtocol] = BackendProtocol,
        record: Callable[[Entry], object] | None = None,
        opens: bool = False,
        now: Callable[[], float] = time.time,
        gate: Gate | None = None,
        inspector: IStreamInspector | None = None,
        cluster_for: Callable[[bytes | None], Cluster | None] | None = None,
    ) -> None:
        self.name = name
        self.sweep = sweep
        self.frontend_protocol = frontend_protocol
        self.backend_protocol = backend_protocol
        self.now = now
        self.connections: set[FrontendProtocol] = set()
        self.tally: Tally | None = None  #: counts connections, if anybody wants to know
        self.configure(
            cluster,
            idle=idle,
            handshake=handshake,
            record=record,
            opens=opens,
            gate=gate,
            inspector=inspector,
            cluster_for=cluster_for,
        )

    def configure(
        self,
        cluster: Cluster | None,
        *,
        idle: float,
        handshake: float,
        record: Callable[[Entry], object] | None,
        opens: bool,
        gate: Gate | None,
        inspector: IStreamInspector | None,
        cluster_for: Callable[[bytes | None], Cluster | None] | None,
    ) -> None:
        """What holds for the next connections."""
        self.cluster = cluster
        self.cluster_for = cluster_for or (lambda key: cluster)
        self.inspector = inspector
        self.idle = idle
        self.handshake = handshake
        self.record = record
        self.opens = opens and record is not None
        self.gate = gate

    def buildProtocol(self, addr: IAddress | None) -> FrontendProtocol | None:  # type: ignore[override]  # of this factory
        peer = peer_of(addr)
        if self.gate is not None:
            try:
                self.gate.check(peer.host)
            except HTTPError as error:
                if self.tally is not None:
                    self.tally.refused["rate" if error.status == 429 else "denied"] += 1
                if self.record is not None:
                    name = self.cluster.name if self.cluster is not None else ""
                    entry = RelayEntry(peer.host, "tcp", 0, 0, self.now(), 0.0, name)
                    self.record(entry._replace(frontend=self.name))
                return None
        built = self.frontend_protocol(self, peer)
        built.tlvs = getattr(addr, "tlvs", built.tlvs)
        return built
