"""The balancer that needs no memory: shares, what moves when backends change, and bounds of load."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.conformance import MemoryCandidate, make_arrival
from stickyproxy.model import Arrival
from stickyproxy.sansio.balancing import ConsistentHash, consistent_hash
from stickyproxy.sansio.keys import find_key

KEYS = 20_000
ARRIVALS = [make_arrival()._replace(key=b"client-%d" % number) for number in range(KEYS)]
FIND = find_key("key")


def backends(count: int, *weights: int) -> list[MemoryCandidate]:
    return [MemoryCandidate(f"b{at}", weight) for at, weight in enumerate(weights or (1,) * count)]


def homes(candidates: list[MemoryCandidate], balancer: ConsistentHash | None = None) -> list[str]:
    """Where each key goes."""
    balancer = balancer or ConsistentHash(FIND)
    return [balancer.choose(candidates, arrival).id for arrival in ARRIVALS]


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 2, 5), (256, 1, 255, 128), (1,) * 20])
def test_shares_follow_the_weights(weights: tuple[int, ...]) -> None:
    """Every backend has the share of keys that its weight says."""
    shares = Counter(homes(backends(0, *weights)))
    for at, weight in enumerate(weights):
        expected = KEYS * weight / sum(weights)
        assert abs(shares[f"b{at}"] - expected) < 5 * expected**0.5 + 2  # five standard deviations, about


@pytest.mark.parametrize("count", [2, 5, 10, 30])
def test_one_is_added_and_removed(count: int) -> None:
    """A backend that is added takes 1/n of the keys, and nobody else moves; when it goes they are where they were."""
    before, after = homes(backends(count)), homes(backends(count + 1))
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {f"b{count}"}
    assert len(moved) / KEYS == pytest.approx(1 / (count + 1), rel=0.15)


def test_one_goes() -> None:
    """The keys of a backend that goes are spread over the others by weight; no other key moves."""
    candidates = backends(0, 1, 2, 3, 2)
    before, after = homes(candidates), homes([each for each in candidates if each.id != "b1"])
    moved = Counter(new for old, new in zip(before, after, strict=True) if old != new)
    assert sum(moved.values()) == Counter(before)["b1"]
    assert [round(moved[id] / (KEYS / 4 / 6), 1) for id in ("b0", "b2", "b3")] == pytest.approx([1, 3, 2], abs=0.3)


def test_a_weight_changes() -> None:
    """More weight takes keys of all others, and moves none among them."""
    before, after = homes(backends(0, 1, 1, 1, 1)), homes(backends(0, 1, 1, 1, 2))
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {"b3"}
    assert len(moved) / KEYS == pytest.approx(2 / 5 - 1 / 4, rel=0.1)


def test_order_does_not_count() -> None:
    """A configuration whose backends are written in another order sends every key where it went."""
    assert homes(backends(7)) == homes(backends(7)[::-1])


def test_another_process_agrees() -> None:
    """After a restart, and in every other process, each key goes where it went (Python's own hash would not)."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import {__name__} as t; "
    code += "del t.ARRIVALS[50:]; print(*t.homes(t.backends(0, 3, 1, 2)))"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert runs == {" ".join(homes(backends(0, 3, 1, 2))[:50]) + "\n"}


def test_these_keys_stay_for_ever() -> None:
    """Where a key goes is a promise to those who upgrade, and to proxies of different versions side by side."""
    assert "".join(homes(backends(4))[:24]).replace("b", "") == "222223210302313213232232"


def test_without_a_key() -> None:
    """Who has no key is served in turn."""
    balancer = ConsistentHash(FIND)
    assert [balancer.choose(backends(3), Arrival("192.0.2.1", False)).id for _ in range(6)] == ["b0", "b1", "b2"] * 2


@pytest.mark.parametrize("load", [1.05, 1.25, 2.0])
def test_bounded_load(load: float) -> None:
    """When a few keys are most of the traffic, nobody gets more than so many times his share, and keys stay put."""
    candidates = backends(0, 1, 1, 2, 4)
    balancer = ConsistentHash(FIND, load)
    hot = ARRIVALS[0]
    for number in range(800):
        chosen = balancer.choose(candidates, hot if number % 2 else ARRIVALS[number])
        chosen.active += 1
        total = sum(each.active for each in candidates)
        assert chosen.active <= load * total * chosen.weight / 8 + 1
    for each in candidates:
        each.active = 0
    assert homes(candidates, balancer) == homes(candidates)


def test_full_backends_pass_keys_to_the_next_one() -> None:
    """A key whose backend is full goes where it would go without that backend."""
    candidates = backends(6)
    alone = homes(candidates)
    candidates[2].active = 100
    without = homes([each for each in candidates if each.id != "b2"])
    assert homes(candidates, ConsistentHash(FIND, 1.25)) == without
    assert homes(candidates) == alone


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many keys strangers make up, and backends come and go, memory does not grow."""
    monkeypatch.setattr(consistent_hash, "REMEMBERED", 100)
    balancer = ConsistentHash(FIND)
    assert homes(backends(5), balancer) == homes(backends(5))
    assert len(balancer._best) <= 100
    for number in range(9000):
        balancer.choose([MemoryCandidate(f"x{number}")], ARRIVALS[0])
    assert len(balancer._draws._seeds) <= 4096


@given(st.binary(max_size=100), st.lists(st.integers(1, 256), min_size=1, max_size=6), st.data())
def test_any_key(key: bytes, weights: list[int], data: st.DataObject) -> None:
    """Any key, any weights, any load: one of the candidates, the same each time."""
    candidates = backends(0, *weights)
    for each in candidates:
        each.active = data.draw(st.integers(0, 50))
    for balancer in (ConsistentHash(FIND), ConsistentHash(FIND, 1.01)):
        arrival = make_arrival()._replace(key=key or b"x")
        chosen = balancer.choose(candidates, arrival)
        assert chosen in candidates and balancer.choose(candidates, arrival) is chosen


def test_a_load_that_cannot_be() -> None:
    """Nobody can have less than his share."""
    with pytest.raises(ValueError, match="more than 1"):
        ConsistentHash(FIND, 1.0)
