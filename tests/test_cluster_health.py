"""The health of a cluster, whatever happens to its members and in whatever order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock

from stickyproxy.health import ClusterHealth
from stickyproxy.member import Member
from stickyproxy.model import Backend
from stickyproxy.sansio.health import Ejecting, Standing, Thresholds, room
from stickyproxy.testing import MemoryEndpoint

EVENTS = ("unreached", "connected", "lost", "500", "200", "probe failed", "probe well", "time", "asked", "1011", "1000")
STEPS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(EVENTS)), max_size=120)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 4), st.sampled_from([0.1, 0.5, 1.0]), STEPS)
def test_no_more_than_the_share_is_out(count: int, share: float, steps: list[tuple[int, str]]) -> None:
    """The cluster knows exactly who is down; ejection never takes more than its share, and everybody comes back."""
    clock, rules = Clock(), Ejecting(failures=2, time=10.0, longest=40.0, max_share=share)
    members = {id: Member(Backend(id, ""), MemoryEndpoint(), clock, connect_timeout=5) for id in "abcd"[:count]}
    told: list[frozenset[str]] = []
    health = ClusterHealth("app", members, told.append)
    health.configure(rules)
    for number, event in steps:
        one = list(members.values())[number % count].health
        assert one is not None
        before, was_down = health.down, one.down
        if event in ("500", "200"):
            one.answered(int(event))
        elif event in ("1011", "1000"):
            one.closed(int(event))
        elif event == "asked":
            was_down |= one.on_trial  # nobody else may come
            one.asked()
        elif event == "time":
            clock.advance(7)
        elif event == "connected":
            one.connected()
        elif event in ("unreached", "lost"):
            getattr(one, event)(event)
        else:
            one.probe_ended(None if event == "probe well" else event, Thresholds(1, 1))
        assert health.down == {id for id, member in members.items() if member.health and member.health.down}
        if one.down and not was_down and event != "probe failed":
            assert len(before) < room(count, rules)
        if not was_down and event in ("200", "connected", "probe well"):
            assert not one.down
    assert told[-1:] == ([health.down | health.on_trial] if told else [])
    clock.advance(41)
    failing = {id for id, m in members.items() if m.health and m.health.probed.standing is Standing.DOWN}
    assert health.down == failing and not clock.getDelayedCalls()
