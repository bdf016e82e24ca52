"""Affinities of applications that name their sessions themselves: Engine.IO, SockJS, MCP."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.conformance import check_affinity, make_arrival
from stickyproxy.interfaces import IReadingAffinity
from stickyproxy.model import CHUNKED, Arrival, ResponseHead
from stickyproxy.sansio.affinity import (
    ApplicationAffinity,
    ChainAffinity,
    EngineIOAffinity,
    MCPAffinity,
    NamedAffinity,
    TableAffinity,
    sockjs_session,
)
from stickyproxy.sansio.affinity.engineio import opened
from stickyproxy.sansio.keys import find_key
from stickyproxy.sansio.sessions import SessionTable

POLL = b"/socket.io/?EIO=4&transport=polling"
OPEN = b'0{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"maxPayload":1000000}'
SID = b"lv_VI97HAXpY6yYWAAAC"
JSONP = b'___eio[0]("' + OPEN.replace(b'"', b'\\"') + b'");'


def table(size: int = 100) -> SessionTable:
    return SessionTable(lambda: 0.0, size=size)


def plain(fields: dict[str, bytes]) -> list[bytes]:
    lines = ((name.replace("_", "-").encode(), b": ", value, b"\r\n") for name, value in fields.items())
    return [piece for line in lines for piece in line]


def request(target: bytes, method: bytes = b"GET", **fields: bytes) -> Arrival:
    arrival = make_arrival()
    assert arrival.head is not None
    return arrival._replace(head=arrival.head._replace(method=method, target=target, plain=plain(fields)))


def answer(status: int = 200, **fields: bytes) -> ResponseHead:
    return ResponseHead(status, b"", 1, plain(fields), {}, CHUNKED, True)


class Application:
    """An affinity, and the backends behind it."""

    def __init__(self, affinity: ApplicationAffinity | ChainAffinity, sessions: SessionTable) -> None:
        self.affinity = affinity
        self.sessions = sessions
        affinity.members("abc")

    def serve(self, arrival: Arrival, backend: str, head: ResponseHead, content: bytes = b"") -> None:
        """As ``Cluster.settle`` and an exchange do."""
        self.affinity.answered(arrival, backend, head)
        self.affinity.bind(arrival, backend)
        if IReadingAffinity.providedBy(self.affinity):
            reader = self.affinity.reader(arrival, backend, head)
            if reader is not None:
                reader(content, True)


Make = Callable[[], Application]
Arrive = Callable[[int], Arrival]


class Socket(Application):
    """Engine.IO."""

    def __init__(self, *, chain: bool = False, size: int = 100) -> None:
        sessions = table(size)
        self.warnings: list[str] = []
        kit = EngineIOAffinity(sessions, self.warnings.append)
        user = TableAffinity(find_key("header:x-user"), "user", sessions)
        super().__init__(ChainAffinity([user, kit]) if chain else kit, sessions)


class Tools(Application):
    """MCP."""

    def __init__(self, size: int = 100) -> None:
        sessions = table(size)
        super().__init__(MCPAffinity(sessions), sessions)


class SockJS(Application):
    """SockJS."""

    def __init__(self, size: int = 100) -> None:
        sessions = table(size)
        super().__init__(ApplicationAffinity(sockjs_session(), "sockjs", sessions), sessions)


def with_sid(number: int) -> Arrival:
    return request(POLL + b"&sid=client-%d" % number)


def with_session(number: int) -> Arrival:
    return request(b"/mcp", b"POST", Mcp_Session_Id=b"client-%d" % number)


def with_path(number: int) -> Arrival:
    return request(b"/echo/000/client-%d/xhr" % number)


# What all have in common.


@pytest.mark.parametrize(
    ("make", "arrive"),
    [(Socket, with_sid), (Tools, with_session), (SockJS, with_path), (lambda: Socket(chain=True), with_sid)],
)
def test_contract_of_kits(make: Make, arrive: Arrive) -> None:
    """Every kit keeps the contract of an affinity, alone and in a chain."""
    check_affinity(lambda: make().affinity, arrive)


@pytest.mark.parametrize(("make", "arrive"), [(Socket, with_sid), (Tools, with_session), (SockJS, with_path)])
def test_made_up(make: Make, arrive: Arrive) -> None:
    """An id that its backend does not know takes no room, and binds nobody; one that it takes does."""
    it = make()
    for status in (302, 400, 404, 500):
        it.serve(arrive(1), "b", answer(status))
        assert it.affinity.recall(arrive(1)) is None
    assert len(it.sessions) == 0
    it.serve(arrive(1), "b", answer(200))
    assert it.affinity.recall(arrive(1)) == "b"
    assert it.affinity.recall(arrive(2)) is None
    it.serve(arrive(1), "c", answer(200))
    assert it.affinity.recall(arrive(1)) == "c"
    it.serve(arrive(1), "a", answer(404))
    assert it.affinity.recall(arrive(1)) == "c"
    it.affinity.forget(arrive(1))
    assert (it.affinity.recall(arrive(1)), len(it.sessions)) == (None, 0)


GARBAGE = st.tuples(st.binary(max_size=90), st.binary(max_size=60), st.sampled_from([101, 200, 404]))


@given(st.lists(GARBAGE, max_size=30))
def test_no_bytes_raise_in_kits(seen: list[tuple[bytes, bytes, int]]) -> None:
    """Whatever is an id, a path, a query or a content: nothing is raised, and nothing grows past its bound."""
    for it in (Socket(size=4), Tools(size=4), SockJS(size=4), Socket(chain=True, size=4)):
        for garbage, content, status in seen:
            for arrival in (
                request(b"/" + garbage),
                request(b"/a/b/" + garbage + b"/xhr"),
                request(POLL + b"&" + garbage),
                request(b"/?sid=" + garbage),
                request(b"/", b"DELETE", Mcp_Session_Id=garbage, X_User=garbage),
            ):
                assert it.affinity.recall(arrival) in (None, "a")
                it.serve(arrival, "a", answer(status, Mcp_Session_Id=garbage), content)
            it.serve(request(POLL), "a", answer(), content)
            it.serve(request(POLL), "a", answer(), b'0{"sid":"' + content)
        assert len(it.sessions) <= 4


# Engine.IO.


@pytest.mark.parametrize(
    ("content", "sid"),
    [
        (OPEN, SID),
        (OPEN + b'\x1e40{"sid":"other"}', SID),
        (b"96:" + OPEN + b"2:40", SID),
        (b"\x00\x09\x06\xff" + OPEN, SID),
        (JSONP, SID),
        (b'0{"upgrades":[],"sid":"x"}', b"x"),
        (b'0{"sid":"\xc3\xa9"}', "é".encode()),
        (b'0{"sid":"\\ud800"}', b"?"),
        (b"", b""),
        (OPEN[:-1], b""),
        (JSONP[:40], b""),
        (b'1{"sid":"x"}', b""),
        (b'{"sid":"x"}', b""),
        (b'0["sid"]', b""),
        (b'0{"sid":7}', b""),
        (b'0{"sid":""}', b""),
        (b'0{"id":"x"}', b""),
        (b'0{"sid":' + b"[" * 4000, b""),
        (b"\x1f\x8b\x08" + OPEN, b""),
        (b"<html>" + OPEN, b""),
    ],
)
def test_handshakes(content: bytes, sid: bytes) -> None:
    """The sid of a handshake is found in revisions 3 and 4 and where scripts poll; elsewhere there is none."""
    assert opened(content) == sid


@given(st.text(min_size=1, max_size=30).filter(lambda text: text.isprintable()), st.booleans())
def test_any_sid(sid: str, escaped: bool) -> None:
    """Whatever a server calls its session, it is found, and not before all of the packet is there."""
    content = b"0" + json.dumps({"sid": sid}, ensure_ascii=escaped).encode()
    assert opened(content) == sid.encode()
    assert {opened(content[:size]) for size in range(len(content))} == {b""}


@pytest.mark.parametrize("chain", [False, True])
def test_engineio(chain: bool) -> None:
    """A client without cookies is known by its sid as soon as it has it, in polling requests and the upgrade."""
    it = Socket(chain=chain)
    it.serve(request(POLL), "b", answer(), OPEN)
    sid = b"&sid=" + SID
    for arrival in (request(POLL + sid), request(POLL + sid, b"POST"), request(b"/?transport=websocket" + sid)):
        assert it.affinity.recall(arrival) == "b"
    it.serve(request(b"/?transport=websocket" + sid), "b", answer(101))
    assert it.affinity.recall(request(POLL + b"&sid=other")) is None
    assert (len(it.sessions), it.warnings) == (1, [])


@pytest.mark.parametrize(
    ("arrival", "head"),
    [
        (request(POLL, b"POST"), answer()),
        (request(POLL), answer(403)),
        (request(POLL + b"&sid=known"), answer()),
        (request(b"/socket.io/?transport=websocket"), answer()),
        (request(b"/page"), answer()),
        (Arrival("192.0.2.1", False), answer()),
    ],
)
def test_no_handshake(arrival: Arrival, head: ResponseHead) -> None:
    """Nothing but the answer to a first poll is looked into."""
    assert EngineIOAffinity(table(), pytest.fail).reader(arrival, "a", head) is None


def test_a_handshake_in_pieces() -> None:
    """A handshake is read when all of it has come, however it was cut."""
    it = Socket()
    assert isinstance(it.affinity, EngineIOAffinity)
    reader = it.affinity.reader(request(POLL), "c", answer())
    assert reader is not None
    told = [reader(OPEN[:size], size == len(OPEN)) for size in range(1, len(OPEN) + 1)]
    assert told == [False] * (len(OPEN) - 1) + [True]
    assert it.affinity.recall(request(POLL + b"&sid=" + SID)) == "c"


def test_handshakes_that_are_none() -> None:
    """A compressed answer is not read, and one without a sid teaches nothing; both are told."""
    it = Socket()
    it.serve(request(POLL), "b", answer(Content_Encoding=b"gzip"), OPEN)
    it.serve(request(POLL), "b", answer(), b"<html>")
    assert it.warnings == ["is compressed", "is not an Engine.IO handshake"]
    assert len(it.sessions) == 0


# MCP.


def test_mcp() -> None:
    """A session is learned from the answer to initialize, and ends with a DELETE that its backend has accepted."""
    it = Tools()
    it.serve(request(b"/mcp", b"POST"), "b", answer(Mcp_Session_Id=b"s-1"))
    for method in (b"POST", b"GET", b"DELETE"):
        assert it.affinity.recall(request(b"/mcp", method, Mcp_Session_Id=b"s-1")) == "b"
    it.serve(request(b"/mcp", b"DELETE", Mcp_Session_Id=b"s-1"), "b", answer(405))
    assert len(it.sessions) == 1
    it.serve(request(b"/mcp", b"DELETE", Mcp_Session_Id=b"s-1"), "b", answer(Mcp_Session_Id=b"s-1"))
    assert len(it.sessions) == 0


def test_mcp_anew() -> None:
    """A client that initializes anew while it still shows its old session is known by the new one."""
    it = Tools()
    it.serve(request(b"/mcp", b"POST"), "a", answer(Mcp_Session_Id=b"old"))
    it.serve(request(b"/mcp", b"POST", Mcp_Session_Id=b"old"), "a", answer(Mcp_Session_Id=b"new"))
    assert it.affinity.recall(request(b"/mcp", Mcp_Session_Id=b"new")) == "a"


@pytest.mark.parametrize("session", [[], [b""], [b"one", b"two"]])
def test_mcp_without_a_session(session: list[bytes]) -> None:
    """No session, or two at once, are none: another backend may serve, and nothing is learned."""
    it = Tools()
    arrival, lines = request(b"/mcp"), [piece for one in session for piece in (b"Mcp-Session-Id", b": ", one, b"\r\n")]
    assert arrival.head is not None and isinstance(it.affinity, MCPAffinity)
    arrival = arrival._replace(head=arrival.head._replace(plain=lines))
    it.serve(arrival, "a", answer()._replace(plain=lines))
    assert (it.affinity.lost_status(arrival), len(it.sessions)) == (0, 0)
    assert it.affinity.lost_status(request(b"/mcp", Mcp_Session_Id=b"s-1")) == 404


# SockJS.


@pytest.mark.parametrize(
    ("prefix", "target", "session"),
    [
        (None, b"/echo/000/abcd1234/xhr_streaming?t=1", b"abcd1234"),
        (None, b"/echo/000/abcd1234/websocket", b"abcd1234"),
        (None, b"/a/deeper/path/7/s/eventsource", b"s"),
        (None, b"/000/s/jsonp_send", b"s"),
        (None, b"/echo/000/%61b/xhr", b"ab"),
        ("/echo", b"/echo/000/s/xhr", b"s"),
        ("/echo/", b"/echo/000/s/xhr", b"s"),
        ("/", b"/000/s/xhr", b"s"),
        ("/echo", b"/other/000/s/xhr", None),
        ("/echo", b"/echo/more/000/s/xhr", None),
        (None, b"/echo/info", None),
        (None, b"/echo/iframe-1.6.1.html", None),
        (None, b"/echo/websocket", None),
        (None, b"/echo/000/s/unknown", None),
        (None, b"/echo/0.0/s/xhr", None),
        (None, b"/echo/000/s.s/xhr", None),
        (None, b"/000//xhr", None),
        (None, b"/" + b"e" * 600 + b"/000/s/xhr", None),
        (None, b"*", None),
    ],
)
def test_sockjs_paths(prefix: str | None, target: bytes, session: bytes | None) -> None:
    """The session is found in the paths that the protocol has for one, and in no others."""
    assert sockjs_session(prefix)(request(target)) == session
    assert sockjs_session(prefix)(Arrival("192.0.2.1", False)) is None


# Names of backends, in event streams above all.


def test_named() -> None:
    """Who names a backend of the cluster goes there, at once after a restart too; any other name is none."""
    affinity = NamedAffinity(find_key("header:last-event-id", "([^-]+)-"))
    affinity.members(["a", "b.1"])
    assert affinity.recall(request(b"/", Last_Event_ID=b"a-17")) == "a"
    assert affinity.recall(request(b"/", Last_Event_ID=b"b.1-0")) == "b.1"
    for arrival in (request(b"/"), request(b"/", Last_Event_ID=b"c-1"), Arrival("192.0.2.1", False)):
        assert affinity.recall(arrival) is None
    assert affinity.bind(request(b"/", Last_Event_ID=b"c-1"), "a") is None
    assert affinity.recall(request(b"/", Last_Event_ID=b"c-1")) is None
    affinity.members(["b.1"])
    assert affinity.recall(request(b"/", Last_Event_ID=b"a-17")) is None
    assert affinity.forget(request(b"/", Last_Event_ID=b"a-17")) is None


@given(st.binary(max_size=100))
def test_no_bytes_are_a_name(value: bytes) -> None:
    """No bytes raise, or name a backend that is not there."""
    affinity = NamedAffinity(find_key("query:backend"))
    affinity.members(["a", "b"])
    assert affinity.recall(request(b"/?backend=" + value)) in (None, "a", "b")
