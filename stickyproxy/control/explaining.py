"""Where a request goes and why, without sending it: for the command line, and for who asks a running proxy. Floor 5."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import attrs

from stickyproxy.cluster import Cluster
from stickyproxy.config import Configuration
from stickyproxy.config.specs import Frontend
from stickyproxy.control.refusal import Refusal
from stickyproxy.control.snapshot import Report
from stickyproxy.errors import HTTPError, SessionLost
from stickyproxy.model import Arrival, Peer, RequestHead
from stickyproxy.sansio.explaining import explain_affinity, explain_choice, explain_members, explain_route
from stickyproxy.sansio.http1 import parse_request_head
from stickyproxy.sansio.identity import Identity
from stickyproxy.sansio.networks import Networks
from stickyproxy.sansio.routing import RouteTable
from stickyproxy.sansio.selection import Choice, has_room


@attrs.frozen
class Question:
    """A request as its client would send it. ``headers`` are lines, ``client`` is its IP address.

    ``frontend`` None: the first one for HTTP.
    """

    url: str
    method: str = "GET"
    headers: Sequence[str] = ()
    client: str = "127.0.0.1"
    frontend: str | None = None


@attrs.frozen
class Asked:
    """A question that makes sense. ``cluster`` is the name of the one that it goes to, None: it is answered 404."""

    frontend: str
    arrival: Arrival
    cluster: str | None
    route: str


def judge(question: Question, configuration: Configuration) -> Asked:
    """Which route holds. Raises ``ValueError`` with the status that the request would get."""
    frontend = _frontend(configuration, question.frontend)
    head = _request(question, frontend)
    routes = RouteTable([(route, route) for route in frontend.routes], None)
    route = routes.find(head.authority, head.target)
    name = frontend.cluster if route is None else route.cluster
    port = urlsplit(question.url).port or 80
    identity = Identity(Peer(question.client, 0), port, frontend.tls is not None, Networks(frontend.trusted_proxies))
    told = explain_route(route, name) if name is not None else "no route matches, so it answers 404"
    return Asked(frontend.name, identity.arrival(head), name, told)


def explain(asked: Asked, cluster: Cluster, recalled_by: Sequence[str | None] | None = None) -> list[str]:
    """What each affinity of ``cluster`` knows of the client, and what keeps each backend from a new one."""
    members = cluster.members
    down = {id: str(member.health) for id, member in members.items() if member.health and member.health.down}
    affinity = explain_affinity(cluster.links, asked.arrival, members, recalled_by)
    return [*affinity, *explain_members(members.values(), down)]


def verdict(choice: Choice[Any] | None, cluster: Cluster) -> str:
    """Who serves, and by which rule."""
    return explain_choice(choice, cluster.balancer_name)


def _frontend(configuration: Configuration, name: str | None) -> Frontend:
    for frontend in configuration.frontends:
        if frontend.protocol == "http" and name in (None, frontend.name):
            return frontend
    known = ", ".join(frontend.name for frontend in configuration.frontends if frontend.protocol == "http")
    raise ValueError(f"there is no such frontend for HTTP; expected one of: {known or 'none is there'}")


def _request(question: Question, frontend: Frontend) -> RequestHead:
    """The request judged as the frontend would judge it."""
    parts = urlsplit(question.url)
    if parts.scheme not in ("http", "https", "ws", "wss") or not parts.netloc:
        raise ValueError("url: expected a URL such as http://example.org/path")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{question.method} {target} HTTP/1.1", f"Host: {parts.netloc}", *question.headers, "", ""]
    try:
        return parse_request_head("\r\n".join(lines).encode(), frontend.limits)
    except HTTPError as error:
        raise ValueError(f"the proxy answers {error.status} {error.reason}: {error.detail}") from None


async def explain_request(
    request: Mapping[str, Any], configuration: Configuration, clusters: Mapping[str, Cluster]
) -> Report:
    """What ``Controls.explain`` tells. Nobody is bound by it. Raises ``Refusal``."""
    try:
        asked = judge(_question(request), configuration)
    except ValueError as error:
        raise Refusal("invalid", str(error)) from None
    report: Report = {"frontend": asked.frontend, "cluster": asked.cluster, "backend": None, "outcome": None}
    if asked.cluster is None:
        return {**report, "why": [asked.route]}
    cluster = clusters[asked.cluster]
    recalled = [link.recall(asked.arrival) for _, link in cluster.links]
    found = [each if each is None or isinstance(each, str) else await each for each in recalled]
    why = [asked.route, *explain(asked, cluster, found)]
    try:
        choice = await cluster.would_choose(asked.arrival)
    except SessionLost as lost:
        return {**report, "why": [*why, f"answered {lost.status}: {lost.detail}"]}
    if choice is not None:
        report |= {"backend": choice.candidate.id, "outcome": choice.outcome.value}
        if not has_room(choice.candidate):
            why.append(f"{choice.candidate.id} serves as many as it may now: a client waits in line")
    return {**report, "why": [*why, verdict(choice, cluster)]}


def _question(request: Mapping[str, Any]) -> Question:
    """Raises ``ValueError``."""
    given = dict(request)
    if unknown := sorted(given.keys() - {"url", "method", "headers", "address", "frontend"}):
        raise ValueError(f"unknown key {unknown[0]}; expected url, method, headers, address, frontend")
    headers = given.pop("headers", [])
    if isinstance(headers, dict):
        headers = [f"{name}: {value}" for name, value in headers.items()]
    texts = {"url": "", "method": "GET", "address": "127.0.0.1", "frontend": None} | given
    for name, value in texts.items():
        if not isinstance(value, str) and (name != "frontend" or "frontend" in given):
            raise ValueError(f"{name}: expected a string")
    if not isinstance(headers, list) or not all(isinstance(line, str) for line in headers):
        raise ValueError('headers: expected a list of lines such as "Cookie: SRV=…", or an object')
    lines = [texts["method"], texts["url"], *headers]
    if any(re.search(r"[\x00-\x1f\x7f]", line) for line in lines) or " " in texts["method"] + texts["url"]:
        raise ValueError("method, url, headers: no control characters are possible, nor spaces in the first two")
    try:
        ip_address(texts["address"])
    except ValueError:
        raise ValueError("address: expected an IP address") from None
    return Question(texts["url"], texts["method"], headers, texts["address"], texts["frontend"])
