"""The metrics of several processes as those of one. Floor 5, pure.

Counters and histograms add up, gauges by the rule of their family. What a process that ended has counted stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stickyproxy.control.metrics.families import Told

_RULES: dict[str, Callable[[Any, Any], Any]] = {"sum": lambda a, b: a + b, "max": max, "min": min}


def merge(parts: Iterable[Sequence[Told]]) -> list[Told]:
    """All ``parts`` together, each what ``samples`` returned in one process. Nothing of them is changed."""
    families: dict[str, Told] = {}
    values: dict[str, dict[tuple[str, ...], Any]] = {}
    for part in parts:
        for told in part:
            name = told["name"]
            families.setdefault(name, told)
            if told.get("bounds") == families[name].get("bounds"):  # another version of us may have others
                _add(values.setdefault(name, {}), told)
    return [
        {**told, "samples": [[list(labels), value] for labels, value in values[name].items()]}
        for name, told in families.items()
    ]


def _add(values: dict[tuple[str, ...], Any], told: Told) -> None:
    rule = _RULES[told["merge"]]
    for names, value in told["samples"]:
        labels = tuple(names)
        if labels not in values:
            values[labels] = value
        elif told["type"] == "histogram":
            values[labels] = [a + b for a, b in zip(values[labels], value, strict=True)]
        else:
            values[labels] = rule(values[labels], value)


def lasting(part: Iterable[Told]) -> list[Told]:
    """What stays true of a process that ended: its counters and histograms."""
    return [told for told in part if told["type"] != "gauge"]


class Gathered:
    """The samples of processes that come and go, each known by a key. No counter ever falls.

    Of a process that ended, or does not answer, the last samples count.
    """

    def __init__(self) -> None:
        self._last: dict[object, Sequence[Told]] = {}
        self._ended: list[Told] = []

    def tell(self, process: object, part: Sequence[Told]) -> None:
        """A process has these samples now."""
        self._last[process] = part

    def ended(self, process: object) -> None:
        """A process is gone; another that is called the same begins anew."""
        self._ended = merge((self._ended, lasting(self._last.pop(process, ()))))

    def samples(self) -> list[Told]:
        """Of all together."""
        return merge((*self._last.values(), self._ended))
