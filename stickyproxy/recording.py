"""What has happened, told by the batch to all who want to know: logs, metrics, traces. Floor 3.

A request pays for appending one tuple, however many want it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.application.service import MultiService, Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from stickyproxy.accesslog import AccessLog
from stickyproxy.config.logs import AccessLog as Spec
from stickyproxy.config.tracing import OpenTelemetry
from stickyproxy.config.tracing import Tracing as TracingSpec
from stickyproxy.model import Entry
from stickyproxy.sansio.tracecontext import Tracing

if TYPE_CHECKING:
    from stickyproxy.spans import Spans

#: Entries held before they are told: as many as keep one batch below a millisecond.
BATCH = 128

#: Wants to know of what has happened; may keep what it gets.
Taker = Callable[[Sequence[Entry]], object]


class Recorder(Service):
    """Gathers entries, and gives them to each of ``takers``: ``interval`` seconds later, or when the batch is full.

    ``others`` are those who take from several recorders; there may be more or fewer of them in time.
    """

    _log = Logger()

    def __init__(
        self, takers: Sequence[Taker], clock: IReactorTime, interval: float = 1.0, others: Sequence[Taker] = ()
    ) -> None:
        self._takers = tuple(takers)
        self._others = others
        self._clock = clock
        self._interval = interval
        self._entries: list[Entry] = []
        self._call: IDelayedCall | None = None

    def stopService(self) -> None:
        """Tell what is left. Entries that still come, from connections that end later, are told one by one."""
        super().stopService()
        self.flush()

    def record(self, entry: Entry) -> None:
        """Tell ``entry`` soon."""
        entries = self._entries
        entries.append(entry)
        if len(entries) == 1 and self.running:
            self._call = self._clock.callLater(self._interval, self.flush)
        elif len(entries) >= BATCH or not self.running:
            self.flush()

    def flush(self) -> None:
        """Tell all that has happened until now."""
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        entries, self._entries = self._entries, []
        if not entries:
            return
        for take in (*self._takers, *self._others):
            try:
                take(entries)
            except Exception:  # one of them must not silence the others, nor reach a request
                self._log.failure("Defect: {count} entries are not taken", count=len(entries))


def tracing_of(spec: TracingSpec | None, random: Random, *, spans: bool) -> Tracing | None:
    """What has the requests of a frontend be in traces, as ``spec`` wants it; ``spans``: somebody takes spans."""
    return Tracing(spec.believe, spec.sample, random, spans=spans) if spec is not None else None


class Recording(MultiService):
    """The access logs of a proxy, each opened once, and ``takers``, who want to know of everything."""

    def __init__(self, clock: IReactorTime, takers: Sequence[Taker] = ()) -> None:
        super().__init__()
        self.name = "recording"  # ``getServiceNamed`` of the proxy finds it
        self._clock = clock
        self._takers = list(takers)
        self._recorders: dict[Spec | None, Recorder] = {}
        self._logs: dict[Spec, AccessLog] = {}
        self._spans: Spans | None = None

    def stopService(self) -> Deferred[Any]:
        """Tell what is left before anybody who wants to know it is gone."""
        self.flush()
        stopped: Deferred[Any] = super().stopService()
        return stopped

    def record(self, spec: Spec | None, *, wanted: bool = False) -> Callable[[Entry], None] | None:
        """Who takes the entries of a frontend whose access log is ``spec``, None: no log; None: nobody wants them.

        ``wanted``: somebody will.
        """
        spans = self._spans.take if self._spans is not None else None  # which may be about to go
        if spec is None and not wanted and all(taker == spans for taker in self._takers):
            return None
        recorder = self._recorders.get(spec)
        if recorder is None:
            own: list[Taker] = []
            if spec is not None:
                log = self._logs[spec] = AccessLog(spec)
                log.setServiceParent(self)
                own.append(log.write)
            recorder = self._recorders[spec] = Recorder(own, self._clock, others=self._takers)
            recorder.setServiceParent(self)
        return recorder.record

    def spans_of(self, spec: OpenTelemetry | None) -> Spans | None:
        """Who sends spans as ``spec`` wants it; the same as now, if he does. Raises ``CannotTrace``.

        The SDK is large: it is looked for where it is wanted.
        """
        if spec is None or (self._spans is not None and self._spans.spec == spec):
            return self._spans if spec is not None else None
        from stickyproxy.spans import Spans

        return Spans(spec, self._clock)

    def use_spans(self, spans: Spans | None) -> None:
        """Tell ``spans`` from now on, and whoever was told before no more."""
        if spans is self._spans:
            return
        self.flush()
        if self._spans is not None:
            self._takers.remove(self._spans.take)
            self._spans.disownServiceParent()
        if spans is not None:
            self._takers.append(spans.take)
            spans.setServiceParent(self)
        self._spans = spans

    def retain(self, specs: Collection[Spec | None]) -> None:
        """Let go of the access logs of which no frontend has the specification."""
        for spec in [spec for spec in self._recorders if spec not in specs]:
            self._recorders.pop(spec).disownServiceParent()
            if spec is not None:
                self._logs.pop(spec).disownServiceParent()

    def flush(self) -> None:
        """Tell all that has happened until now."""
        for recorder in self._recorders.values():
            recorder.flush()

    def reopen(self) -> None:
        """Go on in new files, the old ones having been moved away (logrotate)."""
        self.flush()
        for log in self._logs.values():
            log.reopen()
