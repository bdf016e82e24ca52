"""An inspector with bounds of the configuration's instead of its own. Floor 2, pure."""

from __future__ import annotations

from zope.interface import implementer

from stickyproxy.interfaces import IStreamInspector


@implementer(IStreamInspector)
class BoundedInspector:
    """``inspector`` with at most ``peek_bytes`` and ``peek_timeout`` seconds; None: as it says itself."""

    def __init__(self, inspector: IStreamInspector, peek_bytes: int | None, peek_timeout: float | None) -> None:
        self.inspect = inspector.inspect
        self.peek_bytes: int = inspector.peek_bytes if peek_bytes is None else peek_bytes
        self.peek_timeout: float = inspector.peek_timeout if peek_timeout is None else peek_timeout
