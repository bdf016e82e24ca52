"""A second SIGTERM: whoever cannot wait any longer does not have to. Floor 5."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

#: What a process is ended by: of a service manager, and of a terminal.
ENDING = (signal.SIGTERM, signal.SIGINT)


def on_second_signal(reactor: Any, act: Callable[[], object]) -> Callable[[], None]:
    """Call ``act`` when one of ``ENDING`` comes from now on; after that the next one kills. Returns what undoes this.

    The first one is the reactor's: it stops, and obeys no other. Outside the main thread nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = {number: signal.getsignal(number) for number in ENDING}

    def obey(number: int, frame: FrameType | None) -> None:
        for each in ENDING:
            signal.signal(each, signal.SIG_DFL)
        reactor.callFromThread(act)

    def undo() -> None:
        for number, was in before.items():
            signal.signal(number, was)

    for number in ENDING:
        signal.signal(number, obey)
    return undo
