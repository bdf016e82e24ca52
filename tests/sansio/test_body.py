"""Bodies: content, ends, and framing that is refused."""

from __future__ import annotations

import time

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.model import CHUNKED, UNTIL_CLOSE
from stickyproxy.sansio.body import (
    EXTENSIONS,
    SIZE_LINE,
    TRAILERS,
    BodyReader,
    MalformedBody,
    chunk,
    last_chunk,
    read_body,
)


def feed_all(reader: BodyReader, data: bytes, step: int) -> bytes:
    content = b""
    for at in range(0, len(data), step):
        assert not reader.ended
        content += reader.feed(data[at : at + step])
    return content


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("body", "data", "content"),
    [
        (5, b"hello", b"hello"),
        (CHUNKED, b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (CHUNKED, b"5;a=b\r\nhello\r\n00A ; c\r\n0123456789\r\n0;x\r\n\r\n", b"hello0123456789"),
        (CHUNKED, b"0\r\n\r\n", b""),
    ],
)
def test_content_in_any_split(body: int, data: bytes, content: bytes, step: int) -> None:
    """However the bytes are cut, content and end are the same."""
    reader = read_body(body)
    assert feed_all(reader, data, step) == content
    assert reader.ended and reader.rest == b"" and reader.complete_at_close()


@pytest.mark.parametrize(("body", "data"), [(5, b"hello"), (CHUNKED, b"5\r\nhello\r\n0\r\n\r\n")])
def test_what_follows_is_kept_apart(body: int, data: bytes) -> None:
    """The next message's bytes are not content."""
    reader = read_body(body)
    assert reader.feed(data + b"GET /") == b"hello"
    assert reader.ended and reader.rest == b"GET /"


def test_trailers() -> None:
    """Fields behind the last chunk are read, in any split."""
    for step in (1, 5, 100):
        reader = read_body(CHUNKED)
        feed_all(reader, b"0\r\nX-A: 1\r\nX-b:  two words \r\nX-C:\r\n\r\n", step)
        assert reader.trailers == [(b"x-a", b"X-A", b"1"), (b"x-b", b"X-b", b"two words"), (b"x-c", b"X-C", b"")]


def test_until_close() -> None:
    """A body without a length has no end of its own."""
    reader = read_body(UNTIL_CLOSE)
    assert reader.feed(b"a") == b"a" and not reader.ended and reader.complete_at_close()


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize(
    "data",
    [
        b"x\r\n",
        b"0x5\r\nhello\r\n",
        b"+5\r\nhello\r\n",
        b" 5\r\nhello\r\n",
        b"5 \r\nhello\r\n",
        b"\r\n",
        b"5\nhello\r\n",
        b"5\rhello",
        b"5;a\rb\r\n",
        b"5;a\x00\r\n",
        b"fffffffffffffffff\r\n",
        b"5\r\nhello5\r\n",
        b"5\r\nhelloXX",
        b"5\r\nhello\n0\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"0\r\n folded\r\n\r\n",
        b"0\r\nX: a\x01\r\n\r\n",
        b"0\r\nX\r\n\r\n",
        b"5;" + b"a" * SIZE_LINE,
        b"1;" + b"a" * (SIZE_LINE - 10) + b"\r\nx\r\n" + (b"1;" + b"a" * 200 + b"\r\nx\r\n") * (EXTENSIONS // 200),
        b"0\r\n" + b"X: " + b"a" * TRAILERS + b"\r\n\r\n",
        b"0\r\n" + b"X: y\r\n" * TRAILERS,
    ],
)
def test_broken_chunks(data: bytes, step: int) -> None:
    """A chunk that two readers could read differently ends the message."""
    reader = read_body(CHUNKED)
    with pytest.raises(MalformedBody):
        feed_all(reader, data, step)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.integers(1, 60))
def test_h11_reads_what_we_write(pieces: list[bytes], step: int) -> None:
    """Our chunks are an independent parser's chunks, and our own again."""
    data = b"".join(map(chunk, pieces)) + last_chunk([(b"x-t", b"X-T", b"1")])
    reader = read_body(CHUNKED)
    assert feed_all(reader, data, step) == b"".join(pieces)
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    content = b""
    while not isinstance(event := judge.next_event(), h11.EndOfMessage):
        content += bytes(event.data) if isinstance(event, h11.Data) else b""
    assert content == b"".join(pieces) and list(event.headers) == [(b"x-t", b"1")]


@given(st.binary(max_size=100), st.integers(1, 20))
def test_any_bytes(data: bytes, step: int) -> None:
    """No bytes raise anything but a refusal."""
    reader = read_body(CHUNKED)
    try:
        for at in range(0, len(data), step):
            if reader.ended:
                break
            reader.feed(data[at : at + step])
    except MalformedBody as error:
        assert str(error)


def test_bad_trailers_cost_no_time() -> None:
    """A trailer that goes wrong behind many spaces is refused in time that grows with its size, not with the square."""
    took = []
    for size in (TRAILERS // 8, TRAILERS - 10):
        reader = read_body(CHUNKED)
        began = time.process_time()
        with pytest.raises(MalformedBody):
            reader.feed(b"0\r\na:" + b" " * size + b"\x01\r\n\r\n")
        took.append(time.process_time() - began)
    assert took[1] < 0.02 + 20 * took[0] and took[1] < 0.1
    reader = read_body(CHUNKED)
    reader.feed(b"0\r\nA: \t b c \t\r\nE: \r\n\r\n")
    assert reader.trailers == [(b"a", b"A", b"b c"), (b"e", b"E", b"")]
