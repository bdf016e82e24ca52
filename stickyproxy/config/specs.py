"""The configuration as frozen values: what the TOML file means. Floor 2.

Durations are seconds (float), sizes are bytes (int), None is "unlimited". ``load`` makes these; nothing else reads TOML.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from stickyproxy.model import Backend


@attrs.frozen
class Route:
    """Predicate → cluster. ``host``: exact, ``*.example.org``, or None for any; ``path`` is a prefix."""

    cluster: str
    host: str | None = None
    path: str = "/"


@attrs.frozen
class FrontendTimeouts:
    """Seconds."""

    head: float = 10.0
    body: float = 30.0
    keep_alive: float = 75.0
    tunnel: float = 600.0


@attrs.frozen
class Limits:
    """Bytes, but ``fields`` counts. ``body`` None is unlimited."""

    target: int = 8 * 1024
    head: int = 64 * 1024
    fields: int = 100
    body: int | None = None


@attrs.frozen
class FrontendTLS:
    """TLS termination. Paths are absolute; each of ``certificates`` is a PEM file (chain and key) or a directory."""

    certificates: tuple[Path, ...]
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    client_ca: Path | None = None
    client_certificates: Literal["required", "optional"] = "required"


@attrs.frozen
class Frontend:
    """A listening endpoint and its treatment. ``access_log``: None (off), "-" (standard output) or a path."""

    name: str
    listen: tuple[str, ...]
    cluster: str | None
    protocol: Literal["http", "tcp"] = "http"
    routes: tuple[Route, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    accept_proxy_protocol: tuple[str, ...] = ()
    timeouts: FrontendTimeouts = FrontendTimeouts()
    limits: Limits = Limits()
    tls: FrontendTLS | None = None
    access_log: str | None = "-"


@attrs.frozen
class ClusterTimeouts:
    """Seconds."""

    connect: float = 5.0
    answer: float = 60.0


@attrs.frozen
class BackendTLS:
    """TLS to the backends of a cluster. ``ca`` None: the system's. ``server_name`` None: the endpoint's host."""

    ca: Path | None = None
    server_name: str | None = None
    certificate: Path | None = None
    verify: bool = True


@attrs.frozen
class Named:
    """An extension by name with its options (checked against its ``make``, converted to what that wants)."""

    name: str
    options: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class Pool:
    """Idle backend connections kept by each process: how many for one backend, and for how long (seconds)."""

    size: int = 64
    idle: float = 60.0


@attrs.frozen
class Cluster:
    """Interchangeable backends with one balancer and affinity. ``keys`` signs cookies: newest first."""

    name: str
    backends: tuple[Backend, ...]
    balance: Named = Named("round-robin")
    affinity: Named = Named("none")
    timeouts: ClusterTimeouts = ClusterTimeouts()
    pool: Pool = Pool()
    send_proxy_protocol: Literal[1, 2] | None = None
    tls: BackendTLS | None = None
    keys: tuple[bytes, ...] = ()
    key_file: Path | None = None


@attrs.frozen
class Configuration:
    """A whole file, valid: every cluster that a frontend names exists, and has a backend."""

    frontends: tuple[Frontend, ...]
    clusters: tuple[Cluster, ...]
    path: Path | None = None
