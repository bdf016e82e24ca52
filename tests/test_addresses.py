"""Who is at the other end of a transport, and what its TLS handshake told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol

from stickyproxy.addresses import connection_of
from stickyproxy.model import Connection
from stickyproxy.testing import MemoryTransport
from stickyproxy.tls import (
    CertificateStore,
    client_creator,
    server_connection_creator,
    tls_factory,
    wrap_client_endpoint,
)


def _pem(directory: Path, authority: trustme.CA, name: str) -> Path:
    path = directory / f"{name}.pem"
    path.write_bytes(authority.issue_cert(name).private_key_and_cert_chain_pem.bytes())
    return path


@pytest.mark.parametrize("shown", [True, False])
@ensureDeferred
async def test_what_tls_told(tmp_path: Path, shown: bool) -> None:
    """A connection with TLS is known by the name that was asked for, and the certificate that was shown."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca"))
    server, client = _pem(tmp_path, authority, "shop.example"), _pem(tmp_path, authority, "ann.example")
    told: Deferred[Connection | None] = Deferred()

    class Told(Protocol):
        def connectionMade(self) -> None:
            told.callback(connection_of(self.transport))
            self.transport.loseConnection()  # type: ignore[union-attr]

    class Ends(Protocol):
        def connectionLost(self, reason: Any = None) -> None:
            ended.callback(None)

    ended: Deferred[None] = Deferred()
    creator = server_connection_creator(
        CertificateStore.load([server]), client_ca=tmp_path / "ca", client_certificates="optional"
    )
    factory = tls_factory(creator, Factory.forProtocol(Told), reactor)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
    ours = client_creator("shop.example", ca=tmp_path / "ca", certificate=client if shown else None)
    endpoint = wrap_client_endpoint(TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port), ours, reactor)
    await connectProtocol(endpoint, Ends())
    digest = x509.load_pem_x509_certificate(client.read_bytes()[client.read_bytes().index(b"-----BEGIN CERT") :])
    assert await told == Connection(b"shop.example", digest.fingerprint(SHA256()) if shown else None)
    await ended
    await port.stopListening()


def test_nothing_is_told_without_tls() -> None:
    """A plain connection is known by its address alone."""
    assert connection_of(MemoryTransport(Protocol())) is None
