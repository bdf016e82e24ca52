"""What only shows when parts are made, tried before anything is changed. Floor 6."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from stickyproxy.config import Configuration, ConfigurationErrors, Mistake, document_at, parse
from stickyproxy.config.admin import Admin
from stickyproxy.config.mistakes import Keys, dotted
from stickyproxy.config.named import Named
from stickyproxy.config.specs import BackendTLS, FrontendTLS
from stickyproxy.control.operators import read_tokens
from stickyproxy.control.reloading import Loaded
from stickyproxy.errors import StickyproxyError
from stickyproxy.extensions import Extensions, make
from stickyproxy.interfaces import IAffinity, IBalancer, IStreamInspector
from stickyproxy.passwords import load_users
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.sansio.tokens import KeyRing
from stickyproxy.tls import CertificateStore, client_creator, server_connection_creator


def read_again(path: Path, extensions: Extensions, document: bytes | None = None) -> Loaded:
    """The configuration in the file at ``path``, tried with all that it names. Raises ``ConfigurationErrors``.

    ``document``: what would stand in the file, None: what does.
    """
    if document is None:
        document = document_at(path)
    configuration = parse(document, extensions, path)
    trial(configuration, extensions, files=True)
    return Loaded(document, configuration)


def trial(configuration: Configuration, extensions: Extensions, *, files: bool) -> None:
    """Raise ``ConfigurationErrors`` with all that ``mistakes_of`` finds."""
    if mistakes := list(mistakes_of(configuration, extensions, files=files)):
        raise ConfigurationErrors(mistakes)


def mistakes_of(configuration: Configuration, extensions: Extensions, *, files: bool) -> Iterator[Mistake]:
    """Mistakes that only show when parts are made: combinations of options, and (``files``) what PEM files hold."""
    filled_in = {
        "key_ring": KeyRing([bytes(16)]),
        "clock": time.time,
        "random": Random(0),
        "sessions": SessionTable(time.time),
    }
    attempts: list[tuple[Keys, Callable[[], Any]]] = []
    for cluster in configuration.clusters:
        ours = {"cluster": cluster.name, "backends": cluster.backends}
        for key, interface in (("balance", IBalancer), ("affinity", IAffinity)):
            chosen: Named = getattr(cluster, key)
            for named in chosen.links or (chosen,):
                extension = extensions.of(interface)[named.name]
                attempt = partial(make, extension, named.options, **filled_in, **ours)
                attempts.append((("cluster", cluster.name, key), attempt))
    for frontend in configuration.frontends:
        if (inspect := frontend.inspect) is not None:
            attempt = partial(make, extensions.of(IStreamInspector)[inspect.name], inspect.options)
            attempts.append((("frontend", frontend.name, "inspect"), attempt))
    if files:
        attempts += [
            (("cluster", c.name, "tls"), partial(_backend_tls, c.tls)) for c in configuration.clusters if c.tls
        ]
        attempts += [
            (("frontend", f.name, "tls"), partial(_frontend_tls, f.tls)) for f in configuration.frontends if f.tls
        ]
        attempts += [
            (("frontend", f.name, *keys, "users_file"), partial(load_users, access.users_file))
            for f in configuration.frontends
            for keys, access in f.accesses()
            if access.users_file is not None
        ]
        attempts += _admin(configuration.admin) if configuration.admin is not None else []
    for keys, try_it in attempts:
        try:
            try_it()
        except (StickyproxyError, ValueError) as error:
            yield Mistake(configuration.path, dotted(keys), str(error))


def _admin(admin: Admin) -> Iterator[tuple[Keys, Callable[[], Any]]]:
    if admin.token_file is not None:
        yield ("admin", "token_file"), partial(read_tokens, admin.token_file)
    if admin.tls is not None:
        yield ("admin", "tls"), partial(_frontend_tls, admin.tls)


def _frontend_tls(tls: FrontendTLS) -> None:
    server_connection_creator(CertificateStore.load(tls.certificates), client_ca=tls.client_ca)


def _backend_tls(tls: BackendTLS) -> None:
    client_creator(tls.server_name or "localhost", ca=tls.ca, certificate=tls.certificate, verify=tls.verify)
