"""The parts of the demo that need neither browser nor proxy."""

from __future__ import annotations

import datetime
import socket
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509

from stickyproxy.demo.backends import Sessions
from stickyproxy.demo.certificate import write_certificate
from stickyproxy.demo.service import _choose_ports


def test_a_backend_remembers_its_visitors() -> None:
    """I am new once, kept as long as I come back, and unknown where I have not been."""
    here, elsewhere = Sessions(), Sessions()
    reason, visits, token = here.visit(None)
    assert (reason, visits) == ("new", 1)
    assert here.visit(token) == ("kept", 2, token)
    assert here.visit(token) == ("kept", 3, token)
    reason, visits, other = elsewhere.visit(token)
    assert (reason, visits) == ("unknown", 1)
    assert other != token


def test_a_backend_forgets_the_longest_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million visitors do not fill the memory: who was not seen for the longest time is unknown."""
    monkeypatch.setattr("stickyproxy.demo.backends._SESSIONS", 2)
    sessions = Sessions()
    first, second = sessions.visit(None)[2], sessions.visit(None)[2]
    sessions.visit(first)
    sessions.visit(None)
    assert sessions.visit(first)[0] == "kept"
    assert sessions.visit(second)[0] == "unknown"


def test_certificate(tmp_path: Path) -> None:
    """The certificate names localhost in every way it is written, a TLS server takes it, and only I can read it."""
    path = write_certificate(tmp_path, datetime.datetime.now(datetime.UTC))
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)


def test_a_taken_port_is_left_alone() -> None:
    """Where somebody listens already, another port is found."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = _choose_ports({"http": port})
    assert found["http"] not in (0, port)
    assert _choose_ports({"http": port}) == {"http": port}
