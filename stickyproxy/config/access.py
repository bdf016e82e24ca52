"""Who may come in, how often, and with which password, as frozen values. Floor 2."""

from __future__ import annotations

from typing import Annotated

import attrs

from stickyproxy.config.units import Duration, ExistingPath, Network, Realm, told, whole

_Requests = Annotated[int, whole(1, 1_000_000)]


@attrs.frozen
class Rate:
    """How often one client may ask: a bucket of tokens for each address, in IPv6 for each /64.

    For `protocol = "tcp"` what is counted are new connections. Workers take from the same buckets.
    """

    requests: _Requests = attrs.field(
        metadata=told(
            "How many requests in the time `per`; more are answered 429.",
            "HAProxy `http_req_rate`, nginx `limit_req_zone … rate=`, Envoy `tokens_per_fill`",
        )
    )
    per: Duration = attrs.field(
        default=1.0,
        metadata=told("The time in which a bucket fills up by that number.", "HAProxy `expire`, Envoy `fill_interval`"),
    )
    burst: _Requests = attrs.field(
        default=attrs.Factory(lambda self: self.requests, takes_self=True),
        metadata=told(
            "How many at once: what a bucket holds. Absent: as many as `requests`.",
            "nginx `limit_req burst=… nodelay` (there beyond the first), Envoy `max_tokens`",
        ),
    )


@attrs.frozen
class Access:
    """Who may come in. Without this table: everyone; with it: whom `allow`, `deny`, `rate` and `users_file` let in.

    The most specific network that holds the client's address decides, wherever it is written.
    """

    allow: tuple[Network, ...] = attrs.field(
        default=(),
        metadata=told(
            "Addresses that come in; with it, all others do not: they are answered 403, and TCP is closed.",
            "HAProxy `http-request deny unless`, nginx `allow`, Envoy `rbac`",
        ),
    )
    deny: tuple[Network, ...] = attrs.field(
        default=(),
        metadata=told("Addresses that do not come in.", "HAProxy `http-request deny`, nginx `deny`, Envoy `rbac`"),
    )
    rate: Rate | None = None
    users_file: ExistingPath | None = attrs.field(
        default=None,
        metadata=told(
            "Who may come in with a password: lines `name:hash`, as `htpasswd -B` writes them. Anyone else is answered "
            "401. HTTP only.",
            "HAProxy `userlist`, nginx `auth_basic_user_file`, Envoy `basic_auth`",
        ),
    )
    realm: Realm = attrs.field(
        default="restricted",
        metadata=told("What the browser says it wants the password for.", "HAProxy `realm`, nginx `auth_basic`"),
    )
