"""Answers of hostile and broken backends, in memory: whole, and one byte at a time."""

from __future__ import annotations

import answers_bodies
import answers_heads
import answers_upgrades
import pytest
from answers_judge import Case, Then
from answers_scene import FACES, play, play_early

CASES = [*answers_heads.CASES, *answers_bodies.CASES, *answers_upgrades.CASES]
#: Those that do not wait for the clock: while a request is not whole its backend may be silent.
EARLY = [
    case
    for case in CASES
    if case.method == b"GET" and not case.later and not case.fields and case.sees.status != 504
    if case.then is not Then.WAITS or case.sees.whole
]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_answer(case: Case, face: str) -> None:
    """The client sees what it may, and the next request gets an answer of its own."""
    play(case, case.said, FACES[face])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_answer_byte_by_byte(case: Case) -> None:
    """However slowly it comes, it is the same."""
    data = b"".join(case.said)
    play(case, [data[at : at + 1] for at in range(len(data))])


@pytest.mark.parametrize("face", ["HTTPFrontend", "AffinityRequest"])
@pytest.mark.parametrize("case", EARLY, ids=lambda case: case.name)
def test_an_answer_before_its_request_has_ended(case: Case, face: str) -> None:
    """It is passed on, or refused, all the same; the rest of the request goes nowhere."""
    play_early(case, case.said, FACES[face])


def test_names_are_unique() -> None:
    """A case is known by its name, also on the wire."""
    assert len({case.name for case in CASES}) == len(CASES)
