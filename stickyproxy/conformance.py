"""Does an affinity, a balancer, a probe or an inspector keep its contract? For its author's tests. Beside the house.

Each ``check_*`` takes something that makes a new one, and raises ``AssertionError`` with what is wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random

import attrs
from zope.interface import implementer
from zope.interface.verify import verifyObject

from stickyproxy.interfaces import (
    IAffinity,
    IAnsweringAffinity,
    IBalancer,
    ICandidate,
    IProbe,
    IProbeConnection,
    IProbed,
    IReadingAffinity,
    IStreamInspector,
    IStrictAffinity,
)
from stickyproxy.model import GONE, UNTIL_CLOSE, Arrival, BackendState, Outcome, RequestHead, ResponseHead
from stickyproxy.sansio.selection import Choice

_IDS = ("a", "b", "c", "d")
_GARBAGE = (b"", b"=", b";;;", b"\xff\x00\xfe", b"x" * 5000, b"a" * 44, b'"quoted"', b"a=b=c; a", "☃".encode())
#: What a backend says to a request that went well, and to one that did not.
_FINE = ResponseHead(200, b"OK", 1, [b"X-Answer", b": ", b"yes", b"\r\n"], {}, UNTIL_CLOSE, False)
_BAD = _FINE._replace(status=500, reason=b"Internal Server Error")


@implementer(ICandidate)
@attrs.define
class MemoryCandidate:
    """A backend that is nothing but its numbers."""

    id: str
    weight: int = 1
    active: int = 0
    state: BackendState = BackendState.UP
    since: float = 0.0  #: when that began
    limit: int | None = None  #: of ``active``
    backup: bool = False
    warming: float | None = None
    kept: Choice[MemoryCandidate] = attrs.field(init=False, eq=False, repr=False)

    @kept.default
    def _keep(self) -> Choice[MemoryCandidate]:
        return Choice(self, Outcome.KEPT)


def make_arrival(number: int = 0, cookies: Sequence[bytes] = (), *, secure: bool = False) -> Arrival:
    """The arrival of client ``number`` with these values of Cookie fields; every client has an address of its own."""
    named: dict[bytes, list[bytes]] = {b"host": [b"example.org"]}
    if cookies:
        named[b"cookie"] = list(cookies)
    head = RequestHead(b"GET", b"/?client=%d" % number, 1, [], named, 0, b"example.org", True, None)
    return Arrival(f"198.51.{number >> 8 & 255}.{number & 255}", secure, head, b"client-%d" % number)


def make_answer(*set_cookies: bytes) -> ResponseHead:
    """An answer 200 without content, with these values of Set-Cookie fields."""
    plain = [piece for value in set_cookies for piece in (b"Set-Cookie", b": ", value, b"\r\n")]
    return ResponseHead(200, b"OK", 1, plain, {}, 0, True)


def check_affinity(
    make: Callable[[], IAffinity],
    arrive: Callable[[int], Arrival] = make_arrival,
    respond: Callable[[int, str | None], ResponseHead] | None = None,
) -> None:
    """``arrive(number)`` is the arrival of client ``number``; cookies that were set are added when it comes back.

    ``respond(number, id)`` is what the backend ``id`` answers it where that binds it; with None for the id, what
    ends its session. Absent: an answer that means nothing.
    """
    affinity = make()
    verifyObject(IAffinity, affinity)
    _require(isinstance(affinity.remembers, bool), "remembers is True or False")
    _require(isinstance(affinity.renews, bool), "renews is True or False")
    _require(affinity.cookie is None or isinstance(affinity.cookie, bytes), "cookie is None or bytes")
    affinity.members(_IDS)
    _check_garbage(affinity, arrive)
    if not affinity.remembers:
        _require(affinity.bind(arrive(0), "a") is None, "what binds nobody sets no cookie")
        _require(affinity.forget(arrive(0)) is None, "what binds nobody ends no cookie")
        _require(affinity.recall(arrive(0)) is None, "what binds nobody recalls nobody")
        return
    clients = {number: _Client(affinity, arrive, respond, number) for number in range(40)}
    homes = {number: client.visit(_IDS[number % 4]) for number, client in clients.items()}

    def stays(when: str) -> None:
        for number, client in clients.items():
            if homes[number] != "b":
                _require(client.recall() == homes[number], f"a client keeps its backend {when}")

    stays("when it comes back")
    affinity.members(reversed(_IDS))
    stays("when the order of the backends changes")
    affinity.members([*_IDS, "e"])
    stays("when a backend is added")
    affinity.members(["a", "c", "d"])
    stays("when another backend is removed")
    homes = {number: client.visit("c", among=("a", "c", "d")) for number, client in clients.items()}
    stays("after those of a removed backend were bound anew")
    for client in clients.values():
        client.leave()
        _require(client.recall() is None, "who is forgotten is a stranger")


def check_balancer(make: Callable[[], IBalancer], *, weighted: bool = True) -> None:
    """``weighted`` says that, in the long run, backends get clients in proportion to their weights."""
    balancer = make()
    verifyObject(IBalancer, balancer)
    arrival = make_arrival()
    random = Random(1)
    everybody = [MemoryCandidate(f"b{number}", 1 + number % 3) for number in range(20)]
    for _ in range(2000):
        candidates = random.sample(everybody, random.randint(1, 20))
        before = list(candidates)
        chosen = balancer.choose(candidates, arrival)
        _require(any(chosen is each for each in before), "it chooses one of the candidates")
        _require(candidates == before, "it leaves the candidates as they are")
        chosen.active = random.randint(0, 3)
    if weighted:
        balancer = make()
        candidates = [MemoryCandidate("a", 1), MemoryCandidate("b", 2), MemoryCandidate("c", 5)]
        for _ in range(800):
            balancer.choose(candidates, arrival).active += 1
        for each in candidates:
            _require(abs(each.active - 100 * each.weight) <= 10, "everybody gets his share by weight")


def check_probe(
    make: Callable[[], IProbe], well: Mapping[bytes, Sequence[bytes]], ill: Mapping[bytes, Sequence[bytes]]
) -> None:
    """What a probe says of backends that answer: ``well`` and ``ill`` are, by what each receives, what it sends.

    The bytes received need only begin an item of a table for its pieces to be sent, one for each time that it reads;
    then the backend closes. ``b""`` is for a backend that speaks first.
    """
    for table, verdict in ((well, True), (ill, False)):
        for request, pieces in table.items():
            probe = make()
            verifyObject(IProbe, probe)
            backend = MemoryProbed(request, pieces)
            error = _outcome(probe.probe(backend))
            _require((error is None) is verdict, f"{list(pieces)!r} is {'well' if verdict else 'not well'}: {error!r}")
            _require(verdict or str(error) != "", "who is not well is told why")
            _require(bool(backend.connections), "it asks the backend")
    for piece in _GARBAGE:
        error = _outcome(make().probe(MemoryProbed(b"", [piece])))
        _require(error is None or isinstance(error, Exception), "garbage is a verdict, too")
    error = _outcome(make().probe(MemoryProbed(b"", [], ConnectionRefusedError("nobody listens"))))
    _require(error is not None, "who cannot be reached is not well")


def check_inspector(make: Callable[[], IStreamInspector], keys: Mapping[bytes, bytes]) -> None:
    """``keys``: first bytes of connections, complete, and the key of each (b"": it has none)."""
    inspector = make()
    verifyObject(IStreamInspector, inspector)
    most, seconds = inspector.peek_bytes, inspector.peek_timeout
    _require(isinstance(most, int) and most > 0, "peek_bytes is a number of bytes")
    _require(isinstance(seconds, int | float) and seconds > 0, "peek_timeout is a number of seconds")
    _require(inspector.inspect(b"") is None, "it waits for the first byte")
    for data, key in keys.items():
        _require(inspector.inspect(data[:most]) == key, f"{data!r} has the key {key!r}")
        _require(key == b"" or inspector.inspect((data + b"more")[:most]) == key, "bytes behind a key change nothing")
    for size in range(max(map(len, keys), default=0)):
        for data, key in keys.items():  # one connection after the other, so that what it kept of one would show
            if size < len(data):
                _require(inspector.inspect(data[:size]) in (None, key), f"a part of {data!r} has no other key")
    random = Random(1)
    for data in [*keys, *_GARBAGE] * 50:
        torn = bytearray(data[:most] or b"x")
        for _ in range(random.randint(1, 4)):
            torn[random.randrange(len(torn))] = random.choice((0, 10, 13, 32, 127, 128, 255, random.randrange(256)))
        answers = [inspector.inspect(bytes(torn[:size])) for size in sorted({1, len(torn) // 2 + 1, len(torn)})]
        _require(all(each is None or isinstance(each, bytes) for each in answers), "it answers with bytes or None")
        said = [each for each in answers if each is not None]
        _require(len({*said}) < 2 and answers[len(answers) - len(said) :] == said, "it stands by what it has said")
        _require(all(len(each) <= most for each in said), "a key is no longer than what was looked at")


@implementer(IProbed, IProbeConnection)
class MemoryProbed:
    """A backend for a probe: what it is asked is kept in ``written``; it answers ``pieces`` to ``request``."""

    id = "a"
    host = "backend.example"

    def __init__(self, request: bytes, pieces: Sequence[bytes], error: Exception | None = None) -> None:
        self.written = b""
        self.connections = 0
        self._request = request
        self._pieces = list(pieces)
        self._error = error

    async def connect(self) -> MemoryProbed:
        self.connections += 1
        if self._error is not None:
            raise self._error
        return self

    def write(self, data: bytes) -> None:
        self.written += data

    async def read(self) -> bytes:
        if not self.written.startswith(self._request) or not self._pieces:
            return b""
        return self._pieces.pop(0)


def _outcome(probing: Awaitable[object]) -> BaseException | None:
    """What a probe fails with, None: it does not; in a test it waits for nobody but the backend."""
    try:
        probing.__await__().send(None)
    except StopIteration:
        return None
    except Exception as error:
        return error
    raise AssertionError("expected that a probe waits for its backend alone")


class _Client:
    """A client that keeps the cookies that it was given."""

    def __init__(
        self,
        affinity: IAffinity,
        arrive: Callable[[int], Arrival],
        respond: Callable[[int, str | None], ResponseHead] | None,
        number: int,
    ) -> None:
        self._affinity = affinity
        self._arrive = arrive
        self._respond = respond or (lambda number, backend_id: _FINE)
        self._number = number
        self._cookies: dict[bytes, bytes] = {}

    def recall(self) -> str | None:
        return _now(self._affinity.recall(self._arrival()))

    def visit(self, proposed: str, among: Sequence[str] = _IDS) -> str:
        """Go where the affinity says, if that is ``among`` the backends, else to ``proposed``; returns where."""
        recalled = self.recall()
        _require(recalled in (None, GONE, *_IDS), "who is recalled is a backend of the cluster, or was")
        home = proposed if recalled is None or recalled not in among else recalled
        arrival = self._arrival()
        self._take(arrival, home, self._respond(self._number, home))
        self._keep(self._affinity.bind(arrival, home))
        return home

    def leave(self) -> None:
        arrival = self._arrival()
        self._take(arrival, "a", self._respond(self._number, None))
        answer = self._affinity.forget(arrival)
        _require(answer is None or b"; Max-Age=0" in answer, "a forgotten cookie ends: Max-Age=0")
        self._keep(answer)

    def _take(self, arrival: Arrival, home: str, head: ResponseHead) -> None:
        """What ``home`` answers."""
        for set_cookie in _answer(self._affinity, arrival, home, head).values(b"set-cookie"):
            self._set(set_cookie)

    def _keep(self, answer: bytes | None) -> None:
        if answer is not None:
            _require(not {13, 10} & set(answer), "Set-Cookie is bytes on one line")
            name = self._set(answer)
            _require(self._affinity.cookie in (None, name), "the cookie has the name announced")

    def _set(self, set_cookie: bytes) -> bytes:
        """As a browser does; returns the name."""
        pair, _, attributes = set_cookie.partition(b";")
        name, _, value = pair.partition(b"=")
        self._cookies[name] = value
        if b"Max-Age=0" in attributes:
            del self._cookies[name]
        return name

    def _arrival(self) -> Arrival:
        arrival = self._arrive(self._number)
        if not self._cookies or arrival.head is None:
            return arrival
        cookies = b"; ".join([b"%b=%b" % pair for pair in self._cookies.items()])
        named = {**arrival.head.named, b"cookie": [*arrival.head.named.get(b"cookie", ()), cookies]}
        return arrival._replace(head=arrival.head._replace(named=named))


def _check_garbage(affinity: IAffinity, arrive: Callable[[int], Arrival]) -> None:
    """Whatever is sent, nothing is raised, and nobody is sent out of the cluster."""
    name = affinity.cookie or b"SRV"
    cookies = [(name + b"=" + value,) for value in _GARBAGE] + [(name + b"=a", name + b"=b")]
    strangers = [make_arrival(1000, values) for values in cookies]
    strangers += [arrive(1001)._replace(client=client) for client in ("", "unix", "nonsense", "::1", "fe80::1%eth0")]
    strangers += [Arrival("192.0.2.1", False), Arrival("192.0.2.1", True, None, b"\x00" * 1000)]
    for stranger in strangers:
        for head in (_BAD, _FINE):
            _answer(affinity, stranger, "a", head)
        _require(
            _now(affinity.recall(stranger)) in (None, GONE, *_IDS), "garbage binds nobody to a backend of elsewhere"
        )


def _answer(affinity: IAffinity, arrival: Arrival, backend_id: str, head: ResponseHead) -> ResponseHead:
    """``backend_id`` answers; where the affinity looks into its content, that is garbage. Returns the client's head."""
    if IStrictAffinity.providedBy(affinity):
        status = affinity.lost_status(arrival)
        _require(status == 0 or 400 <= status < 600, "lost_status is 0 or that of an error")
    if IAnsweringAffinity.providedBy(affinity):
        head = affinity.answered(arrival, backend_id, head)
        _require(isinstance(head, ResponseHead), "answered returns a head")
    if IReadingAffinity.providedBy(affinity):
        for garbage in _GARBAGE:
            reader = affinity.reader(arrival, backend_id, head)
            if reader is not None:
                _require(isinstance(reader(garbage[:1], False), bool), "a reader returns True or False")
                reader(garbage[:4096], True)
    return head


def _now(recalled: str | Awaitable[str | None] | None) -> str | None:
    """What an awaitable of a test is about to give; it waits for nothing."""
    if recalled is None or isinstance(recalled, str):
        return recalled
    try:
        recalled.__await__().send(None)
    except StopIteration as stop:
        known: str | None = stop.value
        return known
    raise AssertionError("expected that an awaitable of recall gives its answer without a reactor, in a test")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise AssertionError(f"expected that {what}")
