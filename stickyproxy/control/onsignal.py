"""What is done when a signal comes. Floor 5."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service


class OnSignal(Service):
    """While it runs, signal ``number`` has ``act`` called by ``reactor`` (``IReactorFromThreads``).

    Who had asked for that signal before is called as well, as ``twistd`` is for SIGUSR1, which rotates its own log.
    Only for the main thread, as ``signal.signal`` is.
    """

    def __init__(self, number: signal.Signals, act: Callable[[], object], reactor: Any) -> None:
        self._number = number
        self._act = act
        self._reactor = reactor
        self._before: Any = None

    def startService(self) -> None:
        super().startService()
        self._before = signal.signal(self._number, self._came)
        signal.siginterrupt(self._number, False)

    def stopService(self) -> None:
        super().stopService()
        signal.signal(self._number, self._before)

    def _came(self, number: int, frame: Any) -> None:
        """Between any two instructions of the program: nothing is done here."""
        self._reactor.callFromThread(self._act)
        if callable(self._before):
            self._before(number, frame)
