"""What a program of one's own imports; the rest of the package is there to be read. Floor 6."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from stickyproxy.cluster import Cluster
from stickyproxy.config import from_tables, load
from stickyproxy.extensions import find_extensions
from stickyproxy.interfaces import IAffinity, IBalancer
from stickyproxy.probes import probing_of
from stickyproxy.service import build, build_cluster
from stickyproxy.sweep import Sweep
from stickyproxy.wires.resource import AffinityRequest, AffinityResource
from stickyproxy.wires.tcp import BackendProtocol, FrontendProtocol, TCPFrontendFactory

__all__ = [
    "AffinityRequest",
    "AffinityResource",
    "BackendProtocol",
    "FrontendProtocol",
    "Sweep",
    "TCPFrontendFactory",
    "build",
    "cluster_of",
    "find_extensions",
    "load",
]


def cluster_of(
    reactor: Any, backends: Mapping[str, Any], *, name: str = "app", directory: Path | None = None, **table: Any
) -> Cluster:
    """A cluster without a configuration file: what ``[cluster.NAME]`` would say, as keywords.

    ``cluster_of(reactor, {"a": "tcp:127.0.0.1:9001", "b": "tcp:127.0.0.1:9002"}, affinity="cookie")``. ``directory`` is
    where the key of the cookies is kept (``stickyproxy.key``); without it, and without ``keys`` and ``key_file``, the
    key lives as long as the process. ``affinity`` and ``balance`` may also be objects of your own, ``IAffinity`` and
    ``IBalancer``. With ``probe`` the cluster's ``probing`` is a service of Twisted's: start it, or give it a parent.
    Raises ``ConfigurationErrors`` with every mistake, and as ``build`` does.
    """
    extensions = find_extensions()
    own = {key: table.pop(key) for key in ("affinity", "balance") if not isinstance(table.get(key, ""), str | Mapping)}
    tables = {
        "frontend": {name: {"listen": "tcp:0", "cluster": name}},  # a configuration has one; nobody makes it listen
        "cluster": {name: {"backends": dict(backends), **table}},
    }
    (spec,) = from_tables(tables, extensions).clusters
    cluster = build_cluster(spec, reactor, extensions, random=Random(), directory=directory)
    if own:
        affinity: IAffinity = own.get("affinity", cluster.affinity)
        balancer: IBalancer = own.get("balance", cluster.balancer)
        cluster.configure(spec, cluster.members.values(), affinity, balancer)
    if spec.probe is not None:
        cluster.probing = probing_of(cluster, spec, reactor, extensions, Random())
    return cluster
