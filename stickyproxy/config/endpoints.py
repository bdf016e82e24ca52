"""Are these Twisted endpoint strings? Floor 2.

Twisted's own parsers judge the kinds that only compute; of the others (``systemd:`` looks at the environment, a
plug-in's may do anything) only the prefix is judged here, and the rest where they are used. No reactor is needed.
"""

from __future__ import annotations

import re
from ipaddress import ip_address

from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import (
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import getPlugins
from zope.interface import implementer

from stickyproxy.config.mistakes import instead

#: Where the port stands in what follows the prefix, for the kinds that have one.
_SERVER_PORT = {"tcp": 0, "tcp6": 0, "ssl": 0}
_CLIENT_PORT = {"tcp": 1, "ssl": 1, "tls": 1}


@implementer(IReactorPluggableNameResolver)
class _Nowhere:
    """Stands where a parser wants the reactor that its endpoint will use; these endpoints are never used."""

    nameResolver = None  # noqa: N815 - the interface's name

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:  # noqa: N802 - likewise
        raise NotImplementedError


def check_listen(text: str) -> None:
    """Raise ``ValueError`` unless ``text`` is an endpoint string to listen on (``serverFromString``)."""
    kind = _prefix(text, "tcp:8080", {p.prefix for p in getPlugins(IStreamServerEndpointStringParser)})
    _check_port(text, _SERVER_PORT.get(kind), lowest=0)
    if kind in ("tcp", "tcp6", "ssl", "unix"):
        _parse(serverFromString, text)


def check_backend(text: str) -> None:
    """Raise ``ValueError`` unless ``text`` is an endpoint string to connect to (``clientFromString``)."""
    plugged = {p.prefix for p in getPlugins(IStreamClientEndpointStringParserWithReactor)}
    kind = _prefix(text, "tcp:127.0.0.1:9001", plugged)
    _check_port(text, _CLIENT_PORT.get(kind), lowest=1)
    if kind in ("tcp", "ssl", "tls", "unix"):
        _parse(clientFromString, text)


def host_of(text: str) -> str | None:
    """The host that the endpoint string of a backend names; None for a kind that has none (``unix:``)."""
    kind, *arguments = _arguments(text)
    if kind not in _CLIENT_PORT:
        return None
    named = [a.removeprefix("host=") for a in arguments if a.startswith("host=")]
    return (named or arguments)[0].replace("\\:", ":")


def is_local(text: str) -> bool:
    """Whether only this machine reaches what the endpoint string of a listener names: a Unix socket, loopback."""
    kind, *arguments = _arguments(text)
    named = [a.removeprefix("interface=") for a in arguments if a.startswith("interface=")]
    interface = (named or [a for a in arguments if "=" not in a][1:2] or [""])[0]
    try:
        return kind == "unix" or (kind in _SERVER_PORT and ip_address(interface.replace("\\:", ":")).is_loopback)
    except ValueError:
        return False


def reached_at(text: str) -> tuple[str, int | None] | None:
    """Where this machine reaches what the endpoint string of a listener names: an address and a port.

    Of a Unix socket: its path and None. None: that is not in the text (``systemd:``, port 0).
    """
    kind, *arguments = _arguments(text)
    named = dict(a.split("=", 1) for a in arguments if re.match(r"[a-zA-Z]+=", a))
    plain = [re.sub(r"\\(.)", r"\1", a) for a in arguments if not re.match(r"[a-zA-Z]+=", a)]
    if kind == "unix":
        path = named.get("address") or (plain[0] if plain else "")
        return (re.sub(r"\\(.)", r"\1", path), None) if path else None
    port = named.get("port") or (plain[0] if plain else "")
    if kind not in ("tcp", "tcp6") or not re.fullmatch("[0-9]{1,5}", port) or not int(port):
        return None
    interface = named.get("interface", "").replace("\\:", ":") or "".join(plain[1:2])
    everywhere = {"": "::1" if kind == "tcp6" else "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
    return everywhere.get(interface, interface), int(port)


def address_of(text: str) -> tuple[str, int] | None:
    """The host and the port that the endpoint string of a backend names; None for a kind that has none."""
    host = host_of(text)
    if host is None:
        return None
    kind, *arguments = _arguments(text)
    named = [a.removeprefix("port=") for a in arguments if a.startswith("port=")]
    return host, int((named or arguments[_CLIENT_PORT[kind] :])[0])


def _arguments(text: str) -> list[str]:
    return re.split(r"(?<!\\):", text)


def _prefix(text: str, example: str, plugged: set[str]) -> str:
    kind, _, rest = text.partition(":")
    known = {"tcp", "ssl", "unix"} | plugged
    if not rest:
        raise ValueError(f'expected an endpoint string such as "{example}", found "{text}"')
    if kind not in known:
        raise ValueError(f'"{text}": unknown kind of endpoint "{kind}"; {instead(kind, known)}')
    return kind


def _check_port(text: str, position: int | None, lowest: int) -> None:
    """Twisted takes any integer; a port that cannot be would fail only when it is used."""
    if position is None:
        return
    _, *arguments = _arguments(text)
    ports = [a.removeprefix("port=") for a in arguments if a.startswith("port=")] or arguments[position : position + 1]
    if not ports:
        raise ValueError(f'"{text}": the port is missing')
    if not re.fullmatch("[0-9]{1,5}", ports[0]) or not lowest <= int(ports[0]) <= 65535:
        raise ValueError(f'"{text}": expected a port from {lowest} to 65535, found "{ports[0]}"')


def _parse(parse, text: str) -> None:  # type: ignore[no-untyped-def]  # Twisted's are untyped
    try:
        parse(_Nowhere(), text)
    except Exception as error:  # some raise TypeError for a wrong keyword, OpenSSL's for a file
        reason = re.sub(r"^\w+\(\) ", "", str(error)) or type(error).__name__
        raise ValueError(f'"{text}": {reason}') from error
