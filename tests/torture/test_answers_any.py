"""Any bytes of a backend, at any split: a client sees a right answer, or one that visibly is none."""

from __future__ import annotations

import re
from itertools import pairwise

import answers_bodies
import answers_heads
import attrs
import h11
from answers_judge import Ended, Seen, Then, judge, ok
from answers_scene import FACES, NEXT, end_of, open_house, say
from hypothesis import given, settings
from hypothesis import strategies as st

PARTS = [
    *(b"HTTP/1.%d %d X\r\n" % line for line in ((1, 200), (0, 200), (1, 204), (1, 304), (1, 103), (1, 101), (1, 502))),
    *(b"HTTP/1.1 100 X\r\n\r\n", b"Content-Length: 2\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"X: a\r\n"),
    *(b"Connection: Content-Length, x\r\n", b"Upgrade: websocket\r\n", b"Trailer: X\r\n", b"\r\n", b"\r\n\r\n"),
    *(b"\n", b"\r", b" ", b"\t", b"\x00", b":", b";", b",", b"ok", b"hello", b"2\r\nok\r\n", b"5\r\nhello\r\n"),
    *(b"0\r\n\r\n", b"0\r\nX: a\r\n\r\n", b"2;a=b\r\nok\r\n", b"0x2\r\n", b"f" * 16 + b"\r\n", b"1" * 30, b"a" * 5000),
]
#: Before an extension of a chunk: it may be there (RFC 9112 section 7.1.1), but not for h11.
WHITE_SPACE = re.compile(rb"[0-9A-Fa-f][ \t]+;").search
CORPUS = [b"".join(case.said) for case in (*answers_heads.CASES, *answers_bodies.CASES)]
ANSWERS = [data for data in CORPUS if len(data) < 2000]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """One or two answers of the corpus, in which pieces are replaced, left out, moved or said twice."""
    data = b"".join(draw(st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=2)))
    for _ in range(draw(st.integers(0, 4))):
        first, second = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        piece = draw(st.one_of(st.sampled_from(PARTS), st.binary(max_size=3), st.just(data[first:second])))
        data = data[:first] + piece + data[draw(st.sampled_from([first, second])) :]
    return data


SAID = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(PARTS), max_size=12).map(b"".join), mutated())


@attrs.frozen
class Scene:
    """``cuts`` are where the bytes are split; the others as in ``Case``."""

    said: bytes
    cuts: list[int]
    then: Then
    method: bytes
    minor: int
    face: str

    @property
    def pieces(self) -> list[bytes]:
        cuts = sorted({cut % (len(self.said) + 1) for cut in self.cuts} - {0})
        places = [0, *cuts, len(self.said)]
        return [self.said[begin:end] for begin, end in pairwise(places) if end > begin]

    @property
    def request(self) -> bytes:
        content = b"hello" if self.method == b"POST" else b""
        return b"%b / HTTP/1.%d\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
            self.method,
            self.minor,
            len(content),
            content,
        )

    @property
    def truth(self) -> Seen | None:
        """What h11 makes of the backend's own bytes; None: no answer."""
        ended = {Then.WAITS: Ended.NOT, Then.CLOSES: Ended.CLEANLY, Then.RESETS: Ended.ABRUPTLY}[self.then]
        try:
            return judge(self.said, self.method, ended, trailers_frame=True)
        except h11.RemoteProtocolError:
            return None


SCENES = st.builds(
    Scene,
    SAID,
    st.lists(st.integers(0, 10_000), max_size=6),
    st.sampled_from(Then),
    st.sampled_from([b"GET", b"HEAD", b"POST"]),
    st.sampled_from([1, 1, 0]),
    st.sampled_from(sorted(FACES)),
)


def is_ours(seen: Seen) -> bool:
    """A page of the proxy: the backend has no part in it."""
    return seen.status in (502, 504) and (b"cache-control", b"no-store") in seen.fields and not _via(seen)


def _via(seen: Seen) -> bool:
    return any(name == b"via" for name, _ in seen.fields)


@settings(max_examples=500, deadline=None)
@given(SCENES)
def test_any_answer(scene: Scene) -> None:
    """What is whole for the client is what h11 reads, too; all else is a page of ours or ends abruptly, and once."""
    face = FACES[scene.face](open_house())
    it, client = face.house, face.client()
    client.deliver(scene.request)
    backend = it.accepted()
    say(backend, scene.pieces, scene.then)
    if not judge(client.written, scene.method, end_of(client)).whole:
        it.wait(61)  # the backend is silent
    ended = end_of(client)
    seen, truth = judge(client.take(), scene.method, ended), scene.truth
    if seen.whole and not is_ours(seen):
        if truth is None:
            assert WHITE_SPACE(scene.said), seen
        else:
            assert (seen.status, seen.content, True) == (truth.status, truth.content, truth.whole)
    elif not seen.whole:
        assert ended is Ended.ABRUPTLY, seen
        assert truth is None or truth.content.startswith(seen.content)
    assert seen.rest == b""
    client = client if ended is Ended.NOT else face.client()
    client.deliver(NEXT)
    assert it.accepted().written.count(b"GET /next ") == 1
    it.accepted().deliver(ok(2))
    seen = judge(client.take(), b"GET", end_of(client))
    assert (seen.status, seen.content, seen.whole, seen.rest) == (200, b"own 2", True, b"")
    assert it.cluster.members["a"].active == 0
