"""Whose cookies are accepted: what has to be known of another proxy to recognise them. Floor 2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import attrs

from stickyproxy.config.units import told
from stickyproxy.sansio.affinity import foreign
from stickyproxy.sansio.affinity.foreign import Place, Reader


@attrs.frozen(kw_only=True)
class AcceptedCookie:
    """The cookie of another proxy. ``usual`` is what it is called where nobody says otherwise, None: as ours."""

    usual: ClassVar[str | None] = None

    name: str | None = attrs.field(
        default=None,
        metadata=told(
            "What it is called. Absent: `route` for nginx-sticky-module, `lb` for Caddy, as ours for the others."
        ),
    )
    path: str = attrs.field(default="/", metadata=told("The path that it was set for; else it is not ended."))
    domain: str | None = attrs.field(default=None, metadata=told("The domain that it was set for. Absent: none."))

    def reader(self, places: Sequence[Place]) -> Reader:
        """What finds out whose value it is."""
        raise NotImplementedError

    @property
    def shared(self) -> bool:
        """The application has a part in it, so that it is not to be ended."""
        return False


@attrs.frozen(kw_only=True)
class HAProxyCookie(AcceptedCookie):
    """The backends have the names that ``server … cookie VALUE`` has there. Dates behind ``|`` are passed over."""

    dynamic_key: str | None = attrs.field(
        default=None,
        repr=False,
        metadata=told(
            "The secret of dynamic cookies; backends need addresses, not host names.", "HAProxy `dynamic-cookie-key`"
        ),
    )

    def reader(self, places: Sequence[Place]) -> Reader:
        return foreign.haproxy(places, self.dynamic_key)


@attrs.frozen(kw_only=True)
class NginxCookie(AcceptedCookie):
    """nginx's own ``sticky cookie``: by address, not by host name; or by ``route``, which is the backend's name."""

    def reader(self, places: Sequence[Place]) -> Reader:
        return foreign.nginx(places)


@attrs.frozen(kw_only=True)
class StickyModuleCookie(AcceptedCookie):
    """nginx-sticky-module(-ng): md5, sha1, text, hmac or index of the server as it is written there."""

    usual = "route"

    hmac_key: str | None = attrs.field(
        default=None, repr=False, metadata=told("The secret of `hmac=md5` and `hmac=sha1`.", "`hmac_key=`")
    )
    index: bool = attrs.field(
        default=False, metadata=told("The backends have the order of the servers there.", "`hash=index`")
    )
    delimiter: str | None = attrs.field(
        default=None,
        metadata=told("What is between it and the application's, which is not ended then.", "`transfer delimiter=`"),
    )

    def reader(self, places: Sequence[Place]) -> Reader:
        return foreign.sticky_module(places, self.hmac_key, self.index, self.delimiter)

    @property
    def shared(self) -> bool:
        return bool(self.delimiter)


@attrs.frozen(kw_only=True)
class TraefikCookie(AcceptedCookie):
    """Where no ``cookie.name`` is configured there, Traefik makes one: give it here, as browsers show it."""

    def reader(self, places: Sequence[Place]) -> Reader:
        return foreign.traefik(places)


@attrs.frozen(kw_only=True)
class CaddyCookie(AcceptedCookie):
    """``lb_policy cookie NAME SECRET``; the backends are written as there."""

    usual = "lb"

    secret: str = attrs.field(default="", repr=False, metadata=told("The secret.", "Caddy `lb_policy cookie`"))

    def reader(self, places: Sequence[Place]) -> Reader:
        return foreign.caddy(places, self.secret)


@attrs.frozen(kw_only=True)
class EnvoyCookie(AcceptedCookie):
    """The cookie of ``envoy.filters.http.stateful_session``; backends need addresses, not host names."""

    def reader(self, places: Sequence[Place]) -> Reader:
        return foreign.envoy(places)


#: What is written in the configuration.
ACCEPTED: Mapping[str, type[AcceptedCookie]] = MappingProxyType(
    {
        "haproxy": HAProxyCookie,
        "nginx": NginxCookie,
        "nginx-sticky-module": StickyModuleCookie,
        "traefik": TraefikCookie,
        "caddy": CaddyCookie,
        "envoy": EnvoyCookie,
    }
)
