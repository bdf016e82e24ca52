"""What one process finds out of a backend, all know."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock

from stickyproxy.control.wellbeing import Told, Wellbeing
from stickyproxy.health import ClusterHealth
from stickyproxy.member import Member
from stickyproxy.model import Backend
from stickyproxy.sansio.health import Ejecting, Thresholds
from stickyproxy.testing import MemoryEndpoint


class Process:
    """One that has the cluster ``app`` of four backends; ``found`` is what it tells."""

    def __init__(self, clock: Clock, *, probing: bool) -> None:
        self.found: list[Told] = []
        members = {id: Member(Backend(id, ""), MemoryEndpoint(), clock, connect_timeout=5) for id in "abcd"}
        for member in members.values():
            member.cluster = "app"
        self.health = ClusterHealth("app", members, lambda _: None)
        self.health.configure(Ejecting(failures=2, time=10.0))
        self.wellbeing = Wellbeing(lambda told: self.found.append(json.loads(json.dumps(told))), probing=probing)
        cluster: Any = SimpleNamespace(health=self.health, members=members)
        self.wellbeing.watch({"app": cluster})

    def fails(self, backend: str, times: int = 2) -> None:
        health = self.health.members[backend].health
        assert health is not None
        for _ in range(times):
            health.unreached("refused")


def test_what_probes_find() -> None:
    """The parent tells a change of standing, once; a worker takes it over, and tells nothing of it."""
    clock = Clock()
    parent, worker = Process(clock, probing=True), Process(clock, probing=False)
    for _ in range(3):
        health = parent.health.members["b"].health
        assert health is not None
        health.probe_ended("it answers 404", Thresholds())
    assert len(parent.found) == 1
    worker.wellbeing.hear(parent.found)
    assert worker.health.down == parent.health.down == {"b"}
    assert str(worker.health.members["b"].health) == str(parent.health.members["b"].health)
    assert worker.found == []


def test_who_is_ejected_is_so_everywhere() -> None:
    """What clients of one worker meet counts for all, for as long; what is known of its probes stays as it is."""
    clock = Clock()
    parent, first, second = (Process(clock, probing=number == 0) for number in range(3))
    first.fails("a")
    assert first.health.down == {"a"}
    parent.wellbeing.hear(first.found)
    second.wellbeing.hear(first.found)
    assert parent.health.down == second.health.down == {"a"}
    clock.advance(10.1)
    assert first.health.down == second.health.down == parent.health.down == frozenset()


def test_a_worker_that_begins_is_told_all() -> None:
    """It knows what its parent knows; of backends and clusters that it does not have, nothing."""
    clock = Clock()
    parent, worker = Process(clock, probing=True), Process(clock, probing=False)
    parent.fails("c")
    clock.advance(4)
    known = json.loads(json.dumps(parent.wellbeing.known()))
    worker.wellbeing.hear([*known, ["app", "z", None, None], ["other", "a", None, None]])
    assert worker.health.down == {"c"}
    clock.advance(6.1)
    assert worker.health.down == frozenset()
