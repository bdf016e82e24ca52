"""Each in turn, as often as its weight says: nginx's default, HAProxy ``balance roundrobin``. Floor 2, pure.

The state is kept by backend id, so candidates may come, go and change weight between two calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from zope.interface import implementer

from stickyproxy.interfaces import IBalancer
from stickyproxy.model import Arrival
from stickyproxy.sansio.selection import Candidate

C = TypeVar("C", bound=Candidate)


@implementer(IBalancer)
class RoundRobin:
    """Each in turn, as often as its weight says and as evenly spread as that allows.

    nginx's smooth weighted round-robin: everyone earns its weight in every turn, the richest is chosen and pays what
    all have earned. Weights 5, 1, 1 give ``a a b a c a a``. Nobody's credit passes the sum of the weights, so a
    backend that was away neither floods nor starves when it is back.
    """

    def __init__(self) -> None:
        self._credit: dict[str, int] = {}

    def choose(self, candidates: Sequence[C], arrival: Arrival) -> C:
        credit = self._credit
        total = richest = 0
        chosen = None
        for each in candidates:
            weight = each.weight
            total += weight
            credit[each.id] = earned = credit.get(each.id, 0) + weight
            if chosen is None or earned > richest:
                chosen, richest = each, earned
        assert chosen is not None, "candidates may not be empty"
        credit[chosen.id] = richest - total
        if len(credit) > 2 * len(candidates) + 64:  # ids that went for good
            self._credit = {each.id: credit[each.id] for each in candidates}
        return chosen
