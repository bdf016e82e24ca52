"""What a new configuration would do to what runs: which connections and sessions it moves. Floor 5."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stickyproxy.cluster import Cluster
from stickyproxy.config.difference import Change, difference
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.config.specs import Configuration
from stickyproxy.control.drained import session_count
from stickyproxy.control.snapshot import Serving
from stickyproxy.interfaces import IRankingAffinity
from stickyproxy.model import Backend
from stickyproxy.sansio.rendezvous import Draws, number_of

Report = dict[str, Any]
#: Keys that are tried, in a few milliseconds: right to 3 %.
SAMPLE = 1000


def plan(
    old: Configuration,
    new: Configuration,
    clusters: Mapping[str, Cluster] | None = None,
    frontends: Mapping[str, Serving] | None = None,
) -> Report:
    """What would follow if ``new`` came after ``old``, by which ``clusters`` and ``frontends`` run.

    Without those, all that is open or bound is None, and ``moved_share`` is empty.

    ``changes``: a list of tables with ``key``, ``change``, ``before``, ``after`` and ``text``. ``backends``: those that
    go away, each with ``cluster``, ``id``, the policy ``on_removal``, ``requests`` and ``tunnels`` that are open, and
    ``sessions`` that are to be bound anew (None: clients keep them, and nobody knows). ``frontends``: those that go
    away, with ``connections``. ``moved_share``: by cluster, the share of the keys that a hash gives to another backend.
    ``listen`` and ``unlisten``: endpoints that come and go.
    """
    wanted = {spec.name: spec for spec in new.clusters}
    endpoints = [{endpoint for f in each.frontends for endpoint in f.listen} for each in (old, new)]
    return {
        "changes": [_change(change) for change in difference(old, new)],
        "backends": [
            _leaving(spec, wanted.get(spec.name), backend, clusters)
            for spec in old.clusters
            for backend in _removed(spec, wanted.get(spec.name))
        ],
        "frontends": [
            {
                "name": f.name,
                "on_removal": f.on_removal,
                "connections": None if frontends is None else len(frontends[f.name].connections),
            }
            for f in old.frontends
            if f.name not in {each.name for each in new.frontends}
        ],
        "moved_share": {
            spec.name: share
            for spec in old.clusters
            if clusters is not None and spec.name in wanted
            if IRankingAffinity.providedBy(clusters[spec.name].affinity)
            if (share := moved_share(spec.backends, wanted[spec.name].backends))
        },
        "listen": sorted(endpoints[1] - endpoints[0]),
        "unlisten": sorted(endpoints[0] - endpoints[1]),
    }


def lines(report: Report) -> list[str]:
    """A plan for people; one line where nothing would change."""
    told = [change["text"] for change in report["changes"]]
    told += [_goes(each) for each in report["backends"]]
    for each in report["frontends"]:
        count = each["connections"]
        open_ = "" if count is None else f": {count} connections are open"
        told.append(f"frontend {each['name']} goes{open_} (on_removal: {each['on_removal']})")
    shares = report["moved_share"].items()
    told += [f"cluster {name}: {share:.1%} of the keys come to another backend" for name, share in shares]
    return told or ["nothing would change"]


def _goes(each: Report) -> str:
    head, policy = f"backend {each['id']} of {each['cluster']} goes", f"(on_removal: {each['on_removal']})"
    if each["requests"] is None:
        return f"{head} {policy}"
    sessions = "the" if each["sessions"] is None else each["sessions"]
    open_ = f"{each['requests']} requests and {each['tunnels']} tunnels are open"
    return f"{head}: {open_} {policy}, {sessions} sessions to be bound anew"


def moved_share(old: Iterable[Backend], new: Iterable[Backend]) -> float:
    """The share of all keys (0 to 1) that rendezvous hashing gives to another backend, of ``SAMPLE`` that are tried."""
    draws = Draws()
    places = [[each for each in backends if each.weight] for backends in (old, new)]
    if not all(places):
        return float(bool(places[0]))
    moved = 0
    for key in range(SAMPLE):
        number = number_of(b"%d" % key)
        moved += _best(draws, number, places[0]) != _best(draws, number, places[1])
    return moved / SAMPLE


def _best(draws: Draws, number: int, backends: list[Backend]) -> str:
    return max(zip(draws(number, backends), (each.id for each in backends), strict=True))[1]


def _change(change: Change) -> Report:
    key = ".".join(change.keys)
    return {"key": key, "change": change.kind, "before": change.before, "after": change.after, "text": str(change)}


def _removed(old: ClusterSpec, new: ClusterSpec | None) -> list[Backend]:
    """The backends that go away; one with another endpoint is another."""
    stay = {(backend.id, backend.endpoint) for backend in new.backends} if new is not None else set()
    return [backend for backend in old.backends if (backend.id, backend.endpoint) not in stay]


def _leaving(
    old: ClusterSpec, new: ClusterSpec | None, backend: Backend, clusters: Mapping[str, Cluster] | None
) -> Report:
    report = {"cluster": old.name, "id": backend.id, "on_removal": (new or old).on_removal}
    if clusters is None:
        return {**report, "requests": None, "tunnels": None, "sessions": None}
    cluster = clusters[old.name]
    member = cluster.members[backend.id]
    stays = new is not None and any(each.id == backend.id for each in new.backends)
    return {
        **report,
        "requests": member.active - len(member.tunnels),
        "tunnels": len(member.tunnels),
        "sessions": 0 if stays else session_count(cluster, backend.id),
    }
