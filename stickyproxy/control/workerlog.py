"""What workers log, in the log of their parent: events of Twisted's logger, a line of JSON each. Floor 5.

What a worker says in another way on its standard error, as Python does when it cannot start, is logged line by line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    eventAsJSON,
    eventAsText,
    eventFromJSON,
    formatEvent,
    globalLogPublisher,
)
from zope.interface import implementer

#: Characters of a line that is no event; the rest of it is another line.
LONGEST = 64 * 1024
#: What all processes would say of the sockets that they share; the parent has said it.
_OF_SOCKETS = re.compile(r" starting on |\(\w+ Port .* Closed\)$|^Frontend \S+ listens on ")


@implementer(ILogObserver)
class Writing:
    """Writes events to ``stream``, in a worker."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_level") is LogLevel.info and _OF_SOCKETS.search(formatEvent(event)):
            return
        if "log_failure" in event:  # JSON has no place for the exception
            text = eventAsText(event, includeTimestamp=False, includeSystem=False)
            event = {**event, "log_format": "{log_text}", "log_text": text}
            del event["log_failure"]
        with suppress(OSError):  # the parent is gone, and its log
            self._stream.write(eventAsJSON(event) + "\n")
            self._stream.flush()


class Reading:
    """Logs what the worker ``name`` writes. ``publish`` takes its events."""

    def __init__(self, name: str, publish: Callable[[LogEvent], Any] = globalLogPublisher) -> None:
        self._log = Logger(observer=publish)  # type: ignore[arg-type]
        self._name = name
        self._publish = publish
        self._rest = b""

    def received(self, data: bytes) -> None:
        """More of it."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.decode(errors="replace"))
        if len(self._rest) > LONGEST and not self._rest.startswith(b"{"):
            self.ended()

    def ended(self) -> None:
        """There is no more."""
        rest, self._rest = self._rest, b""
        if rest:
            self._line(rest.decode(errors="replace"))

    def _line(self, line: str) -> None:
        try:
            event = eventFromJSON(line) if line.startswith("{") else None
        except Exception:  # a text that begins like one
            event = None
        if event is None or not isinstance(event.get("log_level"), type(LogLevel.info)):
            self._log.warn("{line}", line=line, log_system=self._name)
            return
        system = event.get("log_system") or f"{event.get('log_namespace', '-')}#{event['log_level'].name}"
        event["log_system"] = f"{self._name}, {system}"
        self._publish(event)
