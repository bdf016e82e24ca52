"""``python -m bench.cookies``: what reading and setting cookies costs, in microseconds a request, without a network.

Each line is the best of several rounds, so that what else the machine does counts as little as can be.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable, Iterator
from random import Random
from time import process_time
from typing import Any

from stickyproxy.conformance import make_answer, make_arrival
from stickyproxy.extensions import find_extensions, make
from stickyproxy.interfaces import IAffinity, IAnsweringAffinity
from stickyproxy.model import Arrival
from stickyproxy.sansio.affinity.chain import hiding
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.sansio.tokens import KeyRing

_NOW = 1_700_000_000.0
_ROUNDS, _TIMES = 25, 5_000
_EXTENSIONS = find_extensions().of(IAffinity)
_SEALED: dict[str, Any] = {"idle": 1800.0, "lifetime": 86400.0}
#: What is measured: the affinity, and its options.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("cookie", {}),
    "idle and lifetime": ("cookie", _SEALED),
    "the same, encrypted": ("cookie", {**_SEALED, "encrypt": True}),
    "the same, bound to the address": ("cookie", {**_SEALED, "encrypt": True, "bind_to": "address"}),
    "prefix": ("cookie/prefix", {"name": "ID"}),
    "rewrite": ("cookie/rewrite", {"name": "ID"}),
    "passive": ("cookie/passive", {"name": "ID"}),
    "learned": ("learned", {"name": "ID"}),
}


def affinity_of(name: str, options: dict[str, Any]) -> IAffinity:
    """As a cluster has it, with four backends."""
    made: IAffinity = make(
        _EXTENSIONS[name],
        options,
        cluster="app",
        key_ring=KeyRing([bytes(32)]),
        clock=lambda: _NOW,
        random=Random(1),
        sessions=SessionTable(lambda: _NOW),
    )
    made.members("abcd")
    return made


def microseconds(act: Callable[[], object]) -> float:
    """The shortest time of one call."""
    return min(timeit.repeat(act, number=_TIMES, repeat=_ROUNDS, timer=process_time)) / _TIMES * 1e6


def visit(affinity: IAffinity, arrival: Arrival, application: bytes) -> list[bytes]:
    """An answer that sets ``application``, and what of Set-Cookie the client sees."""
    head = make_answer(application)
    if IAnsweringAffinity.providedBy(affinity):
        head = affinity.answered(arrival, "b", head)
    ours = affinity.bind(arrival, "b")
    return [*head.values(b"set-cookie"), *([] if ours is None else [ours])]


def costs(name: str, options: dict[str, Any]) -> Iterator[float]:
    """Of a request that is bound (recalled, its cookie hidden, its answer looked at), and of one that is bound then."""
    affinity = affinity_of(name, options)
    set_cookies = visit(affinity, make_arrival(), b"ID=b; Path=/; HttpOnly")
    cookies = b"; ".join(value.partition(b";")[0] for value in (b"theme=dark", *set_cookies))
    arrival, stranger, plain, setting = (
        make_arrival(0, [cookies]),
        make_arrival(0),
        make_answer(),
        make_answer(b"ID=b; Path=/"),
    )
    assert affinity.recall(arrival) == "b"
    hide = hiding(affinity)
    answered = affinity.answered if IAnsweringAffinity.providedBy(affinity) else None

    def bound() -> None:
        affinity.recall(arrival)
        if hide is not None:
            hide(cookies)
        if answered is not None:
            answered(arrival, "b", plain)
        if affinity.renews:
            affinity.bind(arrival, "b")

    def new() -> None:
        affinity.recall(stranger)
        if answered is not None:
            answered(stranger, "b", setting)
        affinity.bind(stranger, "b")

    yield microseconds(bound)
    yield microseconds(new)


def main() -> None:
    print("| µs a request | bound already | bound by its answer |\n|---|---|---|")
    for what, (name, options) in CASES.items():
        known, new = costs(name, options)
        print(f"| {what} | {known:.2f} | {new:.2f} |")


if __name__ == "__main__":
    main()
