"""What operators have set while the proxy ran, as it is handed over to a process that takes over. Floor 5.

It holds there as it does over a reload: where the configuration of both says the same of what was set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from stickyproxy.cluster import Cluster
from stickyproxy.config import Configuration
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.control.closed import Closed
from stickyproxy.control.drained import ClosedSubject
from stickyproxy.control.draining import Drains, Manner
from stickyproxy.member import Member
from stickyproxy.model import Backend, BackendState


class Set(Protocol):
    """A proxy, of which something is set."""

    configuration: Configuration
    closed: Closed
    drains: Drains

    @property
    def clusters(self) -> Mapping[str, Cluster]: ...


def settings_of(proxy: Set) -> dict[str, Any]:
    """JSON-able: ``closed`` as ``Closed.what``, and a table for each of the ``backends`` that somebody has changed.

    That has ``cluster``, ``id``, and of ``state`` and ``weight`` those that differ: what the file says, and what is.
    """
    changed = []
    for spec in proxy.configuration.clusters:
        for backend in spec.backends:
            file, real = _values(backend), _values(proxy.clusters[spec.name].members[backend.id])
            if differing := {key: [value, real[key]] for key, value in file.items() if real[key] != value}:
                changed.append({"cluster": spec.name, "id": backend.id, **differing})
    return {"closed": list(proxy.closed.what), "backends": changed}


def restore_settings(proxy: Set, told: Mapping[str, Any]) -> None:
    """Set what ``settings_of`` has ``told`` in another process, before ``proxy`` is started."""
    frontends = {frontend.name for frontend in proxy.configuration.frontends}
    closed = {name for name in told.get("closed", ()) if name is None or name in frontends}
    proxy.closed.become(closed)
    for name in closed:  # by whose name it is opened again
        proxy.drains.start(ClosedSubject(name, frozenset, frozenset), Manner())
    specs = {spec.name: spec for spec in proxy.configuration.clusters}
    for each in told.get("backends", ()):
        spec = specs.get(each["cluster"])
        if spec is not None:
            _restore(proxy.clusters[spec.name], spec, each)


def _restore(cluster: Cluster, spec: ClusterSpec, told: Mapping[str, Any]) -> None:
    file = next((backend for backend in spec.backends if backend.id == told["id"]), None)
    if file is None:
        return
    member = cluster.members[file.id]
    for key, says in _values(file).items():
        said, real = told.get(key, (None, None))
        if says != said:
            continue
        if key == "state":
            member.set_state(BackendState(real))
        else:
            member.weight = real
            cluster.members_changed()


def _values(of: Backend | Member) -> dict[str, Any]:
    return {"state": of.state.value, "weight": of.weight}
