"""Where operators look at the proxy and change it: ``[admin]``. Floor 2."""

from __future__ import annotations

import attrs

from stickyproxy.config.specs import FrontendTLS
from stickyproxy.config.units import ExistingPath, ListenEndpoint, ServerName, told


@attrs.frozen
class Admin:
    """The admin API, metrics and the dashboard ([Admin](admin.md)). Absent: there are none.

    Who reaches a loopback address or a Unix socket may read without a token; from elsewhere everything needs one.
    """

    listen: tuple[ListenEndpoint, ...] = attrs.field(
        metadata=told(
            "Where: endpoint strings, as of a frontend. Others than loopback addresses and Unix sockets need "
            "`token_file`, and should have `tls`.",
            "HAProxy `stats socket`, nginx `api`, Envoy `admin.address`",
        )
    )
    token_file: ExistingPath | None = attrs.field(
        default=None,
        metadata=told(
            "A file of tokens, one in a line, with a name before it if you like: `NAME TOKEN`. Only its owner may "
            "read it (mode 0600 or 0400); it is read again when it changes. Absent: nothing can be changed.",
        ),
    )
    hosts: tuple[ServerName, ...] = attrs.field(
        default=(),
        metadata=told(
            "The names that it is called by, beside addresses and `localhost`. Requests for other names are refused: a "
            "page of a stranger could make them in your browser (DNS rebinding)."
        ),
    )
    tls: FrontendTLS | None = attrs.field(
        default=None,
        metadata=told(
            "TLS, in a table as `[frontend.NAME.tls]`; with `client_ca` for certificates of operators. Unix sockets "
            "have none."
        ),
    )
