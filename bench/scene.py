"""What one case lays out for every proxy: where to listen, what to speak, which backends. Certificates included."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Mode = Literal["http", "https", "tcp"]
#: What not every proxy can do.
Demand = Literal["WebSockets", "kept connections", "streamed bodies"]


class Scene(NamedTuple):
    """``directory`` holds the proxy's files; ``backends`` are ports of 127.0.0.1, a and b; ``certificate`` is PEM."""

    mode: Mode
    directory: Path
    port: int
    backends: tuple[int, int]
    certificate: Path


def make_certificate(path: Path) -> Path:
    """Write a self-signed P-256 certificate for localhost, chain and key in one PEM file, and return ``path``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(certificate.public_bytes(pem) + secret)
    return path
