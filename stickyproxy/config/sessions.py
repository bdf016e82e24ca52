"""How sessions are kept and what becomes of them: ``[cluster.NAME.sessions]``. Floor 2.

Durations are seconds (float), sizes are bytes (int), None is "unlimited" or absent.
"""

from __future__ import annotations

from typing import Any, Literal

import attrs

from stickyproxy.config.units import Count, Duration, GroupName, Size, told
from stickyproxy.sansio.policy import Policies


@attrs.frozen
class Sessions:
    """How the sessions of a cluster's clients are kept."""

    group: GroupName | None = attrs.field(
        default=None,
        metadata=told(
            "Clusters of one group share their sessions, and their cookies: a client that is known in one of them gets "
            "the backend with the same name in the others. They have the same keys, `idle`, `lifetime`, `size` and "
            "`memory`."
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
    when_down: Literal["rebind", "wait", "fail"] = attrs.field(
        default="rebind",
        metadata=told(
            "What a bound client gets whose backend cannot be reached: `rebind`, another one at once; `wait`, its own "
            "if that is back within `grace`, else another; `fail`, 503.",
            "HAProxy `option redispatch`, Envoy `strict` of `stateful_session`",
        ),
    )
    grace: Duration = attrs.field(default=10.0, metadata=told('How long `when_down = "wait"` waits.'))
    return_home: bool = attrs.field(
        default=False,
        metadata=told("Whether who got another backend goes back when his own can be reached. Costs a try each time."),
    )
    drain: Duration | None = attrs.field(
        default=None, metadata=told("How long bound clients stay with a backend that drains.", "nginx `drain`")
    )
    together: Duration | None = attrs.field(
        default=None,
        metadata=told(
            "New clients of one address that come within this time are bound to one backend: a browser's first "
            'requests, none of which has a cookie yet. As `"50ms"`. Absent: each for itself.'
        ),
    )
    rebalance: Count | None = attrs.field(
        default=None,
        metadata=told(
            "How many sessions a minute may leave a backend that has far more requests and tunnels than its share: at "
            "their next request, never an open WebSocket. Absent: none."
        ),
    )
    steering: bool = attrs.field(
        default=False,
        metadata=told(
            "Whether backends may say of a session, in their answers, that it is bound to them (`Sticky-Pin`), to "
            "nobody (`Sticky-Release`) or to another (`Sticky-Move: ID`), and for how many seconds (`Sticky-TTL`). "
            "Clients never see these fields."
        ),
    )

    @property
    def kept(self) -> dict[str, Any]:
        """How long and how many, for a ``SessionTable``."""
        return {"idle": self.idle, "lifetime": self.lifetime, "size": self.size, "memory": self.memory}

    @property
    def policies(self) -> Policies:
        """Those of the keys above that say what becomes of sessions under change."""
        return Policies(self.when_down, self.grace, self.return_home, self.drain, self.together, self.rebalance)
