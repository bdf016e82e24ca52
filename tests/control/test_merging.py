"""The metrics of several processes are those of one that did it all."""

from __future__ import annotations

import json
from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from stickyproxy.control.metrics import Gathered, merge
from stickyproxy.control.metrics.families import FAMILIES, Family, Told

COUNTS = st.integers(min_value=0, max_value=10**9)
NAMES = st.sampled_from(("a", "b", ""))


def values(family: Family) -> st.SearchStrategy[Any]:
    """Of a family: whole numbers, so that sums are the same in any order."""
    if family.kind == "histogram":
        return st.lists(COUNTS, min_size=len(family.bounds) + 2, max_size=len(family.bounds) + 2)
    return COUNTS


@st.composite
def parts(draw: st.DrawFn) -> list[Told]:
    """What a process tells: some of the families, with some of the labels."""
    chosen = draw(st.lists(st.sampled_from(list(FAMILIES.values())), unique_by=lambda family: family.name, max_size=6))
    return [
        family.told(
            draw(st.dictionaries(st.tuples(*(NAMES for _ in family.labels)), values(family), max_size=4)).items()
        )
        for family in chosen
    ]


def flat(samples: list[Told]) -> dict[tuple[str, tuple[str, ...]], Any]:
    return {(told["name"], tuple(labels)): value for told in samples for labels, value in told["samples"]}


@given(st.lists(parts(), max_size=4))
def test_the_sum_of_the_parts_is_the_whole(several: list[list[Told]]) -> None:
    """Every counter is the sum of what the processes have counted, every bucket too, and gauges follow their rule."""
    whole = flat(merge(several))
    flats = [flat(part) for part in several]
    assert whole.keys() == {key for part in flats for key in part}
    for (name, labels), value in whole.items():
        told = [part[name, labels] for part in flats if (name, labels) in part]
        if FAMILIES[name].kind == "histogram":
            assert value == [sum(column) for column in zip(*told, strict=True)]
        else:
            assert value == {"sum": sum, "max": max, "min": min}[FAMILIES[name].merge](told)


@given(parts(), parts(), parts())
def test_in_any_order(one: list[Told], two: list[Told], three: list[Told]) -> None:
    """It does not matter who is asked first, nor whether some were merged before; and it all goes through JSON."""
    before = json.dumps([one, two, three])
    assert flat(merge([merge([one, two]), three])) == flat(merge([three, merge([two, one])]))
    assert json.dumps([one, two, three]) == before
    assert flat(json.loads(json.dumps(merge([one, two])))) == flat(merge([one, two]))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(("count", "end")), COUNTS), max_size=30))
def test_no_counter_falls(events: list[tuple[str, str, int]]) -> None:
    """Processes come, count and go, and the sum is that of all that was ever counted."""
    family = FAMILIES["stickyproxy_rate_limited_total"]
    gauge = FAMILIES["stickyproxy_client_connections"]
    gathered, counts, total = Gathered(), dict.fromkeys("abc", 0), 0
    for process, event, more in events:
        if event == "end":
            counts[process] = 0
            gathered.ended(process)
        else:
            counts[process] += more
            total += more
            gathered.tell(process, [family.told([(("web",), counts[process])]), gauge.told([(("web",), 1)])])
        merged = flat(gathered.samples())
        assert merged.get((family.name, ("web",)), 0) == total
    alive = {process for process, event, _ in events if event == "count"}
    for process in "abc":
        ends = [event for name, event, _ in events if name == process]
        if not ends or ends[-1] == "end":
            alive.discard(process)
    assert flat(gathered.samples()).get((gauge.name, ("web",)), 0) == len(alive)


def test_another_version_with_other_buckets() -> None:
    """While a new version takes over, a histogram that it has cut otherwise does not spoil the page."""
    family = FAMILIES["stickyproxy_request_duration_seconds"]
    ours = family.told([(("app",), [1] * (len(family.bounds) + 2))])
    theirs = {**ours, "bounds": [1.0], "samples": [[["app"], [5, 5, 5]]]}
    assert merge([[ours], [theirs]]) == [ours]
