"""A cluster in somebody's twisted.web site, as scripts: these bytes come in, those go out."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.logger import globalLogPublisher
from twisted.web.resource import ForbiddenResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from twisted.web.static import Data

from stickyproxy.config.specs import ClusterTimeouts, Limits
from stickyproxy.testing import MemoryTransport
from stickyproxy.wires.resource import AffinityRequest, AffinityResource

if TYPE_CHECKING:
    from house import House

GET = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PEER = IPv4Address("TCP", "198.51.100.7", 40000)


class Town:
    """A site with an ``AffinityResource`` before the backends ``a`` and ``b`` of a ``House``."""

    def __init__(self, house: House, streamed: bool, root: Callable[[AffinityResource], Any], options: Any) -> None:
        self.house = house
        self.resource = AffinityResource(house.cluster, house.clock, **options)
        request_factory = AffinityRequest if streamed else Request
        self.site = Site(root(self.resource), requestFactory=request_factory, reactor=house.clock)
        self.site.logFile = self.log = io.StringIO()

    def client(self, high_water: int | None = None) -> MemoryTransport:
        return MemoryTransport(self.site.buildProtocol(PEER), peer=PEER, high_water=high_water)

    def accepted(self, backend: str = "a") -> MemoryTransport:
        return self.house.accepted(backend)

    @property
    def active(self) -> dict[str, int]:
        return {id: member.active for id, member in self.house.cluster.members.items()}


@pytest.fixture
def town(house: Callable[..., House]) -> Callable[..., Town]:
    """Makes a ``Town``: ``root(resource)`` is what the site serves; ``cluster`` as of ``house``; options of ours."""

    def make(
        cluster: dict[str, Any] | None = None,
        /,
        *,
        streamed: bool = True,
        root: Callable[[AffinityResource], Any] = lambda resource: resource,
        **options: Any,
    ) -> Town:
        return Town(house(cluster), streamed, root, options)

    return make


@pytest.fixture(autouse=True)
def _peace() -> Iterator[None]:
    """No test may leave a failure in the log."""
    failures: list[Any] = []
    observer = lambda event: failures.append(event) if "log_failure" in event else None  # noqa: E731
    globalLogPublisher.addObserver(observer)
    yield
    globalLogPublisher.removeObserver(observer)
    assert not failures


def at(path: bytes) -> Callable[[AffinityResource], Resource]:
    """A root with the resource at ``path``."""

    def root(resource: AffinityResource) -> Resource:
        top = Resource()
        top.putChild(path, resource)
        return top

    return root


def parted(data: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """First line, fields by lower-case name, and what follows."""
    head, _, rest = data.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    return line, {name.lower(): value for name, value in (field.split(b": ", 1) for field in fields)}, rest


def ask(path: bytes = b"/", *fields: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    return b"\r\n".join((method + b" " + path + b" HTTP/" + version, b"Host: example.org", *fields, b"", b""))


def post(content: bytes, length: int | None = None) -> bytes:
    size = len(content) if length is None else length
    return ask(b"/", b"Content-Length: %d" % size, method=b"POST") + content


def cookie(data: bytes) -> bytes:
    """``SRV=token`` from an answer."""
    found = re.search(rb"Set-Cookie: (SRV=[^;]+)", data)
    assert found, data
    return found[1]


BOTH = pytest.mark.parametrize("streamed", [True, False], ids=["AffinityRequest", "Request"])


@BOTH
def test_one_request(town: Callable[..., Town], streamed: bool) -> None:
    """A request to my site goes to a backend with the client's identity, its answer comes back with a cookie."""
    it = town(streamed=streamed)
    client = it.client()
    client.deliver(
        ask(b"/hello?x", b"Accept: */*", b"Connection: keep-alive, X-Hop", b"X-Hop: 1", b"Forwarded: for=me")
    )
    line, fields, rest = parted(it.accepted().take())
    assert (line, rest) == (b"GET /hello?x HTTP/1.1", b"")
    assert fields[b"host"] == b"example.org" and fields[b"accept"] == b"*/*"
    assert fields[b"x-forwarded-for"] == b"198.51.100.7" and fields[b"x-forwarded-proto"] == b"http"
    assert fields[b"forwarded"] == b"for=198.51.100.7;host=example.org;proto=http"
    assert b"x-hop" not in fields and b"connection" not in fields
    it.accepted().deliver(
        b"HTTP/1.1 299 Fine\r\nX-A: 1\r\nx-a: 2\r\nConnection: X-B\r\nX-B: 3\r\nContent-Length: 2\r\n\r\nok"
    )
    answer = client.take()
    line, fields, rest = parted(answer)
    assert (line, rest) == (b"HTTP/1.1 299 Fine", b"ok")
    assert fields[b"set-cookie"].startswith(b"SRV=") and fields[b"via"] == b"1.1 stickyproxy"
    assert answer.lower().count(b"x-a: ") == 2 and answer.count(b"Date: ") == 1
    assert not {b"server", b"content-type", b"connection", b"x-b"} & set(fields)
    assert client.connected and not client.disconnecting and it.active == {"a": 0, "b": 0}
    assert '"GET /hello?x HTTP/1.1" 299 2' in it.log.getvalue()


