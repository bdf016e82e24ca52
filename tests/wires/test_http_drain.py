"""Draining the connections of an HTTP frontend: what is under way is finished, and nothing is begun."""

from __future__ import annotations

import pytest
from house import House

from stickyproxy.config import specs
from stickyproxy.config.limits import Limits
from stickyproxy.model import Backend

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
def it() -> House:
    return House(
        specs.Frontend("web", ("tcp:8080",), "app", limits=Limits()),
        specs.Cluster("app", (Backend("a", "tcp:127.0.0.1:1"),)),
    )


def drain(it: House) -> None:
    for connection in list(it.factory.connections):
        connection.drain()


def served(it: House, client) -> bytes:
    """What the client reads once the backend has answered."""
    it.accepted().deliver(OK)
    client.turn()
    return client.written


def is_closing(it: House, client) -> None:
    client.turn()
    assert client.half_closed
    client.half_close()
    client.turn()
    assert not it.factory.connections


def test_an_idle_connection_is_closed(it):
    """A browser's kept connection ends at once when it has had nothing to say for a while."""
    kept = it.client()
    kept.deliver(GET)
    assert b"Connection: close" not in served(it, kept)
    it.clock.advance(2)
    drain(it)
    is_closing(it, kept)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_request_on_its_way_is_served(it, fresh):
    """A client that has just connected, or just been answered, may be sending: it gets an answer, the last one."""
    client = it.client()
    if not fresh:
        client.deliver(GET)
        served(it, client)
    drain(it)
    it.clock.advance(0.5)
    client.turn()
    assert not client.half_closed
    client.deliver(GET)
    assert b"connection: close" in served(it, client).lower()
    is_closing(it, client)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_request_that_does_not_come(it, fresh):
    """It is waited for no longer than for two seconds."""
    client = it.client()
    if not fresh:
        client.deliver(GET)
        served(it, client)
    drain(it)
    for _ in range(4):
        it.clock.advance(0.5)
    is_closing(it, client)


def test_the_answer_under_way_is_the_last(it):
    """A request in progress is answered whole, with Connection: close."""
    client = it.client()
    client.deliver(GET)
    drain(it)
    assert not client.half_closed
    answer = served(it, client)
    assert answer.endswith(b"ok")
    assert b"connection: close" in answer.lower()
    assert client.half_closed


def test_an_answer_that_has_begun_is_finished(it):
    """An answer whose head is out is finished, and the connection closes behind it."""
    client = it.client()
    client.deliver(GET)
    it.accepted().deliver(OK[:-1])
    drain(it)
    it.accepted().deliver(OK[-1:])
    client.turn()
    assert client.written.endswith(b"ok")
    assert client.half_closed


def test_a_head_that_has_begun_is_served(it):
    """Whoever has sent half a request sends the rest and is answered, and told that it was the last."""
    client = it.client()
    client.deliver(GET[:10])
    drain(it)
    client.deliver(GET[10:])
    answer = served(it, client)
    assert b"connection: close" in answer.lower()
    assert client.half_closed


def test_content_that_is_coming_is_awaited(it):
    """An upload goes on to its end."""
    client = it.client()
    client.deliver(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
    drain(it)
    client.deliver(b"cd")
    assert it.accepted().written.endswith(b"abcd")
    assert b"connection: close" in served(it, client).lower()
