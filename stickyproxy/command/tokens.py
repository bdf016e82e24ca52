"""``stickyproxy token``: what an affinity cookie says, by the keys that a configuration names. Floor 7.

Keys are used and never shown; a key file that is not there is not made.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

from stickyproxy.command.answers import Answer, Failure, Status, moment
from stickyproxy.command.files import key_file_of
from stickyproxy.config import Configuration, load
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.extensions import find_extensions
from stickyproxy.keyfile import read_or_create
from stickyproxy.model import GONE, Arrival
from stickyproxy.plugins.cookies import TOKEN_OPTIONS, token_scheme
from stickyproxy.sansio.sealed import NEVER, SealedTokens
from stickyproxy.sansio.tokens import KeyRing, Scheme, Tokens, looks_like_token

_COOKIES = ("cookie", "cookie/prefix", "cookie/rewrite")


class Candidate(NamedTuple):
    """A cookie of the configuration that a token may have come in. ``bound``: what it is bound to."""

    cluster: str
    cookie: str
    scheme: Scheme
    bound: str | None


def answer(chosen: Namespace) -> Answer:
    """Status 1 where the token is not good now."""
    name, token = _split(sys.stdin.readline() if chosen.cookie == "-" else chosen.cookie)
    if not looks_like_token(token):
        raise Failure("this has not the form of a token: expected 44, 52 or 64 characters of base64url", Status.WORDS)
    candidates = list(_candidates(load(chosen.config, find_extensions())))
    if not candidates:
        raise Failure(f"{chosen.config}: no cluster has a cookie of ours")
    arrival = Arrival(chosen.client, chosen.tls)
    for candidate in candidates:
        if name in (None, candidate.cookie) and (said := _said(candidate, token, arrival)) is not None:
            report = {"cluster": candidate.cluster, "cookie": candidate.cookie, **said}
            return Answer(report, _lines(report), Status.FINE if said["valid"] else Status.FAILED)
    places = sorted({candidate.bound for candidate in candidates if candidate.bound})
    hints = {"address": "--client ADDRESS is whose it is", "tls": "--tls if it came by TLS"}
    hint = "".join(f"; {hints[place]}" for place in places)
    raise Failure(f"no key of this configuration has signed it for a cookie of its clusters{hint}")


def _split(text: str) -> tuple[str | None, bytes]:
    """The name of the cookie, if it is there, and the token: of ``SRV=TOKEN``, ``ID=TOKEN~value``, ``TOKEN``."""
    name, equals, value = text.strip().rstrip(";").rpartition("=")
    return (name.strip() if equals else None), value.strip(' "').partition("~")[0].encode("ascii", "replace")


def _candidates(configuration: Configuration) -> Iterator[Candidate]:
    for spec in configuration.clusters:
        links = [link for link in spec.affinity.links or (spec.affinity,) if link.name in _COOKIES]
        if not links:
            continue
        keys = KeyRing(_keys(spec, configuration))
        for link in links:
            name = str(link.options.get("name", "SRV"))
            options = {key: value for key, value in link.options.items() if key in TOKEN_OPTIONS}
            scheme = token_scheme(spec.sessions.group or spec.name, keys, time.time, Random(), name, **options)
            scheme.members(backend.id for backend in spec.backends)
            yield Candidate(spec.name, name, scheme, link.options.get("bind_to"))


def _keys(spec: ClusterSpec, configuration: Configuration) -> tuple[bytes, ...]:
    path = key_file_of(spec, configuration)
    if path is None:
        return spec.keys
    if not path.exists():
        raise Failure(f"{path}: there is no key file yet, so that nothing was signed; cluster {spec.name} names it")
    return read_or_create(path)


def _said(candidate: Candidate, token: bytes, arrival: Arrival) -> dict[str, Any] | None:
    """What a genuine token says, None: it is none of this cookie. Times are in seconds since the epoch."""
    scheme = candidate.scheme
    until: int | None = None
    if isinstance(scheme, Tokens):
        said = scheme.read(token)
        if said is None:
            return None
        backend, issued, newest = said
    else:
        assert isinstance(scheme, SealedTokens)
        sealed = scheme.read(token, arrival)
        if sealed is None:
            return None
        backend, issued, ends, newest = sealed
        until = None if ends == NEVER else ends
    return {
        "backend": None if backend == GONE else backend,
        "issued": issued,
        "until": until,
        "newest_key": newest,
        "valid": scheme.recall(token, arrival) not in (None, GONE),
    }


def _lines(report: dict[str, Any]) -> list[str]:
    lines = [f"cluster {report['cluster']}, cookie {report['cookie']}"]
    lines.append(f"backend {report['backend']}" if report["backend"] else "a backend that is not there any more")
    lines.append(f"issued {moment(report['issued'])}")
    if report["until"] is not None:
        lines.append(f"good until {moment(report['until'])}")
    if not report["newest_key"]:
        lines.append("in the form or by the key of before: the next answer replaces it")
    return [*lines, "valid" if report["valid"] else "not valid: its client is as a new one"]