@BOTH
def test_the_cookie_keeps_the_client_at_its_backend(town: Callable[..., Town], streamed: bool) -> None:
    """With its cookie a client comes back to its backend twenty times, on any connection; backends never see it."""
    it = town(streamed=streamed)
    client = it.client()
    client.deliver(GET)
    it.accepted().deliver(OK)
    bound = cookie(client.take())
    for number in range(20):
        client = client if number % 3 else it.client()
        client.deliver(ask(b"/", b"Cookie: x=y; " + bound))
        assert b"Cookie: x=y\r\n" in it.accepted().take()
        it.accepted().deliver(OK)
        assert b"Set-Cookie" not in client.take()
    assert not it.house.endpoints["b"].transports


def test_an_unreachable_backend_is_left_once(town: Callable[..., Town]) -> None:
    """When its backend is gone a client gets another one, and a cookie for it, once."""
    it = town()
    client = it.client()
    client.deliver(ask(b"/", b"Connection: close"))
    it.accepted().deliver(OK)
    bound = cookie(client.take())
    it.house.cluster.close_idle()
    it.house.endpoints["a"].error = ConnectError()
    client = it.client()
    client.deliver(ask(b"/", b"Cookie: " + bound))
    it.accepted("b").deliver(OK)
    rebound = cookie(client.take())
    assert rebound != bound
    client.deliver(ask(b"/", b"Cookie: " + rebound))
    it.accepted("b").deliver(OK)
    assert b"Set-Cookie" not in client.take()


@BOTH
@pytest.mark.parametrize(
    ("answer", "version", "content", "closes"),
    [
        (b"Content-Length: 2\r\n\r\nok", b"1.1", b"ok", False),
        (b"Content-Length: 0\r\n\r\n", b"1.1", b"", False),
        (b"Transfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\n\r\n", b"1.1", b"2\r\nok\r\n0\r\n\r\n", False),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n", b"1.1", b"2\r\nok\r\n0\r\n\r\n", False),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b"1.0", b"ok", True),
        (b"Content-Length: 2\r\n\r\nok", b"1.0", b"ok", True),
        (b"\r\nok", b"1.1", b"2\r\nok\r\n0\r\n\r\n", False),
        (b"\r\nok", b"1.0", b"ok", True),
    ],
)
def test_answers_in_every_framing(
    town: Callable[..., Town], streamed: bool, answer: bytes, version: bytes, content: bytes, closes: bool
) -> None:
    """Length, chunks, and until-close, to clients of both versions: the content is the same."""
    it = town(streamed=streamed)
    client = it.client()
    client.deliver(ask(version=version))
    backend = it.accepted()
    backend.deliver(b"HTTP/1.1 200 OK\r\n" + answer)
    if answer.startswith(b"\r\n"):
        backend.lose(ConnectionDone())
    client.turn()
    assert parted(client.take())[2] == content
    assert client.connected is not closes


@pytest.mark.parametrize(
    ("method", "answer", "length"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", b"1234"),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\nETag: x\r\n\r\n", b"77"),
    ],
)
def test_answers_without_content(town: Callable[..., Town], method: bytes, answer: bytes, length: bytes | None) -> None:
    """HEAD, 204 and 304 have no content, whatever length they tell; the next request follows."""
    it = town()
    client = it.client()
    for _ in range(2):
        client.deliver(ask(method=method))
        (backend,) = (it.accepted(id) for id in "ab" if it.active[id])
        backend.deliver(answer)
        line, fields, rest = parted(client.take())
        assert line == answer.partition(b"\r\n")[0] and not rest
        assert fields.get(b"content-length") == length and b"transfer-encoding" not in fields


