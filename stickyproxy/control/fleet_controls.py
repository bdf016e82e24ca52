"""``Controls`` of a parent and its workers: what they say is merged, what is changed is changed in all. Floor 5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stickyproxy.control.controls import LocalControls
from stickyproxy.control.fleet import Fleet
from stickyproxy.control.life import Life
from stickyproxy.control.merging import merge_drains, merge_snapshots
from stickyproxy.control.metrics.families import Told
from stickyproxy.control.metrics.merging import Gathered
from stickyproxy.control.refusal import Refusal
from stickyproxy.control.snapshot import Report


class FleetControls:
    """Answers for all processes. The parent has every backend, its state and its health, and all sessions."""

    def __init__(self, fleet: Fleet, parent: LocalControls) -> None:
        self._fleet = fleet
        self._parent = parent
        self._gathered = Gathered()
        self._counted: set[Life] = set()

    async def snapshot(self) -> Report:
        """As ``Controls`` says."""
        workers = await self._fleet.ask_all("control", "snapshot", [])
        return merge_snapshots(await self._parent.snapshot(), list(workers.values()))

    async def change_backend(self, cluster: str, backend: str, change: Mapping[str, Any], by: str) -> Report:
        """As ``Controls`` says; it holds for workers that are started later, too."""
        report = await self._parent.change_backend(cluster, backend, change, by)
        await self._fleet.ask_all("change", [(cluster, backend, report["state"], report["weight"])])
        return report

    async def samples(self) -> list[Told]:
        """As ``Controls`` says: what workers that have died had counted when they were last asked still counts."""
        self._gathered.tell(None, await self._parent.samples())
        told = await self._fleet.ask_all("control", "samples", [])
        for life, samples in told.items():
            self._gathered.tell(life, samples)
        living = set(self._fleet.lives.values())
        for life in self._counted - living:
            self._gathered.ended(life)
        self._counted = (self._counted | told.keys()) & living
        return self._gathered.samples()

    # The parent has all sessions: what it changes, its workers do.

    async def sessions(self, query: Mapping[str, str]) -> Report:
        """As ``Controls`` says."""
        return await self._parent.sessions(query)

    async def change_session(self, cluster: str, session: str, change: Mapping[str, Any], by: str) -> Report:
        """As ``Controls`` says."""
        return await self._parent.change_session(cluster, session, change, by)

    async def forget_session(self, cluster: str, session: str, by: str) -> Report:
        """As ``Controls`` says."""
        return await self._parent.forget_session(cluster, session, by)

    async def explain(self, request: Mapping[str, Any]) -> Report:
        """As ``Controls`` says, by the counts of the parent, which serves nobody."""
        return await self._parent.explain(request)

    async def plan(self, document: str | None = None) -> Report:
        """As ``Controls`` says; open connections are counted by workers, and not told here."""
        return await self._parent.plan(document)

    async def reload(self, by: str) -> Report:
        """As ``Controls`` says: when it answers, all workers serve it."""
        return await self._parent.reload(by)

    # Every process drains its part, under the same name.

    async def drain(self, wanted: Mapping[str, Any], by: str) -> Report:
        """As ``Controls`` says."""
        report = await self._parent.drain(wanted, by)
        return merge_drains(report, await self._ask("drain", wanted, by))

    async def drains(self) -> Report:
        """As ``Controls`` says."""
        named = [{drain["id"]: drain for drain in each["drains"]} for each in await self._ask("drains")]
        parents = (await self._parent.drains())["drains"]
        return {
            "drains": [
                merge_drains(drain, [each[drain["id"]] for each in named if drain["id"] in each]) for drain in parents
            ]
        }

    async def drained(self, drain: str, wait: str | None) -> Report:
        """As ``Controls`` says."""
        report = await self._parent.drained(drain, None)
        return merge_drains(report, await self._ask("drained", drain, wait))

    async def cancel_drain(self, drain: str, by: str) -> Report:
        """As ``Controls`` says."""
        workers = await self._ask("cancel_drain", drain, by)
        try:
            return merge_drains(await self._parent.cancel_drain(drain, by), workers)
        except Refusal:  # nobody was here whom it could have waited for
            found = self._fleet.proxy.drains.find(drain)
            if not workers or found is None:
                raise
            found.subject.restore()
            return merge_drains(workers[0], workers[1:])

    async def _ask(self, method: str, *arguments: Any) -> list[Any]:
        """What the workers answer as ``Controls``."""
        return list((await self._fleet.ask_all("control", method, arguments)).values())
