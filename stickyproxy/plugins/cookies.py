"""Affinities by cookies: one of our own, or the application's, and what is learned from its answers. Floor 3.

The parameters of the functions here, their types and defaults, are the options in the configuration. A name with a
slash is a mode: ``by = "cookie"`` with ``mode = "prefix"``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Annotated, Literal

from stickyproxy.config.accepted import ACCEPTED, AcceptedCookie
from stickyproxy.config.units import CookieName, Duration, LearnedName, OneOf, Told
from stickyproxy.extensions import Extension
from stickyproxy.interfaces import IAffinity, ISessionStore
from stickyproxy.model import Backend
from stickyproxy.plugins.migrating import migrating
from stickyproxy.sansio.affinity import (
    CookieAffinity,
    LearnedAffinity,
    NamedAffinity,
    PrefixAffinity,
    RewriteAffinity,
)
from stickyproxy.sansio.affinity.manners import Manner, mirroring, not_cached, post_only, preserving
from stickyproxy.sansio.cookies import CookieTemplate
from stickyproxy.sansio.keys import find_key
from stickyproxy.sansio.sealed import PLACES, SealedTokens
from stickyproxy.sansio.tokens import KeyRing, Scheme, Tokens

_Mode = Annotated[
    Literal["insert", "prefix", "rewrite", "passive"],
    Told(
        "Whose cookie it is: `insert`, one of our own; the others have options of their own, see below.",
        "HAProxy `insert`, `prefix`, `rewrite`",
    ),
]
_Name = Annotated[str, Told("What the cookie is called.", "HAProxy `cookie NAME`, nginx `sticky cookie NAME`")]
_Theirs = Annotated[CookieName, Told("What the application calls its cookie.", "HAProxy `cookie NAME`")]
_Path = Annotated[str, Told("The paths that it is for.", "nginx `path=`")]
_Domain = Annotated[
    str | None, Told("The domain that it is for. Absent: the host alone that sets it.", "HAProxy `domain`")
]
_MaxAge = Annotated[
    Duration | None,
    Told("How long the browser keeps it, and it is honoured, once set. Unlimited: until the browser ends."),
]
_Secure = Annotated[
    Literal["auto"] | bool,
    Told('Whether browsers send it on TLS only. `"auto"`: if it is set on TLS.', "HAProxy `secure`"),
]
_HTTPOnly = Annotated[bool, Told("Whether it is hidden from scripts of the page.", "HAProxy `httponly`")]
_SameSite = Annotated[
    Literal["lax", "strict", "none"],
    Told("Whether it goes with requests that other sites cause.", 'HAProxy `attr "SameSite=…"`'),
]
_Partitioned = Annotated[
    bool, Told("Whether a page in a frame has one for each site around it (CHIPS).", 'HAProxy `attr "Partitioned"`')
]
_Attributes = Annotated[
    Literal["own", "mirror"],
    Told(
        '`"mirror"`: it is set whenever the answer sets `application`, with the path, domain, age, `SameSite`, `Secure`'
        " and `Partitioned` that this has there, in place of those above."
    ),
]
_Application = Annotated[CookieName | None, Told("The cookie of the application that is mirrored.")]
_Indirect = Annotated[bool, Told("Whether it is taken out of what backends see.", "HAProxy `indirect`")]
_NoCache = Annotated[bool, Told("Whether answers that set it get `Cache-Control: private`.", "HAProxy `nocache`")]
_PostOnly = Annotated[bool, Told("Whether it is set in answers to `POST` alone.", "HAProxy `postonly`")]
_Preserve = Annotated[
    bool, Told("Whether an application that sets or ends it itself has its way.", "HAProxy `preserve`")
]
_Idle = Annotated[
    Duration | None,
    Told(
        "When it is worth nothing any more, unused. It is renewed after an eighth of that, and so honoured for up to "
        "an eighth longer.",
        "HAProxy `maxidle`",
    ),
]
_Lifetime = Annotated[
    Duration | None, Told("When it is worth nothing any more, however much it is used.", "HAProxy `maxlife`")
]
_Accepted = Annotated[
    tuple[Annotated[AcceptedCookie, OneOf(ACCEPTED)], ...],
    Told(
        "Other proxies, in whose place this one is, with the same backends: who has their cookie keeps the backend "
        'and gets ours. `"haproxy"`, or a table of `by` and what follows below.'
    ),
]
_Encrypt = Annotated[
    bool, Told("Whether it is encrypted, too: nobody can tell which cookies are for the same backend, nor their age.")
]
_BindTo = Annotated[
    Literal["address", "tls"] | None,
    Told(
        'What it is bound to: `"address"`, the network of the client (24 bits of IPv4, 56 of IPv6); `"tls"`, whether '
        "it came over TLS, and with which certificate. From elsewhere it is as if absent."
    ),
]


def _cookie(
    cluster: str,
    key_ring: KeyRing,
    clock: Callable[[], float],
    random: Random,
    backends: Sequence[Backend] = (),
    name: _Name = "SRV",
    mode: _Mode = "insert",
    path: _Path = "/",
    domain: _Domain = None,
    max_age: _MaxAge = None,
    secure: _Secure = "auto",
    http_only: _HTTPOnly = True,
    same_site: _SameSite = "lax",
    partitioned: _Partitioned = False,
    attributes: _Attributes = "own",
    application: _Application = None,
    indirect: _Indirect = True,
    nocache: _NoCache = False,
    postonly: _PostOnly = False,
    preserve: _Preserve = False,
    idle: _Idle = None,
    lifetime: _Lifetime = None,
    encrypt: _Encrypt = False,
    bind_to: _BindTo = None,
    accept_cookies_of: _Accepted = (),
) -> IAffinity:
    """A signed cookie of our own. It is taken out of what backends see; HTTP only.

    It names the backend to us alone. One that is forged, cut off or sent twice is as if absent, and is set anew.
    """
    if (attributes == "mirror") is not (application is not None):
        raise ValueError('attributes = "mirror" and application go together')
    template = CookieTemplate(name, path, domain, max_age, secure, http_only, same_site, partitioned)
    manners: list[Manner] = []
    if application is not None:
        manners.append(mirroring(name.encode(), application.encode(), http_only))
    if preserve:  # behind what may set it once more
        manners.append(preserving(name.encode()))
    manners += [manner for manner, wanted in ((post_only, postonly), (not_cached, nocache)) if wanted]
    tokens = token_scheme(cluster, key_ring, clock, random, name, encrypt, bind_to, idle, lifetime, max_age)
    affinity: IAffinity = CookieAffinity(template, tokens, clock, manners=manners, indirect=indirect)
    return migrating(affinity, template, accept_cookies_of, backends) if accept_cookies_of else affinity


def _prefix(
    cluster: str,
    key_ring: KeyRing,
    clock: Callable[[], float],
    random: Random,
    name: _Theirs,
    encrypt: _Encrypt = False,
    bind_to: _BindTo = None,
) -> PrefixAffinity:
    """The application's own cookie carries the token, as `TOKEN~value`. The application never sees the token.

    The client is bound when an answer sets the cookie, for as long as that says.
    """
    return PrefixAffinity(name, token_scheme(cluster, key_ring, clock, random, name, encrypt, bind_to), clock)


def _rewrite(
    cluster: str,
    key_ring: KeyRing,
    clock: Callable[[], float],
    random: Random,
    name: _Theirs,
    encrypt: _Encrypt = False,
    bind_to: _BindTo = None,
) -> RewriteAffinity:
    """The application sets the cookie, when and as it wants to; its value becomes the token."""
    return RewriteAffinity(name, token_scheme(cluster, key_ring, clock, random, name, encrypt, bind_to), clock)


def _passive(name: _Theirs) -> NamedAffinity:
    """The application sets the cookie, and its value is the name of a backend, as in the configuration.

    Nothing is signed: a client may choose any backend of the cluster by it.
    """
    return NamedAffinity(find_key(f"cookie:{name}"))


def _learned(
    sessions: ISessionStore,
    clock: Callable[[], float],
    name: Annotated[LearnedName, Told("The cookie, or `header:` and a field, of the application.", "nginx `create=`")],
    space: Annotated[
        str | None,
        Told("What the key means, as for keys in general. Absent: a meaning of its own."),
    ] = None,
) -> LearnedAffinity:
    """A cookie or a field that the application gives in its answers, and the client sends back. HTTP only.

    It is kept in the table of sessions (HAProxy: `stick store-response`, nginx: `sticky learn`). Nothing is added to
    answers, or taken out of requests.
    """
    return LearnedAffinity(name, space or f"learned:{name}", sessions, clock)


#: The options that say what tokens are like.
TOKEN_OPTIONS = frozenset(("encrypt", "bind_to", "idle", "lifetime", "max_age"))


def token_scheme(
    cluster: str,
    key_ring: KeyRing,
    clock: Callable[[], float],
    random: Random,
    name: str,
    encrypt: bool = False,
    bind_to: Literal["address", "tls"] | None = None,
    idle: float | None = None,
    lifetime: float | None = None,
    max_age: float | None = None,
) -> Scheme:
    """The tokens of a cookie with these options."""
    cookie = name.encode("ascii")
    if not encrypt and bind_to is None and idle is lifetime is max_age is None:
        return Tokens(key_ring, cluster, cookie)
    return SealedTokens(
        key_ring,
        cluster,
        cookie,
        clock,
        idle=idle,
        lifetime=lifetime,
        max_age=max_age,
        place_of=PLACES[bind_to] if bind_to is not None else None,
        random_bytes=random.randbytes if encrypt else None,
    )


cookie = Extension("cookie", IAffinity, _cookie)
prefix = Extension("cookie/prefix", IAffinity, _prefix)
rewrite = Extension("cookie/rewrite", IAffinity, _rewrite)
passive = Extension("cookie/passive", IAffinity, _passive)
learned = Extension("learned", IAffinity, _learned)