@BOTH
def test_contents(town: Callable[..., Town], streamed: bool) -> None:
    """A content of any framing gets to the backend; with AffinityRequest as it comes, else when it is whole."""
    it = town(streamed=streamed)
    client = it.client()
    client.deliver(post(b"abc", 6))
    assert bool(it.house.endpoints["a"].transports) is streamed
    client.deliver(b"def" + ask(b"/", b"Transfer-Encoding: chunked", method=b"PUT") + b"3\r\nabc\r\n")
    line, fields, rest = parted(it.accepted().take())
    assert (line, fields[b"content-length"], rest) == (b"POST / HTTP/1.1", b"6", b"abcdef")
    it.accepted().deliver(OK)
    assert client.take().endswith(b"ok")
    assert bool(it.house.endpoints["b"].transports) is streamed
    client.deliver(b"4\r\ndefg\r\n0\r\n\r\n")
    line, fields, rest = parted(it.accepted("b").take())
    assert (line, fields[b"transfer-encoding"]) == (b"PUT / HTTP/1.1", b"chunked")
    assert rest == (b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n" if streamed else b"7\r\nabcdefg\r\n0\r\n\r\n")
    it.accepted("b").deliver(OK)
    client.deliver(ask(b"/", b"Transfer-Encoding: chunked", method=b"PUT") + b"0\r\n\r\n")
    assert it.accepted().take().endswith(b"\r\n\r\n0\r\n\r\n")


@BOTH
def test_in_single_bytes(town: Callable[..., Town], streamed: bool) -> None:
    """However slowly bytes come, from either side, the messages are the same."""
    it = town(streamed=streamed)
    client = it.client()
    for byte in post(b"content"):
        client.deliver(bytes([byte]))
    assert it.accepted().take().endswith(b"Content-Length: 7\r\n\r\ncontent")
    for byte in OK:
        it.accepted().deliver(bytes([byte]))
    assert parted(client.take())[2] == b"ok"


def test_a_slow_backend_slows_the_upload(town: Callable[..., Town]) -> None:
    """What the backend does not take is not read from the client, whose silence meanwhile is not held against it."""
    it = town({"timeouts": ClusterTimeouts(answer=500.0)})
    it.house.endpoints["a"].high_water = 1000
    client = it.client()
    client.deliver(post(b"x" * 2000, 6001))
    assert client.paused
    client.deliver(b"y" * 4000)
    backend = it.accepted()
    it.house.clock.pump([1] * 200)
    assert client.connected and backend.unread < 3000
    backend.drain()
    assert not client.paused
    client.turn()
    assert client.paused
    backend.drain()
    client.deliver(b"z")
    backend.drain()
    assert backend.take().endswith(b"x" * 2000 + b"y" * 4000 + b"z")
    backend.deliver(OK)
    assert client.take().endswith(b"ok") and not client.paused
    it.house.clock.pump([1] * 61)
    client.turn()
    assert not client.connected  # the site's own time between requests is back


def test_the_end_of_an_upload_may_find_the_backend_busy(town: Callable[..., Town]) -> None:
    """The last bytes of a content are more than the backend takes: the client waits for its answer, and can go on."""
    it = town()
    it.house.endpoints["a"].high_water = 1000
    client = it.client()
    client.deliver(post(b"x" * 2000))
    assert it.accepted().unread and not client.paused  # nobody would notice that it leaves
    it.accepted().drain()
    it.accepted().deliver(OK)
    assert client.take().endswith(b"ok")
    client.deliver(GET)
    assert it.accepted("b").take().startswith(b"GET / ")
    it.house.clock.pump([1] * 50)
    assert client.connected
    it.accepted("b").deliver(OK)
    it.house.clock.pump([1] * 61)
    client.turn()
    assert not client.connected


def test_both_are_slow(town: Callable[..., Town]) -> None:
    """A client that takes its answer again does not make the backend take more than it can."""
    it = town()
    it.house.endpoints["a"].high_water = 1000
    client = it.client(high_water=1000)
    client.deliver(post(b"x" * 2000, 100_000))
    backend = it.accepted()
    backend.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"y" * 2000)
    assert client.paused and backend.paused
    for _ in range(20):
        client.deliver(b"x" * 1000)
    client.drain()
    client.turn()
    assert client.paused and not backend.paused and backend.unread < 4000
    for _ in range(9):
        backend.deliver(b"y" * 2000)
        client.drain()
        client.turn()
    assert client.paused and backend.unread < 15_000
    while backend.unread:
        backend.drain()
        client.turn()
    assert parted(backend.take())[2] == b"x" * 22_000


def test_a_kept_content_is_sent_as_it_is_taken(town: Callable[..., Town]) -> None:
    """What twisted.web has kept on disk goes out in pieces, as fast as the backend takes them."""
    it = town(streamed=False)
    it.house.endpoints["a"].high_water = 1000
    client = it.client()
    content = bytes(range(256)) * 2000
    client.deliver(post(content))
    backend = it.accepted()
    received = b""
    while piece := backend.drain():
        assert len(piece) < 3 * 64 * 1024
        received += piece
    assert received.endswith(b"\r\n\r\n" + content)
    backend.deliver(OK)
    bound = cookie(client.take())
    backend.high_water = None  # takes everything, so that nothing sets off the next piece
    client.deliver(ask(b"/", b"Content-Length: 300000", b"Cookie: " + bound, method=b"POST") + content[:300_000])
    assert backend.take().endswith(b"\r\n\r\n" + content[:300_000]) and it.house.endpoints["a"].attempts == 1


