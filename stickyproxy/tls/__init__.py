"""TLS for any Twisted program: certificates by SNI, contexts, the client side. Floor 2: knows nothing of proxying."""

from stickyproxy.tls.certificates import (
    Certificate,
    CertificateStore,
    TLSConfigurationError,
    load_authorities,
    load_certificate,
)
from stickyproxy.tls.client import (
    ClientConnectionCreator,
    PeerCertificateError,
    client_creator,
)
from stickyproxy.tls.contexts import ServerConnectionCreator, server_connection_creator
from stickyproxy.tls.factory import TLSClientEndpoint, TLSFactory, tls_factory, wrap_client_endpoint
from stickyproxy.tls.transport import TLSTransport

__all__ = [
    "Certificate",
    "CertificateStore",
    "ClientConnectionCreator",
    "PeerCertificateError",
    "ServerConnectionCreator",
    "TLSClientEndpoint",
    "TLSConfigurationError",
    "TLSFactory",
    "TLSTransport",
    "client_creator",
    "load_authorities",
    "load_certificate",
    "server_connection_creator",
    "tls_factory",
    "wrap_client_endpoint",
]
