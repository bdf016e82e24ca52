"""Clients of the HTTP wire that want to cost something: memory, connections, other clients' bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from twisted.internet.error import ConnectionDone

from stickyproxy.config.specs import FrontendTimeouts

if TYPE_CHECKING:
    from house import House

    Make = Callable[..., House]

GET = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
BIG = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 5000
UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHED = (
    b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def test_who_sends_without_reading_is_not_read(house: Make) -> None:
    """A client that asks and asks, and never reads, is read no more while its answer waits: nothing piles up here."""
    it = house()
    client = it.client()
    client.deliver(GET)
    it.accepted().deliver(BIG)
    client.protocol.pauseProducing()  # as late as this: what was written in a turn is sent at its end
    for _ in range(10):
        client.deliver(GET * 100)
    assert client.paused and len(client.protocol._buffer) <= len(GET) * 100
    assert len(it.endpoints["a"].transports) + len(it.endpoints["b"].transports) == 1
    client.protocol.resumeProducing()
    client.turn()
    assert it.endpoints["b"].attempts == 1


def test_who_reads_again_is_served_again(house: Make) -> None:
    """When it reads on, its next request is taken up, in its order."""
    it = house()
    client = it.client(high_water=1000)
    client.deliver(GET)
    it.accepted().deliver(BIG)
    client.deliver(GET)
    client.drain()
    assert it.accepted("b").take().startswith(b"GET / ") and not it.accepted("a").written.endswith(b"GET / ")


@pytest.mark.parametrize("early", [True, False], ids=["while it waits", "afterwards"])
def test_who_half_closes_and_never_reads_is_dropped(house: Make, early: bool) -> None:
    """The end of the client's stream ends no timeout: what it does not take is thrown away in the end."""
    it = house(timeouts=FrontendTimeouts(send=2.0))
    client = it.client(high_water=1000)
    client.deliver(GET)
    if early:
        client.half_close()
    it.accepted().deliver(BIG)
    if not early:
        client.half_close()
    assert client.connected and client.unread
    it.wait(40)
    client.turn()
    assert not client.connected and not it.factory.connections


def test_who_has_ended_is_not_waited_for(house: Make) -> None:
    """A client that ended its stream and has its answer is let go of at once."""
    it = house()
    client = it.client()
    client.deliver(GET)
    client.half_close()
    it.accepted().deliver(BIG)
    client.turn()
    assert client.take().endswith(b"x") and not client.connected and not client.aborted


def test_a_slow_reader_of_the_last_answer_gets_all_of_it(house: Make) -> None:
    """What the system has taken of the last answer reaches a client that needs longer than we wait for its end."""
    it = house()
    client = it.client()
    client.deliver(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    it.accepted().deliver(BIG)
    it.wait(31)
    client.turn()
    assert client.disconnecting and not client.aborted


def test_a_truncated_answer_is_not_ended_in_peace(house: Make) -> None:
    """A client that half-closes within its request, while it is answered, does not see that answer end as if whole."""
    it = house()
    client = it.client()
    client.deliver(b"POST / HTTP/1.0\r\nHost: example.org\r\nContent-Length: 9\r\n\r\n123")
    it.accepted().deliver(b"HTTP/1.1 200 OK\r\n\r\nbegun")
    client.half_close()
    assert client.aborted


def test_an_aborted_tunnel_ends_on_both_sides(house: Make) -> None:
    """When the frontend stops, a WebSocket ends at its backend, too, and counts no more."""
    it = house()
    client = it.client()
    client.deliver(UPGRADE)
    backend = it.accepted()
    backend.deliver(SWITCHED)
    assert it.cluster.members["a"].active == 1
    for connection in list(it.factory.connections):
        connection.abort()
    client.turn()
    backend.turn()
    assert not client.connected and not backend.connected and not it.factory.connections
    assert it.cluster.members["a"].active == 0


def test_a_client_that_stopped_reading_before_its_backend_is_there(house: Make) -> None:
    """Its answer waits at the backend, also over a transport that tells of its full buffer only once, as TLS does."""
    it = house()
    it.endpoints["a"].hold = True
    client = it.client()
    client.deliver(GET)
    client.protocol.pauseProducing()
    backend = it.endpoints["a"].accept()
    backend.deliver(b"HTTP/1.1 200 OK\r\n\r\n")
    assert backend.paused
    client.protocol.resumeProducing()
    assert not backend.paused


def test_a_client_is_not_blamed_for_a_slow_backend(house: Make) -> None:
    """While the backend takes no more of a request, its client may be as silent as it must, having read or not."""
    it = house(timeouts=FrontendTimeouts(body=1.0))
    client = it.client()
    client.deliver(b"POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 99\r\n\r\n123")
    backend = it.accepted()
    backend.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1")
    backend.protocol.pauseProducing()
    client.protocol.pauseProducing()
    client.protocol.resumeProducing()
    it.wait(3)
    assert client.connected and not client.aborted
    backend.lose(ConnectionDone())
