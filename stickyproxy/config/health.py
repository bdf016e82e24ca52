"""When backends are taken out for what their clients meet: ``[cluster.NAME.eject]``. Floor 2.

Durations are seconds (float).
"""

from __future__ import annotations

import attrs

from stickyproxy.config.units import Count, Duration, Share, told
from stickyproxy.sansio.health import Ejecting


@attrs.frozen
class Eject:
    """Backends are taken out for what their clients meet: `eject = {}` is this table with every default.

    Failures are connections that cannot be made, answers that do not come, not in time, not whole, or make no sense,
    and those of 500 and more (but 501 and 505). Absent: nobody is taken out.
    """

    failures: Count = attrs.field(
        default=5,
        metadata=told(
            "How many in a row. A good answer ends the row; for TCP, a connection.",
            "HAProxy `error-limit`, nginx `max_fails`, Envoy `consecutive_5xx`",
        ),
    )
    time: Duration = attrs.field(
        default=10.0,
        metadata=told(
            "For how long, the first time; twice as long each time after. One more failure is enough then, unless "
            "something went well.",
            "nginx `fail_timeout`, Envoy `base_ejection_time`",
        ),
    )
    longest: Duration = attrs.field(
        default=300.0,
        metadata=told(
            "For how long at most. A backend that was in for as long begins anew.", "Envoy `max_ejection_time`"
        ),
    )
    max_share: Share = attrs.field(
        default=0.5,
        metadata=told(
            "The share of the cluster that may be down, by probes or ejected, after one more is; rounded down, but "
            "one of several, and never the only one.",
            "Envoy `max_ejection_percent`",
        ),
    )

    @property
    def rules(self) -> Ejecting:
        return Ejecting(self.failures, self.time, self.longest, self.max_share)
