"""Both sides of TLS, each against another implementation, over loopback TCP."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from OpenSSL.crypto import X509
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from stickyproxy.tls import (
    CertificateStore,
    PeerCertificateError,
    TLSConfigurationError,
    client_creator,
    load_certificate,
    server_connection_creator,
    tls_factory,
    wrap_client_endpoint,
)

Pem = Callable[..., Path]


class Echo(Protocol):
    """Says back what it hears, after who the client is."""

    def connectionMade(self) -> None:
        self.factory.served.append(self)  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        self.factory.visitors.append(self.transport.getPeerCertificate())  # type: ignore[union-attr]
        self.transport.write(data)  # type: ignore[union-attr]

    def connectionLost(self, reason: Failure) -> None:
        self.factory.reasons.append(reason.value)  # type: ignore[union-attr]


class EchoFactory(Factory):
    protocol = Echo

    def __init__(self) -> None:
        self.served: list[Echo] = []
        self.reasons: list[BaseException] = []
        self.visitors: list[X509 | None] = []


@asynccontextmanager
async def serving(store: CertificateStore, **options: Any) -> AsyncIterator[tuple[int, EchoFactory]]:
    factory = EchoFactory()
    creator = server_connection_creator(store, **options)
    port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(tls_factory(creator, factory, reactor))
    try:
        yield port.getHost().port, factory
    finally:
        await port.stopListening()


def _context(ca_file: Path, **options: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(ca_file))
    for name, value in options.items():
        setattr(context, name, value)
    return context


def _visit(
    port: int, context: ssl.SSLContext, name: str = "a.example", session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    """Connect, exchange a message, close: the closed socket still tells of the handshake."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        with context.wrap_socket(raw, server_hostname=name, session=session) as tls:
            tls.sendall(b"hello")
            heard = b""
            while len(heard) < 5:
                heard += tls.recv(5)
            assert heard == b"hello"
            tls.seen = {  # type: ignore[attr-defined]
                "session": tls.session,
                "reused": tls.session_reused,
                "version": tls.version(),
                "cipher": tls.cipher(),
                "alpn": tls.selected_alpn_protocol(),
                "names": [value for _, value in tls.getpeercert()["subjectAltName"]],  # type: ignore[index,misc]
                "compression": tls.compression(),
            }
            tls.unwrap()
            return tls
    finally:
        raw.close()


async def visit(*args: Any, **options: Any) -> dict[str, Any]:
    tls = await deferToThread(_visit, *args, **options)
    return tls.seen  # type: ignore[no-any-return]


@ensureDeferred
async def test_certificate_by_server_name(pem: Pem, ca_file: Path, tmp_path: Path) -> None:
    """Each client sees the certificate of the name that it asks for, all on one port."""
    pem("certs/a.pem", "a.example")
    pem("certs/b.pem", "*.b.example")
    async with serving(CertificateStore.load([tmp_path / "certs"])) as (port, _):
        for asked, names in {"a.example": ["a.example"], "x.b.example": ["*.b.example"]}.items():
            seen = await visit(port, _context(ca_file), asked)
            assert seen["names"] == names
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await visit(port, _context(ca_file), "c.example")


@ensureDeferred
async def test_modern_by_default(pem: Pem, ca_file: Path) -> None:
    """A modern client gets TLS 1.3, an older one TLS 1.2 with forward secrecy; nobody gets compression."""
    async with serving(CertificateStore.load([pem("a.pem", "a.example")])) as (port, _):
        seen = await visit(port, _context(ca_file))
        assert seen["version"] == "TLSv1.3"
        old = await visit(port, _context(ca_file, maximum_version=ssl.TLSVersion.TLSv1_2))
        assert old["version"] == "TLSv1.2"
        assert old["cipher"][0].startswith("ECDHE-")
        assert old["compression"] is None


@pytest.mark.parametrize(("minimum", "client"), [("1.2", ssl.TLSVersion.TLSv1_1), ("1.3", ssl.TLSVersion.TLSv1_2)])
@ensureDeferred
async def test_older_versions_are_refused(pem: Pem, ca_file: Path, minimum: str, client: ssl.TLSVersion) -> None:
    """A client that can only speak an older TLS than the minimum does not get in."""
    context = _context(ca_file, maximum_version=client)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    store = CertificateStore.load([pem("a.pem", "a.example")])
    async with serving(store, minimum_version=minimum) as (port, factory):
        with pytest.raises((ssl.SSLError, ConnectionError)) as caught:
            await visit(port, context)
        assert "PROTOCOL_VERSION" in str(caught.value)


