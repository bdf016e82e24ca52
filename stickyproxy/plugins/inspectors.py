"""The stream inspectors that come with stickyproxy. Floor 3.

The parameters of the functions here, their types and defaults, are the options in the configuration.
"""

from __future__ import annotations

from typing import Annotated, Literal

from stickyproxy.config.units import Told
from stickyproxy.extensions import Extension
from stickyproxy.interfaces import IStreamInspector
from stickyproxy.sansio.inspecting import (
    MQTTInspector,
    PostgreSQLInspector,
    RDPInspector,
    RedisInspector,
    TLSInspector,
)


def _mqtt(
    key: Annotated[
        Literal["client-id", "user"], Told("Which of the two is the key.", "nginx `mqtt_preread`")
    ] = "client-id",
) -> MQTTInspector:
    """The client identifier or the user name of MQTT's CONNECT packet (3.1, 3.1.1 and 5.0). Up to `4KiB` in `5s`."""
    return MQTTInspector(key)


def _postgresql(
    key: Annotated[Literal["user", "database"], Told("Which of the two is the key.")] = "user",
) -> PostgreSQLInspector:
    """The user or the database of PostgreSQL's startup message. Up to `4KiB` in `5s`.

    A client that asks for encryption first has no key: `sslmode=disable gssencmode=disable` in its connection string.
    """
    return PostgreSQLInspector(key)


def _redis() -> RedisInspector:
    """The user of Redis' `AUTH` or `HELLO`, else the name of `HELLO` or `CLIENT SETNAME`. Up to `4KiB` in `5s`.

    The first command decides. The user `default` is no key, and a password never is one.
    """
    return RedisInspector()


def _rdp() -> RDPInspector:
    """The cookie (`mstshash`, `msts`) or the routing token of an RDP connection request. Up to `4KiB` in `5s`."""
    return RDPInspector()


def _tls(
    key: Annotated[
        Literal["sni", "alpn"],
        Told("The server's name, or the protocols asked for.", "HAProxy `req.ssl_sni`, `req.ssl_alpn`"),
    ] = "sni",
) -> TLSInspector:
    """What the ClientHello of TLS asks for, where TLS is passed through. Up to `16KiB` in `5s`."""
    return TLSInspector(key)


mqtt = Extension("mqtt", IStreamInspector, _mqtt)
postgresql = Extension("postgresql", IStreamInspector, _postgresql)
redis = Extension("redis", IStreamInspector, _redis)
rdp = Extension("rdp", IStreamInspector, _rdp)
tls = Extension("tls", IStreamInspector, _tls)
