"""What the configuration names, with options of its own: affinities, balancers, inspectors, probes. Floor 2.

Durations are seconds (float), sizes are bytes (int), None is "unlimited" or absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from stickyproxy.config.units import Count, Duration, Jitter, OwnDuration, OwnSize, told


@attrs.frozen
class Named:
    """An extension by name with its options (checked against its ``make``, converted to what that wants).

    ``links``: a chain of them instead, the first of which that has an answer is right.
    """

    name: str
    options: Mapping[str, Any] = attrs.field(factory=dict)
    links: tuple[Named, ...] = ()


@attrs.frozen
class Inspect(Named):
    """What finds a key in the first bytes of a TCP connection: a name, or a table of `by`, its options and these.

    A client that has given none by then is served without.
    """

    bytes: OwnSize = attrs.field(
        default=None,
        metadata=told(
            "How many bytes may be looked at. Absent: as the inspector says.",
            "HAProxy `tune.bufsize`, nginx `preread_buffer_size`, Envoy `max_read_bytes`",
        ),
    )
    timeout: OwnDuration = attrs.field(
        default=None,
        metadata=told(
            "For how long they may be waited for. Absent: as the inspector says.",
            "HAProxy `tcp-request inspect-delay`, nginx `preread_timeout`, Envoy `listener_filters_timeout`",
        ),
    )


@attrs.frozen
class Probe(Named):
    """How backends are asked whether they are well: a name, or a table of `by`, its options (see Probes) and these.

    The first probe decides alone. One begins only when the last of the same backend is over.
    """

    interval: Duration = attrs.field(
        default=2.0,
        metadata=told(
            "From the beginning of one probe to that of the next.",
            "HAProxy `inter`, nginx `interval`, Envoy `interval`",
        ),
    )
    interval_down: OwnDuration = attrs.field(
        default=None,
        metadata=told(
            "The same while the backend is down. Absent: as `interval`.",
            "HAProxy `downinter`, Envoy `unhealthy_interval`",
        ),
    )
    timeout: OwnDuration = attrs.field(
        default=None,
        metadata=told(
            "For a whole probe, connecting included; then it has failed. Absent: as `interval`.",
            "HAProxy `timeout check`, Envoy `timeout`",
        ),
    )
    rise: Count = attrs.field(
        default=2,
        metadata=told(
            "How many in a row must go well for a backend that is down.",
            "HAProxy `rise`, nginx `passes`, Envoy `healthy_threshold`",
        ),
    )
    fall: Count = attrs.field(
        default=3,
        metadata=told(
            "How many in a row must fail for one that is up.",
            "HAProxy `fall`, nginx `fails`, Envoy `unhealthy_threshold`",
        ),
    )
    jitter: Jitter = attrs.field(
        default=0.1,
        metadata=told(
            "By what share of the interval, at most, a probe is early, by chance: so that many proxies do not ask at "
            "the same moment.",
            "HAProxy `spread-checks`, nginx `jitter`, Envoy `interval_jitter_percent`",
        ),
    )
