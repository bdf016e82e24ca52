"""A WebSocket that is followed frame by frame: what it passes on, and how it ends. RFC 6455 sections 5 and 7."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_relay import Joined as Relayed
from twisted.internet.error import ConnectionDone, ConnectionLost
from websockets.frames import Frame, Opcode

from stickyproxy.config.websocket import MessageRate, WebSocket
from stickyproxy.model import Side
from stickyproxy.relay import EndReason
from stickyproxy.sansio.frames import CLOSE, PING, PONG, Frames, close_frame, control_frame
from stickyproxy.testing import MemoryTransport
from stickyproxy.tunnel import WebSocketTunnel

KEY = b"\x01\x02\x03\x04"


def text(payload: bytes, *, masked: bool, fin: bool = True, opcode: Opcode = Opcode.TEXT) -> bytes:
    return Frame(opcode, payload, fin).serialize(mask=masked)


class Joined(Relayed):
    """A client and a backend, joined by a tunnel of ten idle seconds."""

    def __init__(self, care: WebSocket | None = None, high_water: int | None = None, **early: bytes) -> None:
        self.care = care or WebSocket()
        super().__init__(high_water, **early)

    def make(self) -> WebSocketTunnel:
        return WebSocketTunnel(
            self.client, self.backend, idle=10, sweep=self.sweep, ended=self.ends.append, care=self.care
        )

    def controls(self, transport: MemoryTransport) -> list[tuple[int, bytes]]:
        """The control frames that this side was sent; everything else is whole, too."""
        frames, at, found = Frames(transport is self.backend), 0, []
        while at < len(transport.written):
            end = frames.step(transport.written, at)
            assert end > at, "cut within a header"
            if frames.control is not None:
                found.append((frames.control.opcode, frames.control.payload))
            at = end
        self.whole = not frames.left
        return found

    def closes(self) -> list[int | None]:
        """The codes that client and backend were told."""
        told = []
        for transport in (self.client, self.backend):
            codes = [int.from_bytes(payload[:2]) for opcode, payload in self.controls(transport) if opcode == CLOSE]
            assert len(codes) < 2
            told.append(codes[0] if codes else None)
        return told

    def shake(self, code: int) -> None:
        """Both answer the Close that they were told, and close as they have to."""
        self.client.deliver(close_frame(code, "", KEY))
        self.turn()
        assert self.client.half_closed
        assert self.backend.connected
        self.backend.deliver(close_frame(code))
        self.backend.half_close()
        self.client.half_close()
        self.turn()


def test_frames_cross_as_they_are():
    """Messages of every size, whole and in pieces, cross both ways untouched, and are counted."""
    joined = Joined()
    for size in (0, 1, 125, 126, 300, 65535, 65536):
        to_backend, to_client = text(bytes(size), masked=True), text(bytes(size), masked=False)
        sent, received = joined.backend.written, joined.client.written
        joined.client.deliver(to_backend)
        joined.backend.deliver(to_client)
        assert joined.backend.written == sent + to_backend
        assert joined.client.written == received + to_client
    joined.client.deliver(close_frame(4001, "bye", KEY))
    joined.backend.deliver(close_frame(4001, "bye"))
    joined.backend.lose(ConnectionDone())
    joined.turn()
    (end,) = joined.ends
    assert end[3:] == (Side.CLIENT, EndReason.CLOSED, 4001, 7, 7)
    assert joined.closes() == [4001, 4001]


@given(st.lists(st.sampled_from((0, 3, 125, 126, 200)), max_size=6), st.data())
def test_any_pieces(sizes, data):
    """However the network cuts the stream, the other side gets the same bytes, and no header or ping in pieces."""
    stream = b"".join(text(bytes(size), masked=True) + control_frame(PING, b"x" * (size % 125), KEY) for size in sizes)
    joined = Joined()
    rest = stream
    while rest:
        cut = data.draw(st.integers(1, min(len(rest), 150)))
        joined.client.deliver(rest[:cut])
        rest = rest[cut:]
        joined.controls(joined.backend)
    assert joined.backend.written == stream
    assert joined.relay._messages() == (len(sizes), 0)


def test_draining_says_goodbye_to_both():
    """An open WebSocket gets Close 1001 on both legs, both answer, and we close the client's connection first."""
    joined = Joined()
    joined.relay.drain()
    assert joined.closes() == [1001, 1001]
    joined.shake(1001)
    (end,) = joined.ends
    assert end[3:6] == (None, EndReason.DRAINED, 1001)
    assert not (joined.client.aborted or joined.backend.aborted)


def test_the_code_and_the_words_of_draining():
    """The code is the caller's, else that of the configuration, and so are the words."""
    joined = Joined(WebSocket(drain_code=1012, drain_reason="neue Version"))
    joined.relay.drain()
    assert joined.controls(joined.client) == [(CLOSE, (1012).to_bytes(2) + b"neue Version")]
    joined = Joined()
    joined.relay.drain(1012)
    assert joined.closes() == [1012, 1012]


