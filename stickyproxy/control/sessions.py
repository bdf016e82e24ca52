"""Single sessions as an operator sees them: who, where, since when, why; and what he may do with one. Floor 5.

Keys that clients are known by may be their secrets (the application's session cookie, say): of those only a
fingerprint is told, which is enough to find them by the secret, and not the other way.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from hashlib import blake2b
from ipaddress import ip_address
from typing import Any

from stickyproxy.cluster import Cluster
from stickyproxy.control.refusal import Refusal
from stickyproxy.control.snapshot import Report, kept_by, table_of
from stickyproxy.model import Arrival, BackendState
from stickyproxy.sansio.affinity import ApplicationAffinity, TableAffinity
from stickyproxy.sansio.keys import bounded
from stickyproxy.sansio.masking import SECRET_FIELDS, SECRETS, normal
from stickyproxy.sansio.sessions import PINNED, Listed, SessionTable

#: Sessions in one answer, and at most.
LIMIT, MOST = 100, 1000
#: Places of a table, and keys, that are looked at before others have their turn: about a millisecond.
PLACES, KEYS = 200, 1000
#: Affinities whose keys clients keep to themselves; what is not known is taken for one.
_OPEN = frozenset(("source", "header", "query", "path", "host", "bearer", "sni", "tlv", "key", "client-certificate"))
_NAMED = re.compile(r"(header|query)[ :](\S+)")

Pause = Callable[[], Awaitable[object]]


def _space(link: Any) -> bytes | None:
    return link.space if isinstance(link, TableAffinity | ApplicationAffinity) else None


def fingerprint(key: bytes) -> str:
    """A name for a session that has ``key``: 24 hexadecimal digits."""
    return blake2b(key, digest_size=12).hexdigest()


def key_report(key: bytes, names: Mapping[bytes, str]) -> Report:
    """A key of a table: what it is known by, its fingerprint, and the key itself where that is no secret."""
    space, _, value = key.partition(b"\0")
    by = names.get(space + b"\0") or space.decode(errors="replace")
    kind = re.split("[ :/]", by, maxsplit=1)[0]
    shown = kind in _OPEN and not _is_secret(by)
    return {"by": by, "key": _readable(kind, value) if shown else None, "fingerprint": fingerprint(key)}


def _is_secret(by: str) -> bool:
    """Whether it is a field or a parameter that no log may have either."""
    found = _NAMED.match(by)
    if found is None:
        return False
    return found[2].lower().encode() in SECRET_FIELDS if found[1] == "header" else normal(found[2]) in SECRETS


def _readable(kind: str, value: bytes) -> str:
    if kind == "source" and len(value) in (4, 16):
        return str(ip_address(value))
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value.hex()
    return text if text.isprintable() else value.hex()


class ClusterSessions:
    """The sessions of one cluster. Raises ``Refusal`` where they are not kept here."""

    def __init__(self, cluster: Cluster) -> None:
        table = table_of(cluster)
        if table is None:
            theirs = any(link["kept_by"] == "client" for link in kept_by(cluster))
            where = "their clients keep them, in cookies" if theirs else "no affinity keeps any"
            raise Refusal("conflict", f"cluster {cluster.name} has no sessions to be listed or changed: {where}")
        self.cluster = cluster
        self.table: SessionTable = table
        self._names = {space: name for name, link in cluster.links if (space := _space(link)) is not None}

    def report(self, listed: Listed) -> Report:
        """One session."""
        member = self.cluster.members.get(listed.backend)
        if member is None:
            why = "its backend is not there any more: another serves it at its next request"
        elif listed.until == PINNED:
            why = "an operator has pinned it"
        else:
            why = f"known by {', '.join(dict.fromkeys(key_report(key, self._names)['by'] for key in listed.keys))}"
        if member is not None and member.state is BackendState.MAINTENANCE:
            why += "; its backend is in maintenance"
        elif member is not None and member.health is not None and member.health.down:
            why += "; its backend is not well"
        ends = None if listed.until in (PINNED, float("inf")) else round(listed.until, 3)
        return {
            "id": fingerprint(listed.keys[0]),
            "cluster": self.cluster.name,
            "backend": listed.backend,
            "keys": [key_report(key, self._names) for key in listed.keys],
            "since": round(listed.since, 3),
            "seen": round(listed.seen, 3),
            "ends": ends,
            "pinned": listed.until == PINNED,
            "why": why,
        }

    def look_up(self, key: str | None, address: str | None) -> list[Listed]:
        """Those known by ``key``, as clients send it, or by an IP address."""
        wanted = list(self._keys(key, address))
        found = {listed.keys: listed for each in wanted if (listed := self.table.look_up(each)) is not None}
        return list(found.values())

    def _keys(self, key: str | None, address: str | None) -> Iterator[bytes]:
        for _, link in self.cluster.links:
            if (space := _space(link)) is None:
                continue
            if key is not None and (value := bounded(key.encode(errors="replace"))) is not None:
                yield space + value
            if isinstance(link, TableAffinity) and (text := address or key) is not None and _is_address(text):
                found = link.key(Arrival(text, False))
                if found is not None:
                    yield found

    async def find(self, id: str, pause: Pause) -> Listed:
        """The session with this fingerprint, of any of its keys. Raises ``Refusal``."""
        keys = self.table.all_keys()
        for start in range(0, len(keys), KEYS):
            for key in keys[start : start + KEYS]:
                if fingerprint(key) == id and (listed := self.table.look_up(key)) is not None:
                    return listed
            await pause()
        raise Refusal("unknown", f"cluster {self.cluster.name} has no such session")

    def change(self, listed: Listed, backend: str | None, pinned: bool | None) -> Listed:
        """Bind it to ``backend`` (None: where it is), and pin it there, or not any more (None: as it was)."""
        table, keys = self.table, listed.keys
        was_pinned = listed.until == PINNED
        if was_pinned and pinned is False:
            table.forget(keys[0])
        pin = was_pinned if pinned is None else pinned
        table.bind(keys, listed.backend if backend is None else backend, PINNED if pin else None)
        changed = table.look_up(keys[0])
        if changed is None:
            raise Refusal("conflict", "the session has ended meanwhile")
        return changed


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


async def list_sessions(clusters: Mapping[str, Cluster], query: Mapping[str, str], pause: Pause) -> Report:
    """What ``Controls.sessions`` tells."""
    limit = _limit(query.get("limit"))
    if "address" in query and not _is_address(query["address"]):
        raise Refusal("invalid", "address: expected an IP address")
    chosen = _chosen(clusters, query.get("cluster"))
    kept = {cluster.name: kept_by(cluster) for cluster in chosen}
    sources = [ClusterSessions(cluster) for cluster in _with_tables(chosen)]
    backend = query.get("backend")
    if "key" in query or "address" in query:
        found = [
            source.report(listed)
            for source in sources
            for listed in source.look_up(query.get("key"), query.get("address"))
            if backend in (None, listed.backend)
        ]
        return {"sessions": found[:limit], "next": None, "clusters": kept}
    reports: list[Report] = []
    name, place = _cursor(query.get("after"))
    for source in sources:
        if name is not None and source.cluster.name != name:
            continue
        below = place if name is not None else None
        name = None
        while below is None or below > 1:
            page, below = source.table.page(below, PLACES, backend)
            for at, listed in page:
                reports.append(source.report(listed))
                if len(reports) == limit:
                    return {"sessions": reports, "next": f"{source.cluster.name}:{at}", "clusters": kept}
            await pause()
    return {"sessions": reports, "next": None, "clusters": kept}


def _chosen(clusters: Mapping[str, Cluster], name: str | None) -> list[Cluster]:
    if name is None:
        return list(clusters.values())
    if name not in clusters:
        raise Refusal("unknown", "there is no cluster of this name")
    return [clusters[name]]


def _with_tables(clusters: list[Cluster]) -> list[Cluster]:
    """Those that keep sessions; of a group that shares a table, the first."""
    found = {id(table): cluster for cluster in reversed(clusters) if (table := table_of(cluster)) is not None}
    return [cluster for cluster in clusters if cluster in found.values()]


def _limit(text: str | None) -> int:
    if text is None:
        return LIMIT
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= MOST:
        raise Refusal("invalid", f"limit: expected a whole number from 1 to {MOST}")
    return int(text)


def _cursor(text: str | None) -> tuple[str | None, int | None]:
    if text is None:
        return None, None
    name, _, place = text.rpartition(":")
    if not name or not re.fullmatch("[0-9]{1,12}", place):
        raise Refusal("invalid", 'after: expected "next" of the answer before')
    return name, int(place)


def session_change(change: Mapping[str, Any], cluster: Cluster) -> tuple[str | None, bool | None]:
    """The wanted backend, and whether it is to be pinned. Raises ``Refusal``."""
    if not change or change.keys() - {"backend", "pinned"}:
        raise Refusal("invalid", "expected backend, pinned or both, and nothing else")
    backend, pinned = change.get("backend"), change.get("pinned")
    if "backend" in change and (not isinstance(backend, str) or backend not in cluster.members):
        raise Refusal("invalid", f"backend: cluster {cluster.name} has none of this name")
    if "pinned" in change and not isinstance(pinned, bool):
        raise Refusal("invalid", "pinned: expected true or false")
    return backend, pinned
