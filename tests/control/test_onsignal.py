"""A signal has something done, by the reactor and not in the handler."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from stickyproxy.control.onsignal import OnSignal


class Reactor:
    """What is asked of it from the handler."""

    def __init__(self) -> None:
        self.asked: list[Callable[[], object]] = []

    def callFromThread(self, act: Callable[[], object]) -> None:
        self.asked.append(act)


def test_the_reactor_does_it_and_who_asked_before_is_told() -> None:
    """The signal leaves it to the reactor, calls who had it before (twistd), and is his again at the end."""
    reactor, before, acted = Reactor(), list[int](), list[str]()
    was = signal.signal(signal.SIGUSR1, lambda number, frame: before.append(number))
    ours = signal.getsignal(signal.SIGUSR1)
    try:
        service = OnSignal(signal.SIGUSR1, lambda: acted.append("it"), reactor)
        service.startService()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert (acted, len(reactor.asked), before) == ([], 1, [signal.SIGUSR1])
        reactor.asked[0]()
        assert acted == ["it"]
        service.stopService()
        assert signal.getsignal(signal.SIGUSR1) is ours
    finally:
        signal.signal(signal.SIGUSR1, was)
