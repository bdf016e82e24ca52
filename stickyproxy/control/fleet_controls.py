"""``Controls`` of a parent and its workers: what they say is merged, what is changed is changed in all. Floor 5."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from stickyproxy.control.controls import LocalControls
from stickyproxy.control.drained import BackendSubject
from stickyproxy.control.draining import Drain, Stage
from stickyproxy.control.fleet import Fleet
from stickyproxy.control.life import Life
from stickyproxy.control.merging import merge_drains, merge_explanations, merge_plans, merge_snapshots
from stickyproxy.control.metrics.families import Told
from stickyproxy.control.metrics.merging import Gathered
from stickyproxy.control.planning import lines
from stickyproxy.control.snapshot import Report

_log = Logger()
#: Seconds between two looks at what the workers still have of what drains.
LOOKING = 0.25


class FleetControls:
    """Answers for all processes. The parent has every backend, its state and its health, and all sessions."""

    def __init__(self, fleet: Fleet, parent: LocalControls) -> None:
        self._fleet = fleet
        self._parent = parent
        self._gathered = Gathered()
        self._counted: set[Life] = set()
        self._left: dict[str, int] = {}  #: sockets of workers, by the drains that they are part of
        parent.elsewhere = self._elsewhere

    async def snapshot(self) -> Report:
        """As ``Controls`` says."""
        workers = await self._fleet.ask_all("control", "snapshot", [], among=self._fleet.awake)
        return merge_snapshots(await self._parent.snapshot(), list(workers.values()))

    async def change_backend(self, cluster: str, backend: str, change: Mapping[str, Any], by: str) -> Report:
        """As ``Controls`` says; it holds for workers that are started later, too."""
        report = await self._parent.change_backend(cluster, backend, change, by)
        await self._fleet.ask_all("change", [(cluster, backend, report["state"], report["weight"])])
        clusters = (await self.snapshot())["clusters"]
        changed: Report = clusters.get(cluster, {}).get("backends", {}).get(backend, report)  # with workers' counts
        return changed

    async def samples(self) -> list[Told]:
        """As ``Controls`` says: what workers that have died had counted when they were last asked still counts."""
        self._gathered.tell(None, await self._parent.samples())
        told = await self._fleet.ask_all("control", "samples", [], among=self._fleet.awake)
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
        """As ``Controls`` says, by the counts of each worker: the parent serves nobody."""
        workers = await self._ask("explain", request)
        return merge_explanations(workers) if workers else await self._parent.explain(request)

    async def plan(self, document: str | None = None) -> Report:
        """As ``Controls`` says; what is open is that of the workers."""
        loaded = self._parent.read(document)
        path = str(loaded.configuration.path)
        workers = await self._fleet.ask_all("plan", loaded.document.decode(), path)
        report = merge_plans(self._parent.plan_for(loaded.configuration), list(workers.values()))
        return {**report, "told": lines(report)}

    async def reload(self, by: str) -> Report:
        """As ``Controls`` says: when it answers, all workers serve it."""
        return await self._parent.reload(by)

    # Every process drains its part, under the same name.

    async def drain(self, wanted: Mapping[str, Any], by: str) -> Report:
        """As ``Controls`` says."""
        report = await self._parent.drain(wanted, by)
        answer = merge_drains(report, await self._ask("drain", wanted, by))
        drain = self._fleet.proxy.drains.find(report["id"])
        if drain is not None:
            followed = Deferred.fromCoroutine(self._follow(drain, wanted, by))
            followed.addErrback(lambda failure: _log.failure("The workers' drains are not followed", failure))
        return answer

    def _elsewhere(self, name: str) -> int:
        """As long as nobody has told, there may be somebody."""
        drain = self._fleet.proxy.drains.find(name)
        return 0 if drain is not None and drain.ended else self._left.get(name, 1)

    async def _follow(self, drain: Drain, wanted: Mapping[str, Any], by: str) -> None:
        """Look at what the workers have until the drain of the parent, which is to end when theirs do, has ended."""
        name = drain.subject.name
        while not drain.ended:
            told = await self._fleet.ask_all("control", "drained", [name, None])
            new = [life for life in self._fleet.lives.values() if life.serving and life not in told]
            if new and not drain.ended:
                await self._fleet.ask_all("control", "drain", [_rest(drain, wanted), by], among=new)
            self._left[name] = len(new) + sum(report["sockets"] for report in told.values())
            await self._parent.pause(LOOKING)
        self._left.pop(name, None)

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
        report = await self._parent.cancel_drain(drain, by)
        await self._fleet.open()
        workers = await self._ask("cancel_drain", drain, by)
        found = self._fleet.proxy.drains.find(drain)
        if found is not None and isinstance(found.subject, BackendSubject):  # some may have begun with it
            await self._fleet.ask_all("change", [found.subject.now()])
        return merge_drains(report, workers)

    async def _ask(self, method: str, *arguments: Any) -> list[Any]:
        """What the workers answer as ``Controls``."""
        return list((await self._fleet.ask_all("control", method, arguments)).values())


def _rest(drain: Drain, wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is wanted of a worker that comes when ``drain`` is under way: the time that is left of its stage."""
    key = "stay" if drain.stage is Stage.STAYING else "deadline"
    remaining = drain.progress().remaining
    kept = {name: value for name, value in wanted.items() if name != "stay"}
    return {**kept, key: "unlimited" if remaining is None else f"{remaining * 1000:.0f}ms"}
