"""The limits and timeouts of an HTTP frontend: at each of them, and one past it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from stickyproxy.config.limits import AnswerLimits, FrontendTimeouts, Limits
from stickyproxy.model import Backend, BackendState
from stickyproxy.testing import MemoryTransport

if TYPE_CHECKING:
    from house import House

    Make = Callable[..., House]

HOST = b"Host: example.org\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POST = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
ONE = {"backends": (Backend("a", "tcp:127.0.0.1:9001"), Backend("b", "tcp:127.0.0.1:9002", state=BackendState.DRAIN))}


def status(client: MemoryTransport) -> bytes:
    """Of the next answer; b"" if there is none."""
    return client.take()[9:12]


def answered(it: House, client: MemoryTransport) -> bytes:
    """The backend answers what it got; what the client sees of that."""
    it.accepted().deliver(OK)
    return client.take()


def closing(client: MemoryTransport) -> bool:
    """Whether the client was told, in peace, that nothing more comes."""
    client.turn()
    return client.half_closed and not client.aborted


# Sizes.


@pytest.mark.parametrize(
    ("limits", "within", "beyond", "expected"),
    [
        (Limits(target=30), b"GET /%s HTTP/1.1\r\n" % (b"a" * 16) + HOST, None, b""),
        (Limits(target=30), None, b"GET /%s HTTP/1.1\r\n" % (b"a" * 17) + HOST, b"414"),
        (Limits(head=50), b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 8 + b"\r\n", None, b""),
        (Limits(head=50), None, b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 9 + b"\r\n", b"431"),
        (Limits(fields=3), b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\nY: a\r\n", None, b""),
        (Limits(fields=3), None, b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 3, b"431"),
        (Limits(body=5), POST[:-2] % 5, None, b""),
        (Limits(body=5), None, POST[:-2] % 6, b"413"),
    ],
)
@pytest.mark.parametrize("split", [False, True], ids=["whole", "byte by byte"])
def test_sizes(
    house: Make, limits: Limits, within: bytes | None, beyond: bytes | None, expected: bytes, split: bool
) -> None:
    """What is as large as allowed is served, and one byte or field more gets its own status, and a close to read it."""
    it = house(ONE, limits=limits)
    client = it.client()
    request = (within or beyond or b"") + b"\r\n"
    for piece in [request[at : at + 1] for at in range(len(request))] if split else [request]:
        client.deliver(piece)
    if within is not None:
        client.deliver(b"12345" if b"Length" in within else b"")
        assert b" 200 OK" in answered(it, client)
    else:
        assert status(client) == expected and closing(client)
        assert it.endpoints["a"].attempts == 0


def test_chunked_content(house: Make) -> None:
    """Content whose size nobody announced is counted as it comes, without its framing."""
    it = house(ONE, limits=Limits(body=5))
    client = it.client()
    client.deliver(CHUNKED + b"3;extension\r\n123\r\n2\r\n45\r\n0\r\n\r\n")
    assert b" 200 OK" in answered(it, client)
    client.deliver(CHUNKED + b"3\r\n123\r\n")
    client.deliver(b"3\r\n456\r\n0\r\n\r\n")
    assert status(client) == b"413" and closing(client)


def test_chunk_extensions(house: Make) -> None:
    """The extensions of all chunks of a content are counted together, the semicolon too."""
    it = house(ONE, limits=Limits(chunk_extensions=8))
    client = it.client()
    client.deliver(CHUNKED + b"1;abc\r\n1\r\n1;abc\r\n2\r\n0\r\n\r\n")
    assert b" 200 OK" in answered(it, client)
    client.deliver(CHUNKED + b"1;abc\r\n1\r\n1;abc\r\n2\r\n0;\r\n\r\n")
    assert status(client) == b"400" and closing(client)


def test_trailers(house: Make) -> None:
    """Trailers are counted with their line ends, but for the empty line, whether they come at once or not."""
    it = house(ONE, limits=Limits(trailers=12))
    client = it.client()
    for _ in range(2):
        for piece in (CHUNKED + b"0\r\nX: 1\r\n", b"Y", b": 2\r", b"\n\r\n"):
            client.deliver(piece)
        assert b" 200 OK" in answered(it, client)
    for pieces in ((b"0\r\nX: 1\r\nY: 23\r\n\r\n",), (b"0\r\nX: 1\r\nY: 2", b"3")):
        client = it.client()
        client.deliver(CHUNKED)
        for piece in pieces:
            client.deliver(piece)
        assert (status(client) == b"400") is (len(pieces) == 1)


# Counts.


def test_requests_of_a_connection(house: Make) -> None:
    """My last request is answered like the others, and said to be the last; what I pipelined behind it is lost."""
    it = house(ONE, limits=Limits(requests=3))
    client = it.client()
    for _ in range(2):
        client.deliver(GET)
        assert b"Connection: close" not in answered(it, client)
    client.deliver(GET * 2)
    assert b"\r\nConnection: close\r\n" in answered(it, client)
    assert closing(client) and not it.accepted().take().count(b"GET") > 3
    other = it.client()
    other.deliver(GET)
    assert b" 200 OK" in answered(it, other) and not other.half_closed


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "afterwards"])
def test_pipelined(house: Make, at_once: bool) -> None:
    """As much as allowed may wait for its turn; with one byte more the answer in progress is the last, and whole."""
    for more, beyond in ((b"", False), (b"G", True)):
        it = house(ONE, limits=Limits(pipelined=2 * len(GET)))
        client = it.client()
        for piece in [GET * 3 + more] if at_once else [GET, GET * 2 + more]:
            client.deliver(piece)
        assert client.paused
        first = answered(it, client)
        assert b" 200 OK" in first and first.endswith(b"ok")
        assert closing(client) is (b"Connection: close" in first) is beyond
        if not beyond:
            assert b" 200 OK" in answered(it, client) + answered(it, client)


def test_nothing_waits_at_a_tunnel(house: Make) -> None:
    """Who sends more than that before its WebSocket is open does not get one with a hole."""
    it = house(ONE, limits=Limits(pipelined=10))
    for early, connected in ((b"x" * 10, True), (b"x" * 11, False)):
        client = it.client()
        client.deliver(
            b"GET / HTTP/1.1\r\n" + HOST + b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" + early
        )
        it.accepted().deliver(
            b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        client.turn()
        it.accepted().turn()
        assert client.connected is it.accepted().connected is connected
    assert [member.active for member in it.cluster.members.values()] == [1, 0]


# Answers.


@pytest.mark.parametrize("split", [False, True], ids=["whole", "byte by byte"])
def test_head_of_an_answer(house: Make, split: bool) -> None:
    """A backend's head of just the size that it may have is passed on, and one byte more is a 502."""
    for head, expected in ((OK[:-2], b"200"), (OK[:-6] + b"\r\nX:\r\n\r\n", b"502")):
        it = house({"limits": AnswerLimits(head=len(OK) - 2), **ONE})
        client = it.client()
        client.deliver(GET)
        backend = it.accepted()
        for piece in [head[at : at + 1] for at in range(len(head))] if split else [head]:
            if backend.connected and not backend.aborted:
                backend.deliver(piece)
        if expected == b"200":
            backend.deliver(b"ok")
        assert status(client) == expected


