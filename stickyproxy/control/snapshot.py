"""Frontends, clusters, backends and certificates as an operator sees them, in JSON-able tables. Floor 5.

Times are seconds since the epoch, durations seconds. ``docs/admin.md`` tells what each key means.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

import attrs
from twisted.internet.interfaces import IAddress
from twisted.python.reflect import qual

from stickyproxy.cluster import Break, Cluster
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.config.specs import Frontend as FrontendSpec
from stickyproxy.member import Member
from stickyproxy.model import GONE, Backend
from stickyproxy.relay import Relay
from stickyproxy.sansio.affinity import ApplicationAffinity, TableAffinity
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.standing import standing_of
from stickyproxy.tally import BOUNDS, BUCKETS
from stickyproxy.tls import Certificate

Report = dict[str, Any]


class Serving(Protocol):
    """A frontend that runs."""

    @property
    def connections(self) -> Collection[Any]:
        """Those that are open."""

    @property
    def certificates(self) -> Sequence[Certificate]:
        """The first is the default."""

    @property
    def addresses(self) -> Collection[IAddress]:
        """Where it listens, port 0 resolved."""


@attrs.define
class Served:
    """What a backend has answered since the process began; ``durations``: how many by each of ``tally.BOUNDS``."""

    requests: int = 0
    errors: int = 0  #: of these, with 500 and more
    durations: list[int] = attrs.field(factory=lambda: [0] * (len(BOUNDS) + 1))


def served_by(frontends: Iterable[Any]) -> dict[tuple[str, str], Served]:
    """By cluster and backend."""
    found: dict[tuple[str, str], Served] = {}
    for frontend in frontends:
        frontend.tally.flush()
        for (cluster, backend, status, _), row in frontend.tally.answers.items():
            served = found.setdefault((cluster, backend), Served())
            count = int(sum(row[BUCKETS:]))
            served.requests += count
            served.errors += count if status >= 500 else 0
            served.durations = [a + int(b) for a, b in zip(served.durations, row[BUCKETS:], strict=True)]
    return found


def address_text(address: Any) -> str:
    """``127.0.0.1:8080``, ``[::1]:8080``, ``unix:/run/x``."""
    if hasattr(address, "host"):
        return f"[{address.host}]:{address.port}" if ":" in address.host else f"{address.host}:{address.port}"
    name = getattr(address, "name", None)
    return f"unix:{name.decode(errors='replace')}" if isinstance(name, bytes) else qual(type(address))


def frontend_report(spec: FrontendSpec, serving: Serving) -> Report:
    """One frontend. ``websockets`` are the tunnels among its ``connections``; for TCP these are all the same."""
    tunnels = sum(isinstance(each, Relay) for each in serving.connections)
    return {
        "protocol": spec.protocol,
        "tls": spec.tls is not None,
        "listen": list(spec.listen),
        "addresses": sorted(map(address_text, serving.addresses)),
        "cluster": spec.cluster,
        "routes": [{"host": route.host, "path": route.path, "cluster": route.cluster} for route in spec.routes],
        "connections": len(serving.connections),
        "websockets": tunnels if spec.protocol == "http" else 0,
    }


def table_of(cluster: Cluster) -> SessionTable | None:
    """Where the sessions of ``cluster`` are kept, if that is here."""
    store: Any = cluster.sessions
    return store if isinstance(store, SessionTable) else None


def kept_by(cluster: Cluster) -> list[Report]:
    """Each affinity in order, and where it keeps who is bound: in a ``table`` here, with the ``client``, or nowhere."""
    return [{"name": name, "kept_by": _keeper(name, link)} for name, link in cluster.links]


def _keeper(name: str, link: Any) -> str | None:
    if isinstance(link, TableAffinity | ApplicationAffinity):
        return "table"
    return "client" if re.match(r"cookie\b", name) else None


def cluster_report(spec: ClusterSpec, cluster: Cluster, routes: Collection[str], ahead: float) -> Report:
    """One cluster without its backends. ``routes``: the names of the frontends that lead to it.

    ``ahead``: what is to be added to the time of the members' clock for that of the day.
    """
    table = table_of(cluster)
    return {
        "balance": cluster.balancer_name,
        "affinity": kept_by(cluster),
        "frontends": sorted(routes),
        "probe": spec.probe.name if spec.probe is not None else None,
        "sessions": len(table) if table is not None else None,
        "queued": cluster.layers.limits.waiting(None),
        "group": spec.sessions.group,
        "breaks": [_break_report(each, ahead) for each in reversed(cluster.breaks)],
    }


def _break_report(each: Break, ahead: float) -> Report:
    own = each.own if each.own != GONE else None
    return {
        "when": round(each.when + ahead, 1),
        "client": each.client,
        "own": own,
        "served": each.served,
        "why": each.why,
    }


def backend_report(
    member: Member,
    file: Backend,
    sessions: Mapping[str, int] | None,
    now: float,
    *,
    probed: bool,
    served: Served | None = None,
) -> Report:
    """One backend. ``sessions`` are counted by id, ``now`` is the time of day; ``probed``: it is asked how it is."""
    served = served or Served()
    status, why, since = standing_of(member, probed=probed)
    out = member.health.out if member.health is not None else None
    ahead = round(now - member.seconds(), 1)  # the same from one look to the next
    return {
        "endpoint": file.endpoint,
        "state": member.state.value,
        "weight": member.weight,
        "file": differing(member, file),
        "status": status,
        "why": why,
        "since": round(since + ahead, 1),
        "ejected_until": round(out[1] + ahead, 1) if out is not None else None,
        "backup": member.backup,
        "active": member.active,
        "tunnels": len(member.tunnels),
        "requests": served.requests,
        "errors": served.errors,
        "durations": served.durations,
        "limit": member.limit,
        "queued": member.awaited.waiting(member.id) if member.awaited is not None else 0,
        "idle_connections": member.idle_connections,
        "sessions": None if sessions is None else sessions.get(member.id, 0),
    }


def differing(member: Member, file: Backend) -> Report:
    """What the configuration says of it where that is not how it is: ``{}`` if nobody changed it."""
    told = {"state": file.state.value, "weight": file.weight}
    real = {"state": member.state.value, "weight": member.weight}
    return {key: value for key, value in told.items() if real[key] != value}


def certificate_reports(frontend: str, serving: Serving) -> list[Report]:
    """The certificates of a frontend, in the order of its configuration."""
    return [
        {
            "frontend": frontend,
            "names": list(certificate.names),
            "expires": certificate.chain[0].not_valid_after_utc.timestamp(),
            "valid_from": certificate.chain[0].not_valid_before_utc.timestamp(),
            "issuer": certificate.chain[0].issuer.rfc4514_string(),
            "serial": f"{certificate.chain[0].serial_number:x}",
            "path": str(certificate.path),
            "default": place == 0,
        }
        for place, certificate in enumerate(serving.certificates)
    ]