@pytest.mark.parametrize("cipher", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA"])
@ensureDeferred
async def test_weak_ciphers_are_refused(pem: Pem, ca_file: Path, cipher: str) -> None:
    """A client that knows only ciphers without forward secrecy, or in CBC mode, does not get in."""
    context = _context(ca_file, maximum_version=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(cipher)
    async with serving(CertificateStore.load([pem("a.pem", "a.example")])) as (port, _):
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            await visit(port, context)


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"), (["http/1.0"], "http/1.0"), ([], None)],
)
@pytest.mark.parametrize("name", ["a.example", "b.example"])
@ensureDeferred
async def test_application_protocol(
    pem: Pem, ca_file: Path, tmp_path: Path, offered: list[str], chosen: str | None, name: str
) -> None:
    """ALPN says http/1.1, or http/1.0 to whoever has no more, for the default and for every other certificate."""
    pem("certs/a.pem", "a.example")
    pem("certs/b.pem", "b.example")
    context = _context(ca_file)
    if offered:
        context.set_alpn_protocols(offered)
    async with serving(CertificateStore.load([tmp_path / "certs"])) as (port, _):
        assert (await visit(port, context, name))["alpn"] == chosen


@ensureDeferred
async def test_no_common_application_protocol(pem: Pem, ca_file: Path) -> None:
    """A client that speaks h2 only is told no_application_protocol; a frontend without ALPN serves it."""
    store = CertificateStore.load([pem("a.pem", "a.example")])
    context = _context(ca_file)
    context.set_alpn_protocols(["h2"])
    async with serving(store) as (port, factory):
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            await visit(port, context)
        assert (await visit(port, _context(ca_file)))["alpn"] is None  # and nobody else suffers
    async with serving(store, alpn=()) as (port, _):
        assert (await visit(port, context))["alpn"] is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("ticket", [True, False])
@pytest.mark.parametrize("name", ["a.example", "b.example"])
@ensureDeferred
async def test_sessions_are_resumed(
    pem: Pem, ca_file: Path, tmp_path: Path, version: ssl.TLSVersion, ticket: bool, name: str
) -> None:
    """The second connection of a client is resumed: by ticket and by identifier, under every certificate."""
    pem("certs/a.pem", "a.example")
    pem("certs/b.pem", "b.example")
    context = _context(ca_file, maximum_version=version)
    if not ticket:
        context.options |= ssl.OP_NO_TICKET
    async with serving(CertificateStore.load([tmp_path / "certs"])) as (port, _):
        first = await visit(port, context, name)
        second = await visit(port, context, name, session=first["session"])
    assert first["reused"] is False
    assert second["reused"] is True


@ensureDeferred
async def test_sessions_do_not_cross_frontends(pem: Pem, ca_file: Path) -> None:
    """A session of an open frontend is worth nothing at one that wants client certificates."""
    store = CertificateStore.load([pem("a.pem", "a.example")])
    context = _context(ca_file, maximum_version=ssl.TLSVersion.TLSv1_2)
    async with serving(store) as (first, _), serving(store, client_ca=ca_file) as (second, _):
        session = (await visit(first, context))["session"]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await visit(second, context, session=session)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@ensureDeferred
async def test_client_certificates_required(pem: Pem, ca_file: Path, version: ssl.TLSVersion) -> None:
    """Where client certificates are required, only who shows a good one gets in, and may resume his session."""
    store = CertificateStore.load([pem("a.pem", "a.example")])
    good, bad = pem("good.pem", "alice.example"), pem("bad.pem", "mallory.example", by=trustme.CA())
    async with serving(store, client_ca=ca_file) as (port, factory):
        context = _context(ca_file, maximum_version=version)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await visit(port, context)
        context.load_cert_chain(good)
        first = await visit(port, context)
        assert (await visit(port, context, session=first["session"]))["reused"] is True
        stranger = _context(ca_file, maximum_version=version)
        stranger.load_cert_chain(bad)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await visit(port, stranger)
        assert len(factory.visitors) == 2


@ensureDeferred
async def test_client_certificates_optional(pem: Pem, ca_file: Path) -> None:
    """Where they are optional, clients without get in too, and the proxy can read the certificate of the others."""
    store = CertificateStore.load([pem("a.pem", "a.example")])
    good, bad = pem("good.pem", "alice.example"), pem("bad.pem", "mallory.example", by=trustme.CA())
    async with serving(store, client_ca=ca_file, client_certificates="optional") as (port, factory):
        await visit(port, _context(ca_file))
        context = _context(ca_file)
        context.load_cert_chain(good)
        await visit(port, context)
        stranger = _context(ca_file)
        stranger.load_cert_chain(bad)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await visit(port, stranger)
        without, shown = factory.visitors
        assert without is None
        assert shown is not None
        assert shown.to_cryptography() == load_certificate(good).chain[0]


@ensureDeferred
async def test_weak_certificate_is_refused(tmp_path: Path) -> None:
    """A key that OpenSSL finds too weak is an error at the start which names the file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = rsa.generate_private_key(65537, 1024)
    now = datetime.now(UTC)
    weak = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "weak.pem"
    path.write_bytes(
        weak.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    with pytest.raises(TLSConfigurationError, match=r"weak\.pem: OpenSSL refuses this certificate.*key too small"):
        server_connection_creator(CertificateStore.load([path]))


@pytest.mark.needs("openssl")
@ensureDeferred
async def test_renegotiation_is_refused(pem: Pem, ca_file: Path) -> None:
    """A client of TLS 1.2 that asks to renegotiate again and again costs us nothing: it is refused."""
    async with serving(CertificateStore.load([pem("a.pem", "a.example")])) as (port, _):
        done = await deferToThread(
            subprocess.run,
            ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2", "-CAfile", str(ca_file)],
            input=b"R\n",
            capture_output=True,
            timeout=20,
        )
    assert b"RENEGOTIATING" in done.stdout + done.stderr
    assert b"no renegotiation" in done.stderr


@pytest.mark.needs("openssl")
@ensureDeferred
async def test_openssl_command_verifies(pem: Pem, ca_file: Path) -> None:
    """openssl s_client finds a whole chain, no compression and a ticket."""
    async with serving(CertificateStore.load([pem("a.pem", "a.example")])) as (port, _):
        arguments = ["-connect", f"127.0.0.1:{port}", "-servername", "a.example", "-verify_hostname", "a.example"]
        done = await deferToThread(
            subprocess.run,
            ["openssl", "s_client", *arguments, "-tls1_2", "-verify_return_error", "-CAfile", str(ca_file)],
            input=b"Q\n",
            capture_output=True,
            timeout=20,
        )
    assert b"Verify return code: 0 (ok)" in done.stdout
    assert b"Compression: NONE" in done.stdout
    assert b"TLS session ticket:" in done.stdout
    assert b"Secure Renegotiation IS supported" in done.stdout


# The client side


class Talk(Protocol):
    """Says hello, and keeps what it hears and how it ended."""

    def __init__(self) -> None:
        self.heard: Deferred[bytes] = Deferred()
        self.lost: Deferred[Failure] = Deferred()

    def connectionMade(self) -> None:
        self.transport.write(b"hello")  # type: ignore[union-attr]

    def dataReceived(self, data: bytes) -> None:
        if not self.heard.called:
            self.heard.callback(data)

    def connectionLost(self, reason: Failure) -> None:
        self.lost.callback(reason.value)  # type: ignore[arg-type]
        if not self.heard.called:
            self.heard.errback(reason)


@asynccontextmanager
async def foreign_server(path: Path, **options: Any) -> AsyncIterator[tuple[int, list[dict[str, Any]]]]:
    """A TLS server of Python's own ssl module that says back what it hears, and tells of each handshake."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    for name, value in options.items():
        setattr(context, name, value)
    if (ca := options.get("client_ca")) is not None:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["http/1.1"])
    names: list[str | None] = []
    context.sni_callback = lambda sock, name, _: names.append(name)
    seen: list[dict[str, Any]] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                raw, _ = listener.accept()
            except OSError:
                return
            raw.settimeout(10)
            try:
                with context.wrap_socket(raw, server_side=True) as tls:
                    about = {
                        "reused": tls.session_reused,
                        "alpn": tls.selected_alpn_protocol(),
                        "peer": tls.getpeercert(),
                    }
                    seen.append(about | {"sni": names[-1] if names else None, "version": tls.version()})
                    while data := tls.recv(100):
                        tls.sendall(data)
            except OSError as error:
                seen.append({"error": str(error)})

    served = deferToThread(serve)
    try:
        yield listener.getsockname()[1], seen
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        await served