def test_interim_answers(house: Make) -> None:
    """As many interim answers as a backend may give are passed on, and one more is a 502, over two reads as in one."""
    for count, expected in ((3, b" 200 OK"), (4, b" 502 Bad Gateway")):
        it = house({"limits": AnswerLimits(interim=3), **ONE})
        client = it.client()
        client.deliver(GET)
        it.accepted().deliver(b"HTTP/1.1 103 X\r\n\r\n")
        it.accepted().deliver(b"HTTP/1.1 103 X\r\n\r\n" * (count - 1) + OK)
        answers = client.take()
        assert answers.count(b"HTTP/1.1 103 ") == 3 and expected in answers


# Times.


@pytest.mark.parametrize("pieces", [GET[:-1], b"\r\n" * 30 + GET, b"\r\n\r" + GET], ids=["head", "lines", "CR"])
def test_a_head_has_its_time_in_all(house: Make, pieces: bytes) -> None:
    """Slowloris: from the accept on the head has 10 seconds, however often I send a byte or an empty line."""
    it = house(timeouts=FrontendTimeouts(head=10.0))
    client = it.client()
    for number, byte in enumerate(pieces):
        if number == 19:
            assert client.written == b"" and not closing(client)
        if number == 22:
            break
        client.deliver(bytes([byte]))
        it.wait(0.5)
    assert closing(client) and status(client) in (b"408", b"")


