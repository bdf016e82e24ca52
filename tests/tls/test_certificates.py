"""Certificate files, and which of them a server name gets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from twisted.logger import globalLogPublisher

from stickyproxy.tls import CertificateStore, TLSConfigurationError, load_authorities, load_certificate

Pem = Callable[..., Path]


def _split(path: Path) -> tuple[bytes, bytes]:
    """The key, and the certificates, of a PEM file."""
    data = path.read_bytes()
    at = data.index(b"-----BEGIN CERTIFICATE")
    return data[:at], data[at:]


def _warnings(load: Callable[[], object]) -> list[str]:
    events: list[dict[str, object]] = []
    globalLogPublisher.addObserver(events.append)  # type: ignore[arg-type]
    try:
        load()
    finally:
        globalLogPublisher.removeObserver(events.append)  # type: ignore[arg-type]
    return [str(event.get("log_format")) for event in events if getattr(event["log_level"], "name", "") == "warn"]


@pytest.mark.parametrize(
    ("asked", "file"),
    [
        (b"a.example", "b-exact"),
        (b"A.Example", "b-exact"),
        (b"a.example.", "b-exact"),
        (b"x.wild.example", "c-wild"),
        (b"X.WILD.example", "c-wild"),
        (b"exact.wild.example", "d-over"),
        (b"two.labels.wild.example", "a-default"),
        (b"wild.example", "a-default"),
        (b"xn--bcher-kva.example", "e-idna"),
        (b"unknown.example", "a-default"),
        (b"", "a-default"),
        (None, "a-default"),
        (b"\xff\x00..", "a-default"),
        (b"*.wild.example", "c-wild"),
        (b"." * 255, "a-default"),
    ],
)
def test_name_chooses_certificate(pem: Pem, tmp_path: Path, asked: bytes | None, file: str) -> None:
    """A client gets the certificate with the exact name, else the wildcard of one label, else the first."""
    pem("certs/a-default.pem", "default.example")
    pem("certs/b-exact.pem", "a.example", "other.example")
    pem("certs/c-wild.pem", "*.wild.example")
    pem("certs/d-over.pem", "exact.wild.example")
    pem("certs/e-idna.pem", "bücher.example")
    store = CertificateStore.load([tmp_path / "certs"])
    assert store.choose(asked).path.stem == file


def test_first_path_is_default(pem: Pem) -> None:
    """The first of the listed files serves clients that name nothing, whatever the file names."""
    first, second = pem("z.pem", "z.example"), pem("a.pem", "a.example")
    store = CertificateStore.load([first, second])
    assert store.default.path == first
    assert [certificate.path for certificate in store.certificates] == [first, second]


def test_common_name_counts_only_without_alternative_names(pem: Pem, tmp_path: Path) -> None:
    """The old commonName is a name of a certificate only where it has no subjectAltName."""
    both = load_certificate(pem("both.pem", "san.example", common_name="cn.example"))
    assert both.names == ("san.example",)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Old.Example")])
    now = datetime.now(UTC)
    old = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "old.pem"
    path.write_bytes(
        old.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    assert load_certificate(path).names == ("old.example",)


def test_key_beside_the_certificate(pem: Pem, tmp_path: Path) -> None:
    """A key may lie beside its certificate: site.crt and site.key."""
    key, chain = _split(pem("whole.pem", "a.example"))
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs/site.crt").write_bytes(chain)
    (tmp_path / "certs/site.key").write_bytes(key)
    store = CertificateStore.load([tmp_path / "certs"])
    assert store.default.names == ("a.example",)


def test_directory_of_certbot(pem: Pem, tmp_path: Path) -> None:
    """The directory that certbot makes for a site is one certificate."""
    key, chain = _split(pem("whole.pem", "a.example"))
    live = tmp_path / "live"
    live.mkdir()
    for name, content in {"fullchain": chain, "privkey": key, "cert": chain, "chain": chain}.items():
        (live / f"{name}.pem").write_bytes(content)
    (live / "README").write_text("This directory contains your keys and certificates.")
    store = CertificateStore.load([live])
    assert [certificate.path.name for certificate in store.certificates] == ["fullchain.pem"]


def test_chain_in_any_order(tmp_path: Path) -> None:
    """The certificate that the key belongs to is found wherever it stands in the file; its issuers follow."""
    issuer = trustme.CA().create_child_ca()
    leaf = issuer.issue_cert("a.example")
    path = tmp_path / "odd.pem"
    chain = [blob.bytes() for blob in leaf.cert_chain_pems]
    assert len(chain) == 2
    path.write_bytes(b"a comment\r\n" + b"".join(reversed(chain)) + leaf.private_key_pem.bytes())
    loaded = load_certificate(path)
    assert loaded.names == ("a.example",)
    assert len(loaded.chain) == 2
    assert loaded.chain[0].issuer == loaded.chain[1].subject


def _missing(path: Path, pem: Pem) -> None:
    path.unlink()


def _empty(path: Path, pem: Pem) -> None:
    path.write_bytes(b"")


def _cut(path: Path, pem: Pem) -> None:
    path.write_bytes(path.read_bytes()[:200])


def _broken(path: Path, pem: Pem) -> None:
    key, chain = _split(path)
    lines = chain.split(b"\n")
    path.write_bytes(key + b"\n".join([lines[0], b"AAAA" + lines[1][4:], *lines[2:]]))


def _broken_key(path: Path, pem: Pem) -> None:
    key, chain = _split(path)
    lines = key.split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b"AAAA" + lines[1][4:], *lines[2:]]) + chain)


def _no_key(path: Path, pem: Pem) -> None:
    path.write_bytes(_split(path)[1])


def _only_key(path: Path, pem: Pem) -> None:
    path.write_bytes(_split(path)[0])


def _foreign_key(path: Path, pem: Pem) -> None:
    path.write_bytes(_split(pem("other.txt", "b.example"))[0] + _split(path)[1])


def _two_keys(path: Path, pem: Pem) -> None:
    path.write_bytes(path.read_bytes() + _split(pem("other.txt", "b.example"))[0])


def _locked_key(path: Path, pem: Pem) -> None:
    key, chain = _split(path)
    locked = load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    path.write_bytes(locked + chain)


def _locked_key_of_old(path: Path, pem: Pem) -> None:
    key, chain = _split(path)
    locked = load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"secret")
    )
    path.write_bytes(locked + chain)


def _a_directory_inside(path: Path, pem: Pem) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_missing, "cannot be read (No such file or directory)"),
        (_empty, "is not PEM"),
        (_cut, "is not PEM, or is cut off"),
        (_broken, "a certificate in it is broken"),
        (_broken_key, "its private key is broken"),
        (_no_key, "has no private key: add it to the file, or put it beside it as"),
        (_only_key, "holds no certificate"),
        (_foreign_key, "belongs to none of its certificates"),
        (_two_keys, "holds 2 private keys"),
        (_locked_key, "its private key is encrypted: decrypt it (openssl pkey"),
        (_locked_key_of_old, "its private key is encrypted: decrypt it (openssl pkey"),
        (_a_directory_inside, "holds no certificate: put files with the chain and the key there"),
    ],
)
def test_bad_file_is_named(pem: Pem, harm: Callable[[Path, Pem], None], says: str) -> None:
    """A certificate that cannot work is an error at the start, which names the file and says what to do."""
    path = pem("site.pem", "a.example")
    harm(path, pem)
    with pytest.raises(TLSConfigurationError) as caught:
        CertificateStore.load([path])
    assert str(path) in str(caught.value)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value)


def test_unreadable_file_in_directory_is_named(pem: Pem, tmp_path: Path) -> None:
    """One bad file in a directory of good ones is an error too, not a site that is silently missing."""
    pem("certs/a.pem", "a.example")
    bad = pem("certs/b.pem", "b.example")
    _no_key(bad, pem)
    with pytest.raises(TLSConfigurationError, match=r"b\.pem: has no private key"):
        CertificateStore.load([tmp_path / "certs"])


def test_nothing_given() -> None:
    """No certificates at all is an error."""
    with pytest.raises(TLSConfigurationError, match="no certificates are given"):
        CertificateStore.load([])


@pytest.mark.parametrize(
    ("shift", "says"), [(0, []), (400, ["{path}: expired at"]), (-400, ["{path}: not valid until"])]
)
def test_dates_are_warned_of(pem: Pem, shift: int, says: list[str]) -> None:
    """A certificate that is expired, or not valid yet, serves all the same, with a warning in the log."""
    now = datetime.now(UTC)
    path = pem("a.pem", "a.example", not_before=now - timedelta(days=1), not_after=now + timedelta(days=90))
    clock = (now + timedelta(days=shift)).timestamp()
    warned = _warnings(lambda: CertificateStore.load([path], clock=lambda: clock))
    assert [any(text.startswith(start) for text in warned) for start in says] == [True] * len(warned)
    assert len(warned) == len(says)


def test_name_in_two_certificates_is_warned_of(pem: Pem, tmp_path: Path) -> None:
    """Of two certificates for one name the first serves, and the log tells of the other."""
    first = pem("certs/a.pem", "a.example")
    shutil.copy(first, tmp_path / "certs/b.pem")
    stores: list[CertificateStore] = []
    warned = _warnings(lambda: stores.append(CertificateStore.load([tmp_path / "certs"])))
    assert warned == ["{name} is in {path} too: {first} is used for it"]
    assert stores[0].choose(b"a.example").path == first


def test_authorities(ca_file: Path, pem: Pem, tmp_path: Path) -> None:
    """A file of authorities needs certificates, and nothing but."""
    assert len(load_authorities(ca_file)) == 1
    keys = pem("key.pem", "a.example")
    _only_key(keys, pem)
    with pytest.raises(TLSConfigurationError, match=r"key\.pem: holds no certificate"):
        load_authorities(keys)
    with pytest.raises(TLSConfigurationError, match=r"absent\.pem: cannot be read"):
        load_authorities(tmp_path / "absent.pem")


def test_key_is_not_shown(pem: Pem) -> None:
    """A certificate in a log or a traceback does not show its key."""
    assert "PrivateKey" not in repr(load_certificate(pem("a.pem", "a.example")))
