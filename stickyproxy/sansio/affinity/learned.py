"""Affinity by the application's own cookie or field, learned from its answers. Floor 2.

(HAProxy: ``stick store-response``, nginx: ``sticky learn``.) Nothing is added to answers: what they set is a key of the
table, and so is what a client comes with, so that a session that the table has lost has one home again.
"""

from __future__ import annotations

from collections.abc import Callable

from zope.interface import implementer

from stickyproxy.interfaces import IAnsweringAffinity, ISessionStore
from stickyproxy.model import Arrival, ResponseHead
from stickyproxy.sansio.affinity.table import TableAffinity
from stickyproxy.sansio.cookies import is_ended, set_value
from stickyproxy.sansio.keys import bounded, find_key


@implementer(IAnsweringAffinity)
class LearnedAffinity(TableAffinity):
    """``name`` is that of a cookie, or ``header:NAME``. ``clock()`` gives seconds since the epoch.

    Whoever answers with it is whom the client is bound to. When the application ends its cookie, the session is
    forgotten.
    """

    def __init__(self, name: str, space: str, sessions: ISessionStore, clock: Callable[[], float]) -> None:
        word = name if name.startswith("header:") else f"cookie:{name}"
        super().__init__(find_key(word), space, sessions)
        kind, _, wanted = word.partition(":")
        self._field = wanted.lower().encode() if kind == "header" else b"set-cookie"
        self._mark = wanted.encode() + b"=" if kind == "cookie" else None
        self._clock = clock

    def answered(self, arrival: Arrival, backend_id: str, head: ResponseHead) -> ResponseHead:
        for value in head.values(self._field):
            self._learn(arrival, backend_id, value)
        return head

    def _learn(self, arrival: Arrival, backend_id: str, value: bytes) -> None:
        given: bytes | None = value.strip(b" \t")
        if self._mark is not None:
            given = set_value(value, self._mark)
            if given is not None and is_ended(value, self._clock()):
                self.forget(arrival)
                return
        key = bounded(given)
        if key is not None:
            self.sessions.bind((self.in_space(key),), backend_id)
