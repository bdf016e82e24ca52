"""What commands answer, and what the program ends with. Floor 7."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from stickyproxy.errors import StickyproxyError


class Status(enum.IntEnum):
    """Exit statuses, for scripts: these do not change."""

    FINE = 0
    FAILED = 1
    WORDS = 2
    AWAY = 3
    FORBIDDEN = 4
    INTERRUPTED = 130


MEANING: Mapping[Status, str] = {
    Status.FINE: "what was asked for is done",
    Status.FAILED: "it is not: the configuration has mistakes, the proxy refuses, the deadline of a drain has passed",
    Status.WORDS: "wrong words on the command line",
    Status.AWAY: "the running proxy cannot be reached, or is not one",
    Status.FORBIDDEN: "a token is needed, or it is wrong",
    Status.INTERRUPTED: "interrupted (Ctrl-C)",
}


class Failure(StickyproxyError):
    """Asked for and not done. ``mistakes``: those of a configuration, JSON-able."""

    def __init__(self, text: str, status: Status = Status.FAILED, mistakes: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__(text)
        self.status = status
        self.mistakes = [dict(mistake) for mistake in mistakes]

    def lines(self) -> list[str]:
        """For people: each mistake has its own."""
        parts = ("file", "key", "message")
        return [str(self), *(": ".join(filter(None, map(each.get, parts))) for each in self.mistakes)]

    def to_json(self) -> dict[str, Any]:
        return {"error": str(self)} | ({"mistakes": self.mistakes} if self.mistakes else {})


class Answer(NamedTuple):
    """``value`` is JSON-able, ``lines`` tell the same to people."""

    value: Any
    lines: Sequence[str]
    status: Status = Status.FINE


def columns(rows: Iterable[Sequence[Any]]) -> list[str]:
    """Lines with their cells under one another; None is an empty cell."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def moment(seconds: float | None) -> str | None:
    """Seconds since the epoch as this machine's time of day."""
    return None if seconds is None else datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")
