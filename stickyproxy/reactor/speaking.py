"""Who is speaking when something is logged. Floor 2."""

from __future__ import annotations

from typing import Any


class Speaking(dict[str, Any]):
    """Twisted's log context while the protocol of a stream is called: whose messages are these?

    Twisted makes a context for every event. Here one is there all the time, and asks its ``stream`` when it is needed.
    """

    stream: Any = None

    def __init__(self) -> None:
        super().__init__(isError=0, system="-")

    def __getitem__(self, key: str) -> Any:
        return self.stream.logPrefix() if key == "system" and self.stream is not None else super().__getitem__(key)

    def copy(self) -> dict[str, Any]:
        return {key: self[key] for key in self}
