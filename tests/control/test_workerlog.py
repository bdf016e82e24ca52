"""What workers log is in the log of their parent."""

from __future__ import annotations

import io
import json

from twisted.logger import LogEvent, Logger, LogLevel, eventAsText, formatEvent

from stickyproxy.control.workerlog import LONGEST, Reading, Writing


def _carried(*texts: str, fail: bool = False) -> list[LogEvent]:
    stream, events = io.StringIO(), list[LogEvent]()
    said = Logger("here", observer=Writing(stream))
    for text in texts:
        said.warn("{text} {object!r}", text=text, object=object)
    if fail:
        try:
            raise ValueError("no")
        except ValueError:
            said.failure("failed")
    reading = Reading("worker 3", events.append)
    for byte in stream.getvalue().encode():
        reading.received(bytes([byte]))
    return events


def test_events_arrive_as_they_were() -> None:
    """Text, level and time are those of the worker, however its bytes come; the origin says which worker."""
    (event,) = _carried("two\nlines {and} ü")
    assert formatEvent(event) == "two\nlines {and} ü <class 'object'>"
    assert (event["log_level"], event["log_system"]) == (LogLevel.warn, "worker 3, here#warn")


def test_tracebacks_arrive() -> None:
    """A failure has its name, and where it was."""
    (event,) = _carried(fail=True)
    assert "builtins.ValueError: no" in eventAsText(event)


def test_what_is_said_of_shared_sockets_is_said_once() -> None:
    """The parent has said where a frontend listens."""
    stream = io.StringIO()
    said = Logger("there", observer=Writing(stream))
    said.info("Frontend web listens on tcp:1: x")
    said.info("HTTPFrontendFactory starting on 8080")
    said.info("Backend a of app is reached again")
    assert [json.loads(line)["log_format"] for line in stream.getvalue().splitlines()] == [
        "Backend a of app is reached again"
    ]


def test_other_output_is_logged_by_lines() -> None:
    """What Python says before there is a log, or a library in its own way, is not lost, nor kept for ever."""
    lines: list[str] = []
    reading = Reading("worker 1", lambda event: lines.append(formatEvent(event)))
    reading.received(b"Fatal Python error\n{not json\n{}\n" + b"x" * (LONGEST + 1))
    reading.received(b"\xff")
    reading.ended()
    assert lines == ["Fatal Python error", "{not json", "{}", "x" * (LONGEST + 1), "\ufffd"]
