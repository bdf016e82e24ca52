"""The live tests' own equipment tells the truth."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from parts import Backend, converse
from websockets.sync.client import connect

Backends = Callable[..., list[Backend]]


def ask(backend: Backend, head: str, body: bytes = b"") -> tuple[str, bytes]:
    """Head and body of the answer to one request on a connection of its own."""
    request = f"{head}\r\nHost: test\r\nConnection: close\r\n\r\n".encode() + body
    answer_head, _, answer_body = converse(backend.port, request).partition(b"\r\n\r\n")
    return answer_head.decode("latin-1"), answer_body


def test_backend_tells_what_arrived(backends: Backends) -> None:
    """The JSON has my method, target, fields as I spelled them, and the length of my body."""
    (backend,) = backends("a")
    head, body = ask(backend, "POST /x?y=1 HTTP/1.1\r\nx-OdD:  Value\r\nContent-Length: 5", b"hello")
    record = json.loads(body)
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert (record["backend"], record["method"], record["target"]) == ("a", "POST", "/x?y=1")
    assert ["x-OdD", "Value"] in record["headers"]
    assert (record["length"], record["connection"], record["request"]) == (5, 1, 1)


def test_backend_reads_chunks_and_trailers(backends: Backends) -> None:
    """A chunked body is counted without its framing, and trailers are told."""
    (backend,) = backends("a")
    _, body = ask(
        backend, "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked", b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: v\r\n\r\n"
    )
    assert (json.loads(body)["length"], json.loads(body)["trailers"]) == (5, ["T: v"])


@pytest.mark.parametrize(
    ("head", "sent", "expected"),
    [
        ("GET /stream?n=200000 HTTP/1.1", b"", bytes(200000)),
        ("GET /stream?n=3&chunked=1 HTTP/1.1", b"", b"3\r\n\0\0\0\r\n0\r\n\r\n"),
        ("GET /stream?n=3&until_close=1 HTTP/1.1", b"", bytes(3)),
        ("HEAD /stream?n=3 HTTP/1.1", b"", b""),
        ("POST /echo HTTP/1.1\r\nContent-Length: 4", b"back", b"back"),
        ("GET /truncate HTTP/1.1", b"", bytes(500)),
        ("GET /stream?n=2&code=403 HTTP/1.1", b"", bytes(2)),
        ("GET /stream?n=2&code=304 HTTP/1.1", b"", b""),
    ],
)
def test_backend_sends_what_is_asked(backends: Backends, head: str, sent: bytes, expected: bytes) -> None:
    """Each path of the backend does what its docstring says."""
    (backend,) = backends("a")
    assert ask(backend, head, sent)[1] == expected


def test_backend_keeps_connections_and_drops_them(backends: Backends) -> None:
    """Two requests on one connection are numbered, and /drop closes without a word."""
    (backend,) = backends("a")
    answers = converse(
        backend.port, b"GET / HTTP/1.1\r\n\r\nGET /?header=X-Y:z HTTP/1.1\r\n\r\nGET /drop HTTP/1.1\r\n\r\n"
    )
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert b"X-Y: z\r\n" in answers
    assert b'"connection": 1, "request": 2' in answers


def test_backend_speaks_websocket_over_tls(
    backends: Backends, certificate: Callable[..., Path], authority: trustme.CA
) -> None:
    """A WebSocket gets the record first, then its echo, also over TLS."""
    (backend,) = backends("a", certificate=certificate("localhost"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with connect(f"wss://localhost:{backend.port}/live", ssl=context, subprotocols=["chat"]) as socket:
        assert json.loads(socket.recv())["target"] == "/live"
        socket.send(b"\x00\xff")
        assert (socket.recv(), socket.subprotocol) == (b"\x00\xff", "chat")


def test_backend_echoes_tcp_and_comes_back(backends: Backends) -> None:
    """The TCP backend greets, echoes, says bye at the end of input; killed and started, it has its port again."""
    (backend,) = backends("r", tcp=True)
    port = backend.port
    assert converse(port, b"hello", end=True) == b"r\nhellobye\n"
    backend.kill()
    with pytest.raises(ConnectionRefusedError):
        converse(port, b"hello", end=True)
    backend.start()
    assert (backend.port, converse(port, b"again", end=True)) == (port, b"r\nagainbye\n")
