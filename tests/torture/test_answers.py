"""Answers of hostile and broken backends, in memory: whole, and one byte at a time."""

from __future__ import annotations

from collections.abc import Callable

import answers_bodies
import answers_heads
import pytest
from answers_judge import Case
from answers_scene import FACES, Face, play
from house import House

CASES = [*answers_heads.CASES, *answers_bodies.CASES]


def in_bytes(case: Case) -> list[bytes]:
    data = b"".join(case.said)
    return [data[at : at + 1] for at in range(len(data))]


@pytest.mark.parametrize("pieces", [lambda case: case.said, in_bytes], ids=["whole", "bytes"])
@pytest.mark.parametrize("face", FACES.values(), ids=FACES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_answer(case: Case, face: Callable[[House], Face], pieces: Callable[[Case], list[bytes]]) -> None:
    """The client sees what it may, and the next request gets an answer of its own."""
    play(case, pieces(case), face)


def test_names_are_unique() -> None:
    """A case is known by its name, also on the wire."""
    assert len({case.name for case in CASES}) == len(CASES)
