"""What must hold between the keys of a configuration. Floor 2.

The rules look at the tables as they were read, so that they speak even where a single value is wrong; what has the
wrong shape is skipped here, since its own mistake is told already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

import attrs

from stickyproxy.config import process
from stickyproxy.config.endpoints import is_local
from stickyproxy.config.limits import Limits
from stickyproxy.config.mistakes import Keys, dotted
from stickyproxy.config.structure import Extensions, asks_for, shorthand, with_mode, words_of
from stickyproxy.interfaces import IAffinity

Found = tuple[Keys, str]

#: Affinities that need HTTP, since the client has to carry something.
HTTP_AFFINITIES = frozenset(
    {"cookie", "learned", "header", "query", "path", "host", "bearer", "engine.io", "sockjs", "mcp"}
)
HTTP_FRONTEND_KEYS: tuple[Keys, ...] = (
    ("trusted_proxies",),
    ("trace",),
    ("websocket",),
    *(("limits", limit.name) for limit in attrs.fields(Limits) if not limit.name.startswith("connections")),
    ("timeouts", "head"),
    ("timeouts", "body"),
    ("timeouts", "send"),
    ("timeouts", "keep_alive"),
    ("timeouts", "linger"),
)
HTTP_CLUSTER_KEYS: tuple[Keys, ...] = (("pool",), ("sessions", "steering"), ("limits",), ("timeouts", "answer"))


def broken_rules(document: Mapping[str, Any], extensions: Extensions) -> Iterator[Found]:
    """Every rule that ``document`` breaks: the keys of the place, and what to do instead."""
    frontends, clusters = _tables(document, "frontend"), _tables(document, "cluster")
    for name, frontend in frontends.items():
        for keys, message in _frontend(frontend):
            yield ("frontend", name, *keys), message
    for name, cluster in clusters.items():
        users = {key: f for key, f in frontends.items() if name in _used(f)}
        for keys, message in _cluster(cluster, users, extensions):
            yield ("cluster", name, *keys), message
        for keys, message in _places(cluster, _table(document, "process").get("workers")):
            yield ("cluster", name, *keys), message
    yield from _groups(clusters)
    yield from _logs(document, frontends)
    yield from _admin(_table(document, "admin"))
    if "opentelemetry" in document and not any(
        frontend.get("trace", False) is not False for frontend in frontends.values()
    ):
        yield ("opentelemetry",), "no frontend has trace: there is nothing to send"
    for keys, message in process.broken_rules(_table(document, "process")):
        yield ("process", *keys), message


def _frontend(frontend: Mapping[str, Any]) -> Iterator[Found]:
    tcp = frontend.get("protocol") == "tcp"
    if tcp:
        for keys in HTTP_FRONTEND_KEYS:
            proxied = keys == ("timeouts", "head") and {"accept_proxy_protocol", "tls"} & frontend.keys()  # theirs, too
            if _has(frontend, keys) and not proxied:
                yield keys, 'only for protocol = "http"'
    if "cluster" not in frontend and not frontend.get("routes"):
        yield ("cluster",), "required: the name of a cluster, or routes"
    yield from _inspecting(frontend, tcp)
    if "pong" in _table(frontend, "websocket") and "ping" not in _table(frontend, "websocket"):
        yield ("websocket", "pong"), "needs ping: nobody is asked"
    if "client_certificates" in _table(frontend, "tls") and "client_ca" not in _table(frontend, "tls"):
        yield ("tls", "client_certificates"), "needs client_ca: the authorities that the certificates are verified with"
    for keys, access in _accesses(frontend):
        for within, message in _access(access, tcp):
            yield (*keys, *within), message
    seen: dict[tuple[Any, Any], int] = {}
    for position, route in enumerate(_routes(frontend)):
        predicate = (str(route.get("host")).lower(), str(route.get("path", "/")))
        first = seen.setdefault(predicate, position)
        if first != position:
            yield ("routes", position), f"routes[{first}] has the same host and path, so that this one is never used"


def _logs(document: Mapping[str, Any], frontends: Mapping[str, Any]) -> Iterator[Found]:
    """Rotating by size is for files, and whoever writes one must agree on how."""
    rotated: dict[str, tuple[str, str]] = {}
    places: list[tuple[Keys, Mapping[str, Any]]] = [((), document)]
    places += [(("frontend", name), frontend) for name, frontend in frontends.items()]
    for keys, place in places:
        table, at = _table(place, "access_log"), (*keys, "access_log")
        path, size, keep = table.get("path", "-"), table.get("size"), table.get("keep")
        if keep is not None and size is None:
            yield (*at, "keep"), "needs size: nothing is rotated"
        if size is not None and path == "-":
            yield (*at, "size"), "needs path: standard output is not a file that can be rotated"
        elif table and isinstance(path, str):
            how = (str(size), str(keep))
            if rotated.setdefault(path, how) != how:
                yield (*at, "path"), "another access log has this file, with another size or keep: say the same of both"


def _accesses(frontend: Mapping[str, Any]) -> Iterator[tuple[Keys, dict[str, Any]]]:
    yield ("access",), _table(frontend, "access")
    for position, route in enumerate(_routes(frontend)):
        yield ("routes", position, "access"), _table(route, "access")


def _access(access: Mapping[str, Any], tcp: bool) -> Iterator[Found]:
    for key in ("users_file", "realm"):
        if tcp and key in access:
            yield (key,), 'only for protocol = "http"'
    if "realm" in access and "users_file" not in access:
        yield ("realm",), "needs users_file: nobody is asked for a password"
    if access.get("allow") == []:
        yield ("allow",), 'names nobody: leave it out, or write deny = ["0.0.0.0/0", "::/0"]'
    for network in sorted(_networks(access.get("allow")) & _networks(access.get("deny"))):
        yield ("deny",), f'"{network}" stands in allow, too'


def _networks(value: Any) -> set[str]:
    """What of a list of networks is right."""
    networks = set()
    for item in value if isinstance(value, list) else [value]:
        with suppress(ValueError):
            networks.add(str(ip_network(item)) if isinstance(item, str) else "")
    return networks - {""}


def _inspecting(frontend: Mapping[str, Any], tcp: bool) -> Iterator[Found]:
    """A TCP frontend knows a host to route by only where the inspector of TLS finds one."""
    if "inspect" in frontend and not tcp:
        yield ("inspect",), 'only for protocol = "tcp"'
    inspect = frontend.get("inspect")
    table = inspect if isinstance(inspect, dict) else {"by": inspect}
    by_tls = table.get("by") == "tls"
    if by_tls and "tls" in frontend:
        yield ("inspect",), '"tls" is for TLS that is passed through, but it ends here: leave this out, or tls'
    if not tcp or "routes" not in frontend:
        return
    if not by_tls or table.get("key", "sni") != "sni":
        yield ("routes",), 'only for protocol = "http", or with inspect = "tls"'
    for position, route in enumerate(_routes(frontend)):
        for key in {"path", "access"} & route.keys():
            yield ("routes", position, key), 'only for protocol = "http"'


def _cluster(cluster: Mapping[str, Any], users: Mapping[str, Any], extensions: Extensions) -> Iterator[Found]:
    tcp = [name for name, frontend in users.items() if frontend.get("protocol") == "tcp"]
    affinities = _affinities(cluster.get("affinity", "none"), extensions)
    for message in _useless(affinities, users, tcp):
        yield ("affinity", "by"), message
    if tcp and len(tcp) == len(users):
        for keys in HTTP_CLUSTER_KEYS:
            if _has(cluster, keys):
                yield keys, 'only for HTTP, but every frontend of this cluster has protocol = "tcp"'
    known = [found for name in affinities if (found := extensions.of(IAffinity).get(name)) is not None]
    what = f'affinity "{" + ".join(affinities)}"'
    if len(known) == len(affinities):
        signing = any(asks_for(extension, "key_ring") for extension in known)
        for key in sorted({"keys", "key_file"} & cluster.keys()):
            if not signing:
                yield (key,), f"{what} signs nothing: leave this out"
        if "sessions" in cluster and not (signing or any(asks_for(extension, "sessions") for extension in known)):
            yield ("sessions",), f"{what} keeps none: leave this out"
    if "keys" in cluster and "key_file" in cluster:
        yield ("key_file",), "stands beside keys: keep one of them"
    yield from _health(cluster)
    yield from _backend_tls(cluster)


def _useless(affinities: list[str], users: Mapping[str, Any], tcp: list[str]) -> Iterator[str]:
    """Why the affinities cannot be together, or the one that there is would never find anything."""
    if affinities.count("cookie") > 1:
        yield "only one affinity of a chain may have a cookie of its own"
    if len(affinities) != 1:
        return
    (affinity,) = affinities
    if tcp and affinity.partition("/")[0] in HTTP_AFFINITIES:
        where = dotted(("frontend", tcp[0]))
        yield f'{words_of(affinity)} needs HTTP, but {where} is TCP: use "source", or another cluster there'
    if affinity == "tlv" and not any(frontend.get("accept_proxy_protocol") for frontend in users.values()):
        yield '"tlv" needs a PROXY header, but no frontend of this cluster has accept_proxy_protocol'
    uninspected = [name for name in tcp if "inspect" not in users[name]]
    if affinity == "key" and uninspected:
        where = dotted(("frontend", uninspected[0]))
        yield f'"key" needs an inspector, but {where} has none: say there what finds it (inspect)'


def _affinities(value: Any, extensions: Extensions) -> list[str]:
    """The names of a cluster's affinity, or of the links of a chain, as far as they are names."""
    table = value if isinstance(value, dict) else {"by": value}
    by, known = table.get("by"), extensions.of(IAffinity)
    links = [link if isinstance(link, dict) else {"by": link} for link in by] if isinstance(by, list) else [table]
    pairs = [(link.get("by"), link) for link in links]
    return [with_mode(shorthand(by, known)[0], link, known)[0] for by, link in pairs if isinstance(by, str)]


