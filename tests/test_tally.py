"""What a frontend counts of its answers, summed up by the batch."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from stickyproxy.member import Member
from stickyproxy.model import Backend, Outcome
from stickyproxy.sansio.selection import Broken, Choice
from stickyproxy.tally import BOUNDS, BUCKETS, Tally
from stickyproxy.testing import MemoryEndpoint

DURATIONS = st.floats(0, 100) | st.sampled_from([*BOUNDS, 0.0])


def member(id: str = "a") -> Member:
    made = Member(Backend(id, ""), MemoryEndpoint(), Clock(), connect_timeout=1)
    made.cluster = "app"
    return made


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 9), st.integers(0, 9), DURATIONS), max_size=40))
def test_sums_are_those_of_the_answers(answers: list[tuple[int, int, int, float]]) -> None:
    """However they are put together, each answer is counted once, in the first bucket that is long enough."""
    tally, kinds = Tally(), [(member().kept, 200), (member("b").kept, 200), (None, 400)]
    for kind, *numbers in answers:
        tally.pending[kinds[kind]].append(tuple(numbers))  # type: ignore[arg-type]
        if len(tally.pending[kinds[kind]]) > 7:
            tally.flush()
    tally.flush()
    keys = [("app", "a", 200, "kept"), ("app", "b", 200, "kept"), ("", "", 400, "none")]
    for kind, key in enumerate(keys):
        those = [numbers for each, *numbers in answers if each == kind]
        assert (key in tally.answers) is bool(those)
        if those:
            row = tally.answers[key]
            assert row[:2] == [sum(one[0] for one in those), sum(one[1] for one in those)]
            assert row[2] == pytest.approx(sum(one[2] for one in those))
            buckets = Counter(sum(bound < one[2] for bound in BOUNDS) for one in those)
            assert row[BUCKETS:] == [buckets[place] for place in range(len(BOUNDS) + 1)]


def test_why_a_client_was_moved_makes_no_row() -> None:
    """What a client had named is in no sum: all that were moved are one row."""
    tally, served = Tally(), member()
    for number in range(3):
        moved = Choice(served, Outcome.REBOUND, Broken(f"named-by-a-client-{number}", "gone"))
        tally.pending[moved, 200].append((0, 1, 0.5))
    tally.flush()
    assert {key: sum(row[BUCKETS:]) for key, row in tally.answers.items()} == {("app", "a", 200, "rebound"): 3}
    assert not tally.pending
