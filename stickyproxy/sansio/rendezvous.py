"""Rendezvous hashing, weighted (D. G. Thaler and C. V. Ravishankar, 1998). Floor 2, pure.

For a key every backend draws a number that depends on the two of them alone, and the best one serves. So a backend that
goes takes only its own keys with it, and one that comes takes its share and no more; nothing is kept, and proxies that
do not know of each other agree. The balancer ``consistent-hash`` and the affinities with ``memory = "hash"`` draw
alike: for one key they name the same backend.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from math import log
from typing import Protocol

_BITS = (1 << 64) - 1
_RANGE = float(1 << 64)


class Drawing(Protocol):
    """A backend as far as it draws; ``weight`` is 1 or more."""

    @property
    def id(self) -> str: ...

    @property
    def weight(self) -> int: ...


class Draws:
    """What backends draw for a key, which is given as its number (``number_of``)."""

    def __init__(self) -> None:
        self._seeds = _Seeds()

    def __call__(self, number: int, backends: Iterable[Drawing]) -> list[float]:
        """A draw for each; the greatest is the best.

        Where u is even in (0, 1], log(u) / weight is the greatest as often as the weight says.
        """
        seeds = self._seeds
        return [log(((number * seeds[each.id] & _BITS) + 1) / _RANGE) / each.weight for each in backends]


class _Seeds(dict[str, int]):
    """The number of each backend, by id: odd, so that multiplying by it loses nothing of a key's."""

    def __missing__(self, id: str) -> int:
        if len(self) >= 4096:  # ids that went for good
            self.clear()
        self[id] = seed = number_of(id.encode()) | 1
        return seed


def number_of(data: bytes) -> int:
    """64 even bits for a key, the same in every process."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")
