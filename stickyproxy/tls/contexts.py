"""OpenSSL contexts: what both sides agree on, and the server's. Floor 2.

TLS 1.2 (RFC 5246) and 1.3 (RFC 8446) with the cipher suites of Mozilla's "intermediate" recommendation 5.7, less those
with finite-field Diffie-Hellman: no parameters to keep, and no CVE-2002-20001. All of them are strong, so the client's
order counts. Groups are OpenSSL's own (X25519MLKEM768 first, where it knows that).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from stickyproxy.tls.certificates import Certificate, CertificateStore, TLSConfigurationError, load_authorities

_CIPHERS = b":".join(
    [
        b"ECDHE-ECDSA-AES128-GCM-SHA256",
        b"ECDHE-RSA-AES128-GCM-SHA256",
        b"ECDHE-ECDSA-AES256-GCM-SHA384",
        b"ECDHE-RSA-AES256-GCM-SHA384",
        b"ECDHE-ECDSA-CHACHA20-POLY1305",
        b"ECDHE-RSA-CHACHA20-POLY1305",
    ]
)
_VERSIONS = {"1.2": SSL.TLS1_2_VERSION, "1.3": SSL.TLS1_3_VERSION}
_CLIENT_CERTIFICATES = {
    "required": SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
    "optional": SSL.VERIFY_PEER,
}


def new_context(method: int, minimum_version: Literal["1.2", "1.3"]) -> SSL.Context:
    """A context without certificates: versions, ciphers, no compression, no renegotiation, small when idle."""
    context = SSL.Context(method)
    context.set_min_proto_version(_VERSIONS[minimum_version])
    context.set_cipher_list(_CIPHERS)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    return context


def use_certificate(context: SSL.Context, certificate: Certificate) -> None:
    """Show ``certificate`` with its chain. Raises ``TLSConfigurationError`` where OpenSSL finds it too weak."""
    try:
        context.use_certificate(certificate.chain[0])
        context.use_privatekey(certificate.key)  # type: ignore[arg-type]
        for link in certificate.chain[1:]:
            context.add_extra_chain_cert(link)
    except (SSL.Error, TypeError) as error:
        raise TLSConfigurationError(
            f"{certificate.path}: OpenSSL refuses this certificate or key ({reasons(error)}): make one with "
            "an ECDSA P-256 key, or RSA of 2048 bits or more, signed with SHA-256"
        ) from error


def trust(context: SSL.Context, ca: Path) -> tuple[x509.Certificate, ...]:
    """Verify the peer's certificate by the PEM file ``ca`` and nothing else. It returns what that holds."""
    authorities = load_authorities(ca)
    context.load_verify_locations(ca)
    return authorities


def refusal(text: str, kind: type[SSL.Error] = SSL.Error) -> SSL.Error:
    """An error in the form of OpenSSL's queue: raised in a callback, it fails the handshake, with this reason."""
    return kind([("SSL routines", "", text)])


def reasons(error: Exception) -> str:
    """What OpenSSL says, without its library and function names."""
    queue = error.args[0] if error.args else []
    return "; ".join(entry[-1] for entry in queue if entry) if isinstance(queue, list) else str(error)


@implementer(IOpenSSLServerConnectionCreator)
class ServerConnectionCreator:
    """One context for each certificate of a store, chosen by SNI. Make it with ``server_connection_creator``."""

    def __init__(self, store: CertificateStore, contexts: dict[Certificate, SSL.Context]) -> None:
        self.store = store
        self._contexts = contexts
        self._default = contexts[store.default]
        self._default.set_tlsext_servername_callback(self._choose)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        return SSL.Connection(self._default)

    def _choose(self, connection: SSL.Connection) -> None:
        context = self._contexts[self.store.choose(connection.get_servername())]
        if context is not self._default:
            connection.set_context(context)


def server_connection_creator(
    store: CertificateStore,
    *,
    minimum_version: Literal["1.2", "1.3"] = "1.2",
    client_ca: Path | None = None,
    client_certificates: Literal["required", "optional"] = "required",
    alpn: Sequence[bytes] = (b"http/1.1", b"http/1.0"),
) -> ServerConnectionCreator:
    """What makes the server side of TLS connections, for all of its certificates.

    ``client_ca``: a PEM file; clients must (or, if ``"optional"``, may) show a certificate that it verifies.
    ``alpn``: the protocols that we speak, best first. A client that offers others only is refused with the alert
    no_application_protocol (RFC 7301 section 3.2, as nginx does); one that offers none is served. Empty: ALPN is not
    looked at. Sessions are resumed by ticket and, in TLS 1.2, by identifier.

    Raises ``TLSConfigurationError``.
    """
    # The same for all certificates: a connection that SNI moved to another context must be resumable there
    session_context = secrets.token_bytes(16)
    contexts = {}
    for certificate in store.certificates:
        context = new_context(SSL.TLS_SERVER_METHOD, minimum_version)
        use_certificate(context, certificate)
        context.set_session_id(session_context)
        context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
        if client_ca is not None:
            for authority in trust(context, client_ca):
                context.add_client_ca(authority)
            context.set_verify(_CLIENT_CERTIFICATES[client_certificates])
        if alpn:
            context.set_alpn_select_callback(_alpn_choice(tuple(alpn)))
        contexts[certificate] = context
    return ServerConnectionCreator(store, contexts)


def _alpn_choice(ours: tuple[bytes, ...]) -> Callable[[SSL.Connection, list[bytes]], bytes]:
    def choose(connection: SSL.Connection, theirs: list[bytes]) -> bytes:
        for protocol in ours:
            if protocol in theirs:
                return protocol
        raise refusal("the client offers no application protocol that is spoken here")

    return choose
