"""A cookie affinity that takes the place of other proxies. Floor 3."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from stickyproxy.config.accepted import ACCEPTED, AcceptedCookie
from stickyproxy.config.endpoints import address_of
from stickyproxy.interfaces import IAffinity
from stickyproxy.model import Backend
from stickyproxy.sansio.affinity import ChainAffinity, ForeignCookie, MigrationAffinity
from stickyproxy.sansio.affinity.foreign import Place, unquoted
from stickyproxy.sansio.cookies import CookieTemplate


def migrating(
    own: IAffinity, template: CookieTemplate, accepted: Sequence[AcceptedCookie], backends: Iterable[Backend]
) -> IAffinity:
    """``own``, whose cookie ``template`` is, and behind it the cookies of other proxies.

    Raises ``ValueError`` where a browser would keep one of those beside ours, under the same name.
    """
    places = [Place(backend.id, *(address_of(backend.endpoint) or ("", 0))) for backend in backends]
    chain: IAffinity = ChainAffinity(
        [own, MigrationAffinity([_foreign(cookie, template, places) for cookie in accepted], own)]
    )
    return chain


def _foreign(cookie: AcceptedCookie, ours: CookieTemplate, places: Sequence[Place]) -> ForeignCookie:
    name = cookie.name or cookie.usual or ours.name
    theirs = attrs.evolve(ours, name=name, path=cookie.path, domain=cookie.domain, partitioned=False)
    same = name == ours.name
    if same and (theirs.path, theirs.domain) != (ours.path, ours.domain):
        by = next(by for by, kind in ACCEPTED.items() if type(cookie) is kind)
        raise ValueError(
            f'accept_cookies_of: the cookie of "{by}" is called {name}, as ours is, but has another path or domain: '
            "browsers would keep both; give ours another name"
        )
    read = unquoted(cookie.reader(places))
    return ForeignCookie(name.encode("ascii") + b"=", read, None if same or cookie.shared else theirs)
