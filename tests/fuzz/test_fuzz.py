"""Whatever arrives, from whomever: no exception, no traceback, and nothing that could be read in two ways.

``make fuzz`` goes on where these stop.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fuzz_cases import CASES
from fuzz_run import mutated
from fuzz_targets import TARGETS

#: Seconds of random inputs for each target; there are always at least so many inputs.
BUDGET, AT_LEAST = 1.2, 40


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_read(name: str) -> None:
    """What a fuzzer begins with is judged right."""
    assert TARGETS[name].seeds
    for data in TARGETS[name].seeds:
        TARGETS[name].check(data)


@pytest.mark.parametrize(("name", "data"), CASES)
def test_what_was_found_once_is_mended(name: str, data: bytes) -> None:
    """An input that a target failed on once does no harm any more."""
    TARGETS[name].check(data)


@pytest.mark.parametrize("name", TARGETS)
def test_random_inputs_do_no_harm(name: str) -> None:
    """A second of inputs that begin well and go wrong; the same ones each time."""
    target, random, count = TARGETS[name], Random(name), 0
    words = target.words
    end = time.monotonic() + BUDGET
    while time.monotonic() < end or count < AT_LEAST:
        data = mutated(target.seeds, words, random)
        try:
            target.check(data)
        except BaseException as error:
            raise AssertionError(f"for fuzz_cases.py: ({name!r}, {data!r})") from error
        count += 1
    assert count >= AT_LEAST
