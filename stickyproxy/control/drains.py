"""Drains that an operator begins, waits for and ends. Floor 5."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as Elapsed
from twisted.internet.interfaces import IReactorTime

from stickyproxy.cluster import Cluster
from stickyproxy.config.units import read_duration
from stickyproxy.control.drained import BackendSubject
from stickyproxy.control.draining import Drain, Drains, Manner
from stickyproxy.control.refusal import Refusal
from stickyproxy.control.snapshot import Report
from stickyproxy.member import Member

#: Seconds that an answer may be waited for.
LONGEST = 60.0
#: Those that RFC 6455 section 7.4.1 and its registry have for servers; beside them are those of applications.
_CODES = frozenset((1000, 1001, 1008, 1011, 1012, 1013))


def drain_report(drain: Drain) -> Report:
    """How far it is: ``id`` (its name), ``stage``, ``ended``, and what is left. Times are seconds."""
    progress = drain.progress()._asdict()
    return {"id": progress.pop("name"), **progress, "ended": drain.ended}


def drain_backend(
    drains: Drains,
    clusters: Mapping[str, Cluster],
    wanted: Mapping[str, Any],
    connections: Callable[[], Iterable[Any]],
) -> Drain:
    """Begin to drain ``backend`` of ``cluster``; ``connections()`` are those of all clients. Raises ``Refusal``."""
    if unknown := sorted(wanted.keys() - {"cluster", "backend", "stay", "window", "deadline", "code"}):
        raise Refusal("invalid", f"unknown key {unknown[0]}")
    cluster, backend = wanted.get("cluster"), wanted.get("backend")
    if not isinstance(cluster, str) or cluster not in clusters:
        raise Refusal("invalid" if not isinstance(cluster, str) else "unknown", "cluster: there is none of this name")
    member = clusters[cluster].members.get(backend) if isinstance(backend, str) else None
    if member is None:
        raise Refusal("invalid" if not isinstance(backend, str) else "unknown", "backend: there is none of this name")
    code = wanted.get("code")
    if code is not None and (type(code) is not int or not (code in _CODES or 3000 <= code < 5000)):
        raise Refusal("invalid", "code: expected one that a Close frame may have, as 1001 or 1012")
    manner = Manner(
        stay=_seconds(wanted, "stay", 0.0),
        window=_seconds(wanted, "window", None),
        deadline=_seconds(wanted, "deadline", 30.0),
        code=code,
    )

    def serving(member: Member) -> list[Any]:
        return [connection for connection in connections() if connection.is_served_by(member)]

    return drains.start(BackendSubject(clusters[cluster], member, serving), manner)


def find_drain(drains: Drains, id: str) -> Drain:
    """Raises ``Refusal``."""
    drain = drains.find(id)
    if drain is None:
        raise Refusal("unknown", "there is no drain of this name")
    return drain


async def wait_for(drain: Drain, wait: str | None, clock: IReactorTime) -> None:
    """Until it has ended, but not for longer than ``wait`` says (``"30s"``). Raises ``Refusal``."""
    if wait is None:
        return
    seconds = _seconds({"wait": wait}, "wait", 0.0)
    waiting = drain.done
    waiting.addTimeout(min(seconds or 0.0, LONGEST), clock)
    try:
        await waiting
    except (Elapsed, CancelledError):
        pass


def _seconds(table: Mapping[str, Any], key: str, default: float | None) -> float | None:
    """``"30s"`` or ``"unlimited"``."""
    value = table.get(key)
    if key not in table:
        return default
    if value == "unlimited" and key != "wait":
        return None
    try:
        return read_duration(value)
    except ValueError as error:
        raise Refusal("invalid", f"{key}: {error}") from None
