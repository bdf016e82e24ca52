"""What is sent again, and what never: the table in docs/http.md, row by row; and backends that close as they like."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import pytest
from answers_judge import Ended, judge, ok
from answers_scene import end_of, open_house
from clients import Server, all_of, configuration, port_of
from house import House
from parts import ROOT, Proxy
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.error import TimeoutError as ConnectTimeout

from stickyproxy.testing import MemoryTransport

SENT, ANSWERS = ("all", "some"), ("none", "cut within its head", "interim", "begun")
METHODS = {"idempotent": (b"GET", b"PUT", b"DELETE"), "other": (b"POST", b"PATCH", b"LOCK")}
ENDS = ("closed", "reset", "silent")
SAID = {
    "none": b"",
    "cut within its head": b"HTTP/1.1 200 O",
    "interim": b"HTTP/1.1 103 X\r\n\r\n",
    "begun": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
}


class Story(NamedTuple):
    connection: str
    sent: str
    method: str
    answer: str
    end: str


STORIES = [
    *(Story("new", "nothing", method, "none", end) for method, end in itertools.product(METHODS, ENDS)),
    *(Story(*story) for story in itertools.product(("kept", "new"), SENT, METHODS, ANSWERS, ENDS)),
]


def rows() -> Iterator[tuple[list[set[str]], str]]:
    """The table: what each column allows, and what follows."""
    page = (ROOT / "docs" / "http.md").read_text()
    table = page.partition("## Retries")[2].partition("\n- ")[0]
    for line in re.findall(r"^\| (.*) \|$", table, re.MULTILINE)[1:]:
        *columns, then = (column.strip() for column in line.split("|"))
        yield [set(column.split(", ")) for column in columns], then


def expected(story: Story) -> str:
    """What the page says of it, in one row and no other."""
    found = [
        then
        for columns, then in rows()
        if all("any" in column or value in column for column, value in zip(columns, story, strict=True))
    ]
    assert len(found) == 1, (story, found)
    return found[0]


def request(method: bytes, content: bytes, cookie: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(content) if content or method not in (b"GET", b"DELETE") else b""
    return b"%b /once HTTP/1.1\r\nHost: x\r\n%b%b\r\n%b" % (method, cookie, length, content)


def keep_one(it: House) -> bytes:
    """Have a connection to ``a`` kept; the cookie that binds to it, as a field."""
    client = it.client()
    client.deliver(request(b"GET", b""))
    it.accepted().take()
    it.accepted().deliver(ok(0))
    found = re.search(rb"Set-Cookie: (SRV=[^;]+)", client.take())
    assert found
    return b"Cookie: %b\r\n" % found[1]


def end(it: House, backend: MemoryTransport, how: str) -> None:
    if how == "silent":
        it.wait(61)
    elif how == "reset":
        backend.lose(ConnectionLost())
    else:
        backend.half_close()


def times_sent(it: House, which: str = "") -> int:
    """How often the request has reached a backend, or that one."""
    endpoints = [it.endpoints[which]] if which else it.endpoints.values()
    written = b"".join(transport.written for endpoint in endpoints for transport in endpoint.transports)
    return written.count(b" /once HTTP/1.1\r\n")


def check_end(it: House, client: MemoryTransport, method: bytes, then: str) -> None:
    """``then`` is a status, or the client's connection is cut off."""
    ended = end_of(client)
    seen = judge(client.take(), method, ended)
    if then == "cut off":
        assert ended is Ended.ABRUPTLY and not seen.whole
    else:
        assert (seen.whole, seen.status) == (True, int(then))
    assert all(member.active == 0 for member in it.cluster.members.values())


@pytest.mark.parametrize("story", STORIES, ids=" ".join)
def test_the_table(story: Story) -> None:
    """What is told of retries is so, for each method, and nothing reaches a backend that may not."""
    then = expected(story)
    contents = (b"hello",) if story.sent == "some" else (b"", b"hello")
    for method, content in itertools.product(METHODS[story.method], contents):
        it = open_house(3)
        cookie = keep_one(it) if story.connection == "kept" else b""
        it.endpoints["a"].hold = story.sent == "nothing"
        client = it.client()
        whole = request(method, content, cookie)
        for piece in (whole[:-1], whole[-1:]) if story.sent == "some" else (whole,):
            client.deliver(piece)
        if story.sent == "nothing":
            it.endpoints["a"].refuse(ConnectTimeout() if story.end == "silent" else ConnectError())
        else:
            backend = it.accepted()
            assert times_sent(it, "a") == 1
            if SAID[story.answer]:
                backend.deliver(SAID[story.answer])
            end(it, backend, story.end)
        if then in ("again", "elsewhere"):
            which = "a" if then == "again" else "b"
            assert times_sent(it) == 1 + (story.sent != "nothing") and times_sent(it, which) > 0
            it.accepted(which).deliver(ok(1))
            seen = judge(client.take(), method, end_of(client))
            assert (seen.whole, seen.content) == (True, b"own 1")
        else:
            assert times_sent(it) == 1
            check_end(it, client, method, then)


