"""How many of something there were of late, in two numbers. Floor 2, pure: the time is an argument."""

from __future__ import annotations


class Recent:
    """Counts what happens in a window of ``window`` seconds that moves on.

    What happened in the window before counts for as much of it as still lies within the last ``window`` seconds, as
    if it had been spread evenly there.
    """

    __slots__ = ("_before", "_begun", "_count", "window")

    def __init__(self, window: float) -> None:
        self.window = window
        self._begun = float("-inf")
        self._count = self._before = 0

    def add(self, now: float, count: int = 1) -> None:
        """So many more, ``now``."""
        self._move(now)
        self._count += count

    def count(self, now: float) -> float:
        """About how many there were in the last ``window`` seconds."""
        self._move(now)
        return self._count + self._before * (1 - (now - self._begun) / self.window)

    def _move(self, now: float) -> None:
        past = now - self._begun
        if past < self.window:
            return
        adjoins = past < 2 * self.window
        self._before = self._count if adjoins else 0
        self._begun = self._begun + self.window if adjoins else now
        self._count = 0
