"""Drains that an operator begins, waits for and ends. Floor 5."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Protocol

from twisted.internet.defer import CancelledError
from twisted.internet.defer import TimeoutError as Elapsed
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from stickyproxy.cluster import Cluster
from stickyproxy.config.units import read_duration
from stickyproxy.control.closed import Closed
from stickyproxy.control.drained import BackendSubject, ClosedSubject, Elsewhere
from stickyproxy.control.draining import Connection, Drain, Drains, Manner
from stickyproxy.control.refusal import Refusal
from stickyproxy.control.snapshot import Report
from stickyproxy.control.stopping import SETTLING
from stickyproxy.listening import CannotListen
from stickyproxy.member import Member

#: Seconds that an answer may be waited for.
LONGEST = 60.0
#: Those that RFC 6455 section 7.4.1 and its registry have for servers; beside them are those of applications.
_CODES = frozenset((1000, 1001, 1008, 1011, 1012, 1013))


class Drainable(Protocol):
    """What can be drained of a running proxy."""

    drains: Drains
    closed: Closed

    @property
    def clusters(self) -> Mapping[str, Cluster]: ...

    @property
    def frontends(self) -> Mapping[str, Any]: ...

    def connections(self) -> Iterable[Any]:
        """Those of all clients."""

    def tunnels(self) -> AbstractSet[Connection]:
        """The WebSockets among them."""


def drain_report(drain: Drain) -> Report:
    """How far it is: ``id`` (its name), ``stage``, ``ended``, and what is left. Times are seconds."""
    progress = drain.progress()._asdict()
    return {"id": progress.pop("name"), **progress, "ended": drain.ended}


async def begin_drain(proxy: Drainable, wanted: Mapping[str, Any], elsewhere: Elsewhere, clock: IReactorTime) -> Drain:
    """Begin to drain a backend, a frontend or the process, as ``Controls.drain`` says. Raises ``Refusal``."""
    if "process" in wanted:
        _expect(wanted, {"process"})
        if wanted["process"] is not True:
            raise Refusal("invalid", "process: expected true")
        return await drain_closed(proxy, None, _manner(wanted), elsewhere, clock)
    if "frontend" in wanted:
        _expect(wanted, {"frontend"})
        frontend = wanted["frontend"]
        if not isinstance(frontend, str) or frontend not in proxy.frontends:
            known = isinstance(frontend, str)
            raise Refusal("unknown" if known else "invalid", "frontend: there is none of this name")
        return await drain_closed(proxy, frontend, _manner(wanted), elsewhere, clock)
    return _drain_backend(proxy, wanted, elsewhere)


async def drain_closed(
    proxy: Drainable, frontend: str | None, manner: Manner, elsewhere: Elsewhere, clock: IReactorTime
) -> Drain:
    """Close ``frontend``, None: the process; then drain its connections, with those that were just being accepted."""
    await proxy.closed.close(frontend)
    await deferLater(clock, SETTLING)

    def connections() -> AbstractSet[Connection]:
        if frontend is None:
            return set(proxy.connections())
        return set(proxy.frontends[frontend].connections) if frontend in proxy.frontends else set()

    return proxy.drains.start(ClosedSubject(frontend, connections, proxy.tunnels, elsewhere), manner)


async def end_drain(proxy: Drainable, drain: Drain) -> None:
    """All is as before it; a frontend listens again also when it has ended. Raises ``Refusal``."""
    subject = drain.subject
    if isinstance(subject, ClosedSubject) and subject.frontend in proxy.closed.what:
        try:
            await proxy.closed.open(subject.frontend)
        except CannotListen as error:
            raise Refusal("conflict", str(error)) from error
    elif drain.ended:
        raise Refusal("conflict", "it has ended already")
    drain.cancel()


def _drain_backend(proxy: Drainable, wanted: Mapping[str, Any], elsewhere: Elsewhere) -> Drain:
    clusters = proxy.clusters
    _expect(wanted, {"cluster", "backend", "stay"})
    cluster, backend = wanted.get("cluster"), wanted.get("backend")
    if not isinstance(cluster, str) or cluster not in clusters:
        raise Refusal("invalid" if not isinstance(cluster, str) else "unknown", "cluster: there is none of this name")
    member = clusters[cluster].members.get(backend) if isinstance(backend, str) else None
    if member is None:
        raise Refusal("invalid" if not isinstance(backend, str) else "unknown", "backend: there is none of this name")
    manner = _manner(wanted)

    def serving(member: Member) -> list[Any]:
        return [connection for connection in proxy.connections() if connection.is_served_by(member)]

    return proxy.drains.start(BackendSubject(clusters[cluster], member, serving, elsewhere), manner)


def _expect(wanted: Mapping[str, Any], keys: Collection[str]) -> None:
    if unknown := sorted(wanted.keys() - {*keys, "window", "deadline", "code"}):
        raise Refusal("invalid", f"{unknown[0]}: is unknown, or not of what is to be drained")


def _manner(wanted: Mapping[str, Any]) -> Manner:
    code = wanted.get("code")
    if code is not None and (type(code) is not int or not (code in _CODES or 3000 <= code < 5000)):
        raise Refusal("invalid", "code: expected one that a Close frame may have, as 1001 or 1012")
    return Manner(
        stay=_seconds(wanted, "stay", 0.0),
        window=_seconds(wanted, "window", None),
        deadline=_seconds(wanted, "deadline", 30.0),
        code=code,
    )


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