def test_a_kept_content_that_nobody_reads(town: Callable[..., Town]) -> None:
    """A backend may answer before it has read it all: the client gets the answer, and nothing is left open."""
    it = town(streamed=False)
    it.house.endpoints["a"].high_water = 1000
    client = it.client()
    client.deliver(post(bytes(500_000)))
    it.accepted().deliver(b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")
    assert client.take().endswith(b"no")
    assert it.accepted().aborted and it.active == {"a": 0, "b": 0}
    client.deliver(GET)
    assert it.accepted("b").take().startswith(b"GET")


def test_a_kept_content_without_a_backend(town: Callable[..., Town]) -> None:
    """The page that says so comes for large contents as for small ones."""
    it = town(streamed=False)
    for endpoint in it.house.endpoints.values():
        endpoint.error = ConnectError()
    client = it.client()
    client.deliver(post(bytes(500_000)))
    assert parted(client.take())[0] == b"HTTP/1.1 502 Bad Gateway"


def test_a_slow_client_slows_the_download(town: Callable[..., Town]) -> None:
    """What the client does not take is not read from the backend; one that takes nothing for long is left."""
    it = town(send_timeout=10.0)
    client = it.client(high_water=1000)
    client.deliver(GET)
    backend = it.accepted()
    backend.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 2000)
    assert backend.paused
    it.house.wait(9)
    client.drain()
    assert not backend.paused
    backend.deliver(b"x" * 2000)
    it.house.wait(9)
    assert client.connected
    it.house.wait(2)
    client.turn()
    backend.turn()
    assert client.aborted and not client.connected and not backend.connected
    assert it.active == {"a": 0, "b": 0}


def test_the_end_of_a_download_may_find_the_client_busy(town: Callable[..., Town]) -> None:
    """Once the answer is complete, the client may take it in its own time."""
    it = town(send_timeout=10.0)
    client = it.client(high_water=1000)
    client.deliver(GET)
    backend = it.accepted()
    backend.deliver(b"HTTP/1.1 200 OK\r\nContent-Length: 2002\r\n\r\n" + b"x" * 2000)
    backend.protocol.dataReceived(b"ok")  # was under way when the backend's transport was paused
    it.house.wait(20)
    client.drain()
    assert client.connected and client.take().endswith(b"xok")
    client.deliver(GET)
    assert it.accepted("b").take()


@pytest.mark.parametrize(
    ("framing", "content"),
    [
        (b"Content-Length: 2\r\n\r\nno", b"no"),
        (b"Transfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", b"2\r\nno\r\n0\r\n\r\n"),
    ],
)
def test_an_early_answer(town: Callable[..., Town], framing: bytes, content: bytes) -> None:
    """An answer before the content is whole is complete at once, and the last one; what still comes is no request."""
    it = town()
    client = it.client()
    client.deliver(post(b"abc", 100))
    it.accepted().deliver(b"HTTP/1.1 413 Too Much\r\n" + framing)
    client.turn()
    line, fields, rest = parted(client.take())
    assert line == b"HTTP/1.1 413 Too Much" and fields[b"connection"] == b"close" and rest == content
    assert client.half_closed and client.connected
    client.deliver(GET + b"x" * 20)
    assert client.connected and not it.house.endpoints["b"].transports
    client.deliver(b"x" * (97 - 20 - len(GET)) + GET)
    client.turn()
    assert not client.connected and not it.house.endpoints["b"].transports
    assert '" 413 ' in it.log.getvalue()
    assert not [call for call in it.house.clock.getDelayedCalls() if call.getTime() > it.house.clock.seconds() + 29]


def test_a_client_that_leaves_after_an_early_answer(town: Callable[..., Town]) -> None:
    """Nothing waits for it any more; whoever else would answer it hears what twisted.web says then."""
    requests: list[Any] = []

    class Seen(AffinityRequest):
        def process(self) -> None:
            requests.append(self)
            super().process()

    it = town()
    it.site.requestFactory = Seen
    client = it.client()
    client.deliver(post(b"abc", 100))
    it.accepted().deliver(OK)
    client.half_close()
    assert not client.connected and not requests[0].notifications
    assert not [call for call in it.house.clock.getDelayedCalls() if call.getTime() > it.house.clock.seconds() + 1]
    client = it.client()
    client.deliver(post(b"abc", 100))
    client.lose()
    with pytest.raises(RuntimeError, match="connection was lost"):
        requests[1].finish()


def test_after_an_early_answer_a_client_can_not_send_for_ever(town: Callable[..., Town]) -> None:
    """It has 30 seconds to read the answer."""
    it = town()
    client = it.client()
    client.deliver(ask(b"/", b"Transfer-Encoding: chunked", method=b"POST") + b"1\r\na\r\n")
    it.accepted().deliver(OK)
    for _ in range(31):
        it.house.clock.advance(1)
        client.turn()
        if client.connected:
            client.deliver(b"1\r\na\r\n")
    assert client.aborted and not client.connected


def test_an_early_answer_while_the_client_is_paused(town: Callable[..., Town]) -> None:
    """The rest of its content is read and thrown away."""
    it = town()
    it.house.endpoints["a"].high_water = 1000
    client = it.client()
    client.deliver(post(b"x" * 2000, 3000))
    assert client.paused
    it.accepted().deliver(OK)
    client.turn()
    assert client.take().endswith(b"ok") and not client.paused
    client.deliver(b"x" * 1000)
    client.turn()
    assert not client.connected and not client.aborted


