"""TLS in front of the proxy and behind it, as OpenSSL, curl and Python's ssl module speak it."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from ssl import TLSVersion

import pytest
import trustme
from clients import (
    Script,
    body_of,
    configuration,
    connect,
    hung_up,
    port_of,
    read_all,
    read_until,
    run,
    start_and_fail,
    trusting,
)
from parts import TROUBLE, Backend, Proxy, converse

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
Backends = Callable[..., list[Backend]]
Certificate = Callable[..., Path]


@pytest.fixture(scope="module")
def certificates(certificate: Certificate, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The default, and a directory of two more."""
    directory = tmp_path_factory.mktemp("certificates")
    for name in ("shop.example.org", "*.example.org"):
        certificate(name).rename(directory / f"{name.replace('*', 'any')}.pem")
    return [certificate("localhost", "127.0.0.1"), directory]


@pytest.fixture(scope="module")
def clients_file(certificate: Certificate) -> Path:
    return certificate("client.test")


@pytest.fixture(scope="module")
def _proxy(certificates: list[Path], authority_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """What needs no configuration of its own goes through this one."""
    files = ", ".join(f'"{path}"' for path in certificates)
    names = ("default", "modern", "required", "optional")
    with Backend("a") as backend:
        toml = configuration(
            [backend],
            *(f"frontend.{name}.tls.certificates = [{files}]" for name in names),
            'frontend.modern.tls.minimum_version = "1.3"',
            *(f'frontend.{name}.tls.client_ca = "{authority_file}"' for name in ("required", "optional")),
            'frontend.optional.tls.client_certificates = "optional"',
            'frontend.default.timeouts.head = "1s"',
            frontends=names,
        )
        with Proxy(tmp_path_factory.mktemp("tls"), toml) as proxy:
            yield proxy


@pytest.fixture
def tls(_proxy: Proxy) -> Iterator[Callable[[str], int]]:
    """``tls("modern")`` is the port of that frontend."""
    yield lambda name: port_of(_proxy, name)
    assert not TROUBLE.search(_proxy.log), _proxy.log


@pytest.fixture
def trust(authority_file: Path) -> ssl.SSLContext:
    return trusting(authority_file)


def at(version: TLSVersion, context: ssl.SSLContext) -> ssl.SSLContext:
    """``context`` for one version of TLS only; the old ones need weaker rules than the system's."""
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    return context


def names_of(certificate: object) -> set[str]:
    assert isinstance(certificate, dict)
    return {name for _, name in certificate["subjectAltName"]}


# To clients


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("localhost", "localhost"),
        ("shop.example.org", "shop.example.org"),
        ("SHOP.Example.ORG", "shop.example.org"),
        ("mail.example.org", "*.example.org"),
        ("a.mail.example.org", "localhost"),
        ("elsewhere.test", "localhost"),
        (None, "localhost"),
    ],
)
def test_certificate_is_chosen_by_name(
    tls: Callable[[str], int], trust: ssl.SSLContext, asked: str | None, shown: str
) -> None:
    """The name that I ask for decides what certificate I see: exact, wildcard, else the first."""
    trust.check_hostname = False
    with connect(tls("default")) as plain, trust.wrap_socket(plain, server_hostname=asked) as client:
        assert shown in names_of(client.getpeercert())
        client.sendall(REQUEST)
        assert body_of(read_all(client))["backend"] == "a"