async def talk(port: int, creator: Any) -> bytes:
    """One connection with the creator: what the server said back. It raises what ended the connection."""
    endpoint = wrap_client_endpoint(TCP4ClientEndpoint(reactor, "127.0.0.1", port), creator, reactor)
    protocol: Any = await endpoint.connect(Factory.forProtocol(Talk))
    heard: bytes = await protocol.heard
    protocol.transport.loseConnection()
    await protocol.lost
    return heard


@pytest.mark.parametrize(
    ("names", "asked", "sni"),
    [
        (["b.example"], "b.example", "b.example"),
        (["b.example"], "B.Example.", "b.example"),
        (["*.b.example"], "x.b.example", "x.b.example"),
        (["bücher.example"], "bücher.example", "xn--bcher-kva.example"),
        (["bücher.example"], "xn--bcher-kva.example", "xn--bcher-kva.example"),
        (["127.0.0.1"], "127.0.0.1", None),
        (["::1"], "::1", None),
        (["::1"], "[::1]", None),
    ],
)
@ensureDeferred
async def test_identity_of_backend(pem: Pem, ca_file: Path, names: list[str], asked: str, sni: str | None) -> None:
    """A backend is known by its host name or IP address, and is told the host name that we want."""
    async with foreign_server(pem("b.pem", *names)) as (port, seen):
        assert await talk(port, client_creator(asked, ca=ca_file)) == b"hello"
    assert seen[0]["sni"] == sni
    assert seen[0]["alpn"] == "http/1.1"
    assert seen[0]["version"] == "TLSv1.3"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("other.example", "the certificate is not for other.example"),
        ("x.b.example", "the certificate is not for x.b.example"),
        ("127.0.0.1", "the certificate is not for 127.0.0.1"),
    ],
)
@ensureDeferred
async def test_wrong_name(pem: Pem, ca_file: Path, asked: str, says: str, version: ssl.TLSVersion) -> None:
    """A backend with a good certificate for another name is not spoken to, and the error says so."""
    async with foreign_server(pem("b.pem", "b.example"), maximum_version=version) as (port, seen):
        with pytest.raises(PeerCertificateError) as caught:
            await talk(port, client_creator(asked, ca=ca_file))
    assert str(caught.value) == says
    assert "alert" in seen[0]["error"].lower()


