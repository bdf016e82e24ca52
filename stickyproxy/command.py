"""``stickyproxy``: what is asked on the command line of a configuration, without serving it. Floor 7."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import attrs
from twisted.internet.task import Clock

from stickyproxy.cluster import Cluster
from stickyproxy.config import Configuration, ConfigurationErrors, load
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.config.specs import Frontend
from stickyproxy.errors import HTTPError, StickyproxyError
from stickyproxy.extensions import Extensions, find_extensions
from stickyproxy.model import Peer, RequestHead
from stickyproxy.sansio.explaining import explain_affinity, explain_choice, explain_members, explain_route
from stickyproxy.sansio.http1 import parse_request_head
from stickyproxy.sansio.identity import Identity
from stickyproxy.sansio.networks import Networks
from stickyproxy.sansio.routing import RouteTable
from stickyproxy.sansio.selection import Choice
from stickyproxy.service import build_cluster

_EXPLAIN = """\
Why a request goes where it goes: which route holds, what each affinity knows of the client, and who serves it.

Cookies and hashed keys are judged as the running proxy would. What that has learned is in its memory alone: send it the
request with "X-Sticky-Explain: 1" from one of its trusted_proxies, and its answer tells the same.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The program ``stickyproxy``. Returns its exit status: 0, 1 for a wrong configuration, 2 for wrong words."""
    parser = argparse.ArgumentParser(
        prog="stickyproxy", description="Tools for stickyproxy, which itself is run by: twistd stickyproxy"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    explain = commands.add_parser(
        "explain",
        help="why a request goes where it goes",
        description=_EXPLAIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    explain.add_argument("url", metavar="URL", help="as the client asks for it: http://example.org/path?query")
    explain.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="the configuration")
    explain.add_argument("-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", help="repeatable")
    explain.add_argument("-X", "--method", default="GET", help="default: GET")
    explain.add_argument("--client", default="127.0.0.1", metavar="ADDRESS", help="who asks; default: 127.0.0.1")
    explain.add_argument("--frontend", metavar="NAME", help="default: the first one for HTTP")
    explain.set_defaults(run=_explain)
    chosen = parser.parse_args(arguments)
    try:
        for line in chosen.run(chosen):
            sys.stdout.write(f"{line}\n")
    except (ConfigurationErrors, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (StickyproxyError, ValueError) as error:
        sys.stderr.write(f"stickyproxy: {error}\n")
        return 2
    return 0


def _explain(chosen: argparse.Namespace) -> Iterator[str]:
    extensions = find_extensions()
    configuration = load(chosen.config, extensions)
    frontend = _frontend(configuration, chosen.frontend)
    url = urlsplit(chosen.url)
    head = _request(chosen.method, chosen.url, chosen.header, frontend)
    routes = RouteTable([(route, route) for route in frontend.routes], None)
    route = routes.find(head.authority, head.target)
    name = frontend.cluster if route is None else route.cluster
    if name is None:
        yield f"frontend {frontend.name}: no route matches, so it answers 404"
        return
    yield f"frontend {frontend.name}"
    yield explain_route(route, name)
    spec = next(cluster for cluster in configuration.clusters if cluster.name == name)
    arrival = Identity(
        Peer(chosen.client, 0), url.port or 80, frontend.tls is not None, Networks(frontend.trusted_proxies)
    ).arrival(head)
    cluster = _cluster(spec, configuration, extensions)
    yield from explain_affinity(cluster.links, arrival, cluster.members)
    yield from explain_members(cluster.members.values())
    selected = cluster.select(arrival)
    if selected is None or isinstance(selected, Choice):
        yield explain_choice(selected, spec.balance.name)


def _frontend(configuration: Configuration, name: str | None) -> Frontend:
    for frontend in configuration.frontends:
        if frontend.protocol == "http" and name in (None, frontend.name):
            return frontend
    known = ", ".join(frontend.name for frontend in configuration.frontends if frontend.protocol == "http")
    raise ValueError(f"there is no such frontend for HTTP; expected one of: {known or 'none is there'}")


def _request(method: str, url: str, headers: Sequence[str], frontend: Frontend) -> RequestHead:
    """The request judged as the frontend would judge it. Raises ``ValueError`` with the status that it would get."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "ws", "wss") or not parts.netloc:
        raise ValueError(f"{url}: expected a URL such as http://example.org/path")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", *headers, "", ""]
    try:
        return parse_request_head("\r\n".join(lines).encode(), frontend.limits)
    except HTTPError as error:
        raise ValueError(f"the proxy answers {error.status} {error.reason}: {error.detail}") from None


def _cluster(spec: ClusterSpec, configuration: Configuration, extensions: Extensions) -> Cluster:
    """The cluster as it would run, on a clock that stands still. A key file that is not there is not made."""
    directory = configuration.path.parent if configuration.path is not None else None
    key_file = spec.key_file or (directory / "stickyproxy.key" if directory is not None else None)
    if not spec.keys and (key_file is None or not key_file.exists()):
        spec = attrs.evolve(spec, keys=(bytes(Random().randbytes(32)),), key_file=None)
    return build_cluster(spec, Clock(), extensions, random=Random(), directory=directory)
