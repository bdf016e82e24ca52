"""How many connections a frontend takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.sansio.admission import CROWDED, FULL, Admission
from stickyproxy.sansio.networks import Networks, block_of


@pytest.mark.parametrize(
    ("address", "block"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", None),
    ],
)
def test_blocks(address: str, block: str | None) -> None:
    """A client is known by its address, in IPv6 by the /64 that it may have whole."""
    assert block_of(address) == block


def test_in_all() -> None:
    """As many as allowed, and again as many when they have left."""
    room = Admission(2, None)
    assert [room.admit(host) for host in ("192.0.2.1", "unix", "192.0.2.1")] == [None, None, FULL]
    room.leave("unix")
    assert [room.admit("192.0.2.2"), room.admit("192.0.2.3")] == [None, FULL]
    assert FULL.status == 503 and b"Retry-After: " in FULL.fields


def test_from_one_address() -> None:
    """Everybody has his own share, but proxies, who bring many clients, and sockets without an address."""
    room = Admission(None, 2, Networks(["10.0.0.0/8"]))
    for one, same, other in (
        ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
        ("2001:db8::1", "2001:db8::2:0", "2001:db8:0:1::1"),
    ):
        assert [room.admit(host) for host in (one, same, one, same, other)] == [None, None, CROWDED, CROWDED, None]
        room.leave(same)
        assert [room.admit(one), room.admit(one)] == [None, CROWDED]
    assert not any(room.admit(host) for host in ("10.1.2.3", "unix") * 5)
    assert CROWDED.status == 429 and b"Retry-After: " in CROWDED.fields


def test_which_comes_first() -> None:
    """Who has too many himself is told that, even where there is no room for anybody."""
    room = Admission(2, 2)
    assert [room.admit("192.0.2.1") for _ in range(3)] == [None, None, CROWDED]
    assert room.admit("192.0.2.2") is FULL


@given(st.lists(st.tuples(st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"]), st.booleans())))
def test_nothing_is_left_behind(events: list[tuple[str, bool]]) -> None:
    """Whatever comes and goes, the limits hold, and nothing is remembered of those who left."""
    room, there = Admission(4, 3), []
    for host, comes in events:
        if comes and room.admit(host) is None:
            there.append(host)
        elif not comes and host in there:
            there.remove(host)
            room.leave(host)
        assert room.open == len(there) <= 4
        assert all(sum(block_of(each) == block_of(host) for each in there) <= 3 for host in there)
    for host in there:
        room.leave(host)
    assert room.open == 0 and not room._by_block
