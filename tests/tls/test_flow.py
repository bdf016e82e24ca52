"""Where TLS records end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.tls.flow import count_records


@given(
    sizes=st.lists(st.integers(0, 700), max_size=12),
    tail=st.integers(0, 200),
    cuts=st.lists(st.integers(1, 900), max_size=40),
)
def test_records_are_counted_however_they_are_cut(sizes: list[int], tail: int, cuts: list[int]) -> None:
    """Each record counts once, in the piece that has its last byte."""
    stream = b"".join(b"\x17\x03\x03" + size.to_bytes(2, "big") + bytes(size) for size in sizes)
    ends = []
    for size in sizes:
        ends.append((ends[-1] if ends else 0) + 5 + size)
    stream += (b"\x17\x03\x03" + (1000).to_bytes(2, "big") + bytes(1000))[:tail]
    at, ahead, header = 0, 0, b""
    for cut in [*cuts, len(stream)]:
        piece = stream[at : at + cut]
        ended, ahead, header = count_records(piece, ahead, header)
        at += len(piece)
        assert ended == sum(at - len(piece) < end <= at for end in ends)
    whole = not tail
    assert (ahead == 0) is whole
    assert (ahead == -1) is (0 < tail < 5)


@given(st.binary(max_size=3000))
def test_nonsense_is_counted_without_harm(data: bytes) -> None:
    """Bytes that are no TLS at all have a count too, and it is never more than they can hold."""
    ended, ahead, header = count_records(data, 0, b"")
    assert 0 <= ended <= len(data) // 5
    assert ahead >= -1
    assert len(header) < 5
