"""What one frontend has answered, relayed and refused, counted: for metrics. Floor 3.

A request pays for appending one tuple to those of its kind; the sums are made by the batch, most of them by functions
that are written in C. Every name in the sums is the configuration's, none a client's.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.error import TimeoutError as TooLate
from twisted.python.failure import Failure

from stickyproxy.model import Outcome
from stickyproxy.relay import RelayEnd
from stickyproxy.sansio.selection import Choice

if TYPE_CHECKING:
    from stickyproxy.cluster import Cluster
    from stickyproxy.tls.transport import TLSTransport

#: Answers of a kind, and kinds of them, that are held before they are summed up.
BATCH = 128
#: Upper ends of the buckets of durations, in seconds; what took longer than the last has one of its own.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
#: Where the buckets begin in a sum of answers: bytes received, bytes sent and seconds are before them.
BUCKETS = 3

#: Who answered (a cluster that had nobody for it, None: the frontend itself), and with what status.
Kind = tuple["Choice[Any] | Cluster | None", int]


class RelayTally:
    """The relays of one kind between a frontend and a backend. ``open`` are those that last."""

    def __init__(self) -> None:
        self.open: set[Any] = set()  # a relay puts itself in, and takes itself out
        self.begun = 0
        self._ended = [0, 0, 0, 0]

    def watch(self, ended: Callable[[RelayEnd], object]) -> Callable[[RelayEnd], None]:
        """One begins; what is to be called at its end instead of ``ended``."""
        self.begun += 1
        return partial(self._end, ended)

    def sums(self) -> list[int]:
        """Bytes from clients, bytes to clients, messages from and to clients; those of open relays included."""
        sums = list(self._ended)
        for relay in self.open:
            sums[0] += relay.to_backend
            sums[1] += relay.to_client
            sums[2] += getattr(relay, "messages_to_backend", None) or 0
            sums[3] += getattr(relay, "messages_to_client", None) or 0
        return sums

    def _end(self, ended: Callable[[RelayEnd], object], end: RelayEnd) -> None:
        told = (end.to_backend, end.to_client, end.messages_to_backend, end.messages_to_client)
        for place, more in enumerate(told):
            self._ended[place] += more or 0  # messages are None where nobody counts them
        ended(end)


class Tally:
    """Counts of one frontend; they only grow, and are there for as long as the process."""

    def __init__(self) -> None:
        #: By cluster, backend (empty: none was reached), status and outcome (the word): see ``BUCKETS``.
        self.answers: dict[tuple[str, str, int, str], list[float]] = {}
        #: By cluster, backend and protocol (``websocket`` or ``tcp``).
        self.relays: dict[tuple[str, str, str], RelayTally] = {}
        #: TCP connections that reached a backend, by cluster and outcome (the word).
        self.reached: Counter[tuple[str, str]] = Counter()
        #: Connections that were turned away, by the reason.
        self.refused: Counter[str] = Counter()
        #: TLS handshakes, by version, result, and whether a session was resumed.
        self.handshakes: Counter[tuple[str, str, bool]] = Counter()
        #: Answers that are over, by their kind: bytes of content received and sent, and seconds. Whoever adds one
        #: calls ``flush`` when there are ``BATCH`` of them, or as many kinds.
        self.pending: defaultdict[Kind, list[tuple[int, int, float]]] = defaultdict(list)

    def flush(self) -> None:
        """Sum up what is ``pending``."""
        pending, self.pending = self.pending, defaultdict(list)
        for (who, status), answers in pending.items():
            row = self._row(who, status)
            received, sent, seconds = zip(*answers, strict=True)
            row[0] += sum(received)
            row[1] += sum(sent)
            row[2] += sum(seconds)
            ordered, begin = sorted(seconds), 0
            while begin < len(ordered):
                bucket = bisect_left(BOUNDS, ordered[begin])
                end = bisect_right(ordered, BOUNDS[bucket], begin) if bucket < len(BOUNDS) else len(ordered)
                row[BUCKETS + bucket] += end - begin
                begin = end

    def _row(self, who: Choice[Any] | Cluster | None, status: int) -> list[float]:
        if isinstance(who, Choice):
            key = who.candidate.cluster, who.candidate.id, status, who.outcome.value
        else:
            key = "" if who is None else who.name, "", status, "none"
        return self.answers.setdefault(key, [0, 0, 0.0, *[0] * (len(BOUNDS) + 1)])

    def relay(self, cluster: str, backend: str, protocol: str) -> RelayTally:
        """The relays of ``protocol`` to a backend."""
        key = cluster, backend, protocol
        found = self.relays.get(key)
        if found is None:
            found = self.relays[key] = RelayTally()
        return found

    def reach(self, cluster: str, outcome: Outcome) -> None:
        """A TCP connection has reached a backend."""
        self.reached[cluster, outcome.value] += 1

    def shaken(self, transport: TLSTransport, failure: Failure | None) -> None:
        """A TLS handshake has ended."""
        if failure is not None:
            self.handshakes["", "late" if failure.check(TooLate) else "failed", False] += 1
        else:
            self.handshakes[transport.version or "", "done", bool(transport.resumed)] += 1
