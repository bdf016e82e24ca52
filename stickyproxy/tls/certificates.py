"""Certificates from PEM files, chosen by the name that a client asks for. Floor 2.

A certificate is one file with ``.pem``, ``.crt`` or ``.cer`` that holds the chain and the private key in any order, or
a file with the chain whose key lies beside it: ``site.pem`` and ``site.key``, or certbot's ``fullchain.pem`` and
``privkey.pem``. Names are those of subjectAltName (RFC 9525), matched against SNI (RFC 6066 section 3).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID
from twisted.logger import Logger

from stickyproxy.errors import StickyproxyError

_SUFFIXES = {".pem", ".crt", ".cer"}
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)
_log = Logger()


class TLSConfigurationError(StickyproxyError):
    """Something about TLS that cannot work. It names the file and says what to do."""


@attrs.frozen(eq=False)
class Certificate:
    """A certificate that we can show: ``chain`` has the leaf first. ``names`` are A-labels in lower case.

    ``names`` may begin with ``*.``; it is empty for a certificate without DNS names.
    """

    path: Path
    names: tuple[str, ...]
    chain: tuple[x509.Certificate, ...]
    key: PrivateKeyTypes = attrs.field(repr=False)


class CertificateStore:
    """Certificates by SNI: the exact name, else a wildcard for its last labels, else the first certificate.

    Where two certificates have the same name, the first is chosen.
    """

    def __init__(self, certificates: Sequence[Certificate]) -> None:
        self.certificates = tuple(certificates)
        self.default = self.certificates[0]
        self._by_name: dict[str, Certificate] = {}
        for certificate in self.certificates:
            for name in certificate.names:
                first = self._by_name.setdefault(name, certificate)
                if first is not certificate:
                    _log.warn(
                        "{name} is in {path} too: {first} is used for it",
                        name=name,
                        path=str(certificate.path),
                        first=str(first.path),
                    )

    @classmethod
    def load(cls, paths: Iterable[Path], clock: Callable[[], float] = time.time) -> CertificateStore:
        """Read PEM files, and those in directories (sorted by name). ``clock`` gives seconds since the epoch.

        Raises ``TLSConfigurationError``. A certificate that is expired or not valid yet is only warned of.
        """
        files = [file for path in paths for file in _certificate_files(path)]
        if not files:
            raise TLSConfigurationError("no certificates are given: name a PEM file or a directory of them")
        certificates = [load_certificate(file) for file in files]
        for certificate in certificates:
            _warn_of_dates(certificate, datetime.fromtimestamp(clock(), UTC))
        return cls(certificates)

    def choose(self, server_name: bytes | None) -> Certificate:
        """The certificate for ``server_name`` as SNI has it (None: the client sent none). It never raises."""
        if not server_name:
            return self.default
        name = server_name.decode("ascii", "replace").lower().removesuffix(".")
        exact = self._by_name.get(name)
        if exact is not None:
            return exact
        _, _, parent = name.partition(".")
        return self._by_name.get("*." + parent, self.default)


def load_certificate(path: Path) -> Certificate:
    """Read one certificate with its chain and key. Raises ``TLSConfigurationError``."""
    blocks = _read_blocks(path)
    certificates = _parse_certificates(path, blocks)
    if not certificates:
        raise TLSConfigurationError(f"{path}: holds no certificate: put the PEM of the certificate and its chain there")
    key_path = path
    if not _key_blocks(blocks):
        key_path = _key_beside(path)
        blocks = _read_blocks(key_path)
    key = _parse_key(key_path, blocks)
    chain = _leaf_first(path, key_path, certificates, key)
    return Certificate(path, _names(path, chain[0]), chain, key)


def load_authorities(path: Path) -> tuple[x509.Certificate, ...]:
    """Read a PEM file of certificate authorities to trust. Raises ``TLSConfigurationError``."""
    authorities = _parse_certificates(path, _read_blocks(path))
    if not authorities:
        raise TLSConfigurationError(
            f"{path}: holds no certificate: put the PEM of the certificate authorities to trust there"
        )
    return authorities


def _certificate_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    try:
        entries = sorted(entry for entry in path.iterdir() if entry.suffix in _SUFFIXES and entry.name[0] != ".")
    except OSError as error:
        raise TLSConfigurationError(f"{path}: cannot be read ({error.strerror}): allow this user to") from error
    if path / "fullchain.pem" in entries and path / "privkey.pem" in entries:
        return [path / "fullchain.pem"]  # certbot: its cert.pem and chain.pem are parts of this one
    files = [entry for entry in entries if not _only_a_key(entry)]
    if not files:
        raise TLSConfigurationError(
            f"{path}: holds no certificate: put files with the chain and the key there (.pem, .crt or .cer)"
        )
    return files


def _only_a_key(path: Path) -> bool:
    blocks = _read_blocks(path)
    return bool(_key_blocks(blocks)) and not any(label == b"CERTIFICATE" for label, _ in blocks)


def _read_blocks(path: Path) -> list[tuple[bytes, bytes]]:
    """The PEM blocks of a file (RFC 7468): the label, and the whole block."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TLSConfigurationError(
            f"{path}: cannot be read ({error.strerror}): correct the path, or allow this user to read it"
        ) from error
    blocks = [(found[1], found[0]) for found in _BLOCK.finditer(data)]
    if not blocks:
        raise TLSConfigurationError(f"{path}: is not PEM, or is cut off: it needs whole -----BEGIN …----- blocks")
    return blocks