def test_empty_lines_keep_no_connection(house: Make) -> None:
    """CR and LF apart, again and again, are neither a request nor a sign of life between two requests."""
    it = house(ONE, timeouts=FrontendTimeouts(head=2.0, keep_alive=5.0))
    for byte_by_byte in (True, False):
        client = it.client()
        client.deliver(GET)
        assert b" 200 OK" in answered(it, client)
        seconds = 0.0
        while not closing(client) and seconds < 20:
            for piece in (b"\r", b"\n") if byte_by_byte else (b"\r\n",):
                client.deliver(piece)
                it.wait(0.5)
                seconds += 0.5
        assert 2.0 <= seconds <= 6.5


def test_empty_lines_before_a_request(house: Make) -> None:
    """A few of them, in any pieces, are ignored; as many as a head may have bytes are too many."""
    it = house(ONE, limits=Limits(head=100))
    client = it.client()
    for piece in (b"\r", b"\n\r\n", b"\r", b"\nGET / HT", b"TP/1.1\r\n" + HOST, b"\r\n"):
        client.deliver(piece)
    assert b" 200 OK" in answered(it, client)
    client.deliver(b"\r")
    client.deliver(b"\n\r\n" * 40)
    client.deliver(b"G")
    assert status(client) == b"431" and closing(client)


def test_a_later_head_has_its_time(house: Make) -> None:
    """After a long pause between requests the next head has its whole time again."""
    it = house(ONE, timeouts=FrontendTimeouts(head=5.0, keep_alive=20.0))
    client = it.client()
    client.deliver(GET)
    answered(it, client)
    it.wait(18)
    client.deliver(GET[:10])
    it.wait(4.5)
    client.deliver(GET[10:])
    assert b" 200 OK" in answered(it, client)


def test_an_unread_answer_gives_no_time_for_a_head(house: Make) -> None:
    """Not reading the answer before, and then reading it, does not let a head take as long as a kept connection may."""
    it = house(ONE, timeouts=FrontendTimeouts(head=2.0, keep_alive=50.0))
    client = it.client()
    client.deliver(GET)
    assert b" 200 OK" in answered(it, client)
    client.deliver(GET[:10])
    client.protocol.pauseProducing()  # a transport may tell as late as this, as TLS does
    it.wait(1)
    client.protocol.resumeProducing()
    it.wait(3)
    assert status(client) == b"408" and closing(client)


@pytest.mark.parametrize(("rate", "expected"), [(10, b""), (11, b"408")])
@pytest.mark.parametrize("chunked", [False, True])
def test_rate_of_a_body(house: Make, rate: int, expected: bytes, chunked: bool) -> None:
    """Content as fast as demanded may take as long as it wants; a slower one is given up, framing not counted."""
    it = house(ONE, timeouts=FrontendTimeouts(body=5.0), limits=Limits(body_rate=rate))
    client = it.client()
    client.deliver(CHUNKED if chunked else POST % 1000)
    for _ in range(90):
        it.wait(1)
        if closing(client):
            break
        client.deliver(b"a;%b\r\n0123456789\r\n" % (b"x" * 100) if chunked else b"0123456789")
    assert status(client) == expected
    it.accepted().turn()
    assert it.accepted().connected is not bool(expected)