@pytest.mark.parametrize("side", ["client", "backend"])
def test_a_message_under_way_is_finished_first(side):
    """Drained within a large frame of a fragmented message: the receiver gets all of it, then the Close."""
    joined = Joined()
    sender = getattr(joined, side)
    receiver = joined.backend if side == "client" else joined.client
    masked = side == "client"
    first = text(b"a" * 300, masked=masked, fin=False)
    last = text(b"b" * 300, masked=masked, opcode=Opcode.CONT)
    sender.deliver(first[:100])
    joined.relay.drain()
    assert joined.closes() == [None, None]  # who is told answers at once, and would not end its message
    sender.deliver(first[100:] + last[:50])
    assert receiver.written == first + last[:50]
    sender.deliver(last[50:] + text(b"too late", masked=masked))
    joined.turn()
    assert receiver.written.startswith(first + last)
    assert joined.closes() == [1001, 1001]
    assert b"too late" not in receiver.written
    joined.shake(1001)
    assert [end.reason for end in joined.ends] == [EndReason.DRAINED]


def test_an_answer_in_the_middle_of_a_message():
    """A peer that answers our Close instead of ending its message has left it: the other gets its Close."""
    joined = Joined()
    joined.client.deliver(text(b"half", masked=True, fin=False))
    joined.relay.drain()
    joined.client.deliver(close_frame(1001, "", KEY))
    assert joined.closes() == [1001, 1001]


def test_a_message_without_end_is_left():
    """Who never ends its message: the other is told at the next boundary when the time for it is over."""
    joined = Joined()
    joined.backend.deliver(text(b"half", masked=False, fin=False))
    joined.relay.drain()
    joined.client.deliver(text(b"too late", masked=True))
    assert joined.closes() == [None, None]
    joined.wait(6)
    assert joined.closes() == [1001, 1001]
    assert b"too late" not in joined.backend.written
    joined.wait(6)
    assert [end.reason for end in joined.ends] == [EndReason.DRAINED]


def test_a_frame_without_end_cannot_be_closed():
    """Within a frame there is no room for a Close: that side is cut, so that nothing torn looks whole."""
    joined = Joined()
    joined.backend.deliver(text(b"x" * 300, masked=False)[:100])
    joined.relay.drain()
    joined.wait(6)
    assert joined.closes() == [None, 1001]
    assert joined.client.aborted
    joined.wait(6)
    assert joined.ends


def test_draining_a_websocket_that_closes_already():
    """A closing handshake under way is left to the two, for a while."""
    joined = Joined()
    joined.client.deliver(close_frame(1000, "", KEY))
    joined.relay.drain()
    joined.backend.deliver(text(b"last words", masked=False) + close_frame(1000))
    assert joined.closes() == [1000, 1000]
    joined.wait(12)
    (end,) = joined.ends
    assert end[3:6] == (Side.CLIENT, EndReason.CLOSED, 1000)


def test_peers_that_never_answer():
    """Who does not answer the Close is cut when the time is over."""
    joined = Joined()
    joined.relay.drain()
    joined.wait(4)
    assert not joined.ends
    joined.wait(8)
    assert [end.reason for end in joined.ends] == [EndReason.DRAINED]


def test_a_client_that_leaves_while_it_is_drained():
    """The backend's handshake goes on without the client."""
    joined = Joined()
    joined.client.deliver(text(b"x" * 300, masked=True, fin=False))
    joined.relay.drain()
    joined.client.lose(ConnectionLost())
    joined.turn()
    assert joined.closes() == [None, 1001]
    joined.backend.deliver(close_frame(1001))
    joined.backend.half_close()
    joined.turn()
    assert [end.reason for end in joined.ends] == [EndReason.DRAINED]


def test_bytes_for_a_peer_that_reads_slowly():
    """What was on its way to a slow client when it is drained comes before the Close."""
    joined = Joined(high_water=100)
    message = text(b"x" * 500, masked=False)
    joined.backend.deliver(message)
    assert joined.backend.paused
    joined.relay.drain()
    joined.turn()
    assert not joined.backend.paused  # its answer is waited for
    for transport in (joined.client, joined.backend):
        while transport.unread:
            transport.drain()
    assert joined.client.written.startswith(message)
    assert joined.closes() == [1001, 1001]