def _key_blocks(blocks: list[tuple[bytes, bytes]]) -> list[bytes]:
    return [block for label, block in blocks if label.endswith(b"PRIVATE KEY")]


def _key_beside(path: Path) -> Path:
    names = [path.with_suffix(".key")]
    if path.name == "fullchain.pem":
        names.append(path.with_name("privkey.pem"))
    for name in names:
        if name.exists() and name != path:
            return name
    raise TLSConfigurationError(f"{path}: has no private key: add it to the file, or put it beside it as {names[0]}")


def _parse_certificates(path: Path, blocks: list[tuple[bytes, bytes]]) -> tuple[x509.Certificate, ...]:
    try:
        return tuple(x509.load_pem_x509_certificate(block) for label, block in blocks if label == b"CERTIFICATE")
    except ValueError as error:
        raise TLSConfigurationError(f"{path}: a certificate in it is broken ({error}): write it anew") from error


def _parse_key(path: Path, blocks: list[tuple[bytes, bytes]]) -> PrivateKeyTypes:
    keys = _key_blocks(blocks)
    if len(keys) != 1:
        raise TLSConfigurationError(f"{path}: holds {len(keys)} private keys: it must hold exactly one")
    if b"ENCRYPTED" in keys[0].partition(b"\n\n")[0][:200]:
        raise TLSConfigurationError(
            f"{path}: its private key is encrypted: decrypt it (openssl pkey -in {path.name} -out plain.key), "
            "and protect the file by its permissions"
        )
    try:
        return load_pem_private_key(keys[0], None)
    except Exception as error:  # it raises ValueError, TypeError, UnsupportedAlgorithm and more, by the fault
        raise TLSConfigurationError(f"{path}: its private key is broken ({error}): write it anew") from error


def _public_bytes(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _leaf_first(
    path: Path, key_path: Path, certificates: tuple[x509.Certificate, ...], key: PrivateKeyTypes
) -> tuple[x509.Certificate, ...]:
    """The certificate that the key belongs to, then the others in their order."""
    ours = _public_bytes(key.public_key())
    for leaf in certificates:
        if _public_bytes(leaf.public_key()) == ours:
            return (leaf, *(other for other in certificates if other is not leaf))
    raise TLSConfigurationError(
        f"{path}: the private key in {key_path} belongs to none of its certificates: "
        "put the key there that the certificate was requested with"
    )


def _names(path: Path, leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        try:
            found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            names = found.get_values_for_type(x509.DNSName)
        except x509.ExtensionNotFound:
            names = [str(field.value) for field in leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except ValueError as error:
        raise TLSConfigurationError(f"{path}: the names of its certificate are broken ({error})") from error
    return tuple(dict.fromkeys(name.lower().removesuffix(".") for name in names))


def _warn_of_dates(certificate: Certificate, now: datetime) -> None:
    leaf = certificate.chain[0]
    if now > leaf.not_valid_after_utc:
        _log.warn("{path}: expired at {end}: renew it", path=str(certificate.path), end=leaf.not_valid_after_utc)
    elif now < leaf.not_valid_before_utc:
        _log.warn("{path}: not valid until {start}", path=str(certificate.path), start=leaf.not_valid_before_utc)