@BOTH
@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"nonsense\r\n"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc", None),
    ],
)
def test_a_truncated_answer_is_not_complete(
    town: Callable[..., Town], streamed: bool, first: bytes, then: bytes | None
) -> None:
    """When a backend breaks off, the client's connection breaks off."""
    it = town(streamed=streamed)
    client = it.client()
    client.deliver(GET)
    it.accepted().deliver(first)
    if then is None:
        it.accepted().lose()
    else:
        it.accepted().deliver(then)
    client.turn()
    assert client.aborted and not client.connected
    assert b"abc" in client.take() and it.active == {"a": 0, "b": 0}


@BOTH
@pytest.mark.parametrize("begun", [False, True])
def test_a_client_that_leaves(town: Callable[..., Town], streamed: bool, begun: bool) -> None:
    """Nobody waits for its answer any more."""
    it = town(streamed=streamed)
    client = it.client()
    client.deliver(GET)
    if begun:
        it.accepted().deliver(OK[:-1])
    client.lose()
    it.accepted().turn()
    assert not it.accepted().connected and it.active == {"a": 0, "b": 0}


def test_a_client_that_leaves_within_its_content(town: Callable[..., Town]) -> None:
    """The backend does not take what there was of it for the whole."""
    it = town()
    for high_water in (None, 10):
        it.house.endpoints["a"].high_water = it.house.endpoints["b"].high_water = high_water
        client = it.client()
        client.deliver(post(b"abc" * 50, 1000))
        (backend,) = (it.accepted(id) for id in "ab" if it.active[id])
        client.lose()
        backend.turn()
        assert not backend.connected and it.active == {"a": 0, "b": 0}


def test_a_client_that_leaves_while_we_connect(town: Callable[..., Town]) -> None:
    """The attempt is given up."""
    it = town()
    it.house.endpoints["a"].hold = True
    client = it.client()
    client.deliver(post(b"abc", 10))
    assert client.paused
    client.lose()
    assert it.house.endpoints["a"].attempts == 1 and not it.house.endpoints["b"].attempts


@BOTH
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([b"Host: other.example"], b"400"),
        ([b"Transfer-Encoding: identity"], b"400"),
        ([b"Expect: miracles"], b"417"),
        ([b"X-%d: 1" % number for number in range(120)], b"431"),
    ],
)
def test_what_is_refused(town: Callable[..., Town], streamed: bool, fields: list[bytes], status: bytes) -> None:
    """What would be refused by a frontend of our own is refused here, and no backend hears of it."""
    it = town(streamed=streamed)
    client = it.client()
    client.deliver(ask(b"/", *fields))
    client.turn()
    line, told, rest = parted(client.take())
    assert line.split()[1] == status and told[b"connection"] == b"close" and rest.startswith(status)
    assert not client.connected and not it.house.endpoints["a"].attempts


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
def test_no_backend(town: Callable[..., Town], method: bytes) -> None:
    """When no backend can be reached the client gets a page that says so, and may ask again."""
    it = town()
    for endpoint in it.house.endpoints.values():
        endpoint.error = ConnectError()
    client = it.client()
    for _ in range(2):
        client.deliver(ask(method=method))
        line, fields, rest = parted(client.take())
        assert line == b"HTTP/1.1 502 Bad Gateway" and fields[b"cache-control"] == b"no-store"
        assert rest == (b"" if method == b"HEAD" else b"502 Bad Gateway\n\nno backend of this cluster can be reached\n")
        assert fields[b"content-type"] == b"text/plain; charset=utf-8" and b"connection" not in fields
    assert client.connected and not client.disconnecting


def test_a_silent_backend(town: Callable[..., Town]) -> None:
    """It is left after the time that the cluster gives it, with a 504."""
    it = town({"timeouts": ClusterTimeouts(answer=5.0)})
    client = it.client()
    client.deliver(post(b"abc"))
    it.house.wait(6)
    assert parted(client.take())[0] == b"HTTP/1.1 504 Gateway Timeout"
    assert client.connected and it.active == {"a": 0, "b": 0}


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("framing", [b"Content-Length: 30", b"Transfer-Encoding: chunked"])
def test_a_content_that_is_too_large(town: Callable[..., Town], streamed: bool, framing: bytes) -> None:
    """It is refused by its length, or as soon as too much has come."""
    it = town(streamed=streamed, limits=Limits(body=20))
    client = it.client()
    content = b"x" * 30 if framing.endswith(b"30") else b"F\r\n" + b"x" * 15 + b"\r\nF\r\n" + b"x" * 15 + b"\r\n"
    client.deliver(ask(b"/", framing, method=b"POST"))
    client.deliver(content[:17])
    client.deliver(content[17:] + (b"" if framing.endswith(b"30") else b"0\r\n\r\n"))
    client.turn()
    line, fields, _ = parted(client.take())
    assert line.split()[1] == b"413" and fields[b"connection"] == b"close" and it.active == {"a": 0, "b": 0}
    assert not client.connected