@pytest.mark.parametrize(
    ("side", "data", "codes"),
    [
        ("client", text(b"plain", masked=False), [1002, 1001]),
        ("client", b"\x83\x80" + KEY, [1002, 1001]),
        ("client", b"GET / HTTP/1.1\r\n", [1002, 1001]),
        ("backend", text(b"masked", masked=True), [1014, 1002]),
        ("backend", b"\x80\x00", [1014, 1002]),
    ],
    ids=["unmasked", "masked by nothing", "no frame", "masked", "unbegun"],
)
@pytest.mark.parametrize("bytewise", [False, True])
def test_who_breaks_the_protocol_is_told(side, data, codes, bytewise):
    """What is no frame is not passed on: its sender is told 1002, and the other learns that there is nobody."""
    joined = Joined()
    before = text(b"fine", masked=side == "client")
    peer = getattr(joined, side)
    for piece in [bytes((byte,)) for byte in before + data] if bytewise else [before + data]:
        peer.deliver(piece)
    other = joined.backend if side == "client" else joined.client
    assert other.written.startswith(before)
    assert joined.closes() == codes
    joined.turn()
    assert peer.half_closed
    joined.wait(12)
    (end,) = joined.ends
    assert end[3:5] == (Side(side), EndReason.BREACH)


@pytest.mark.parametrize(
    ("care", "codes"),
    [
        (WebSocket(frame=100), [1009, 1001]),
        (WebSocket(message=250), [1009, 1001]),
        (WebSocket(rate=MessageRate(1, 10.0, 1)), [1008, 1001]),
        (WebSocket(), [None, None]),
    ],
)
def test_limits_of_a_client(care, codes):
    """A frame or message too large, or one message too many, ends the WebSocket, and nothing of it is passed on."""
    joined = Joined(care)
    small, large = text(b"small", masked=True), text(b"x" * 300, masked=True)
    joined.client.deliver(small)
    joined.client.deliver(large)
    assert joined.closes() == codes
    assert joined.backend.written.startswith(small)
    assert (large in joined.backend.written) is (codes == [None, None])


def test_a_rate_lets_slow_talk_pass():
    """A client that keeps to its rate is never refused, and pings count like messages."""
    joined = Joined(WebSocket(rate=MessageRate(2, 1.0, 2)))
    for _ in range(5):
        joined.client.deliver(text(b"a", masked=True) + control_frame(PING, b"b", KEY))
        joined.wait(1)
    assert joined.closes() == [None, None]
    joined.client.deliver(control_frame(PING, b"b", KEY) * 3)
    assert joined.closes() == [1008, 1001]


def test_fragments_of_nothing_are_bounded():
    """A message of many fragments is one message; fragments without a byte are bounded, as no size of theirs is."""
    joined = Joined(WebSocket(rate=MessageRate(10, 10.0, 10), message=1000))
    joined.client.deliver(text(b"a", masked=True, fin=False))
    joined.client.deliver(text(b"b", masked=True, fin=False, opcode=Opcode.CONT) * 100)
    for _ in range(100):
        begun = text(b"c", masked=True, fin=False, opcode=Opcode.CONT)
        joined.client.deliver(begun[:6])
        joined.client.deliver(begun[6:])
    assert joined.closes() == [None, None]
    empty = text(b"", masked=True, fin=False, opcode=Opcode.CONT)
    joined.client.deliver(empty * 5 + empty[:2])
    joined.client.deliver(empty[2:])
    assert joined.closes() == [None, None]
    joined.client.deliver(empty * 100)
    assert joined.closes() == [1008, 1001]


def test_silence_ends_with_a_close():
    """An idle WebSocket is told 1001 on both legs instead of being dropped."""
    joined = Joined()
    joined.wait(12)
    assert joined.closes() == [1001, 1001]
    joined.shake(1001)
    assert [end[3:6] for end in joined.ends] == [(None, EndReason.IDLE, 1001)]


@pytest.mark.parametrize(("idle_by", "codes"), [("frame", [None, None]), ("message", [1001, 1001])])
def test_what_counts_as_silence(idle_by, codes):
    """Pings alone keep a WebSocket open, or not, as configured."""
    joined = Joined(WebSocket(idle_by=idle_by))
    for _ in range(15):
        joined.client.deliver(control_frame(PING, b"", KEY))
        joined.wait(1)
    assert joined.closes() == codes


def test_a_long_message_is_no_silence():
    """A large message that comes slowly is going on, though no message has ended."""
    joined = Joined(WebSocket(idle_by="message"))
    joined.backend.deliver(text(bytes(1000), masked=False)[:10])
    for _ in range(15):
        joined.backend.deliver(bytes(10))
        joined.wait(1)
    assert joined.client.connected
    assert joined.closes() == [None, None]


