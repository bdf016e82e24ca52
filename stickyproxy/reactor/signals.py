"""SIGCHLD beside uvloop. Floor 2."""

from __future__ import annotations

import signal
from typing import Any

from twisted.internet.process import reapAllProcesses


class ChildSignals:
    """Reaps processes when one has ended, for ``reactor`` (``IReactorFromThreads``).

    Twisted's own way is ``signal.set_wakeup_fd``, which uvloop needs for itself while it runs. It wakes up for all
    signals and has Python's handlers called, so that a plain handler does it.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def install(self) -> None:
        signal.signal(signal.SIGCHLD, self._child_ended)
        signal.siginterrupt(signal.SIGCHLD, False)
        reapAllProcesses()  # those that were faster than we

    def uninstall(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def _child_ended(self, number: int, frame: object) -> None:
        self._reactor.callFromThread(reapAllProcesses)
