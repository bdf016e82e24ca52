"""How sessions are kept and what becomes of them: ``[cluster.NAME.sessions]``. Floor 2.

Durations are seconds (float), sizes are bytes (int), None is "unlimited" or absent.
"""

from __future__ import annotations

import attrs

from stickyproxy.config.units import Count, Duration, GroupName, Size, told


@attrs.frozen
class Sessions:
    """How the sessions of a cluster's clients are kept."""

    group: GroupName | None = attrs.field(
        default=None,
        metadata=told(
            "Clusters of one group share their sessions, and their cookies: a client that is known in one of them gets "
            "the backend with the same name in the others. They have the same `sessions` and the same keys."
        ),
    )
    idle: Duration | None = attrs.field(
        default=1800.0,
        metadata=told(
            "When a learned session is forgotten that nobody uses.", "HAProxy `stick-table … expire`, nginx `timeout`"
        ),
    )
    lifetime: Duration | None = attrs.field(
        default=None, metadata=told("When a learned session is forgotten, however much it is used.")
    )
    size: Count = attrs.field(
        default=100_000,
        metadata=told(
            "How many are learned; then the one that was not used for longest is forgotten.",
            "HAProxy `stick-table … size`",
        ),
    )
    memory: Size = attrs.field(
        default=64 * 1024 * 1024, metadata=told("The same in bytes. A session takes about 200.", "nginx `zone=…:SIZE`")
    )