@pytest.mark.parametrize("how", [ConnectionLost(), ConnectionDone(), None])
def test_a_backend_that_dies_is_told_to_the_client(how):
    """The backend goes without a Close: the client gets 1014, so that it knows to come again."""
    joined = Joined()
    joined.backend.deliver(text(b"hello", masked=False))
    if how is None:
        joined.backend.half_close()
    else:
        joined.backend.lose(how)
    joined.turn()
    assert joined.closes()[0] == 1014
    joined.client.deliver(close_frame(1014, "", KEY))
    joined.client.half_close()
    joined.turn()
    joined.wait(12)
    (end,) = joined.ends
    assert end[3:6] == (Side.BACKEND, EndReason.LOST, 1014)


def test_a_backend_that_dies_within_a_frame():
    """What is torn looks torn: the client's connection is cut."""
    joined = Joined()
    joined.backend.deliver(text(b"x" * 300, masked=False)[:100])
    joined.backend.lose(ConnectionLost())
    joined.wait(1)
    assert joined.client.aborted
    assert [end[3:6] for end in joined.ends] == [(Side.BACKEND, EndReason.LOST, None)]


def test_our_pings_stay_ours():
    """Both legs are pinged; our pongs go no further, those of others pass."""
    joined = Joined(WebSocket(ping=2.0, pong=3.0))
    joined.wait(3)
    (of_client,), (of_backend,) = joined.controls(joined.client), joined.controls(joined.backend)
    assert of_client[0] == of_backend[0] == PING
    joined.client.deliver(control_frame(PONG, of_client[1], KEY))
    joined.client.deliver(control_frame(PONG, b"theirs", KEY) + text(b"after", masked=True))
    joined.backend.deliver(control_frame(PONG, of_backend[1])[:5])
    joined.backend.deliver(control_frame(PONG, of_backend[1])[5:])
    assert joined.controls(joined.client) == [of_client]
    assert joined.controls(joined.backend) == [of_backend, (PONG, b"theirs")]
    for _ in range(30):
        joined.wait(0.5)
        joined.client.deliver(control_frame(PONG, of_client[1], KEY))
        joined.backend.deliver(control_frame(PONG, of_backend[1]))
        joined.turn()
    assert joined.closes() == [1001, 1001]  # they are alive, and silent for ten seconds
    assert joined.relay.to_client == 0


@pytest.mark.parametrize(("side", "code"), [("client", [None, 1001]), ("backend", [1014, None])])
def test_a_leg_is_kept_while_the_other_is_alive(side, code):
    """One side does not answer our ping: it is cut, and the other is told."""
    joined = Joined(WebSocket(ping=1.0, pong=2.0))
    joined.wait(2)
    alive = joined.backend if side == "client" else joined.client
    ((_, mark),) = joined.controls(alive)
    alive.deliver(control_frame(PONG, mark, KEY if side == "backend" else b""))
    for _ in range(4):
        joined.wait(1)
        alive.deliver(control_frame(PONG, mark, KEY if side == "backend" else b""))
    assert not getattr(joined, side).connected
    told = joined.closes()
    assert told[0 if side == "backend" else 1] == (1014 if side == "backend" else 1001)
    joined.wait(12)
    (end,) = joined.ends
    assert end[3:5] == (Side(side), EndReason.SILENT)


@pytest.mark.parametrize("missing", [200, 4])
def test_who_falls_silent_within_a_frame_is_not_finished_by_us(missing):
    """A backend stops in the middle of a frame, and does not answer: what the client has of it stays torn."""
    joined = Joined(WebSocket(ping=1.0, pong=2.0))
    message = text(b"x" * 300, masked=False)
    joined.wait(2)
    ((_, mark),) = joined.controls(joined.client)
    joined.backend.deliver(message[:-missing])
    sent = joined.client.written
    while joined.client.connected:
        joined.client.deliver(control_frame(PONG, mark, KEY))
        joined.wait(1)
    assert not joined.backend.connected
    assert joined.client.written == sent and joined.client.aborted
    assert [end[3:5] for end in joined.ends] == [(Side.BACKEND, EndReason.SILENT)]


def test_no_ping_within_a_frame():
    """A ping waits for the boundary of a frame."""
    joined = Joined(WebSocket(ping=2.0, pong=30.0))
    message = text(b"x" * 300, masked=False)
    joined.backend.deliver(message[:100])
    joined.wait(5)
    assert joined.client.written == message[:100]
    joined.backend.deliver(message[100:])
    joined.wait(1)
    assert [opcode for opcode, _ in joined.controls(joined.client)] == [PING]
    assert joined.client.written.startswith(message)


def test_a_client_that_has_hung_up_is_drained_all_the_same():
    """Nothing is written to a backend that was told already that no more comes."""
    joined = Joined()
    joined.client.half_close()
    joined.turn()
    assert joined.backend.half_closed
    joined.relay.drain()
    assert joined.closes() == [1001, None]
    joined.backend.deliver(close_frame(1000))
    joined.backend.half_close()
    joined.turn()
    joined.wait(12)
    assert [end.reason for end in joined.ends] == [EndReason.DRAINED]
