"""The calls of OpenSSL, direct and by pyOpenSSL: they are to do the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL

from stickyproxy.tls import CertificateStore, client_creator, server_connection_creator
from stickyproxy.tls.records import DIRECT, PLAIN, give

both = pytest.mark.parametrize("calls", [DIRECT, PLAIN], ids=["direct", "plain"])


@pytest.fixture
def connected(pem: Callable[..., Path], ca_file: Path) -> tuple[Any, Any]:
    """A client's and a server's connection after the handshake, the tickets read."""
    client = client_creator("a.example", ca=ca_file).clientConnectionForTLS(None)
    server = server_connection_creator(CertificateStore.load([pem("a.pem", "a.example")])).serverConnectionForTLS(None)
    client.set_connect_state()
    server.set_accept_state()
    for here, there in [(client, server), (server, client)] * 3:
        with pytest.raises(SSL.WantReadError):
            here.do_handshake()
            here.recv(1)
        try:
            there.bio_write(here.bio_read(100_000))
        except SSL.WantReadError:
            pass
    return client, server


def test_the_pyopenssl_of_this_test_run_is_known() -> None:
    """Else it works too, but slower: ``records`` is to be looked at."""
    assert give is DIRECT[0]


@both
@pytest.mark.parametrize("size", [1, 16384, 16385, 300_000])
def test_there_and_back(connected: tuple[Any, Any], calls: Any, size: int) -> None:
    """What one side writes the other reads, record for record, and then there is nothing more."""
    client, server = connected
    give, read, write, take = calls
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    write(client, data)
    while piece := take(client, 100_000):
        give(server, piece)
    heard = [read(server) for _ in range(0, size, 16384)]
    assert b"".join(heard) == data
    with pytest.raises(SSL.WantReadError):
        read(server)
    assert take(server, 100) == b""


@both
def test_the_end(connected: tuple[Any, Any], calls: Any) -> None:
    """close_notify is told as such, and writing after it was sent is an error."""
    client, server = connected
    give, read, write, take = calls
    client.shutdown()
    give(server, take(client, 1000))
    with pytest.raises(SSL.ZeroReturnError):
        read(server)
    with pytest.raises(SSL.Error, match="shutdown"):
        write(client, b"late")


@both
def test_a_broken_record(connected: tuple[Any, Any], calls: Any) -> None:
    """It is an error that says what is wrong, once, and the next connection hears nothing of it."""
    client, server = connected
    give, read, write, take = calls
    write(client, b"pay 100")
    record = bytearray(take(client, 1000))
    record[-1] ^= 1
    give(server, bytes(record))
    with pytest.raises(SSL.Error, match="bad record mac"):
        read(server)
    with pytest.raises(SSL.WantReadError):
        read(client)
