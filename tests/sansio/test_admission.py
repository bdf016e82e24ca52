"""How many connections a frontend takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.sansio.admission import CROWDED, FULL, Admission, SharedAdmission
from stickyproxy.sansio.cells import PLACE, WAYS
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


SMALL = 64 + PLACE * WAYS  # a tally with one set


def processes(count: int, limit: int | None, per_address: int | None, size: int = 1 << 14) -> list[SharedAdmission]:
    """The admissions of that many processes, and so many bytes of memory for each."""
    memory = [memoryview(bytearray(size)) for _ in range(count)]
    return [
        SharedAdmission(limit, per_address, Networks(["10.0.0.0/8"]), own, memory[:at] + memory[at + 1 :], b"secret")
        for at, own in enumerate(memory)
    ]


def test_processes_count_together() -> None:
    """In all, and from one address: it does not matter which process a connection comes to."""
    one, other = processes(2, 4, 2)
    assert [one.admit("192.0.2.1"), other.admit("192.0.2.1"), one.admit("192.0.2.1")] == [None, None, CROWDED]
    assert [one.admit("192.0.2.2"), other.admit("192.0.2.3"), other.admit("192.0.2.4")] == [None, None, FULL]
    one.leave("192.0.2.1")
    assert [other.admit("192.0.2.1"), one.admit("192.0.2.1")] == [None, CROWDED]


def test_who_died_is_not_counted() -> None:
    """The connections of a process that is gone are, too: its memory is cleared, and its successor begins with none."""
    memory = [memoryview(bytearray(1 << 14)) for _ in range(2)]
    one = SharedAdmission(3, 1, Networks(), memory[0], memory[1:], b"secret")
    other = SharedAdmission(3, 1, Networks(), memory[1], memory[:1], b"secret")
    assert [other.admit(host) for host in ("192.0.2.1", "192.0.2.2", "192.0.2.3")] == [None] * 3
    assert [one.admit("192.0.2.1"), one.admit("192.0.2.4")] == [CROWDED, FULL]
    memory[1][:] = bytes(1 << 14)
    assert [one.admit("192.0.2.1"), one.admit("192.0.2.4")] == [None, None]


def test_no_place_left() -> None:
    """Where there is no place for another address, each process counts it for itself, and nobody is refused for it."""
    one, other = processes(2, None, 1, SMALL)
    hosts = [f"192.0.2.{number}" for number in range(20)]
    assert [one.admit(host) for host in hosts] == [None] * 20
    assert [one.admit(host) for host in hosts] == [CROWDED] * 20
    assert [other.admit(host) for host in hosts] == [CROWDED] * WAYS + [None] * (20 - WAYS)
    for host in hosts:
        one.leave(host)
    assert [other.admit(host) for host in hosts[WAYS:]] == [CROWDED] * (20 - WAYS)
    assert one.admit(hosts[WAYS]) is CROWDED


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2), st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "10.0.0.1"]), st.booleans()
        ),
        max_size=100,
    )
)
def test_as_one_process(events: list[tuple[int, str, bool]]) -> None:
    """Whatever comes to whom, three processes decide as one would, and leave their memory as they found it."""
    rooms, alone, there = processes(3, 5, 2, SMALL), Admission(5, 2, Networks(["10.0.0.0/8"])), []
    for at, host, comes in events:
        if comes:
            verdict = rooms[at].admit(host)
            assert verdict is alone.admit(host)
            if verdict is None:
                there.append((at, host))
        elif (at, host) in there:
            there.remove((at, host))
            rooms[at].leave(host)
            alone.leave(host)
    for at, host in there:
        rooms[at].leave(host)
    for room in rooms:
        assert not any(room._own.words) and not any(room._own._tags)