@pytest.mark.parametrize(
    ("frontend", "version", "served"),
    [
        ("default", TLSVersion.TLSv1_1, False),
        ("default", TLSVersion.TLSv1_2, True),
        ("default", TLSVersion.TLSv1_3, True),
        ("modern", TLSVersion.TLSv1_2, False),
        ("modern", TLSVersion.TLSv1_3, True),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_old_versions_are_refused(
    tls: Callable[[str], int], trust: ssl.SSLContext, frontend: str, version: TLSVersion, served: bool
) -> None:
    """TLS 1.2 and 1.3 by default, 1.3 alone where I say so; older clients get an alert that says why."""
    port = tls(frontend)
    if served:
        assert body_of(converse(port, REQUEST, tls=at(version, trust)))["backend"] == "a"
    else:
        with pytest.raises(ssl.SSLError, match=r"(?i)protocol.version"):
            converse(port, REQUEST, tls=at(version, trust))


@pytest.mark.parametrize("cipher", ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-NULL-SHA", "AECDH-AES128-SHA"])
def test_weak_ciphers_are_refused(tls: Callable[[str], int], trust: ssl.SSLContext, cipher: str) -> None:
    """Nobody can talk us into ciphers without forward secrecy or authenticated encryption."""
    trust = at(TLSVersion.TLSv1_2, trust)
    trust.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:@SECLEVEL=0")
    assert converse(tls("default"), REQUEST, tls=trust)
    trust.set_ciphers(f"{cipher}:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=r"(?i)handshake.failure"):
        converse(tls("default"), REQUEST, tls=trust)


@pytest.mark.parametrize("version", [TLSVersion.TLSv1_2, TLSVersion.TLSv1_3])
@pytest.mark.parametrize("frontend", ["default", "optional"])
def test_sessions_are_resumed(
    tls: Callable[[str], int], trust: ssl.SSLContext, version: TLSVersion, frontend: str
) -> None:
    """A client that comes back skips most of the handshake, also where clients may show certificates."""
    trust = at(version, trust)
    session: ssl.SSLSession | None = None
    reused = []
    for _ in range(3):
        with connect(tls(frontend)) as plain:
            with trust.wrap_socket(plain, server_hostname="localhost", session=session) as client:
                client.sendall(REQUEST)
                assert body_of(read_all(client))["backend"] == "a"
                reused.append(client.session_reused)
                session = client.session
    assert reused == [False, True, True]


@pytest.mark.needs("openssl")
def test_openssl_reconnects(tls: Callable[[str], int], needs: Callable[[str], str]) -> None:
    """``openssl s_client -reconnect`` says Reused five times."""
    ended = run(
        *(needs("openssl"), "s_client", "-connect", f"127.0.0.1:{tls('default')}", "-tls1_2", "-reconnect"),
        input_=b"",
    )
    assert len(re.findall(rb"^New, TLSv1.2", ended.stdout, re.MULTILINE)) == 1
    assert len(re.findall(rb"^Reused, TLSv1.2", ended.stdout, re.MULTILINE)) == 5


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["h2", "http/1.1"], "http/1.1"), (["http/1.0"], "http/1.0"), ([], None), (["h2"], ssl.SSLError)],
)
def test_alpn(
    tls: Callable[[str], int], trust: ssl.SSLContext, offered: list[str], chosen: str | type[Exception] | None
) -> None:
    """We speak http/1.1, whatever else I offer; who speaks only something else is told so."""
    if offered:
        trust.set_alpn_protocols(offered)
    with connect(tls("default")) as plain:
        if chosen is ssl.SSLError:
            with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
                trust.wrap_socket(plain, server_hostname="localhost")
            return
        with trust.wrap_socket(plain, server_hostname="localhost") as client:
            assert client.selected_alpn_protocol() == chosen


def test_plain_http_and_garbage_on_a_tls_port_are_closed(tls: Callable[[str], int]) -> None:
    """Who does not speak TLS is let go, at once, or when his time is over."""
    port = tls("default")
    for words in (REQUEST, b"\x16\x03\x01\xff\xff" + bytes(100)):
        assert b"HTTP" not in converse(port, words)
    with connect(port) as half, connect(port) as silent:
        half.sendall(b"\x16\x03\x01")
        began = time.monotonic()
        assert hung_up(half) and hung_up(silent)
        assert 0.5 < time.monotonic() - began < 3


# Client certificates


@pytest.mark.parametrize("version", [TLSVersion.TLSv1_2, TLSVersion.TLSv1_3])
def test_a_session_is_no_way_round_a_client_certificate(
    tls: Callable[[str], int], trust: ssl.SSLContext, version: TLSVersion
) -> None:
    """A session from a frontend that asks nobody for a certificate is worth nothing where one is required."""
    trust = at(version, trust)
    with connect(tls("modern" if version is TLSVersion.TLSv1_3 else "default")) as plain:
        with trust.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(REQUEST)
            read_all(client)
            session = client.session
            assert session is not None
    with connect(tls("required")) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        with trust.wrap_socket(plain, server_hostname="localhost", session=session) as client:
            client.sendall(REQUEST)
            assert not client.session_reused
            client.recv(1)


@pytest.mark.parametrize(
    ("frontend", "shows", "served"),
    [
        ("required", "ours", True),
        ("required", "another's", False),
        ("required", "nothing", False),
        ("optional", "ours", True),
        ("optional", "another's", False),
        ("optional", "nothing", True),
    ],
)
@pytest.mark.parametrize("version", [TLSVersion.TLSv1_2, TLSVersion.TLSv1_3])
def test_client_certificates(
    tls: Callable[[str], int],
    trust: ssl.SSLContext,
    clients_file: Path,
    tmp_path: Path,
    frontend: str,
    shows: str,
    served: bool,
    version: TLSVersion,
) -> None:
    """``client_ca``: the right certificate is served, a wrong one never, none only where it is optional."""
    trust = at(version, trust)
    if shows == "ours":
        trust.load_cert_chain(clients_file)
    elif shows == "another's":
        trustme.CA().issue_cert("client.test").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "other.pem"))
        trust.load_cert_chain(tmp_path / "other.pem")
    if served:
        assert body_of(converse(tls(frontend), REQUEST, tls=trust))["backend"] == "a"
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            converse(tls(frontend), REQUEST, tls=trust)


