"""What probes make of answers, in whatever pieces they come."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from stickyproxy.errors import ProbeFailed, StickyproxyError
from stickyproxy.sansio.probing import (
    LIMIT,
    AnswerJudge,
    HeadReader,
    PongReader,
    check_switch,
    client_frame,
    http_request,
    make_offer,
    websocket_request,
)

OK = b"HTTP/1.1 200 OK\r\n"
READY = re.compile(b"ready")


def judged(feed: Callable[[bytes], bool], data: bytes, piece: int) -> bool:
    return any(feed(data[start : start + piece]) for start in range(0, len(data), piece))


@pytest.mark.parametrize("piece", [1, 10_000])
@pytest.mark.parametrize(
    ("answer", "content"),
    [
        (OK + b"Content-Length: 2\r\n\r\nno", None),
        (OK + b"\r\n", None),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"\r\n", None),
        (b"HTTP/1.0 204 No Content\r\n\r\n", None),
        (b"HTTP/1.1 399 Odd\r\nContent-Length: 0\r\n\r\n", None),
        (OK + b"Content-Length: 9\r\n\r\nI'm ready", READY),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n", READY),
        (OK + b"\r\nready at last", READY),
    ],
)
def test_well(answer: bytes, content: re.Pattern[bytes] | None, piece: int) -> None:
    """The status is one of those that I want, and the content has in it what it must."""
    assert judged(AnswerJudge(b"GET", ((200, 399),), content, 100).feed, answer, piece)


@pytest.mark.parametrize("piece", [1, 100_000])
@pytest.mark.parametrize(
    ("answer", "content", "reason"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", None, "it answers 503"),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", None, "it answers 101"),
        (OK + b"Content-Length: 2\r\n\r\nno", READY, "content"),
        (OK + b"Content-Length: 0\r\n\r\n", READY, "content"),
        (OK + b"Content-Length: 200\r\n\r\n" + b"." * 100 + b"ready" * 20, READY, "content"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nxx\r\n", READY, "chunk"),
        (b"SSH-2.0-OpenSSH\r\n", None, "malformed"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 4000, None, "without end"),
        (OK + b"X: " + b"x" * LIMIT + b"\r\n\r\n", None, "larger"),
    ],
)
def test_not_well(answer: bytes, content: re.Pattern[bytes] | None, reason: str, piece: int) -> None:
    """Anything else is told by its reason, and nothing is read without end."""
    with pytest.raises(StickyproxyError, match=reason):
        judged(AnswerJudge(b"GET", ((200, 399),), content, 100).feed, answer, piece)


def test_content_that_ends_with_the_connection() -> None:
    """A close is the end of an answer without a length, and cuts off any other."""
    judge = AnswerJudge(b"GET", ((200, 200),), READY, 100)
    assert not judge.feed(OK + b"\r\nnot yet rea")
    with pytest.raises(ProbeFailed, match="content"):
        judge.ended()
    for begun in (b"", OK, OK + b"Content-Length: 9\r\n\r\nnot"):
        judge = AnswerJudge(b"GET", ((200, 200),), READY, 100)
        judge.feed(begun)
        with pytest.raises(ProbeFailed, match="closes before"):
            judge.ended()


def test_requests() -> None:
    """What a backend is asked is HTTP/1.1 with a Host, on a connection that ends with it."""
    request = http_request("HEAD", "/healthz?deep=1", "app.example.org")
    assert request.startswith(b"HEAD /healthz?deep=1 HTTP/1.1\r\nHost: app.example.org\r\n")
    assert b"\r\nConnection: close\r\n" in request and request.endswith(b"\r\n\r\n")


def switch(accept: bytes, status: bytes = b"101 Switching Protocols") -> bytes:
    fields = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " + accept
    return b"HTTP/1.1 " + status + b"\r\n" + fields + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (switch(b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), None),
        (switch(b"AAAAAAAAAAAAAAAAAAAAAAAAAAA="), "Sec-WebSocket-Accept"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "it answers 200, no WebSocket"),
    ],
)
def test_handshakes(answer: bytes, reason: str | None) -> None:
    """A WebSocket is verified as a browser would: by the answer to its key."""
    offer = make_offer(b"the sample nonce", "chat")
    request = websocket_request("/ws", "h", offer, "https://example.org")
    assert b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" in request
    assert b"\r\nSec-WebSocket-Protocol: chat\r\n" in request and b"\r\nOrigin: https://example.org\r\n" in request
    found = HeadReader(b"GET").feed(answer + b"early")
    assert found is not None and found[1] == b"early"
    if reason is None:
        check_switch(offer, found[0])
    else:
        with pytest.raises(StickyproxyError, match=reason):
            check_switch(offer, found[0])


@pytest.mark.parametrize("piece", [1, 7, 100_000])
@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (b"\x8a\x04ping", None),
        (b"\x81\x05hello\x8a\x00\x82\x7e\x01\x00" + bytes(256) + b"\x8a\x04ping", None),
        (b"\x82\x7f" + (70_000).to_bytes(8, "big") + bytes(70_000), "no pong"),
        (b"\x89\x04ping" * 20_000, "no pong"),
        (b"\x88\x02\x03\xf3", "closes the WebSocket with 1011"),
        (b"\x88\x00", "closes the WebSocket with 1005"),
        (b"\x8a\x84abcdping", "masks"),
    ],
)
def test_pongs(frames: bytes, reason: str | None, piece: int) -> None:
    """The pong to my own ping, whatever comes before it; no pong, a close or nonsense is told."""
    reader = PongReader(b"ping")
    if reason is None:
        assert judged(reader.feed, frames, piece)
        return
    with pytest.raises(ProbeFailed, match=reason):
        judged(reader.feed, frames, piece)


def test_frames_of_ours_are_masked() -> None:
    """RFC 6455 section 5.7: a masked ping is undone by its mask."""
    frame = client_frame(0x9, b"Hello", b"\x37\xfa\x21\x3d")
    assert frame == bytes.fromhex("8985 37fa213d 7f9f4d5158")
