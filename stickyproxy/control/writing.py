"""JSON of any size, without keeping others waiting. Floor 5."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

#: Values that are written before others have their turn: about a millisecond.
AT_ONCE = 200
#: How far down tables are taken apart: a snapshot's clusters, their backends, and one of these.
_DEPTH = 4


async def pieces(value: Any, pause: Callable[[], Awaitable[object]]) -> AsyncIterator[bytes]:
    """The JSON text of ``value``, a part at a time, with a ``pause`` between where it is long."""
    batch: list[str] = []
    for count, text in enumerate(_texts(value, _DEPTH), 1):
        batch.append(text)
        if count % AT_ONCE == 0:
            yield "".join(batch).encode()
            batch.clear()
            await pause()
    yield "".join(batch).encode()


def _texts(value: Any, depth: int) -> Iterator[str]:
    if depth and isinstance(value, dict):
        before = "{"
        for key, item in value.items():
            yield f"{before}{json.dumps(str(key))}: "
            yield from _texts(item, depth - 1)
            before = ", "
        yield "}" if value else "{}"
    elif depth and isinstance(value, list):
        before = "["
        for item in value:
            yield before
            yield from _texts(item, depth - 1)
            before = ", "
        yield "]" if value else "[]"
    else:
        yield json.dumps(value)
