"""``GET /api/events``: snapshots, figures, and what the log says of the proxy, as server-sent events. Floor 5.

https://html.spec.whatwg.org/multipage/server-sent-events.html. One snapshot is made for all who look, once a second,
and none while nobody does. Who does not read as fast misses some, and gets the next.
"""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger, LogLevel, formatEvent, globalLogPublisher

from stickyproxy.control.controls import Controls
from stickyproxy.control.figures import figures
from stickyproxy.control.routes import Problem
from stickyproxy.control.web import Request, Stream
from stickyproxy.control.writing import pieces

#: Seconds between two snapshots.
INTERVAL = 1.0
#: Who may look at a time, and lines of the log that a new one is told.
LOOKING, LINES = 32, 100
_OURS = "stickyproxy."


class _Looking:
    """One who looks."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.paused = False
        request.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        """``notifyFinish`` tells."""

    def write(self, data: bytes) -> None:
        if not self.paused:
            self.request.write(data)


class Events(Service):
    """Those who look at the events."""

    _log = Logger()

    def __init__(self, controls: Controls, reactor: Any) -> None:
        self._controls = controls
        self._reactor = reactor
        self._looking: set[_Looking] = set()
        self._lines: deque[bytes] = deque(maxlen=LINES)
        self._loop = LoopingCall(self._tell)
        self._loop.clock = reactor

    def startService(self) -> None:
        super().startService()
        globalLogPublisher.addObserver(self._observe)  # type: ignore[arg-type]

    def stopService(self) -> None:
        super().stopService()
        globalLogPublisher.removeObserver(self._observe)  # type: ignore[arg-type]
        if self._loop.running:
            self._loop.stop()

    def stream(self) -> Stream:
        """An answer that goes on. Raises ``Problem`` where too many look."""
        if len(self._looking) >= LOOKING:
            raise Problem(503, "too many look at the events already", fields=[("Retry-After", "10")])
        return Stream("text/event-stream", self._begin)

    def _begin(self, request: Request) -> None:
        looking = _Looking(request)
        self._looking.add(looking)
        request.notifyFinish().addBoth(self._end, looking)
        looking.write(b"retry: 2000\n\n" + b"".join(self._lines))
        if not self._loop.running:
            self._loop.start(INTERVAL).addErrback(self._failed)

    def _end(self, _: object, looking: _Looking) -> None:
        self._looking.discard(looking)
        if not self._looking and self._loop.running:
            self._loop.stop()

    def _failed(self, failure: Any) -> None:
        self._log.failure("The events of the admin API cannot be told", failure)
        for looking in list(self._looking):
            looking.request.unregisterProducer()
            looking.request.finish()

    def _tell(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._tell_all())

    async def _tell_all(self) -> None:
        snapshot = await self._controls.snapshot()
        counted = figures(await self._controls.samples())
        data = await self._event(b"snapshot", snapshot) + await self._event(b"figures", counted)
        for looking in list(self._looking):
            looking.write(data)

    async def _event(self, name: bytes, value: Any) -> bytes:
        parts = [part async for part in pieces(value, lambda: deferLater(self._reactor, 0))]
        return b"".join([b"event: ", name, b"\ndata: ", *parts, b"\n\n"])

    def _observe(self, event: Any) -> None:
        """What the proxy says of itself, from ``info`` on; the text has no more than the log has."""
        if not str(event.get("log_namespace", "")).startswith(_OURS) or event["log_level"] < LogLevel.info:
            return
        line = {"time": event["log_time"], "level": event["log_level"].name, "text": formatEvent(event)}
        data = f"event: log\ndata: {json.dumps(line)}\n\n".encode()
        self._lines.append(data)
        for looking in list(self._looking):
            looking.write(data)
