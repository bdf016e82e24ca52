"""What arrives although reading is paused. Floor 2."""

from __future__ import annotations

from typing import Any


class EarlyBytes:
    """Stands in for the stream until its protocol resumes reading.

    uvloop starts to read after ``connection_made`` whatever was said during it, and one read may happen before it can
    be paused. A protocol that pauses in ``connectionMade`` (until its backend is connected, say) must not see that.
    """

    def __init__(self, stream: Any, native: Any) -> None:
        self._stream = stream
        self._native = native
        self._data = b""
        self._eof = False
        native.set_protocol(self)

    def deliver(self) -> None:
        """Tell the stream what has come: at most one read, or the end."""
        if self._data:
            self._stream.data_received(self._data)
        elif self._eof:
            self._stream.eof_received()

    def data_received(self, data: bytes) -> None:
        self._data = data
        self._native.pause_reading()

    def eof_received(self) -> bool:
        self._eof = True
        return True

    def connection_lost(self, error: BaseException | None) -> None:
        self._stream.connection_lost(error)

    def pause_writing(self) -> None:
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._stream.resume_writing()
