"""A running proxy, asked by its admin API over HTTP, HTTPS or a Unix socket. Floor 7.

Where it listens and who we are stands in its configuration. Of that only ``[admin]`` is read here: a mistake elsewhere
in the file, while somebody edits it, does not keep an operator from the proxy that runs.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import tomllib
from argparse import Namespace
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from stickyproxy.command.answers import Failure, Status
from stickyproxy.config.endpoints import reached_at
from stickyproxy.control.operators import read_tokens
from stickyproxy.errors import StickyproxyError

#: The statuses that a token has to do with.
_FORBIDDEN = (401, 403, 429)


class Place(NamedTuple):
    """Where a proxy is asked. ``port`` None: ``host`` is the path of a Unix socket. ``context``: it speaks TLS."""

    host: str
    port: int | None
    context: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"unix:{self.host}" if self.port is None else f"{self.host}:{self.port}"


class Instance:
    """One running proxy. ``token_file`` None: nothing can be changed; ``timeout`` is in seconds."""

    def __init__(self, place: Place, token_file: Path | None, timeout: float) -> None:
        self.place = place
        self.timeout = timeout
        self._reason = "no token is given: --token-file FILE, or admin.token_file in the configuration"
        self._token: str | None = None
        if token_file is not None:
            try:
                self._token = read_tokens(token_file, trusted=False)[0][1]
            except StickyproxyError as error:
                self._reason = str(error)

    def ask(
        self,
        method: str,
        path: str,
        tells: str,
        body: Mapping[str, Any] | str | None = None,
        query: Mapping[str, str | None] | None = None,
    ) -> dict[str, Any]:
        """The JSON object of an answer; a good one ``tells`` that. ``body`` is sent as JSON, text as TOML.

        Raises ``Failure``.
        """
        status, data = self._exchange(method, path, body, query)
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or (tells if status < 300 else "detail") not in answer:
            text = f"{self.place} answers, but not as the admin API of stickyproxy does"
            raise Failure(text, Status.AWAY)
        if status < 300:
            return answer
        if status in _FORBIDDEN:
            hint = f" ({self._reason})" if self._token is None else ""
            raise Failure(f"{self.place}: {answer['detail']}{hint}", Status.FORBIDDEN)
        raise Failure(answer["detail"], mistakes=answer.get("mistakes", ()))

    def _exchange(
        self, method: str, path: str, body: Mapping[str, Any] | str | None, query: Mapping[str, str | None] | None
    ) -> tuple[int, bytes]:
        fields = {"Accept": "application/json", "User-Agent": "stickyproxy", "Connection": "close"}
        if self._token is not None:
            fields["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            fields["Content-Type"] = "application/toml" if isinstance(body, str) else "application/json"
        data = body if isinstance(body, str) or body is None else json.dumps(body)
        asked = {key: value for key, value in (query or {}).items() if value is not None}
        connection = self._connection()
        try:
            target = f"{path}?{urlencode(asked)}" if asked else path
            connection.request(method, target, None if data is None else data.encode(), fields)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", None) or error.reason or error
            raise Failure(f"{self.place}: its certificate is not believed: {reason}; see --ca", Status.AWAY) from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Failure(f"{self.place} cannot be reached: {reason}", Status.AWAY) from error
        finally:
            connection.close()

    def _connection(self) -> HTTPConnection:
        host, port, context = self.place
        if port is None:
            return _UnixConnection(host, self.timeout)
        if context is not None:
            return HTTPSConnection(host, port, timeout=self.timeout, context=context)
        return HTTPConnection(host, port, timeout=self.timeout)


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def path_of(*parts: str) -> str:
    """A path of the API; each part is quoted."""
    return "/api/" + "/".join(quote(part, safe="") for part in parts)


def instance_of(chosen: Namespace, config: Path | None = None) -> Instance:
    """The proxy that the words name: by ``--admin``, or by a configuration. Raises ``Failure``."""
    config = config or chosen.config
    admin = _admin_table(config) if config is not None else {}
    token_file = chosen.token_file
    if token_file is None and config is not None and isinstance(admin.get("token_file"), str):
        token_file = config.parent / admin["token_file"]
    if chosen.admin is not None:
        place = _place_of_url(chosen.admin, chosen.ca)
    elif config is None:
        raise Failure("say which proxy: -c FILE, its configuration, or --admin URL", Status.WORDS)
    elif not admin:
        raise Failure(f"{config}: there is no [admin], so that nobody can ask what runs", Status.AWAY)
    else:
        place = _place_of(admin, config, chosen.ca)
    return Instance(place, token_file, chosen.timeout)


def _admin_table(config: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(config.read_text("utf-8")).get("admin", {})
    except OSError as error:
        raise Failure(f"{config}: {error.strerror}") from None
    except ValueError as error:
        raise Failure(f"{config}: {error}") from None
    return table if isinstance(table, dict) else {}


def _texts(value: Any) -> list[str]:
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


def _place_of(admin: Mapping[str, Any], config: Path, ca: Path | None) -> Place:
    """The first listener of ``[admin]`` that can be reached from here."""
    tls = admin.get("tls")
    for endpoint in _texts(admin.get("listen")):
        host, port = reached_at(endpoint) or (None, None)
        if host is not None:
            secure = isinstance(tls, dict) and port is not None
            return Place(host, port, _context(ca, tls, config.parent) if secure else None)
    raise Failure(f"{config}: admin.listen does not tell where that is: give --admin URL", Status.AWAY)


def _place_of_url(url: str, ca: Path | None) -> Place:
    parts = urlsplit(url)
    if parts.scheme == "unix" and parts.path:
        return Place(parts.path, None)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or parts.path.strip("/"):
        raise Failure(f"--admin {url}: expected http://HOST:PORT, https://HOST:PORT or unix:PATH", Status.WORDS)
    secure = parts.scheme == "https"
    return Place(parts.hostname, port or (443 if secure else 80), _context(ca, None, Path()) if secure else None)


def _context(ca: Path | None, tls: Any, directory: Path) -> ssl.SSLContext:
    """Who is believed: what ``--ca`` says; else, by a configuration, the very certificates that stand in it."""
    context = ssl.create_default_context(cafile=None if ca is None else os.fspath(ca))
    if ca is not None or not isinstance(tls, dict):
        return context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # it is that certificate, whatever it is called by
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    for name in _texts(tls.get("certificates")):
        path = directory / name
        for file in sorted(path.glob("*.pem")) if path.is_dir() else [path]:
            try:
                context.load_verify_locations(file)
            except OSError as error:  # SSLError is one
                raise Failure(f"{file}: {error.strerror or error}; see --ca", Status.AWAY) from error
    return context
