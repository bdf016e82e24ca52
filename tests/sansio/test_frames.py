"""Frame boundaries: tables of headers, and any traffic of a library whose frames are known to be right."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode

from stickyproxy.sansio.frames import (
    CLOSE,
    DEFLATE,
    PING,
    PLAIN,
    PONG,
    UNKNOWN,
    Breach,
    Control,
    Frames,
    close_frame,
    control_frame,
    mask,
)

KEY = b"\x01\x02\x03\x04"


def follow(frames: Frames, pieces: list[bytes]) -> list[Control]:
    """What a tunnel does: goes through the pieces, keeps what is not enough; the control frames that were there."""
    controls, held = [], b""
    for piece in pieces:
        data, at = held + piece, 0
        while at < len(data):
            end = frames.step(data, at)
            if end == at:
                break
            at = end
            if frames.control is not None:
                controls.append(frames.control)
        held = data[at:]
        assert len(held) < 131
    assert not held
    return controls


def breach(data: bytes, **how: object) -> tuple[str, int] | None:
    """What is wrong with these bytes, found whole and byte by byte alike."""
    found = []
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        try:
            follow(Frames(**how), pieces)
        except Breach as error:
            found.append((str(error), error.code))
        else:
            found.append(None)
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x83\x00", "a frame has a reserved opcode"),
        (b"\x8b\x00", "a frame has a reserved opcode"),
        (b"\x08\x00", "a control frame is fragmented"),
        (b"\x09\x00", "a control frame is fragmented"),
        (b"\x89\x7e\x00\x7e", "a control frame has more than 125 bytes"),
        (b"\x88\x01\x03", "a close code has two bytes"),
        (b"\x80\x00", "a frame continues no message"),
        (b"\x01\x00\x81\x00", "a message begins within another"),
        (b"\x01\x00\x02\x00", "a message begins within another"),
        (b"\xc1\x00", "a frame has a reserved bit"),
        (b"\xa1\x00", "a frame has a reserved bit"),
        (b"\xc9\x00", "a frame has a reserved bit"),
        (b"\x81\x80" + KEY, "a frame is masked"),
        (b"\x81\x7e\x00\x7d", "the length of a frame takes more bytes than it needs"),
        (b"\x81\x7f" + (0xFFFF).to_bytes(8), "the length of a frame takes more bytes than it needs"),
        (b"\x81\x7f" + (1 << 63).to_bytes(8), "the length of a frame has its highest bit set"),
    ],
)
def test_what_may_not_come_is_found(data, reason):
    """Every breach of RFC 6455 section 5 that a header shows is found and named, however the bytes come."""
    assert breach(data, masked=False) == (reason, 1002)


def test_a_client_masks_its_frames():
    """A client's frame without a mask ends the connection, as the specification wants it."""
    assert breach(b"\x81\x00", masked=True) == ("a frame is not masked", 1002)
    assert breach(b"\x81\x80" + KEY, masked=True) is None


@pytest.mark.parametrize("first", range(256))
def test_every_first_byte(first):
    """Of 256 first bytes those of the specification are right, at the start of a message and within one."""
    fin, bits, opcode = first >> 7, first & 0x70, first & 0x0F
    control = opcode in (8, 9, 10) and fin
    for begun in (b"", b"\x01\x00"):
        data = (0,) if begun else (1, 2)
        expected = {
            PLAIN: bits == 0 and (control or opcode in data),
            DEFLATE: (bits == 0 and control) or (opcode in data and bits in ((0,) if begun else (0, 0x40))),
            UNKNOWN: (opcode >= 8 and fin) or (opcode in ((0,) if begun else range(1, 8))),
        }
        for reserved, right in expected.items():
            assert (breach(begun + bytes((first, 0)), masked=False, reserved=reserved) is None) is bool(right)