def _groups(clusters: Mapping[str, Any]) -> Iterator[Found]:
    """Clusters that share sessions keep them alike; what becomes of them is each one's own."""
    first: dict[Any, str] = {}
    for name, cluster in clusters.items():
        group = _table(cluster, "sessions").get("group")
        if not isinstance(group, str):
            continue
        other = first.setdefault(group, name)
        if group in clusters and _table(clusters[group], "sessions").get("group") != group:  # cookies of one scope
            yield ("cluster", name, "sessions", "group"), f"cluster.{group} is not in it: give the group another name"
        mine, theirs = (_table(one, "sessions") for one in (cluster, clusters[other]))
        kept = ("idle", "lifetime", "size", "memory")
        differing: list[Keys] = [("sessions", key) for key in kept if mine.get(key) != theirs.get(key)]
        if all({"keys", "key_file"} & one.keys() for one in (cluster, clusters[other])):
            differing += [(key,) for key in ("keys", "key_file") if cluster.get(key) != clusters[other].get(key)]
        for keys in differing:
            yield ("cluster", name, *keys), f'differs from cluster.{other}, which shares the group "{group}"'


def _admin(admin: Mapping[str, Any]) -> Iterator[Found]:
    listen = admin.get("listen")
    open_to_others = [text for text in (listen if isinstance(listen, list) else [listen]) if not is_local(str(text))]
    if "listen" in admin and open_to_others and "token_file" not in admin:
        yield ("admin", "token_file"), f'required: "{open_to_others[0]}" can be reached from elsewhere'


