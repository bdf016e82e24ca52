"""What came over the wire is not said back: error pages and logs are no megaphone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from stickyproxy.model import HTTPEntry
from stickyproxy.sansio.loglines import line_of
from stickyproxy.sansio.masking import mask_of

if TYPE_CHECKING:
    from house import House

    Make = Callable[..., House]

MARK = b"<script>evil"
HOST = b"Host: example.org\r\n"
REFUSED = [
    b"%b / HTTP/1.1\r\n" + HOST,
    b"GET %b HTTP/1.1\r\n" + HOST,
    b"GET /%b\x01 HTTP/1.1\r\n" + HOST,
    b"GET / %b\r\n" + HOST,
    b"GET / HTTP/9.9%b\r\n" + HOST,
    b"GET / HTTP/1.1\r\nHost: %b\r\n",
    b"GET / HTTP/1.1\r\n%b: x\r\n" + HOST,
    b"GET / HTTP/1.1\r\nX: %b\x00\r\n" + HOST,
    b"GET / HTTP/1.1\r\nExpect: %b\r\n" + HOST,
    b"POST / HTTP/1.1\r\nContent-Length: %b\r\n" + HOST,
    b"POST / HTTP/1.1\r\nTransfer-Encoding: %b\r\n" + HOST,
    b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + b"\r\n%b\r\n",
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: %b\r\n" + HOST,
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: %b\r\n" + HOST,
]
BAD_ANSWERS = [
    b"%b\r\n\r\n",
    b"HTTP/1.1 200 %b\x01\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n%b: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: %b\x00\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: %b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: %b\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b\r\n",
    b"HTTP/1.1 101 X\r\nUpgrade: %b\r\nConnection: Upgrade\r\n\r\n",
]


@pytest.mark.parametrize("pattern", REFUSED)
def test_a_refusal_does_not_quote_the_request(house: Make, pattern: bytes) -> None:
    """Whatever is wrong with it, nothing of a request stands on the page that refuses it."""
    client = house().client()
    client.deliver(pattern.replace(b"%b", MARK) + b"\r\n")
    answer = client.take()
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")) and b"script" not in answer and b"evil" not in answer


@pytest.mark.parametrize("pattern", BAD_ANSWERS)
def test_a_502_does_not_quote_the_backend(house: Make, pattern: bytes) -> None:
    """Nothing of an answer that is refused reaches the client."""
    it = house()
    client = it.client()
    client.deliver(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
    it.accepted().deliver(pattern.replace(b"%b", MARK))
    answer = client.take()
    assert answer.startswith(b"HTTP/1.1 502 ") and b"script" not in answer and b"evil" not in answer


def test_a_line_of_the_log_can_not_be_forged(house: Make) -> None:
    """Quotes, escapes and bytes above ASCII of a request stay within the field of the log that they belong to."""
    it = house()
    client = it.client()
    agent = b'"x" 200 0 \\" \x1b[2J \xe2\x80\xae cluster=other'.replace(b"\x1b", b"\xff")
    client.deliver(b'GET /"x?\\ HTTP/1.1\r\nUser-Agent: ' + agent + b"\r\nReferer: \xc2\x85\xff\r\n" + HOST + b"\r\n")
    it.accepted().deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    [entry] = it.entries
    assert isinstance(entry, HTTPEntry)
    line = line_of("combined", mask_of(()))(entry)
    assert line.isascii() and line.isprintable()
    assert r'"GET /\"x?\\ HTTP/1.1"' in line and r'"\xc2\x85\xff" "\"x\" 200 0 \\\" ' in line
    assert line.replace("\\\\", "").replace('\\"', "").count('"') == 6


@pytest.mark.parametrize("order", [1, -1], ids=["theirs first", "theirs last"])
def test_a_tossed_cookie_binds_nobody(house: Make, order: int) -> None:
    """Who sets my affinity cookie for the whole domain cannot say where I go: of two cookies neither is believed."""
    it = house()
    tokens = []
    for _ in range(2):
        client = it.client()
        client.deliver(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n")
        name = "ab"[len(tokens)]
        it.accepted(name).deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        tokens.append(client.take().partition(b"Set-Cookie: SRV=")[2].partition(b";")[0])
    client = it.client()
    both = b"; ".join([b"SRV=" + token for token in tokens][::order])
    client.deliver(b"GET / HTTP/1.1\r\nCookie: x=1; " + both + b"; y=2\r\n" + HOST + b"\r\n")
    served = next(it.accepted(name) for name in "ab" if b"x=1" in it.accepted(name).written)
    assert b"Cookie: x=1; y=2\r\n" in served.written
    served.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert b"Set-Cookie: SRV=" in client.take()