@pytest.mark.needs("curl")
def test_curl_shows_its_certificate(
    tls: Callable[[str], int], needs: Callable[[str], str], authority_file: Path, clients_file: Path
) -> None:
    """``curl --cert`` is served where a certificate is required; without it curl is told so."""
    url = f"https://localhost:{tls('required')}/"
    asked = (needs("curl"), "-sS", "--cacert", authority_file)
    ended = run(*asked, "--cert", clients_file, url)
    assert json.loads(ended.stdout)["backend"] == "a"
    refused = run(*asked, url)
    assert refused.returncode != 0 and b"certificate required" in refused.stderr


# To backends


@pytest.mark.parametrize(
    ("names", "lines", "status"),
    [
        (["127.0.0.1"], [], 200),
        (["backend.test"], ['cluster.app.tls.server_name = "backend.test"'], 200),
        (["*.backend.test"], ['cluster.app.tls.server_name = "x.backend.test"'], 200),
        (["another.test"], [], 502),
        (["another.test"], ['cluster.app.tls.server_name = "backend.test"'], 502),
        (["another.test"], ["cluster.app.tls.verify = false"], 200),
    ],
)
def test_backend_proves_its_name(
    proxy: Callable[..., Proxy],
    backends: Backends,
    certificate: Certificate,
    authority_file: Path,
    names: list[str],
    lines: list[str],
    status: int,
) -> None:
    """A backend over TLS is believed for its name only, unless I say that nobody need prove anything."""
    servers = backends("a", certificate=certificate(*names))
    if "cluster.app.tls.verify = false" not in lines:
        lines = [*lines, f'cluster.app.tls.ca = "{authority_file}"']
    running = proxy(configuration(servers, *lines))
    answer = converse(port_of(running), REQUEST)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    if status == 502:
        running.wait_for(r"Backend a of app cannot be reached: .*certificate is not for")
        assert b"another" not in answer


def test_unknown_authority_of_a_backend(
    proxy: Callable[..., Proxy], backends: Backends, certificate: Certificate
) -> None:
    """Without ``ca`` the system's authorities count, and do not know the one of these tests."""
    servers = backends("a", certificate=certificate("127.0.0.1"))
    running = proxy(configuration(servers, "cluster.app.tls = true"))
    assert converse(port_of(running), REQUEST).startswith(b"HTTP/1.1 502 ")


