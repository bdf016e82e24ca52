"""A client that sends TLS records without data, and reads nothing of what OpenSSL answers to them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from OpenSSL import SSL
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock

from stickyproxy.testing import MemoryTransport
from stickyproxy.tls import CertificateStore, server_connection_creator, tls_factory

Pem = Callable[..., Path]


class _Writer:
    """The client's half of a TLS 1.3 connection, from its traffic secret on (RFC 8446 sections 5.2, 7.2 and 7.3)."""

    def __init__(self, secret: bytes) -> None:
        self._algorithm: HashAlgorithm = SHA384() if len(secret) == 48 else SHA256()
        self._use(secret)

    def record(self, kind: int, content: bytes) -> bytes:
        """One encrypted record; ``kind`` is its content type."""
        plain = content + bytes([kind])
        head = b"\x17\x03\x03" + (len(plain) + 16).to_bytes(2, "big")
        nonce = (int.from_bytes(self._iv, "big") ^ self._count).to_bytes(12, "big")
        self._count += 1
        return head + self._key.encrypt(nonce, plain, head)

    def key_update(self) -> bytes:
        """New keys for us, and the wish that the peer take new ones, too: it answers with a record of its own."""
        record = self.record(22, b"\x18\x00\x00\x01\x01")
        self._use(self._expand(b"traffic upd", self._algorithm.digest_size))
        return record

    def _use(self, secret: bytes) -> None:
        self._secret, self._count = secret, 0
        self._key = AESGCM(self._expand(b"key", 32 if self._algorithm.digest_size == 48 else 16))
        self._iv = self._expand(b"iv", 12)

    def _expand(self, label: bytes, size: int) -> bytes:
        label = b"tls13 " + label
        info = size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\x00"
        return HKDFExpand(self._algorithm, size, info).derive(self._secret)


class _Hears(Protocol):
    def __init__(self) -> None:
        self.heard = b""
        self.lost = False

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


@pytest.fixture
def connected(pem: Pem) -> tuple[MemoryTransport, _Hears, _Writer, Clock]:
    """A server behind TLS 1.3, and a client that says what it likes."""
    hears, clock, secrets = _Hears(), Clock(), {}
    factory = Factory()
    factory.buildProtocol = lambda addr: hears  # type: ignore[method-assign,assignment,return-value]
    creator = server_connection_creator(CertificateStore.load([pem("a.pem", "a.example")]))
    transport = MemoryTransport(high_water=65536)
    transport.protocol = tls_factory(creator, factory, clock).buildProtocol(None)
    assert transport.protocol is not None
    transport.protocol.makeConnection(transport)

    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_keylog_callback(lambda _, line: secrets.update([(line.split()[0], line.split()[2])]))
    client = SSL.Connection(context)
    client.set_connect_state()
    for _ in range(3):
        try:
            client.do_handshake()
        except SSL.WantReadError:
            pass
        try:
            transport.deliver(client.bio_read(65536))
        except SSL.WantReadError:
            pass
        if answer := transport.drain():
            client.bio_write(answer)
    return transport, hears, _Writer(bytes.fromhex(secrets[b"CLIENT_TRAFFIC_SECRET_0"].decode())), clock


def test_new_keys_without_end_are_not_answered_without_end(
    connected: tuple[MemoryTransport, _Hears, _Writer, Clock],
) -> None:
    """A client that asks for new keys again and again, and never reads, is cut off before its answers pile up."""
    transport, hears, writer, clock = connected
    for _ in range(500):
        if not transport.connected:
            break
        transport.deliver(b"".join(writer.key_update() for _ in range(20)) + writer.record(23, b"x"))
        assert transport.unread < 65536
    assert hears.lost and transport.aborted and 0 < len(hears.heard) < 50


def test_new_keys_now_and_then_are_fine(connected: tuple[MemoryTransport, _Hears, _Writer, Clock]) -> None:
    """A long connection may take new keys many times."""
    transport, hears, writer, clock = connected
    for _ in range(200):
        transport.deliver(writer.key_update() + writer.record(23, b"hello"))
    assert hears.heard == b"hello" * 200 and transport.connected