@pytest.mark.parametrize("ends", list(itertools.product(["closed", "reset"], repeat=3)), ids=" ".join)
def test_no_more_than_three_times(ends: tuple[str, ...]) -> None:
    """A request that no backend answers goes to the same again, once elsewhere, and is given up."""
    it = open_house(3)
    client = it.client()
    client.deliver(request(b"GET", b"", keep_one(it)))
    for number, (which, how) in enumerate(zip("aab", ends, strict=True), 1):
        assert times_sent(it) == number
        end(it, it.accepted(which), how)
    assert times_sent(it) == 3 and not it.endpoints["c"].attempts
    check_end(it, client, b"GET", "502")


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_what_was_never_sent_goes_to_each(method: bytes) -> None:
    """Where nothing can be reached every backend is tried once, with content too, and the client is told."""
    it = open_house(3)
    for endpoint in it.endpoints.values():
        endpoint.error = ConnectError()
    client = it.client()
    client.deliver(request(method, b"hello"))
    assert [endpoint.attempts for endpoint in it.endpoints.values()] == [1, 1, 1]
    check_end(it, client, method, "502")


@pytest.mark.parametrize(("method", "goes_on"), [(b"PUT", True), (b"POST", False)])
def test_content_that_is_awaited(method: bytes, goes_on: bool) -> None:
    """A PUT of which only the head was sent is sent again, and its content goes there, once; a POST is not."""
    it = open_house()
    client = it.client()
    head = request(method, b"hello", keep_one(it))[:-5]
    client.deliver(head)
    it.accepted().lose(ConnectionDone())
    assert times_sent(it) == 1 + goes_on
    if goes_on:
        client.deliver(b"hello")
        assert it.accepted().written.endswith(b"\r\n\r\nhello")
        it.accepted().deliver(ok(1))
        assert client.take().endswith(b"own 1")
    else:
        assert client.take().startswith(b"HTTP/1.1 502 ")


def test_content_that_was_begun() -> None:
    """Of a PUT whose content was begun nothing is sent again."""
    it = open_house()
    client = it.client()
    client.deliver(request(b"PUT", b"hello", keep_one(it))[:-1])
    it.accepted().lose(ConnectionDone())
    assert times_sent(it) == 1 and client.take().startswith(b"HTTP/1.1 502 ")


class Moody:
    """A backend in a thread that closes its kept connections whenever it likes, but not before a first answer."""

    def __init__(self) -> None:
        self.closed = 0
        self.posts: Counter[bytes] = Counter()
        self._random = random.Random(4)
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, path = head.split(b" ", 2)[:2]
                if method == b"POST":
                    await reader.readexactly(5)
                    self.posts[path] += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))
                if self._random.random() < 0.3:
                    end = writer.close if self._random.random() < 0.5 else writer.transport.abort
                    self._loop.call_later(self._random.random() / 200, end)
                    self.closed += 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def visit(port: int, number: int) -> Counter[str]:
    """A client that asks for this and that, and checks that each answer is its own."""
    seen: Counter[str] = Counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for turn in range(200):
        path = b"/%d/%d" % (number, turn)
        posts = turn % 10 == 0
        writer.write(request(b"POST" if posts else b"GET", b"hello" if posts else b"").replace(b"/once", path))
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length
        content = await reader.readexactly(int(length[1]))
        assert content == path or (posts and head.startswith(b"HTTP/1.1 502 ")), (path, head, content)
        seen["POST" if posts else "GET", head[9:12].decode()] += 1
    writer.close()
    return seen


def test_backends_that_close_as_they_like(tmp_path: Path) -> None:
    """16 clients at a backend that closes kept connections at random: no GET fails, no POST is done twice."""
    with Moody() as backend, Proxy(tmp_path, configuration([Server("a", backend.port)], cookie=False)) as proxy:
        port = port_of(proxy)
        seen = sum(asyncio.run(all_of((visit(port, number) for number in range(16)), 60)), Counter())
    assert {status for method, status in seen if method == "GET"} == {"200"}
    assert seen["GET", "200"] == 16 * 180 and backend.closed > 300
    assert max(backend.posts.values()) == 1 and len(backend.posts) >= seen["POST", "200"]