def test_rate_of_a_body_is_no_credit(house: Make) -> None:
    """A fast beginning earns no right to be slow for long afterwards, and silence has the same limit as ever."""
    it = house(ONE, timeouts=FrontendTimeouts(body=5.0), limits=Limits(body_rate=10))
    client = it.client()
    client.deliver(POST % 10_000 + b"x" * 5_000)
    for _ in range(8):
        it.wait(1)
        if not closing(client):
            client.deliver(b"x")
    assert status(client) == b"408"


def test_rate_of_a_body_that_we_do_not_read(house: Make) -> None:
    """While the backend takes no more, I cannot send: that is not my slowness."""
    it = house(ONE, timeouts=FrontendTimeouts(body=5.0), limits=Limits(body_rate=100))
    client = it.client()
    client.deliver(POST % 1000)
    it.accepted().protocol.pauseProducing()
    it.wait(30)
    it.accepted().protocol.resumeProducing()
    for _ in range(10):
        it.wait(1)
        client.deliver(b"x" * 100)
    assert b" 200 OK" in answered(it, client)


def test_silence_within_a_body(house: Make) -> None:
    """A byte just in time keeps an upload going where no rate is demanded, and no byte ends it."""
    it = house(ONE, timeouts=FrontendTimeouts(body=5.0))
    client = it.client()
    client.deliver(POST % 1000)
    for _ in range(10):
        it.wait(4.5)
        client.deliver(b"x")
    assert client.written == b""
    it.wait(5.5)
    assert status(client) == b"408" and closing(client)


def test_an_answer_that_is_not_taken(house: Make) -> None:
    """A client that takes nothing of its answer has its time for that, and is dropped with the backend's connection."""
    it = house(ONE, timeouts=FrontendTimeouts(send=5.0))
    client = it.client(high_water=100)
    client.deliver(GET)
    it.accepted().deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b"x" * 1000)
    it.wait(4.5)
    assert not client.aborted
    client.drain()
    it.accepted().deliver(b"x" * 1000)
    it.wait(4.5)
    assert not client.aborted
    it.wait(1)
    client.turn()
    it.accepted().turn()
    assert not client.connected and not it.accepted().connected
    client = it.client(high_water=100)
    client.deliver(GET)
    it.accepted().deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)  # whole: the next may come
    it.wait(6)
    client.turn()
    assert client.aborted and not it.factory.connections


# The last answer.


def test_the_last_answer_is_readable(house: Make) -> None:
    """Whoever goes on sending after a refusal is read, so that the answer reaches him, but not for ever."""
    it = house(limits=Limits(body=5), timeouts=FrontendTimeouts(linger=20.0))
    client = it.client()
    client.deliver(POST % 1000)
    for _ in range(19):
        client.deliver(b"x" * 50)
        it.wait(1)
        assert client.connected and closing(client) and not client.disconnecting
    for _ in range(2):
        client.deliver(b"x" * 50)
        it.wait(1)
    client.turn()
    assert not client.connected and not client.aborted and not it.factory.connections
    assert client.written.startswith(b"HTTP/1.1 413 ")


def test_the_last_answer_and_silence(house: Make) -> None:
    """Whoever says nothing more after the last answer costs a connection for 5 seconds only."""
    it = house(timeouts=FrontendTimeouts(linger=20.0))
    client = it.client()
    client.deliver(b"GET / HTTP/9.9\r\n\r\n")
    it.wait(4.5)
    assert client.connected and closing(client) and not client.disconnecting
    it.wait(1)
    client.turn()
    assert not client.connected and not client.aborted and not it.factory.connections
