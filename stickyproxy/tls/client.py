"""The client side of TLS: whom we connect to is verified, and sessions are resumed. Floor 2.

The identity of the server is verified by service-identity (RFC 9525) while the handshake runs, so that a wrong server
is told by an alert and never sees a byte of ours. Twisted's ``optionsForClientTLS`` does that too, but leaves the
reason of a failure at "certificate verify failed", and resumes no sessions.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import idna
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import CertificateError, VerificationError
from service_identity.cryptography import extract_patterns
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

from stickyproxy.tls.certificates import TLSConfigurationError, load_certificate
from stickyproxy.tls.contexts import new_context, refusal, trust, use_certificate

_log = Logger()

#: X509_V_ERR_* of OpenSSL's x509_vfy.h that say who must do what.
_FAULTS = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed, and not a trusted one",
    19: "was issued by an authority that is not trusted (its chain ends in a self-signed one)",
    20: "was issued by an authority that is not trusted",
    21: "was issued by an authority that is not trusted",
    26: "is not made for servers (extendedKeyUsage)",
    66: "has a key that is too weak",
    68: "has a signature that is too weak",
}


class PeerCertificateError(SSL.Error):
    """The server's certificate is not what it must be; the text says whose, and what is wrong with it."""

    def __str__(self) -> str:
        return str(self.args[0][-1][-1])


@implementer(IOpenSSLClientConnectionCreator)
class ClientConnectionCreator:
    """Makes the client side of TLS connections to one server name. Make it with ``client_creator``."""

    def __init__(self, context: SSL.Context, server_name: str, *, verify: bool) -> None:
        self.server_name = server_name
        self._identity, self._sni = _identify(server_name)
        self._session: SSL.Session | None = None
        self._context = context
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # the newest session is kept here instead
        context.set_info_callback(self._keep_session)
        if verify:
            context.set_verify(SSL.VERIFY_PEER, self._verify)

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context)
        if self._sni is not None:
            connection.set_tlsext_host_name(self._sni)
        if self._session is not None:
            connection.set_session(self._session)
        return connection

    def _keep_session(self, connection: SSL.Connection, where: int, result: int) -> None:
        # The state machine comes to rest after the handshake, and in TLS 1.3 after each ticket that the server sends
        if where == SSL.SSL_CB_CONNECT_EXIT and result == 1:
            self._session = connection.get_session()

    def _verify(self, connection: SSL.Connection, certificate: X509, fault: int, depth: int, fine: int) -> bool:
        if not fine:
            whose = "the certificate" if depth == 0 else f"an issuer (number {depth} in the chain) of the certificate"
            what = _FAULTS.get(fault, f"cannot be verified (X509_V_ERR {fault})")
            raise refusal(f"{whose} of {self.server_name} {what}", PeerCertificateError)
        if depth == 0:
            try:
                patterns = extract_patterns(certificate.to_cryptography())
                verify_service_identity(patterns, [self._identity], [])
            except (VerificationError, CertificateError, ValueError):
                raise refusal(f"the certificate is not for {self.server_name}", PeerCertificateError) from None
        return True


def client_creator(
    server_name: str,
    *,
    ca: Path | None = None,
    certificate: Path | None = None,
    verify: bool = True,
    alpn: Sequence[bytes] = (b"http/1.1",),
) -> ClientConnectionCreator:
    """What makes TLS connections to ``server_name``: a host name (Unicode or A-labels) or an IP address.

    ``ca``: a PEM file of the authorities to trust; None: the system's (the environment variables ``SSL_CERT_FILE`` and
    ``SSL_CERT_DIR``, else the usual places of Linux distributions). ``certificate``: a PEM file with the certificate
    that we show and its key. ``alpn``: the protocols that we offer, best first; empty: none are offered.
    Without ``verify`` anyone may answer, which is logged as a warning.

    A server that is not ``server_name`` fails the handshake: connectionLost has a ``PeerCertificateError``.
    Raises ``TLSConfigurationError``.
    """
    context = new_context(SSL.TLS_CLIENT_METHOD, "1.2")
    if certificate is not None:
        use_certificate(context, load_certificate(certificate))
    if not verify:
        _log.warn("The certificate of {server_name} is not verified: anyone may answer", server_name=server_name)
    elif ca is not None:
        trust(context, ca)
    else:
        context.set_default_verify_paths()
    if alpn:
        context.set_alpn_protos(list(alpn))
    return ClientConnectionCreator(context, server_name, verify=verify)


def _identify(server_name: str) -> tuple[DNS_ID | IPAddress_ID, bytes | None]:
    """What the certificate must name, and what SNI carries (an IP address is not sent: RFC 6066 section 3)."""
    try:
        return IPAddress_ID(str(ip_address(server_name.strip("[]")))), None
    except ValueError:
        pass
    name = server_name.removesuffix(".").lower()
    try:
        # Names of one's own network may have what IDNA forbids, such as underscores
        ascii_name = name if name.isascii() else idna.encode(name, uts46=True).decode("ascii")
        if not all(0 < len(label) < 64 for label in ascii_name.split(".")):
            raise ValueError("each label of a name has 1 to 63 characters")
        return DNS_ID(ascii_name), ascii_name.encode("ascii")
    except (idna.IDNAError, ValueError) as error:
        raise TLSConfigurationError(
            f"{server_name!r} cannot be a server name ({error}): give the host name that is in the server's certificate"
        ) from error
