"""One request and its answer: choose, connect, send, retry, receive. Floor 3.

A request goes to another backend, or again to the same, only where that is safe (RFC 9110 section 9.2.2): nothing of it
reached a backend, or its method is idempotent, no byte of its body was sent, and the backend closed before any byte of
an answer. The whole table is in ``docs/http.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import TimeoutError as ConnectTimeout
from twisted.logger import Logger
from twisted.python.failure import Failure

from stickyproxy.cluster import Cluster
from stickyproxy.errors import BackendLost, BackendSilent, BadAnswer, HTTPError, NoBackend, SessionLost
from stickyproxy.exchange.connection import BackendConnection, open_connection
from stickyproxy.exchange.reading import ReadClient
from stickyproxy.member import Member
from stickyproxy.model import CHUNKED, Arrival, Field, RequestHead, ResponseHead
from stickyproxy.sansio.body import chunk, last_chunk
from stickyproxy.sansio.selection import Choice, Selected
from stickyproxy.sansio.upgrade import Offer, check_answer
from stickyproxy.sweep import Sweep

_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE", b"PROPFIND", b"REPORT", b"SEARCH"))
#: How often a request is sent again after a backend closed without an answer: on a new connection, then elsewhere.
RETRIES = 2
NOBODY = "no backend is there to serve this"


class ClientSide(Protocol):
    """The face of the client, as an exchange sees it. ``content`` is without framing; trailers come with the end."""

    def interim(self, head: ResponseHead) -> None: ...

    def answer(
        self, head: ResponseHead, content: bytes, ended: bool, trailers: Sequence[Field], set_cookie: bytes | None
    ) -> None: ...

    def answer_more(self, content: bytes, ended: bool, trailers: Sequence[Field]) -> None: ...

    def failed(self, error: HTTPError) -> None:
        """No (more) answer will come: one that has begun must not look complete."""

    def switched(
        self, head: ResponseHead, connection: BackendConnection, early: bytes, set_cookie: bytes | None
    ) -> None:
        """The backend changed protocols (101), verified. ``early``: bytes of the tunnel that came with the head."""

    def pause_request(self) -> None: ...

    def resume_request(self) -> None: ...


class Exchange:
    """``data`` is the request's head as the backend shall see it; ``offer`` is a WebSocket handshake's, else None."""

    __slots__ = (
        "_began",
        "_client",
        "_connecting",
        "_connection",
        "_data",
        "_ended",
        "_offer",
        "_over",
        "_paused",
        "_retries",
        "_sent_at",
        "_sweep",
        "_tried",
        "_unreached",
        "_unsent",
        "arrival",
        "choice",
        "cluster",
        "head",
        "preface",
    )
    _log = Logger()

    def __init__(
        self,
        cluster: Cluster,
        client: ClientSide,
        arrival: Arrival,
        head: RequestHead,
        data: bytes,
        sweep: Sweep,
        offer: Offer | None = None,
        preface: bytes = b"",
    ) -> None:
        self.cluster = cluster
        self.arrival = arrival
        self.head = head
        self.preface = preface
        self.choice: Choice[Member] | None = None
        self._client = client
        self._data = data
        self._sweep = sweep
        self._offer = offer
        self._connection: BackendConnection | None = None
        self._connecting: Deferred[None] | None = None
        self._unsent: list[bytes] = []  # framed body that waits for a connection
        self._ended = False  # the request is whole
        self._began = False  # some of the body was given to a backend, not all at once: it can not be sent again
        self._over = False
        self._paused = False  # the client takes no more of the answer
        self._tried: frozenset[str] = frozenset()
        self._unreached: HTTPError | None = None
        self._retries = 0
        self._sent_at: float | None = None  # and not answered, where that is timed

    # What the client's side does with it.

    def start(self, content: bytes, ended: bool, trailers: Sequence[Field] = ()) -> None:
        """Choose a backend and send; ``content`` is what there is of the body. Failures come by ``failed``."""
        self._ended = ended
        if self.head.body:
            framed = self._frame(content, ended, trailers)
            if framed:
                self._unsent.append(framed)
        try:
            choice = self.cluster.select(self.arrival)
        except HTTPError as error:
            self._fail(error)
            return
        if type(choice) is Choice:
            self.choice = choice
            connection = choice.candidate.take(self.preface)
            if connection is not None:
                choice.candidate.active += 1
                self._send_on(connection)
                return
        elif choice is None:
            self._fail(NoBackend(NOBODY))
            return
        self._connect(choice)

    def send(self, content: bytes, ended: bool, trailers: Sequence[Field] = ()) -> None:
        """More of the request's body. After the end of the answer it is dropped."""
        if ended:
            self._ended = True
        framed = self._frame(content, ended, trailers)
        connection = self._connection
        if connection is not None:
            self._began = True
            connection.send(framed, ended)
        elif not self._over:
            if framed:
                self._unsent.append(framed)
            self._client.pause_request()

    def client_lost(self) -> None:
        """Nobody waits any more."""
        self._over = True
        self._unsent.clear()
        if self._connecting is not None:
            self._connecting.cancel()
        connection = self._release()
        if connection is not None:
            connection.abandon()

    def is_with(self, member: object) -> bool:
        """Whether it was sent to ``member``, or is being so."""
        return self.choice is not None and self.choice.candidate is member

    def pause_answer(self) -> None:
        self._paused = True
        if self._connection is not None:
            self._connection.pause_answer()

    def resume_answer(self) -> None:
        self._paused = False
        if self._connection is not None:
            self._connection.resume_answer()

    # What the backend's side tells.

    def interim(self, head: ResponseHead) -> None:
        self._client.interim(head)

    def answer(self, head: ResponseHead, content: bytes, ended: bool, trailers: Sequence[Field] = ()) -> None:
        if ended:
            self._over = True
            self._release()
        if self._sent_at is not None:
            self._tell_time()
        assert self.choice is not None
        cluster = self.cluster
        head, set_cookie = cluster.settle(self.arrival, self.choice, head)
        if cluster.reader is not None and head.body:
            reader = cluster.reader(self.arrival, self.choice.candidate.id, head)
            if reader is not None:
                self._client = ReadClient(self._client, reader)
        self._client.answer(head, content, ended, trailers, set_cookie)

    def answer_more(self, content: bytes, ended: bool, trailers: Sequence[Field] = ()) -> None:
        if ended:
            self._over = True
            self._release()
        self._client.answer_more(content, ended, trailers)

    def switched(self, head: ResponseHead, early: bytes) -> None:
        """Raises ``BadAnswer``, which ends the connection."""
        if self._offer is None:
            raise BadAnswer("the backend changes to a protocol that nobody asked for")
        check_answer(self._offer, head)
        self._over = True
        connection, self._connection = self._connection, None
        assert connection is not None
        self._tell_time()
        assert self.choice is not None
        head, set_cookie = self.cluster.settle(self.arrival, self.choice, head)
        self._client.switched(head, connection, early, set_cookie)

    def pause_request(self) -> None:
        self._client.pause_request()

    def resume_request(self) -> None:
        self._client.resume_request()

    def lost(self, connection: BackendConnection, error: HTTPError) -> None:
        """The backend went away before its answer was whole."""
        if self._over:
            self._release()
            return
        self._connection = None  # and yet it has its place, which it may go on with
        member = connection.member
        if connection.answered or not connection.used:
            if self._sent_at is not None:
                self._tell_time(member)
            if member.health is not None:
                member.health.lost(error.detail)
        if connection.answered or not self._may_retry(member):
            member.leave()
            self._fail(error)
        elif connection.used:
            self._connect(self.choice, placed=True)
        else:  # a backend that dies may still have let a new connection in
            member.leave()
            self._tried |= {member.id}
            self._connect(self.cluster.choose(self.arrival, self._tried), error)

    # The way to a backend.

    def _may_retry(self, member: Member) -> bool:
        if self._retries >= RETRIES or self._began or self.head.method not in _IDEMPOTENT:
            return False
        if not self.cluster.retries.allowed():
            return False
        self._retries += 1
        member.counts["retries"] += 1
        return True

    def _frame(self, content: bytes, ended: bool, trailers: Sequence[Field]) -> bytes:
        if self.head.body != CHUNKED:
            return content
        framed = chunk(content) if content else b""
        return framed + last_chunk(trailers) if ended else framed

    def _send_on(self, connection: BackendConnection) -> None:
        self._connection = connection
        if self.cluster.timed is not None:
            self._sent_at = self._sweep.seconds()
        if self._unsent:
            data = b"".join((self._data, *self._unsent))
            self._unsent.clear()
            if self._ended:
                self._data = data  # whole, so that it could be sent again
            else:
                self._began = True
        else:
            data = self._data
        connection.begin(self, data, self._ended)

    def _release(self) -> BackendConnection | None:
        connection, self._connection = self._connection, None
        if connection is not None:
            member = connection.member
            member.active -= 1
            if member.awaited is not None:
                member.awaited.freed(member)
        return connection

    def _tell_time(self, failed: Member | None = None) -> None:
        """To the balancer that wants to know: how long the answer took, or who did not give one."""
        timed, choice, sent_at = self.cluster.timed, self.choice, self._sent_at
        self._sent_at = None
        if timed is not None and failed is not None:
            timed(failed, None)
        elif timed is not None and choice is not None and sent_at is not None:
            timed(choice.candidate, self._sweep.seconds() - sent_at)

    def _connect(self, selected: Selected[Member], error: HTTPError | None = None, *, placed: bool = False) -> None:
        """``placed``: it is counted already by who is selected. ``error``: what failed before."""
        self._connecting = Deferred.fromCoroutine(self._open(selected, error, placed))
        self._connecting.addErrback(self._broken)

    async def _open(self, selected: Selected[Member], error: HTTPError | None, placed: bool) -> None:
        """Connect to the backend that is chosen; while that fails, to another one."""
        try:
            choice = selected if selected is None or isinstance(selected, Choice) else await selected
            connection = (
                choice.candidate.take(self.preface) if choice is not selected and choice and not error else None
            )
            while choice is not None:
                self.choice = choice
                connection = await self._placed(choice, connection, placed)
                if connection is not None:
                    self._connecting = None
                    self._client.resume_request()
                    self._send_on(connection)
                    if self._paused:
                        connection.pause_answer()
                    return
                placed = False
                if not self.cluster.retries.allowed():
                    break
                choice = await self.cluster.choose(self.arrival, self._tried)
        except HTTPError as reason:
            error = reason
        except CancelledError:  # the client left
            return
        self._connecting = None
        self._fail(error or self._unreached or NoBackend(NOBODY))

    async def _placed(
        self, choice: Choice[Member], connection: BackendConnection | None, placed: bool
    ) -> BackendConnection | None:
        """``connection``, or a new one: counted from now on, unless there is none in the end."""
        member = choice.candidate
        if not placed:
            member.active += 1
        try:
            connection = connection or await self._reach(choice)
        except BaseException:
            member.leave()
            raise
        if connection is None:
            member.leave()
        return connection

    async def _reach(self, choice: Choice[Member]) -> BackendConnection | None:
        """A new connection to the backend of ``choice``; None, and ``_unreached``, where there can be none."""
        cluster, member = self.cluster, choice.candidate
        answer, idle = cluster.timeouts.answer, cluster.pool.idle
        try:
            return await cluster.reach(
                choice, lambda: open_connection(member, self._sweep, answer=answer, idle=idle, preface=self.preface)
            )
        except Exception as reason:
            if self._over:  # the client left, and cancelled it
                raise CancelledError from reason
            self._tried |= {member.id}
            self._tell_time(member)
            silent = isinstance(reason, ConnectTimeout)
            self._unreached = (BackendSilent if silent else BackendLost)("no backend of this cluster can be reached")
            return None

    def _broken(self, failure: Failure) -> None:
        self._log.failure("Defect: a request could not be sent", failure=failure)
        self._fail(BackendLost("the request could not be sent"))

    def _fail(self, error: HTTPError) -> None:
        self._over = True
        if type(error) is SessionLost:
            self.cluster.lose(self.arrival)
        self._client.failed(error)
