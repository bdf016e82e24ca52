"""The relay, over memory transports that keep the rules of real ones."""

from __future__ import annotations

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.model import Side
from stickyproxy.relay import GRACE, EndReason, Relay, RelayEnd
from stickyproxy.sweep import Sweep
from stickyproxy.testing import MemoryTransport


@implementer(IHalfCloseableProtocol)
class Half(Protocol):
    """What a wire does with a relay: it passes on every event of its connection."""

    def __init__(self, joined: Joined, side: str) -> None:
        self.joined = joined
        self.side = side

    def tell(self, event: str, *details: object) -> None:
        if self.joined.relay is not None:
            getattr(self.joined.relay, f"{self.side}_{event}")(*details)

    def dataReceived(self, data):
        self.tell("data", data)

    def readConnectionLost(self):
        self.tell("half_closed")

    def writeConnectionLost(self):
        pass

    def connectionLost(self, reason):
        self.tell("lost", reason)


class Joined:
    """A client and a backend, joined by a relay of ten idle seconds."""

    relay: Relay | None = None

    def __init__(self, high_water: int | None = None, **early: bytes) -> None:
        self.clock = Clock()
        self.ends: list[RelayEnd] = []
        self.client = MemoryTransport(Half(self, "client"), high_water=high_water)
        self.backend = MemoryTransport(Half(self, "backend"), high_water=high_water)
        self.client.pauseProducing()
        self.sweep = Sweep(self.clock, 0.5)
        self.relay = self.make()
        self.relay.start(**early)

    def make(self) -> Relay:
        return Relay(self.client, self.backend, idle=10, sweep=self.sweep, ended=self.ends.append)

    def turn(self) -> None:
        for _ in range(2):
            self.client.turn()
            self.backend.turn()

    def wait(self, seconds: float) -> None:
        self.clock.pump([0.5] * int(seconds * 2))
        self.turn()


def test_bytes_cross_both_ways_and_are_counted():
    """Every byte of either side reaches the other, and the end knows how many they were."""
    joined = Joined()
    joined.client.deliver(b"ping")
    joined.backend.deliver(b"pong!")
    joined.wait(2)
    joined.client.lose(ConnectionDone())
    joined.turn()
    assert (joined.backend.written, joined.client.written) == (b"ping", b"pong!")
    assert joined.ends == [RelayEnd(4, 5, 2.0, Side.CLIENT, EndReason.CLOSED)]


def test_bytes_read_before_the_start_go_first():
    """What was read to find the backend reaches it before anything that follows."""
    joined = Joined(from_client=b"first ", from_backend=b"220 hello")
    joined.client.deliver(b"second")
    assert (joined.backend.written, joined.client.written) == (b"first second", b"220 hello")
    assert joined.relay.to_backend == 12


@pytest.mark.parametrize("side", ["client", "backend"])
def test_a_peer_that_does_not_read_pauses_the_other(side):
    """The proxy holds no more than the high water for a slow reader, and goes on when he has read."""
    joined = Joined(high_water=100)
    slow = getattr(joined, side)
    fast = joined.client if slow is joined.backend else joined.backend
    for _ in range(10):
        fast.deliver(b"x" * 60)
    assert (slow.unread, fast.paused, slow.paused) == (120, True, False)
    while slow.unread:
        slow.drain()
        fast.turn()
    assert (len(slow.written), fast.paused) == (600, False)


def test_early_bytes_beyond_the_high_water_leave_the_client_paused():
    """A client that has sent much before the backend was there waits until the backend has taken it."""
    joined = Joined(high_water=100, from_client=b"x" * 200)
    assert joined.client.paused
    joined.backend.drain()
    assert not joined.client.paused


def test_half_close_of_the_client_is_passed_on_and_the_answer_still_comes():
    """`nc -N`: the client is done sending, the backend sees it, and its answer arrives whole."""
    joined = Joined()
    joined.client.deliver(b"question")
    joined.client.half_close()
    joined.turn()
    assert (joined.backend.half_closed, joined.backend.written, joined.client.disconnecting) == (
        True,
        b"question",
        False,
    )
    joined.backend.deliver(b"answer")
    joined.backend.half_close()
    joined.turn()
    assert (joined.client.written, joined.client.connected, joined.backend.connected) == (b"answer", False, False)
    assert joined.ends[0][2:5] == (0.0, Side.CLIENT, EndReason.CLOSED)


def test_half_close_of_the_backend_is_passed_on():
    """A backend that is done sending still receives what the client has to say."""
    joined = Joined()
    joined.backend.deliver(b"welcome")
    joined.backend.half_close()
    joined.turn()
    assert (joined.client.half_closed, joined.client.written) == (True, b"welcome")
    joined.client.deliver(b"late")
    assert joined.backend.written == b"late"
    joined.client.half_close()
    joined.turn()
    assert [end.first for end in joined.ends] == [Side.BACKEND]


