"""Token buckets: how often each client may ask, and what is remembered of whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.sansio.cells import PLACE, WAYS
from stickyproxy.sansio.ratelimit import Bucket, TokenBuckets, bucket_of


def admitted(buckets: TokenBuckets, key: str, now: float, times: int) -> int:
    return sum(buckets.take(key, now) == 0 for _ in range(times))


def test_a_burst_and_then_the_rate() -> None:
    """I may ask as often as the burst says at once, and then at the rate."""
    buckets = TokenBuckets(10, 1.0, 30)
    assert admitted(buckets, "a", 100.0, 50) == 30
    assert admitted(buckets, "a", 100.05, 5) == 0
    assert admitted(buckets, "a", 100.1001, 5) == 1
    assert admitted(buckets, "a", 101.1002, 50) == 10
    assert admitted(buckets, "a", 500.0, 50) == 30


def test_each_has_his_own() -> None:
    """What others ask does not count for me."""
    buckets = TokenBuckets(1, 60.0, 1)
    assert [admitted(buckets, key, 0.0, 3) for key in "abc"] == [1, 1, 1]


def test_how_long_to_wait() -> None:
    """The time told is the time after which it works, and no sooner."""
    buckets = TokenBuckets(2, 60.0, 1)
    assert buckets.take("a", 5.0) == 0
    wait = buckets.take("a", 5.0)
    assert wait == pytest.approx(30, rel=0.01)
    assert buckets.take("a", 5.0 + wait - 0.1) > 0
    assert buckets.take("a", 5.0 + wait) == 0


def test_asking_in_vain_costs_nothing() -> None:
    """Who goes on asking while it is refused is not punished for longer."""
    buckets = TokenBuckets(1, 1.0, 1)
    assert admitted(buckets, "a", 0.0, 100) == 1
    assert admitted(buckets, "a", 0.5, 100) == 0
    assert admitted(buckets, "a", 1.0, 100) == 1


def test_a_clock_that_is_set_back() -> None:
    """Nobody waits for longer than an empty bucket needs."""
    buckets = TokenBuckets(10, 1.0, 10)
    assert admitted(buckets, "a", 1_000_000.0, 20) == 10
    assert 0 < buckets.take("a", 5.0) <= 0.1
    assert buckets.take("a", 5.101) == 0


def memory(places: int) -> memoryview:
    """As much as a table with that many places takes."""
    return memoryview(bytearray(PLACE * places))


def test_full_buckets_make_room() -> None:
    """The tokens of as many as come one after the other are counted: who has not asked lately makes room."""
    buckets = TokenBuckets(1, 1.0, 1, memory(WAYS))
    for number in range(1100):
        assert admitted(buckets, f"late {number}", float(number), 2) == 1
        assert admitted(buckets, f"late {number}", number + 0.5, 2) == 0


def test_nobody_resets_his_own_bucket() -> None:
    """Who has spent his tokens, and comes from ever new addresses to be forgotten, is not."""
    buckets = TokenBuckets(5, 600.0, 5, memory(13 * WAYS))
    assert admitted(buckets, "attacker", 0.0, 10) == 5
    for number in range(5000):
        assert admitted(buckets, f"another {number}", 1.0 + number / 1000, 4) == 4
    assert admitted(buckets, "attacker", 6.0, 10) == 0


def test_the_least_indebted_makes_room() -> None:
    """A full set forgets whoever lacks least, so that the greedy win nothing."""
    buckets = TokenBuckets(10, 100.0, 10, memory(WAYS))
    for key, times in (("greedy", 10), ("busy", 5), *((f"some {number}", 2) for number in range(5))):
        admitted(buckets, key, 0.0, times)
    for number in range(20):
        admitted(buckets, f"new {number}", 0.0, 1)
    assert [admitted(buckets, key, 0.0, 20) for key in ("greedy", "busy")] == [0, 5]
    assert sum(admitted(buckets, f"some {number}", 0.0, 20) == 8 for number in range(5)) == 5


def test_a_crowd_has_a_bucket_each() -> None:
    """30,000 addresses that spend their tokens at once are all refused then, but for one in a thousand."""
    buckets = TokenBuckets(1, 3600.0, 1)
    crowd = [f"10.0.{number >> 8}.{number & 255}" for number in range(30_000)]
    assert all(buckets.take(each, 0.0) == 0 for each in crowd)
    assert sum(buckets.take(each, 1.0) == 0 for each in crowd) < 30


def test_processes_share_a_bucket() -> None:
    """Whoever of several processes is asked, the tokens are the same; a secret of its own makes another table."""
    cells = memory(1000)
    one, other = (TokenBuckets(10, 60.0, 10, cells, b"secret") for _ in range(2))
    assert [admitted(one, "a", 0.0, 7), admitted(other, "a", 0.0, 7), admitted(one, "a", 0.0, 7)] == [7, 3, 0]
    assert admitted(TokenBuckets(10, 60.0, 10, cells, b"another"), "a", 0.0, 7) == 7


def test_a_table_needs_memory() -> None:
    """Less than one set is a mistake of whoever gives it."""
    with pytest.raises(ValueError, match="needs 128 bytes"):
        TokenBuckets(1, 1.0, 1, memoryview(bytearray(100)))


@given(
    st.integers(1, 50),
    st.floats(0.01, 100),
    st.integers(1, 60),
    st.lists(st.tuples(st.floats(0, 5), st.sampled_from("abcdef")), max_size=80),
)
def test_against_a_bucket_of_tokens(requests: int, per: float, burst: int, events: list[tuple[float, str]]) -> None:
    """It admits whom a real bucket, that is refilled all the time, would admit."""
    buckets = TokenBuckets(requests, per, burst)
    now, tokens, last = 1000.0, dict.fromkeys("abcdef", float(burst)), dict.fromkeys("abcdef", 1000.0)
    for passed, key in events:
        now += passed * per / requests
        tokens[key] = min(burst, tokens[key] + (now - last[key]) * requests / per)
        last[key] = now
        wait = buckets.take(key, now)
        if not wait:
            assert tokens[key] > 0.99
            tokens[key] -= 1
        else:
            assert tokens[key] < 1.01
            assert 0 < wait <= per / requests * 1.01


@given(st.lists(st.tuples(st.floats(-2, 10), st.integers(0, 30)), max_size=200), st.integers(1, 8))
def test_any_clock(events: list[tuple[float, int]], sets: int) -> None:
    """Whoever comes, whenever, and wherever the clock goes: nobody waits for longer than one token takes."""
    buckets = TokenBuckets(3, 5.0, 4, memory(sets * WAYS))
    now = 100.0
    for passed, key in events:
        now += passed
        assert 0 <= buckets.take(f"{key}", now) <= 5 / 3


@given(st.binary(min_size=16 * WAYS * 3, max_size=16 * WAYS * 3), st.lists(st.integers(0, 30), max_size=50))
def test_any_memory(content: bytes, keys: list[int]) -> None:
    """Whatever a process that went wrong has left in the table, an answer is a time to wait, or there is no wait."""
    buckets = TokenBuckets(3, 5.0, 4, memoryview(bytearray(content)))
    assert all(0 <= buckets.take(f"{key}", 100.0) <= 5 / 3 for key in keys)


@pytest.mark.parametrize(
    ("address", "bucket"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("unix", "unix"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no:address", "no:address"),
    ],
)
def test_whose_bucket_it_is(address: str, bucket: str) -> None:
    """An IPv6 client has as many addresses as it likes, and one bucket."""
    assert bucket_of(address) == bucket


def test_one_bucket_alone():
    """A WebSocket's own bucket: as many at once as it holds, then one for each interval."""
    bucket = Bucket(2, 1.0, 3)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(10.5), bucket.take(10.5), bucket.take(11.0)] == [True, False, True]