def test_backend_asks_for_our_certificate(
    proxy: Callable[..., Proxy], certificate: Certificate, authority_file: Path, authority: trustme.CA
) -> None:
    """``cluster.x.tls.certificate`` is what we show to a backend that wants one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority_file)
    shown: list[set[str]] = []

    def play(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as client:
            shown.append(names_of(client.getpeercert()))
            read_until(client, b"\r\n\r\n")
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with Script(play) as script:
        lines = [f'cluster.app.tls = {{ ca = "{authority_file}", certificate = "{certificate("the.proxy")}" }}']
        answer = converse(port_of(proxy(configuration([script], *lines))), REQUEST)
    assert answer.endswith(b"\r\n\r\nok")
    assert shown == [{"the.proxy"}]


def test_tls_on_both_sides(
    proxy: Callable[..., Proxy],
    backends: Backends,
    certificate: Certificate,
    authority_file: Path,
    trust: ssl.SSLContext,
) -> None:
    """TLS ends at the proxy and begins anew behind it: a large body passes both ways, and connections are kept."""
    servers = backends("a", certificate=certificate("127.0.0.1"))
    ca = f'cluster.app.tls.ca = "{authority_file}"'
    port = port_of(proxy(configuration(servers, ca, certificate=certificate("localhost"))), "secure")
    body = bytes(range(256)) * 20000
    with connect(port) as plain, trust.wrap_socket(plain, server_hostname="localhost") as client:
        for number in (1, 2):
            client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            told = body_of(read_until(client, b'"}'))
            assert (told["length"], told["connection"], told["request"]) == (len(body), 1, number)
        client.sendall(b"GET /stream?n=5000000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = read_all(client)
        assert answer.partition(b"\r\n\r\n")[2] == bytes(5_000_000)


# What does not start


def _another_key(right: Path, other: Path) -> bytes:
    ours, theirs = right.read_bytes(), other.read_bytes()
    end = b"-----END RSA PRIVATE KEY-----\n" if b"RSA PRIVATE" in ours else b"-----END EC PRIVATE KEY-----\n"
    return theirs.partition(end)[0] + end + ours.partition(end)[2]


@pytest.mark.parametrize(
    "fault", ["missing", "garbage", "no key", "no certificate", "another's key", "empty directory"]
)
def test_broken_certificates_do_not_start(tmp_path: Path, certificate: Certificate, fault: str) -> None:
    """A PEM file that cannot serve is named when I start, with what is wrong, and no traceback."""
    right = certificate("localhost")
    text = right.read_bytes()
    broken = tmp_path / "broken.pem"
    match fault:
        case "garbage":
            broken.write_bytes(b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
        case "no key":
            broken.write_bytes(text[text.index(b"-----BEGIN CERTIFICATE") :])
        case "no certificate":
            broken.write_bytes(text[: text.index(b"-----BEGIN CERTIFICATE")])
        case "another's key":
            broken.write_bytes(_another_key(right, certificate("other")))
        case "empty directory":
            broken.mkdir()
    toml = configuration([], 'cluster.app.backends.a = "tcp:127.0.0.1:9"', certificate=broken, frontends=())
    status, said = start_and_fail(tmp_path, toml)
    assert status == 1
    assert str(broken) in said
    assert "Traceback" not in said


@pytest.mark.parametrize("key", ["frontend.secure.tls.client_ca", "cluster.app.tls.ca", "cluster.app.tls.certificate"])
def test_broken_authorities_do_not_start(tmp_path: Path, certificate: Certificate, key: str) -> None:
    """The same goes for the other PEM files."""
    broken = tmp_path / "broken.pem"
    broken.write_text("no PEM at all\n")
    toml = configuration(
        [],
        'cluster.app.backends.a = "tcp:127.0.0.1:9"',
        f'{key} = "{broken}"',
        certificate=certificate("localhost"),
        frontends=(),
    )
    status, said = start_and_fail(tmp_path, toml)
    assert status == 1
    assert str(broken) in said
    assert "Traceback" not in said