@ensureDeferred
async def test_untrusted_issuer(pem: Pem, tmp_path: Path) -> None:
    """A backend whose issuer we do not trust is not spoken to, whether by our own file or the system's."""
    other = tmp_path / "other.txt"
    trustme.CA().cert_pem.write_to_path(str(other))
    async with foreign_server(pem("b.pem", "b.example")) as (port, _):
        for ca in (other, None):
            with pytest.raises(PeerCertificateError) as caught:
                await talk(port, client_creator("b.example", ca=ca))
            assert "of b.example was issued by an authority that is not trusted" in str(caught.value)


@ensureDeferred
async def test_system_trust(pem: Pem, ca_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file of ours, what the system trusts counts; SSL_CERT_FILE names it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    async with foreign_server(pem("b.pem", "b.example")) as (port, _):
        assert await talk(port, client_creator("b.example")) == b"hello"


@pytest.mark.parametrize(("start", "end", "says"), [(-90, -1, "has expired"), (1, 90, "is not valid yet")])
@ensureDeferred
async def test_dates(pem: Pem, ca_file: Path, start: int, end: int, says: str) -> None:
    """A backend with an expired certificate is not spoken to, and the error says why."""
    now = datetime.now(UTC)
    path = pem("b.pem", "b.example", not_before=now + timedelta(days=start), not_after=now + timedelta(days=end))
    async with foreign_server(path) as (port, _):
        with pytest.raises(PeerCertificateError) as caught:
            await talk(port, client_creator("b.example", ca=ca_file))
    assert str(caught.value) == f"the certificate of b.example {says}"


@ensureDeferred
async def test_without_verification(pem: Pem) -> None:
    """Only who says verify=False speaks to anyone, and the log has a warning."""
    from twisted.logger import globalLogPublisher

    events: list[Any] = []
    globalLogPublisher.addObserver(events.append)
    try:
        creator = client_creator("whoever.example", verify=False)
    finally:
        globalLogPublisher.removeObserver(events.append)
    assert [event["server_name"] for event in events if event["log_level"].name == "warn"] == ["whoever.example"]
    async with foreign_server(pem("b.pem", "b.example")) as (port, seen):
        assert await talk(port, creator) == b"hello"


@ensureDeferred
async def test_our_own_certificate(pem: Pem, ca_file: Path) -> None:
    """A backend that wants to know us is shown our certificate."""
    us = pem("us.pem", "proxy.example")
    async with foreign_server(pem("b.pem", "b.example"), client_ca=ca_file) as (port, seen):
        assert await talk(port, client_creator("b.example", ca=ca_file, certificate=us)) == b"hello"
    assert seen[0]["peer"]["subjectAltName"] == (("DNS", "proxy.example"),)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@ensureDeferred
async def test_sessions_with_backends_are_resumed(pem: Pem, ca_file: Path, version: ssl.TLSVersion) -> None:
    """From the second connection on, a backend is spared the whole handshake."""
    creator = client_creator("b.example", ca=ca_file)
    async with foreign_server(pem("b.pem", "b.example"), maximum_version=version) as (port, seen):
        for _ in range(3):
            assert await talk(port, creator) == b"hello"
    assert [about["reused"] for about in seen] == [False, True, True]


@ensureDeferred
async def test_failed_handshake_leaves_no_session(pem: Pem, ca_file: Path) -> None:
    """A backend that was refused once is refused again: a session never stands in for the verification."""
    creator = client_creator("wrong.example", ca=ca_file)
    async with foreign_server(pem("b.pem", "b.example")) as (port, _):
        for _ in range(2):
            with pytest.raises(PeerCertificateError):
                await talk(port, creator)


@pytest.mark.parametrize("name", ["", "a..b", "exa mple", "ü" * 80])
def test_bad_server_name(name: str) -> None:
    """What cannot be a server name is an error at the start."""
    with pytest.raises(TLSConfigurationError, match="cannot be a server name"):
        client_creator(name)


@ensureDeferred
async def test_both_sides_are_ours(pem: Pem, ca_file: Path) -> None:
    """Our client side understands our server side, from one name to another."""
    async with serving(CertificateStore.load([pem("a.pem", "a.example")])) as (port, factory):
        assert await talk(port, client_creator("a.example", ca=ca_file)) == b"hello"
    assert len(factory.served) == 1


@pytest.mark.needs("curl")
@ensureDeferred
async def test_curl(pem: Pem, ca_file: Path) -> None:
    """curl, with its habit of offering h2 and http/1.1, is served http/1.1."""
    from twisted.web.resource import Resource
    from twisted.web.server import Site
    from twisted.web.static import Data

    root = Resource()
    root.putChild(b"", Data(b"served", "text/plain"))
    creator = server_connection_creator(CertificateStore.load([pem("a.pem", "a.example")]))
    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    port = await endpoint.listen(tls_factory(creator, Site(root), reactor))
    try:
        number = port.getHost().port
        command = ["curl", "-sv", "--cacert", str(ca_file), "--connect-to", f"a.example:443:127.0.0.1:{number}"]
        done = await deferToThread(subprocess.run, [*command, "https://a.example/"], capture_output=True, timeout=20)
    finally:
        await port.stopListening()
    assert done.stdout == b"served"
    assert b"ALPN: server accepted http/1.1" in done.stderr or b"server accepted to use http/1.1" in done.stderr