def test_half_close_waits_for_the_bytes_before_it():
    """A slow reader gets everything, then the end of the stream."""
    joined = Joined(high_water=10)
    joined.client.deliver(b"x" * 30)
    joined.backend.drain()
    joined.client.deliver(b"y" * 5)
    joined.client.half_close()
    joined.turn()
    assert not joined.backend.half_closed
    assert joined.backend.drain() == b"y" * 5
    assert joined.backend.half_closed


@pytest.mark.parametrize(("side", "first"), [("client", Side.CLIENT), ("backend", Side.BACKEND)])
def test_abrupt_loss_aborts_the_other_side(side, first):
    """A reset is passed on as a reset, within a second: a truncated stream never looks complete."""
    joined = Joined()
    lost = getattr(joined, side)
    other = joined.client if lost is joined.backend else joined.backend
    lost.lose(ConnectionLost())
    joined.wait(1)
    assert (other.aborted, other.half_closed, other.connected) == (True, False, False)
    assert [end[3:5] for end in joined.ends] == [(first, EndReason.LOST)]


@pytest.mark.parametrize("side", ["client", "backend"])
def test_who_goes_on_talking_to_nobody_is_dropped_all_the_same(side):
    """A backend that streams to a client whose connection was reset holds its own no longer than a silent one."""
    joined = Joined()
    lost = getattr(joined, side)
    other = joined.client if lost is joined.backend else joined.backend
    lost.lose(ConnectionLost())
    for _ in range(4):
        other.deliver(b"tick")
        joined.clock.pump([0.25])
        joined.turn()
        if not other.connected:
            break
    assert (other.aborted, other.connected, len(joined.ends)) == (True, False, 1)
    assert not lost.unread


def test_what_came_before_an_abrupt_loss_is_delivered():
    """A backend that sends its answer and resets: the client gets the answer, then the reset."""
    joined = Joined(high_water=1000)
    joined.backend.deliver(b"answer")
    joined.backend.lose(ConnectionLost())
    joined.turn()
    assert (joined.client.connected, joined.client.drain()) == (True, b"answer")
    joined.wait(1)
    assert (joined.client.aborted, joined.client.half_closed) == (True, False)


def test_orderly_loss_flushes_the_other_side():
    """A backend that closes for good is followed only after the client has got everything."""
    joined = Joined(high_water=1000)
    joined.backend.deliver(b"x" * 500)
    joined.backend.lose(ConnectionDone())
    joined.turn()
    assert (joined.client.connected, joined.client.aborted) == (True, False)
    assert joined.client.drain() == b"x" * 500
    assert (joined.client.connected, len(joined.ends)) == (False, 1)


def test_a_reader_that_never_takes_the_rest_is_dropped():
    """A closed relay does not hold a client for ever that does not read the last bytes."""
    joined = Joined(high_water=1000)
    joined.backend.deliver(b"x" * 500)
    joined.backend.lose(ConnectionDone())
    joined.wait(9)
    assert joined.client.connected
    joined.wait(2)
    assert (joined.client.aborted, joined.client.connected, len(joined.ends)) == (True, False, 1)


def test_silence_ends_the_relay():
    """Ten seconds without a byte in either direction, and both connections close; a byte in time prevents it."""
    joined = Joined()
    joined.wait(8)
    joined.backend.deliver(b"still here")
    joined.wait(8)
    assert joined.client.connected
    assert joined.backend.connected
    joined.wait(3)
    assert (joined.client.connected, joined.backend.connected, joined.client.aborted) == (False, False, False)
    assert [end[3:5] for end in joined.ends] == [(None, EndReason.IDLE)]


def test_silence_of_a_peer_that_does_not_read():
    """An idle relay whose client takes nothing is closed, and dropped after the grace."""
    joined = Joined(high_water=10)
    joined.backend.deliver(b"x" * 20)
    joined.wait(12)
    assert (joined.backend.connected, joined.client.connected, joined.client.disconnecting) == (False, True, True)
    joined.wait(GRACE + 1)
    assert (joined.client.aborted, [end.reason for end in joined.ends]) == (True, [EndReason.IDLE])


def test_abort_drops_both_and_tells_once():
    """Stopping the service drops the relay at once, and is told as nobody's fault."""
    joined = Joined()
    joined.relay.abort()
    joined.turn()
    joined.relay.client_lost(Failure(ConnectionLost()))
    joined.relay.backend_half_closed()
    assert [end[3:5] for end in joined.ends] == [(None, EndReason.STOPPED)]


def test_nothing_is_timed_any_more_after_the_end():
    """A relay that has ended leaves nothing behind in the clock."""
    joined = Joined()
    joined.client.half_close()
    joined.backend.half_close()
    joined.turn()
    joined.wait(1)
    assert len(joined.ends) == 1
    assert joined.clock.getDelayedCalls() == []
