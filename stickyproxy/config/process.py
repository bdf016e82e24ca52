"""The process and its workers: ``[process]``. Floor 2."""

from __future__ import annotations

from typing import Annotated, Literal

import attrs

from stickyproxy.config.mistakes import Keys
from stickyproxy.config.units import Duration, Kind, Place, found, told

#: More than any machine has use for.
MOST = 1024
_WORKERS = f'a whole number from 1 to {MOST}, or "auto"'


def _workers(value: object, _: Place) -> int | str:
    if value == "auto" or (type(value) is int and 1 <= value <= MOST):
        return value
    shown = f'"{value}"' if isinstance(value, str) else value if type(value) is int else found(value)
    raise ValueError(f"expected {_WORKERS}, found {shown}")


Workers = Annotated[int | Literal["auto"], Kind(_WORKERS, _workers)]


@attrs.frozen
class Process:
    """The process as a whole. [More](workers.md)."""

    workers: Workers = attrs.field(
        default=1,
        metadata=told(
            'Processes that serve; `"auto"` is one for each core that this process may use. With more than 1 a parent '
            "holds the sockets, and probes.",
            "nginx `worker_processes`, HAProxy `nbthread`, Envoy `--concurrency`",
        ),
    )
    stuck: Duration = attrs.field(
        default=10.0,
        metadata=told(
            "A worker that is silent for as long is killed, and replaced. Needs `workers`.",
            "HAProxy's watchdog, Envoy `watchdogs`",
        ),
    )


def broken_rules(table: dict[str, object]) -> list[tuple[Keys, str]]:
    """What does not go together in ``[process]``."""
    if "stuck" in table and table.get("workers", 1) == 1:
        return [(("stuck",), "only where there are several workers: leave this out")]
    return []
