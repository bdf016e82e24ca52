"""The line of those who wait: first come, first served, for one place or for any."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stickyproxy.sansio.line import Line

PLACES = st.sampled_from([None, "a", "b", "c"])


class Waiting(RuleBasedStateMachine):
    """Against a list of them all."""

    def __init__(self) -> None:
        super().__init__()
        self.line: Line[int] = Line()
        self.model: dict[int, str | None] = {}
        self.next = 0

    @rule(place=PLACES)
    def join(self, place: str | None) -> None:
        self.line.join(self.next, place, self.next)
        self.model[self.next] = place
        self.next += 1

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.model)))
        self.line.leave(number, self.model.pop(number))

    @rule(place=st.sampled_from("abc"), anybody=st.booleans(), odd=st.booleans())
    def serve(self, place: str, anybody: bool, odd: bool) -> None:
        """Who came first of those who may have it, and nobody else."""
        may = (lambda number: not odd or number % 2 == 1) if anybody else None
        able = [
            number
            for number, wanted in self.model.items()
            if wanted == place or (wanted is None and may is not None and may(number))
        ]
        first = self.line.first(place, may)
        assert first == min(able, default=None)
        if first is not None:
            self.line.leave(first, self.model.pop(first))

    @invariant()
    def counts(self) -> None:
        assert self.line.length == len(self.model)
        assert self.line.everybody() == sorted(self.model)
        for place in (None, "a", "b", "c"):
            assert self.line.waiting(place) == list(self.model.values()).count(place)


TestWaiting = Waiting.TestCase


@given(st.permutations(range(5)))
def test_who_comes_back_is_before_those_who_came_later(order: list[int]) -> None:
    """Somebody who has waited already, and asks anew, does not begin at the end."""
    line: Line[int] = Line()
    for number in order:
        line.join(number, "a", number)
    assert line.first("a", None) == 0 and line.everybody() == [0, 1, 2, 3, 4]
