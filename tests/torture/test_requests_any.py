"""Anything that a client may send, cut anywhere: refused and closed, or one canonical request that h11 reads alike.

h11 reads the client's bytes too, independently: what has reached the backend is what they say to it – method, target,
fields that go further, content – and no more of it.
"""

from __future__ import annotations

import re
from itertools import pairwise

import h11
from cases import HOST, Reached, chunked, get
from corpus import REQUESTS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from judge import statuses
from test_requests_memory import Conversation

from stickyproxy.sansio.fields import FRAMING, HANDSHAKE, HOP_BY_HOP, IMITATIONS, NOT_REMOVED, OURS, THEIRS, names

#: Names that never go further as they are, or that are written anew.
NOT_COMPARED = (
    HOP_BY_HOP | OURS | THEIRS | IMITATIONS | FRAMING | HANDSHAKE.keys() | names("host proxy expect max-forwards")
)
_ABSOLUTE = re.compile(rb"(?i)https?://[^/?#]*")


def mostly(good: bytes, *bad: bytes) -> st.SearchStrategy[bytes]:
    """``good``, and once in a while something else."""
    return st.sampled_from([good] * 15 * len(bad) + list(bad))


EOL = mostly(b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b"\r\n ", b"\r\n\t", b"\x00\r\n")
SPACE = mostly(b" ", b"  ", b"\t", b"", b"\x0b", b"\xa0", b"\r", b"\n")
COLON = mostly(b": ", b":", b" : ", b":\t", b"\t:", b":  ", b"", b"\x00:")
METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS"] * 4 + [b"TRACE", b"CONNECT", b"NO", b"get"])
TARGETS = st.sampled_from(
    [b"/", b"/a?b", b"/a/../b", b"//x", b"/%00", b"/?\\", b"http://example.org/a", b"http://example.org?b"] * 4
    + [b"*", b"/a\\b", b"/#", b"x", b"/\xff", b"http://evil/", b"https://example.org", b"example.org:80"]
)
VERSIONS = mostly(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"HTTP/0.9", b"")
NAMES = st.sampled_from(
    [b"Host", b"Content-Length", b"Transfer-Encoding", b"Connection", b"Cookie", b"Expect", b"TE", b"Upgrade", b"X-A",
     b"X-Forwarded-For", b"Content_Length", b"Via", b"Max-Forwards", b"Trailer", b"X-B", b"x-a", b"Sec-WebSocket-Key"]
)  # fmt: skip
VALUES = st.sampled_from(
    [b"", b"1", b"0", b"5", b"chunked", b"identity", b"close", b"keep-alive", b"X-A", b"Upgrade", b"websocket", b"h2c",
     b"example.org", b"evil", b"100-continue", b"a=b", b"\x80\xff", b"a\tb", b"1, 1", b"+1", b"trailers"]
)  # fmt: skip
FRAGMENTS = st.sampled_from(
    [b"0\r\n\r\n", b"5\r\nhello\r\n", b"3;a=b\r\nabc\r\n", b"0\r\nX-T: 1\r\n\r\n", b"5\nhello\n", b"GET / HTTP/1.1\r\n",
     HOST + b"\r\n", b"\r\n", b"0x5\r\n", b"hello", b"\x00", b"A\r\n0123456789\r\n", b"X-T: 1\r\n", b"ffff\r\n"]
)  # fmt: skip
CHUNKS = st.lists(st.binary(min_size=1, max_size=20), max_size=4)
TRAILERS = st.sampled_from([b"", b"", b"X-T: 1\r\n", b"Content-Length: 3\r\nX-T: \r\n", b"X-A: 2\r\n", b"X : 1\r\n"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request, more or less: each part may be another than it should be."""
    line = b"".join([draw(METHODS), draw(SPACE), draw(TARGETS), draw(SPACE), draw(VERSIONS), draw(EOL)])
    fields = [draw(mostly(HOST, b"", b"Host: evil", b"host:example.org")) + draw(EOL)]
    fields += draw(st.lists(st.builds(lambda *parts: b"".join(parts), NAMES, COLON, VALUES, EOL), max_size=3))
    kind = draw(st.sampled_from(["none", "length", "chunks", "anything"]))
    content = b""
    if kind == "length":
        content = draw(st.binary(max_size=20))
        fields.append(b"Content-Length: %d" % len(content) + draw(EOL))
    elif kind == "chunks":
        chunks = b"".join([b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in draw(CHUNKS)])
        content = chunks + b"0\r\n" + draw(TRAILERS) + draw(EOL)
        fields.append(b"Transfer-Encoding" + draw(COLON) + b"chunked" + draw(EOL))
    elif kind == "anything":
        content = b"".join(draw(st.lists(FRAGMENTS, max_size=4)))
        fields.append(draw(mostly(b"Transfer-Encoding: chunked", b"Content-Length: 5")) + draw(EOL))
    return line + b"".join(draw(st.permutations(fields))) + draw(EOL) + content


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A case of the corpus, or a few of ``requests``, with bytes gone, put in, exchanged or doubled."""
    cases = st.sampled_from([case.raw for table in REQUESTS.values() for case in table if len(case.raw) < 1000])
    data = bytearray(b"".join(draw(st.lists(requests() | cases, min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 3)))
        data[at:end] = draw(st.binary(max_size=2) | st.just(bytes(data[at:end]) * 2))
    return bytes(data)


CUTS = st.lists(st.integers(0, 400), max_size=6)


def read_by_h11(data: bytes) -> list[Reached]:
    """The whole requests that ``data`` begins with, as h11 reads them, whatever they are."""
    found = []
    while True:
        while data.startswith(b"\r\n"):  # RFC 9112 section 2.2
            data = data[2:]
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=200_000)
        connection.receive_data(data)
        head, body = None, b""
        try:
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if isinstance(event, h11.Request):
                    head = event
                elif isinstance(event, h11.Data):
                    body += event.data
                else:
                    return found
        except h11.RemoteProtocolError:
            return found
        assert head is not None
        trailers = tuple((bytes(name), bytes(value)) for name, value in event.headers)
        fields = tuple((bytes(name), bytes(value)) for name, value in head.headers)
        found.append(Reached(head.method, head.target, fields, body, trailers))
        data = connection.trailing_data[0]


def passing(said: Reached) -> Reached:
    """What of a request, as the client has said it, a backend may see; sorted, since the order of names may change."""
    options = b",".join(value for name, value in said.fields if name == b"connection").lower().split(b",")
    gone = {option.strip(b" \t") for option in options} - {b"cookie"} - NOT_REMOVED

    def kept(fields: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
        dropped = NOT_COMPARED | gone
        return tuple(sorted(field for field in fields if field[0] not in dropped and field != (b"cookie", b"")))

    target = _ABSOLUTE.sub(b"", said.target) if said.target[:1] != b"/" else said.target
    if target[:1] not in (b"/", b"*"):
        target = b"*" if not target and said.method == b"OPTIONS" else b"/" + target
    trailers = tuple(field for field in said.trailers if field[0].startswith(b"x-") and field in kept(said.trailers))
    return said._replace(target=target, fields=kept(said.fields), trailers=trailers, host=b"")


def meets(data: bytes, cuts: list[int]) -> None:
    """``data``, cut there, meets the proxy; what comes of it is as this module says."""
    conversation = Conversation()
    edges = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    for start, end in pairwise(edges):
        conversation.send(data[start:end])
    reached = conversation.reached
    said = read_by_h11(data)
    assert [passing(each) for each in reached] == [passing(each) for each in said[: len(reached)]]

    told = statuses(conversation.client.written, [each.method for each in reached])
    own = told[len(reached) :]
    assert told[: len(reached)] == [200] * len(reached)
    # An OPTIONS that may go no further is answered in the place of the backend.
    assert own == [] or (len(own) == 1 and (400 <= own[0] < 600 or (own == [200] and b"ax-" in data.lower())))
    closed = conversation.client.half_closed or not conversation.client.connected
    assert closed or (not own and len(said) == len(reached))


FEW = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FEW
@example(get() * 2 + chunked(b"0\r\n\r\n"), [len(get() * 2 + chunked(b""))])
@given(mutated(), CUTS)
def test_what_looks_like_requests(data: bytes, cuts: list[int]) -> None:
    """Requests whose parts are now and then something else."""
    meets(data, cuts)


@FEW
@given(st.lists(FRAGMENTS | NAMES | VALUES | METHODS | TARGETS | EOL | SPACE | COLON, max_size=20).map(b"".join), CUTS)
def test_what_is_made_of_pieces(data: bytes, cuts: list[int]) -> None:
    """Pieces of requests in any order, behind a good beginning."""
    meets(b"POST / HTTP/1.1\r\nHost: example.org\r\n" + data, cuts)


@FEW
@given(st.binary(max_size=300), CUTS)
def test_any_bytes(data: bytes, cuts: list[int]) -> None:
    """Bytes without any sense: nothing of them reaches anybody."""
    meets(data, cuts)
