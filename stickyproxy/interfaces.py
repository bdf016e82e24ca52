"""The public contracts. Floor 1.

An extension reaches stickyproxy through Twisted's plug-in system: a module below ``stickyproxy/plugins/`` anywhere on
the path holds an object that provides ``IExtension``. The built-ins come by the same door.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

from stickyproxy.model import Arrival, ResponseHead


class IExtension(IPlugin):
    """A named maker of affinities, balancers and whatever else the configuration names."""

    name = Attribute('str: the word in the configuration, as in ``balance = "NAME"`` or ``affinity.by = "NAME"``.')
    makes = Attribute("The interface that ``make`` returns a provider of (``IAffinity``, ``IBalancer`` …).")

    def make(**options: Any) -> Any:
        """Make one for one cluster.

        The keyword parameters of ``make`` are the keys that the configuration accepts: their annotations are what
        the values are checked against, those without a default are required. Six names are filled in by
        stickyproxy instead, where ``make`` has them: ``cluster`` (str, the cluster's name), ``backends`` (a sequence of
        ``model.Backend``), ``key_ring`` (``sansio.tokens.KeyRing``), ``sessions`` (an ``ISessionStore``), ``clock``
        (callable: seconds since the epoch, float) and ``random`` (a ``random.Random``).
        """


class ICandidate(Interface):
    """What a balancer sees of a backend."""

    id = Attribute("str: its key in the configuration.")
    weight = Attribute("int, 1 or more.")
    active = Attribute("int: requests and tunnels that it serves right now.")


class IBalancer(Interface):
    """The arithmetic that picks a backend for an unbound client. One for each cluster; it may keep state."""

    def choose(candidates: Sequence[Any], arrival: Arrival) -> Any:
        """Pick one of ``candidates`` (a non-empty sequence of ``ICandidate``) for ``arrival`` (``model.Arrival``).

        It returns an element of the sequence, and does not raise.
        """


class ITimedBalancer(IBalancer):
    """A balancer that wants to know how long backends take."""

    def answered(candidate: Any, seconds: float | None) -> None:
        """``candidate`` (an ``ICandidate``) took ``seconds`` from a request to the head of its answer.

        For TCP, to be connected. None: it could not be reached, or went away without an answer. It is called for every
        request, those of bound clients too, so it is quick, and it does not raise.
        """


class IAffinity(Interface):
    """The memory of who is served by whom. One for each cluster."""

    remembers = Attribute("bool: False only for the affinity that binds nobody.")
    cookie = Attribute("bytes or None: the name of the cookie that is ours, removed from requests to the backend.")
    renews = Attribute("bool: ``bind`` is wanted for a client that was recalled, too, to renew what it carries.")

    def members(ids: Iterable[str]) -> None:
        """The backends of the cluster have these ids (an iterable of str, none empty) from now on.

        It is called before anything is recalled, and again whenever a backend is added or removed; the order of the
        ids means nothing, and states and weights are none of its business.
        """

    def recall(arrival: Arrival) -> str | Awaitable[str | None] | None:
        """The id (str) of the backend that ``arrival`` is bound to, or None. It never raises, whatever was sent.

        The backend need not be a member any more; its id is ``model.GONE`` where only that is known. A memory that is
        elsewhere returns an awaitable: this client waits for it then, and nobody else does.
        """

    def bind(arrival: Arrival, backend_id: str, lifetime: float | None = None) -> bytes | None:
        """Remember that ``arrival`` is served by ``backend_id`` (str) from now on.

        It is called when the backend has answered; for an arrival that was bound to it already only where ``renews``
        says so: that has to be cheap. ``lifetime`` is for how many seconds from now the backend wants it remembered,
        None: as configured. It returns the value of a Set-Cookie field (bytes) to be added to the answer, or None.
        """

    def forget(arrival: Arrival) -> bytes | None:
        """``arrival`` is bound to nobody from now on. It returns what ``bind`` does: a cookie that ends the old one."""


class IHidingAffinity(IAffinity):
    """An affinity that writes into the cookies of requests."""

    def hide(value: bytes) -> bytes:
        """What the backend is to see of the value of a Cookie field; ``b""``: nothing. It never raises.

        Without it the cookie called ``cookie`` is taken out.
        """


class IAnsweringAffinity(IAffinity):
    """An affinity that learns from answers, or writes into them."""

    def answered(arrival: Arrival, backend_id: str, head: ResponseHead) -> ResponseHead:
        """``backend_id`` answers ``arrival`` with ``head``; returned is what the client is to see.

        It is called for every answer but the interim ones (1xx), a 101 included, and before ``bind``. See
        ``sansio.fields.changed`` for the fields of a head.
        """


class IReadingAffinity(IAffinity):
    """An affinity that learns from the content of answers."""

    def reader(arrival: Arrival, backend_id: str, head: ResponseHead) -> Callable[[bytes, bool], bool] | None:
        """What reads the beginning of the content that follows ``head``; None: nothing of it is wanted.

        It is asked for every answer with content, after ``bind``. What it returns is called when some content has come,
        with all that there is so far, 4096 bytes at most, and whether it will see no more; until it returns True. The
        client gets the content as it comes, unchanged, once it was read. It never raises.
        """


class ISettingAffinity(IAffinity):
    """An affinity that has a last look at an answer, and at the cookie that is to be set in it."""

    def setting(arrival: Arrival, head: ResponseHead, set_cookie: bytes | None) -> tuple[ResponseHead, bytes | None]:
        """What the client is to see. ``set_cookie`` is what ``bind`` or ``forget`` returned, None if neither was asked.

        It is called for every answer to a request for which ``answered`` would be, after all else.
        """


class IRankingAffinity(IAffinity):
    """An affinity that knows whose turn it is when a backend may not serve its clients."""

    def ranking(arrival: Arrival) -> Sequence[str]:
        """The ids (str) of all backends of the cluster, the best for ``arrival`` first; empty: ask the balancer."""

    def weights(weights: Mapping[str, int]) -> None:
        """The backends of the cluster have these weights (int, 0 or more) by id; called after ``members``."""


class IStrictAffinity(IAffinity):
    """An affinity whose clients are not to be served by another backend than their own."""

    def lost_status(arrival: Arrival) -> int:
        """The status of the answer to ``arrival`` where its backend is gone, as 404; 0: another may serve it."""


class ISessionStore(Interface):
    """Where learned sessions are kept: which backend serves who is known under a key. Clusters may share one."""

    def find(key: bytes) -> str | Awaitable[str | None] | None:
        """The id (str) of the backend of the session that has ``key``, None: there is none.

        The session counts as seen now. A store in another process returns an awaitable.
        """

    def bind(keys: Sequence[bytes], backend_id: str, lifetime: float | None = None) -> None:
        """One session has all of ``keys``, and is served by ``backend_id`` from now on.

        It is the session that has the first of them that is known, else a new one. ``lifetime``: it ends after so many
        seconds, whatever happens; None: as the store has it. A store that has to wait does so by itself.
        """

    def forget(key: bytes) -> None:
        """The session that has ``key`` ends, for all its keys."""


class IStreamInspector(Interface):
    """What finds a key in the first bytes of a TCP connection. One for each frontend: it keeps nothing of one."""

    peek_bytes = Attribute("int: how many bytes it may look at, where the configuration does not say otherwise.")
    peek_timeout = Attribute("float: for how many seconds it may wait for them, likewise.")

    def inspect(data: bytes) -> bytes | None:
        """What the client is known by; None: more is needed; b"": there is no key, whatever else comes.

        ``data`` is all that came so far, never more than the bytes allowed, and grows from call to call. The answer
        follows from the bytes alone, however they were cut. It never raises, and the work of a call is bounded: a
        client may send byte by byte. Whoever waits for the server's answer sends no more, so that None makes him wait
        for nothing until the time is over. Secrets (a password) are never in a key.
        """


class IProbe(Interface):
    """An active health check. One for each cluster: it keeps nothing of one backend, or all of it by its id."""

    def probe(backend: Any) -> Awaitable[object]:
        """Ask ``backend`` (``IProbed``) whether it is well; an awaitable that fails if it is not.

        The text of the error is told as the reason; ``errors.ProbeFailed`` is made for that. It is cancelled when it
        takes too long, and the connections that it opened are closed when it is over.
        """


class IProbed(Interface):
    """A backend as a probe sees it."""

    id = Attribute("str: its key in the configuration.")
    host = Attribute("str: the name or address that it is known by, for a Host field; ``localhost`` for a Unix socket.")

    def connect() -> Awaitable[Any]:
        """A new connection (``IProbeConnection``), with the PROXY header and the TLS that the cluster has."""


class IProbeConnection(Interface):
    """A connection to be talked on in turns."""

    def write(data: bytes) -> None:
        """Send."""

    def read() -> Awaitable[bytes]:
        """What has come, as soon as something has; ``b""``: the backend sends no more. Nothing is read meanwhile."""
