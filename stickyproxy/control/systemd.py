"""What systemd is told of us, and that we are alive: sd_notify(3). Floor 5.

Without ``NOTIFY_SOCKET`` in the environment nobody is told anything. It is taken out, so that no child speaks for us.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger


class Notifier:
    """Tells systemd, if it wants to know. ``address``: that of its socket, None: it does not."""

    _log = Logger()

    def __init__(self, address: str | None) -> None:
        self.address = address
        self.environment: dict[str, str] = {}  #: what a process has to have that is to take our place

    @classmethod
    def of(cls, environment: MutableMapping[str, str]) -> Notifier:
        kept = {key: environment[key] for key in ("NOTIFY_SOCKET", "WATCHDOG_USEC") if key in environment}
        notifier = cls(environment.pop("NOTIFY_SOCKET", None))
        notifier.environment = kept
        return notifier

    def tell(self, **states: str | int) -> None:
        """``tell(STATUS="fine", READY=1)``: see sd_notify(3) for what there is."""
        if not self.address:
            return
        message = "\n".join(f"{name}={value}" for name, value in states.items()).encode()
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.settimeout(1.0)
                sender.sendto(message, address)
        except OSError as error:  # whoever listens there is no reason not to serve
            self._log.warn("systemd cannot be told {states}: {error}", states=states, error=error)

    def reloading(self) -> None:
        """A new configuration is being read; ``READY=1`` is the end of that."""
        self.tell(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000, STATUS="Reloading")

    def stopping(self, seconds: float | None) -> None:
        """It ends, and that may take so many seconds; None: nobody knows."""
        extended = {"EXTEND_TIMEOUT_USEC": int(seconds * 1_000_000)} if seconds is not None else {}
        self.tell(STOPPING=1, **extended)


class Watchdog(Service):
    """Says every so often that we are alive, as ``WATCHDOG_USEC`` asks for; if the reactor hangs, nobody does."""

    def __init__(self, notifier: Notifier, environment: MutableMapping[str, str], clock: Any) -> None:
        wanted = environment.pop("WATCHDOG_USEC", "")
        whose = environment.pop("WATCHDOG_PID", str(os.getpid()))
        self.interval = int(wanted) / 2_000_000 if wanted.isdigit() and whose == str(os.getpid()) else 0.0
        self._call = LoopingCall(notifier.tell, WATCHDOG=1)
        self._call.clock = clock

    def startService(self) -> None:
        super().startService()
        if self.interval > 0:
            self._call.start(self.interval)

    def stopService(self) -> None:
        super().stopService()
        if self._call.running:
            self._call.stop()
