"""How a backend is, in one word, with the reason and the time."""

from __future__ import annotations

from twisted.internet.task import Clock

from stickyproxy.cluster import Cluster
from stickyproxy.config.health import Eject
from stickyproxy.config.named import Probe
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.member import Member
from stickyproxy.model import Backend, BackendState
from stickyproxy.sansio.affinity import NoAffinity
from stickyproxy.sansio.balancing import RoundRobin
from stickyproxy.sansio.health import Thresholds
from stickyproxy.standing import standing_of
from stickyproxy.testing import MemoryEndpoint


def test_every_word() -> None:
    """From its first probe through failures, ejection, trial, slow start and a rush to maintenance."""
    clock = Clock()
    backends = tuple(Backend(id, "") for id in "ab")
    spec = ClusterSpec(
        "app", backends, probe=Probe("tcp"), eject=Eject(failures=1, time=10.0), slow_start=30.0, max_connections=1
    )
    member, other = (Member(backend, MemoryEndpoint(), clock, connect_timeout=5) for backend in backends)
    cluster = Cluster(spec, [member, other], NoAffinity(), RoundRobin())
    health = member.health
    assert health is not None and other.health is not None

    def is_now(word: str, why: str, since: float) -> None:
        assert (standing_of(member)[0], standing_of(member)[2]) == (word, since)
        assert why in standing_of(member)[1]

    is_now("unknown", "no probe", 0)
    clock.advance(1)
    health.probe_ended(None, Thresholds(1, 1))
    is_now("up", "takes new clients", 1)
    clock.advance(1)
    health.probe_ended("no answer", Thresholds(1, 1))
    is_now("down", "no answer", 2)
    clock.advance(1)
    health.probe_ended(None, Thresholds(1, 1))
    is_now("starting", "more and more", 3)
    clock.advance(30)
    is_now("up", "takes new clients", 3)
    health.answered(500)
    is_now("ejected", "it answers 500", 33)
    clock.advance(10)
    is_now("trial", "it answers 500", 43)
    health.answered(200)
    is_now("starting", "more and more", 43)
    member.active = 1
    is_now("full", "as many as it may", 43)
    member.active, member.weight = 0, 0
    is_now("idle", "no weight", 0)
    clock.advance(1)
    for state in (BackendState.DRAIN, BackendState.MAINTENANCE):
        member.set_state(state)
        is_now(state.value, "it", 44)
    cluster.stop()
