"""The extensions that come with stickyproxy. Floor 3.

The parameters of the functions here, their types and defaults, are the options in the configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from stickyproxy.config.units import Count, Duration, whole
from stickyproxy.extensions import Extension
from stickyproxy.interfaces import IAffinity, IBalancer
from stickyproxy.sansio.affinity import CookieAffinity, NoAffinity, SourceAffinity
from stickyproxy.sansio.balancing import LeastConnections, RoundRobin
from stickyproxy.sansio.cookies import CookieTemplate
from stickyproxy.sansio.tokens import KeyRing


def _cookie(
    cluster: str,
    key_ring: KeyRing,
    clock: Callable[[], float],
    name: str = "SRV",
    path: str = "/",
    domain: str | None = None,
    max_age: Duration | None = None,
    secure: Literal["auto"] | bool = "auto",
    http_only: bool = True,
    same_site: Literal["lax", "strict", "none"] = "lax",
    partitioned: bool = False,
) -> CookieAffinity:
    template = CookieTemplate(name, path, domain, max_age, secure, http_only, same_site, partitioned)
    return CookieAffinity(template, key_ring, cluster, clock)


def _source(
    clock: Callable[[], float],
    ipv4_prefix: Annotated[int, whole(1, 32)] = 32,
    ipv6_prefix: Annotated[int, whole(1, 128)] = 64,
    idle: Duration = 1800.0,
    size: Count = 100_000,
) -> SourceAffinity:
    return SourceAffinity(clock, ipv4_prefix, ipv6_prefix, idle, size)


no_affinity = Extension("none", IAffinity, NoAffinity)
cookie = Extension("cookie", IAffinity, _cookie)
source = Extension("source", IAffinity, _source)
round_robin = Extension("round-robin", IBalancer, RoundRobin)
least_connections = Extension("least-connections", IBalancer, LeastConnections)