def _health(cluster: Mapping[str, Any]) -> Iterator[Found]:
    if "when_all_down" in cluster and not {"probe", "eject"} & cluster.keys():
        yield ("when_all_down",), "needs probe or eject: nobody is known to be down"
    eject = _table(cluster, "eject")
    for key in ("window", "least"):
        if key in eject and "failure_rate" not in eject:
            yield ("eject", key), "needs failure_rate: nothing is looked at in a window"


def _places(cluster: Mapping[str, Any], workers: Any) -> Iterator[Found]:
    """How many each backend serves, and who is there for when that is not enough."""
    backends = _tables(cluster, "backends")
    limits: dict[Keys, Any] = {("max_connections",): cluster.get("max_connections")}
    limits |= {("backends", name, "max_connections"): each.get("max_connections") for name, each in backends.items()}
    limits = {keys: limit for keys, limit in limits.items() if type(limit) is int}
    for keys, limit in limits.items():
        if type(workers) is int and limit < workers:
            yield keys, f"less than process.workers, {workers}: each of them serves one at least"
    if "queue" in cluster and not limits:
        yield ("queue",), "needs max_connections: nobody has to wait"
    backups = [name for name, each in backends.items() if each.get("backup") is True]
    if "use_backups" in cluster and not backups:
        yield ("use_backups",), "needs a backend with backup = true"
    elif cluster.get("use_backups") == "full" and not limits:
        yield ("use_backups",), "needs max_connections: nobody is ever full"
    if backups and len(backups) == len(_table(cluster, "backends")):
        yield ("backends", backups[0], "backup"), "every backend is one: leave this out where it is not"


def _backend_tls(cluster: Mapping[str, Any]) -> Iterator[Found]:
    tls = cluster.get("tls")
    if tls is not True and not isinstance(tls, dict):
        return
    table = _table(cluster, "tls")
    if table.get("verify") is False and "ca" in table:
        yield ("tls", "ca"), "is not used where verify = false: leave one of them out"
    for name, backend in _table(cluster, "backends").items():
        endpoint = backend.get("endpoint") if isinstance(backend, dict) else backend
        kind = str(endpoint).partition(":")[0]
        if kind in ("tls", "ssl"):
            yield ("backends", name), f'"{kind}:" is TLS already: write "tcp:", or leave tls out of the cluster'
        elif kind == "unix" and table.get("verify", True) and "server_name" not in table:
            yield ("backends", name), '"unix:" names no host that the backend could prove: add tls.server_name'


def _table(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}


def _tables(table: Mapping[str, Any], key: str) -> dict[str, dict[str, Any]]:
    return {name: entry for name, entry in _table(table, key).items() if isinstance(entry, dict)}


def _routes(frontend: Mapping[str, Any]) -> list[dict[str, Any]]:
    routes = frontend.get("routes")
    return routes if isinstance(routes, list) and all(isinstance(route, dict) for route in routes) else []


def _used(frontend: Mapping[str, Any]) -> set[Any]:
    return {str(entry.get("cluster")) for entry in (frontend, *_routes(frontend))}


def _has(table: Mapping[str, Any], keys: Keys) -> bool:
    *parents, last = keys
    for key in parents:
        table = _table(table, str(key))
    return last in table
