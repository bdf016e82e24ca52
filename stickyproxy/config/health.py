"""When backends are taken out for what their clients meet: ``[cluster.NAME.eject]``. Floor 2.

Durations are seconds (float).
"""

from __future__ import annotations

import attrs

from stickyproxy.config.units import Count, Duration, OwnShare, Share, told
from stickyproxy.sansio.health import Ejecting


@attrs.frozen
class Eject:
    """Backends are taken out for what their clients meet: `eject = {}` is this table with every default.

    Failures are connections that cannot be made, answers that do not come, not in time, not whole, or make no sense,
    those of 500 and more (but 501 and 505), and WebSockets that the backend closes with 1011, 1012 or 1013. Absent:
    nobody is taken out.
    """

    failures: Count = attrs.field(
        default=5,
        metadata=told(
            "How many in a row. A good answer ends the row; for TCP, a connection; for WebSockets, one that ends well.",
            "HAProxy `error-limit`, nginx `max_fails`, Envoy `consecutive_5xx`",
        ),
    )
    time: Duration = attrs.field(
        default=10.0,
        metadata=told(
            "For how long, the first time; twice as long each time after. Then `trials` decide.",
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

    failure_rate: OwnShare = attrs.field(
        default=None,
        metadata=told(
            "Also when this share of what was asked in `window` failed, in a row or not. Absent: only rows count.",
            "Envoy `failure_percentage_threshold`, HAProxy `observe`, Hystrix `errorThresholdPercentage`",
        ),
    )
    window: Duration = attrs.field(
        default=10.0,
        metadata=told("The time that `failure_rate` looks back. Needs that.", "Envoy `interval`"),
    )
    least: Count = attrs.field(
        default=20,
        metadata=told(
            "As long as less was asked in `window`, `failure_rate` says nothing. Needs that.",
            "Envoy `failure_percentage_request_volume`",
        ),
    )
    trials: Count = attrs.field(
        default=1,
        metadata=told(
            "How many clients are let in when the time is over, and nobody else before all of them are served well: "
            "the half-open state of a circuit breaker. One failure, and it is out again.",
            "Hystrix, resilience4j `permittedNumberOfCallsInHalfOpenState`",
        ),
    )

    @property
    def rules(self) -> Ejecting:
        return Ejecting(
            self.failures,
            self.time,
            self.longest,
            self.max_share,
            self.failure_rate,
            self.window,
            self.least,
            self.trials,
        )