def test_interim_answers(town: Callable[..., Town]) -> None:
    """The site says 100 itself, once, and a backend is not asked to; a 103 passes, except to HTTP/1.0."""
    it = town()
    client = it.client()
    client.deliver(ask(b"/", b"Expect: 100-Continue", b"Content-Length: 3", method=b"POST"))
    assert client.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.deliver(b"abc")
    assert b"expect" not in parted(it.accepted().take())[1]
    it.accepted().deliver(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
    assert client.take() == b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    it.accepted().deliver(OK)
    assert client.take().startswith(b"HTTP/1.1 200 OK\r\n")
    old = it.client()
    old.deliver(ask(version=b"1.0"))
    it.accepted("b").deliver(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    assert old.take().startswith(b"HTTP/1.0 200 OK\r\n")


def test_pipelined_requests_are_answered_in_order(town: Callable[..., Town]) -> None:
    """Also when there are contents between them."""
    it = town()
    client = it.client()
    client.deliver(post(b"1") + post(b"2") + GET)
    for number, id in enumerate("aba"):
        request = it.accepted(id).take()
        assert request.endswith((b"\r\n1", b"\r\n2", b"\r\n\r\n")[number])
        it.accepted(id).deliver(OK)
    assert client.take().count(b"\r\n\r\nok") == 3 and client.connected


@pytest.mark.parametrize(
    ("strip", "asked", "seen"),
    [
        (False, b"/app", b"/app"),
        (False, b"/app/x%2Fy/?q=/app", b"/app/x%2Fy/?q=/app"),
        (True, b"/app", b"/"),
        (True, b"/app/", b"/"),
        (True, b"/app?q", b"/?q"),
        (True, b"/app/x%2Fy/?q=/app", b"/x%2Fy/?q=/app"),
        (True, b"/app//x", b"//x"),
        (True, b"/%61pp/x", b"/x"),
    ],
)
@pytest.mark.parametrize("with_children", [False, True])
def test_the_path_that_backends_see(
    town: Callable[..., Town], strip: bool, asked: bytes, seen: bytes, with_children: bool
) -> None:
    """The whole path, or what is behind that of the resource."""
    it = town(root=at(b"app"), strip_prefix=strip)
    if with_children:
        it.resource.putChild(b"own", Data(b"mine", "text/plain"))
    client = it.client()
    client.deliver(ask(asked))
    assert it.accepted().take().startswith(b"GET " + seen + b" HTTP/1.1\r\n")
    client.deliver(ask(b"/other"))
    it.accepted().deliver(OK)
    assert b"HTTP/1.1 404 " in client.take()


def test_children_come_first(town: Callable[..., Town]) -> None:
    """What I put below the resource is served as ever; everything else is the backends', contents as they come."""
    got: list[bytes] = []

    class Form(Resource):
        isLeaf = True

        def render_POST(self, request: Any) -> bytes:
            got.append(request.content.read())
            return b"mine"

    it = town()
    it.resource.putChild(b"form", Form())
    client = it.client()
    for path in (b"/form", b"/form/deep?x"):
        client.deliver(ask(path, b"Content-Length: 6", method=b"POST") + b"abc")
        client.deliver(b"def")
        assert client.take().endswith(b"mine")
    assert got == [b"abcdef"] * 2 and not it.house.endpoints["a"].attempts
    for path, id in ((b"/", "a"), (b"/form2/x", "b")):
        client.deliver(ask(path, b"Content-Length: 6", method=b"POST") + b"abc")
        assert it.accepted(id).take().endswith(b"\r\n\r\nabc")
        client.deliver(b"def")
        assert it.accepted(id).take() == b"def"
        it.accepted(id).deliver(OK)
        client.take()


def test_resources_on_the_way_are_asked(town: Callable[..., Town]) -> None:
    """A resource that decides who gets through decides for contents too; what it answers is not taken for a request."""

    class Guard(Resource):
        def getChildWithDefault(self, path: bytes, request: Any) -> Any:
            return super().getChildWithDefault(path, request) if request.getHeader(b"x-key") else ForbiddenResource()

    class Gate(AffinityRequest):
        def process(self) -> None:
            if self.getHeader(b"x-gate"):
                super().process()
            else:
                self.setResponseCode(401)
                self.setHeader(b"content-length", b"0")
                self.finish()

    def guarded(resource: AffinityResource) -> Resource:
        guard = Guard()
        guard.putChild(b"app", resource)
        return guard

    def upload(*fields: bytes) -> bytes:
        return ask(b"/app", b"Content-Length: %d" % len(GET), *fields, method=b"POST") + GET

    it = town(root=guarded)
    client = it.client()
    client.deliver(upload())
    assert parted(client.take())[0].split()[1] == b"403" and not it.house.endpoints["a"].attempts
    client.deliver(upload(b"X-Key: 1"))
    assert it.accepted().take().endswith(GET)

    it = town(root=at(b"app"))
    it.site.requestFactory = Gate
    client = it.client()
    whole = upload()
    client.deliver(whole[:-10])
    client.turn()
    assert client.take().startswith(b"HTTP/1.1 401 ") and client.half_closed
    client.deliver(whole[-10:])
    client.turn()
    assert client.take() == b"" and not client.connected and not it.house.endpoints["a"].attempts
    client = it.client()
    client.deliver(upload(b"X-Gate: 1")[:-10])
    assert it.accepted().take().endswith(GET[:-10])


def test_what_the_site_adds_stays(town: Callable[..., Town]) -> None:
    """Fields and cookies that my own resources have set on an answer are in it, beside those of the backend."""

    class Adds(Resource):
        isLeaf = True

        def __init__(self, resource: AffinityResource) -> None:
            super().__init__()
            self.resource = resource

        def render(self, request: Any) -> Any:
            request.setHeader(b"strict-transport-security", b"max-age=9")
            request.setHeader(b"etag", b"mine")
            request.addCookie(b"mine", b"1")
            request.requestHeaders.setRawHeaders(b"x-user", [b"me"])
            return self.resource.render(request)

    it = town(root=Adds)
    client = it.client()
    client.deliver(GET)
    assert b"X-User: me\r\n" in it.accepted().take()
    it.accepted().deliver(b"HTTP/1.1 200 OK\r\nETag: theirs\r\nSet-Cookie: their=2\r\nContent-Length: 0\r\n\r\n")
    answer = client.take()
    assert b"max-age=9" in answer and b"theirs" in answer and b"ETag: mine" not in answer
    assert len(re.findall(rb"Set-Cookie: (mine=1|their=2|SRV=)", answer)) == 3


def test_trusted_proxies(town: Callable[..., Town]) -> None:
    """What a trusted peer says of the client is believed."""
    it = town(trusted_proxies=["198.51.100.0/24"])
    it.client().deliver(ask(b"/", b"X-Forwarded-For: 203.0.113.1", b"X-Forwarded-Proto: https"))
    fields = parted(it.accepted().take())[1]
    assert fields[b"x-forwarded-for"] == b"203.0.113.1, 198.51.100.7" and fields[b"x-real-ip"] == b"203.0.113.1"
    with pytest.raises(ValueError):
        town(trusted_proxies=["nonsense"])


@pytest.mark.parametrize("trusted", [(), ("198.51.100.0/24",)])
def test_the_request_id_of_a_trusted_peer(town: Callable[..., Town], trusted: tuple[str, ...]) -> None:
    """It is carried on; a stranger's is replaced."""
    it = town(trusted_proxies=trusted)
    it.client().deliver(ask(b"/", b"X-Request-ID: mine"))
    assert (parted(it.accepted().take())[1][b"x-request-id"] == b"mine") is bool(trusted)


def test_proxy_protocol_to_the_backends(town: Callable[..., Town]) -> None:
    """They can be told of the client by a PROXY header as well."""
    it = town({"send_proxy_protocol": 1})
    it.client().deliver(GET)
    assert it.accepted().take().startswith(b"PROXY TCP4 198.51.100.7 192.0.2.2 40000 80\r\nGET / HTTP/1.1\r\n")


HANDSHAKE = ask(
    b"/ws",
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


@BOTH
def test_a_websocket(town: Callable[..., Town], streamed: bool) -> None:
    """A WebSocket through my site: its cookie comes with the 101, then bytes pass both ways until both have ended."""
    it = town(streamed=streamed)
    ends: list[Any] = []
    render = it.resource.render
    it.resource.render = lambda request: (request.notifyFinish().addErrback(ends.append), render(request))[1]
    client = it.client()
    client.deliver(HANDSHAKE + b"\x82\x85\0\0\0\0early")
    backend = it.accepted()
    line, fields, rest = parted(backend.take())
    assert line == b"GET /ws HTTP/1.1" and fields[b"upgrade"] == b"websocket" and fields[b"connection"] == b"Upgrade"
    assert fields[b"x-forwarded-for"] == b"198.51.100.7" and not rest
    backend.deliver(SWITCH + b"\x82\x05hello")
    line, fields, rest = parted(client.take())
    assert line == b"HTTP/1.1 101 Switching Protocols" and rest == b"\x82\x05hello"
    assert fields[b"set-cookie"].startswith(b"SRV=") and fields[b"sec-websocket-accept"].startswith(b"s3pPL")
    assert backend.take().endswith(b"early") and it.active == {"a": 1, "b": 0}
    client.deliver(b"\x82\x84\0\0\0\0ping")
    backend.deliver(b"\x82\x04pong")
    assert (backend.take(), client.take()) == (b"\x82\x84\0\0\0\0ping", b"\x82\x04pong")
    it.house.clock.pump([1] * 300)
    client.half_close()
    backend.turn()
    assert backend.half_closed and client.connected
    backend.deliver(b"\x88\0")
    backend.half_close()
    client.turn()
    backend.turn()
    assert client.take() == b"\x88\0" and not client.connected and not backend.connected and len(ends) == 1
    assert it.active == {"a": 0, "b": 0} and '"GET /ws HTTP/1.1" 101' in it.log.getvalue()


def test_a_websocket_has_back_pressure(town: Callable[..., Town]) -> None:
    """Each side is read as fast as the other takes it."""
    it = town()
    it.house.endpoints["a"].high_water = 100
    client = it.client(high_water=100)
    client.deliver(HANDSHAKE)
    backend = it.accepted()
    backend.drain()
    backend.deliver(SWITCH)
    client.drain()
    of_client, of_backend = b"\x82\xfe\0\xc8" + b"x" * 204, b"\x82\x7e\0\xc8" + b"y" * 200
    client.deliver(of_client)
    backend.deliver(of_backend)
    assert client.paused and backend.paused
    assert (backend.drain(), client.drain()) == (of_client, of_backend)
    assert not client.paused and not backend.paused


@pytest.mark.parametrize("side", ["client", "backend"])
def test_a_websocket_lost_on_one_side(town: Callable[..., Town], side: str) -> None:
    """It is lost on the other within a second; a client that can be told is told 1014."""
    it = town()
    client = it.client()
    client.deliver(HANDSHAKE)
    backend = it.accepted()
    backend.deliver(SWITCH)
    lost, other = (client, backend) if side == "client" else (backend, client)
    lost.lose()
    it.house.wait(1)
    other.turn()
    if side == "backend":
        assert client.take().endswith(b"\x88\x02\x03\xf6")
        client.half_close()
        client.turn()
    assert other.aborted is (side == "client") and not other.connected and it.active == {"a": 0, "b": 0}


def test_a_silent_websocket_ends(town: Callable[..., Town]) -> None:
    """After the time that I give it, with a Close for both."""
    it = town(tunnel_timeout=20.0)
    client = it.client()
    client.deliver(HANDSHAKE)
    it.accepted().deliver(SWITCH)
    it.house.wait(23)
    assert client.take().endswith(b"\x88\x02\x03\xe9") and b"\x88\x82" in it.accepted().take()
    it.house.wait(11)
    client.turn()
    it.accepted().turn()
    assert not client.connected and not it.accepted().connected


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ((b"Version: 13", b"Version: 12"), b"426"),
        ((b"dGhlIHNhbXBsZSBub25jZQ==", b"short"), b"400"),
        ((b"GET /ws", b"POST /ws"), b"400"),
        ((b"Upgrade: websocket", b"Upgrade: websocket\r\nContent-Length: 3"), b"400"),
    ],
)
def test_a_bad_handshake(town: Callable[..., Town], change: tuple[bytes, bytes], status: bytes) -> None:
    """It is refused, and no backend hears of it."""
    it = town()
    client = it.client()
    client.deliver(HANDSHAKE.replace(*change) + b"abc")
    line, fields, _ = parted(client.take())
    assert line.split()[1] == status and not it.house.endpoints["a"].attempts
    assert status != b"426" or fields[b"sec-websocket-version"] == b"13"


def test_a_refused_websocket(town: Callable[..., Town]) -> None:
    """The backend's no comes to the client as it is, a lie does not; the connection can go on."""
    it = town()
    client = it.client()
    client.deliver(HANDSHAKE)
    it.accepted().deliver(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    assert parted(client.take())[2] == b"no"
    client.deliver(HANDSHAKE)
    it.accepted("b").deliver(SWITCH.replace(b"s3pP", b"xxxx"))
    assert parted(client.take())[0] == b"HTTP/1.1 502 Bad Gateway"
    client.deliver(GET)
    assert it.accepted("a").take().endswith(b"\r\n\r\n") and it.active == {"a": 1, "b": 0}


def test_a_websocket_where_the_connection_can_not_be_taken(town: Callable[..., Town]) -> None:
    """Behind something unknown between the site and its transport it is refused, clearly."""
    it = town()
    client = it.client()
    client.protocol._channel.transport = Between(client)
    client.deliver(HANDSHAKE)
    assert parted(client.take())[0] == b"HTTP/1.1 501 Not Implemented" and not it.house.endpoints["a"].attempts


class Between:
    """A transport that says nothing of its protocol."""

    def __init__(self, transport: MemoryTransport) -> None:
        self._transport = transport
        self.protocol = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def test_not_done_yet(town: Callable[..., Town]) -> None:
    """It is a resource like any other: ``render`` says that the answer comes later."""
    it = town()
    client = it.client()
    rendered: list[Any] = []
    render = it.resource.render
    it.resource.render = lambda request: rendered.append(render(request)) or rendered[-1]
    client.deliver(GET)
    assert rendered == [NOT_DONE_YET] and it.accepted().take()
