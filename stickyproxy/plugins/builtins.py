"""The extensions that come with stickyproxy. Floor 3.

The parameters of the functions here, their types and defaults, are the options in the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from stickyproxy.config.accepted import ACCEPTED, AcceptedCookie
from stickyproxy.config.units import Duration, OneOf, Told
from stickyproxy.extensions import Extension
from stickyproxy.interfaces import IAffinity
from stickyproxy.model import Backend
from stickyproxy.plugins.migrating import migrating
from stickyproxy.sansio.affinity import CookieAffinity, NoAffinity
from stickyproxy.sansio.cookies import CookieTemplate
from stickyproxy.sansio.tokens import KeyRing


def _cookie(
    cluster: str,
    key_ring: KeyRing,
    clock: Callable[[], float],
    backends: Sequence[Backend] = (),
    name: Annotated[
        str, Told("What the cookie is called.", "HAProxy `cookie NAME`, nginx `sticky cookie NAME`")
    ] = "SRV",
    path: Annotated[str, Told("The paths that it is for.", "nginx `path=`")] = "/",
    domain: Annotated[
        str | None, Told("The domain that it is for. Absent: the host alone that sets it.", "HAProxy `domain`")
    ] = None,
    max_age: Annotated[
        Duration | None, Told("How long the browser keeps it. Unlimited: until the browser ends.", "HAProxy `maxlife`")
    ] = None,
    secure: Annotated[
        Literal["auto"] | bool,
        Told('Whether browsers send it on TLS only. `"auto"`: if it is set on TLS.', "HAProxy `secure`"),
    ] = "auto",
    http_only: Annotated[bool, Told("Whether it is hidden from scripts of the page.", "HAProxy `httponly`")] = True,
    same_site: Annotated[
        Literal["lax", "strict", "none"],
        Told("Whether it goes with requests that other sites cause.", 'HAProxy `attr "SameSite=…"`'),
    ] = "lax",
    partitioned: Annotated[
        bool, Told("Whether a page in a frame has one for each site around it (CHIPS).", 'HAProxy `attr "Partitioned"`')
    ] = False,
    accept_cookies_of: Annotated[
        tuple[Annotated[AcceptedCookie, OneOf(ACCEPTED)], ...],
        Told(
            "Other proxies, in whose place this one is, with the same backends: who has their cookie keeps the backend "
            'and gets ours. `"haproxy"`, or a table of `by` and what follows below.'
        ),
    ] = (),
) -> IAffinity:
    """A signed cookie of our own. It is taken out of what backends see; HTTP only.

    It names the backend to us alone. One that is forged, cut off or sent twice is as if absent, and is set anew.
    """
    template = CookieTemplate(name, path, domain, max_age, secure, http_only, same_site, partitioned)
    affinity: IAffinity = CookieAffinity(template, key_ring, cluster, clock)
    return migrating(affinity, template, accept_cookies_of, backends) if accept_cookies_of else affinity


no_affinity = Extension("none", IAffinity, NoAffinity)
cookie = Extension("cookie", IAffinity, _cookie)