def test_limits_of_frames_and_messages():
    """A frame, or a message of several, past its limit is told by 1009 as soon as its header is there."""
    limits = {"masked": False, "frame_limit": 100, "message_limit": 150}
    assert breach(b"\x82\x65", **limits) == ("a frame is larger than allowed", 1009)
    assert breach(b"\x02\x64" + bytes(100) + b"\x80\x33", **limits) == ("a message is larger than allowed", 1009)
    assert breach(b"\x02\x64" + bytes(100) + b"\x80\x32" + bytes(50) + b"\x82\x64" + bytes(100), **limits) is None
    assert breach(b"\x89\x7d" + bytes(125), **limits) is None


def test_boundaries_within_a_message():
    """Between the fragments of a message there is room for a control frame, within a frame there is none."""
    frames = Frames(masked=False)
    assert frames.step(b"\x01\x05ab", 0) == 4
    assert (frames.left, frames.within) == (3, True)
    assert frames.step(b"cde\x89\x00", 0) == 3
    assert (frames.left, frames.within, frames.messages) == (0, True, 0)
    assert frames.step(b"cde\x89\x00", 3) == 5
    assert frames.control == Control(PING, b"", b"")
    assert frames.step(b"\x80\x00", 0) == 2
    assert (frames.left, frames.within, frames.messages, frames.control) == (0, False, 1, None)


@given(st.binary(max_size=125), st.binary(min_size=4, max_size=4), st.sampled_from((PING, PONG)))
def test_control_frames_are_as_the_library_makes_them(payload, key, opcode):
    """Pings and pongs of ours are those of ``websockets``, masked and plain, and are read back."""
    theirs = Frame(Opcode(opcode), payload).serialize(mask=False)
    assert control_frame(opcode, payload) == theirs
    (control,) = follow(Frames(masked=True), [control_frame(opcode, payload, key)])
    assert (control.opcode, control.payload) == (opcode, payload)
    assert mask(mask(payload, key), key) == payload


@pytest.mark.parametrize("key", [b"", KEY])
def test_close_codes_are_read(key):
    """Who closed, and with which code, is known from two bytes; a Close without one is 1005."""
    (control,) = follow(Frames(masked=bool(key)), [close_frame(1012, "neu: ü", key)])
    assert (control.opcode, control.code) == (CLOSE, 1012)
    assert Close.parse(control.payload) == Close(1012, "neu: ü")
    (control,) = follow(Frames(masked=bool(key)), [control_frame(CLOSE, b"", key)])
    assert control.code == 1005


_sizes = st.one_of(st.integers(0, 140), st.sampled_from((65535, 65536, 70000)))
_controls = st.tuples(st.sampled_from((Opcode.PING, Opcode.PONG)), st.binary(max_size=125))
_messages = st.lists(st.tuples(st.lists(st.tuples(_sizes, st.lists(_controls, max_size=2)), min_size=1, max_size=3)))


@given(_messages, st.booleans(), st.data())
def test_any_traffic_in_any_pieces(messages, masked, data):
    """Whatever a library sends, fragmented, with pings in between and cut anywhere: every boundary is found."""
    wire, controls = [], []
    for (fragments,) in messages:
        for position, (size, between) in enumerate(fragments):
            opcode = Opcode.CONT if position else Opcode.BINARY
            wire.append(Frame(opcode, bytes(size), position == len(fragments) - 1).serialize(mask=masked))
            for control, payload in between:
                wire.append(Frame(control, payload).serialize(mask=masked))
                controls.append((control, payload))
    stream = b"".join(wire)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=20)))
    pieces = [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)]) if a < b]
    frames = Frames(masked)
    found = follow(frames, pieces)
    assert [(control.opcode, control.payload) for control in found] == controls
    assert (frames.messages, frames.within, frames.left) == (len(messages), False, 0)


def test_byte_by_byte():
    """A peer that sends single bytes is followed as any other."""
    stream = b"".join(Frame(Opcode.TEXT, bytes(size)).serialize(mask=True) for size in (0, 1, 125, 126, 300))
    frames = Frames(masked=True)
    assert follow(frames, [stream[i : i + 1] for i in range(len(stream))]) == []
    assert frames.messages == 5
