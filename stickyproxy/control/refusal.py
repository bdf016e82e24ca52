"""What an operator asked for and cannot have. Floor 5."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from stickyproxy.errors import StickyproxyError

#: ``unknown``: there is no such thing. ``invalid``: it makes no sense. ``conflict``: not in this state of things.
#: ``unavailable``: not here, or not now.
Kind = Literal["unknown", "invalid", "conflict", "unavailable"]


class Refusal(StickyproxyError):
    """Asked for and not done; nothing has changed. ``mistakes`` are its parts, each JSON-able."""

    def __init__(self, kind: Kind, text: str, mistakes: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__(text)
        self.kind = kind
        self.text = text
        self.mistakes = [dict(mistake) for mistake in mistakes]

    def to_json(self) -> dict[str, Any]:
        """As a table; ``Refusal(**table)`` is the same again."""
        return {"kind": self.kind, "text": self.text, "mistakes": self.mistakes}
