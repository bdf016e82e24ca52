"""Connections that do nothing: opened, used once, and held, so that the memory of each can be read off the proxy.

``python -m bench.idle http PORT``; ``… websocket PORT --tls``.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import ssl
import time

from bench import websocket
from bench.handshakes import client_context

_SETTLE = 0.5
_SIZE = 64


def _keep_alive(port: int, turn: int, cookie: str) -> socket.socket:
    """A connection over which one request was answered."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)
    client.request("GET", f"/idle/{turn}", headers={"Cookie": cookie})
    answer = client.getresponse()
    answer.read()
    if answer.status != 200 or client.sock is None:
        raise ConnectionError(f"the answer was {answer.status}, or the connection was not kept")
    return client.sock


def _websocket(port: int, turn: int, cookie: str, tls: ssl.SSLContext | None) -> socket.socket:
    """A WebSocket on which one message was echoed."""
    opened = websocket.upgrade(port, f"/idle/{turn}", cookie, tls).connection
    message = websocket.frames(_SIZE)
    opened.sendall(message.masked)
    came = b""
    while len(came) < len(message.plain):
        if not (data := opened.recv(_SIZE * 2)):
            raise ConnectionError("the WebSocket was lost before the echo")
        came += data
    if came != message.plain:
        raise ConnectionError("the echo was another message")
    return opened


def lost(connection: socket.socket) -> bool:
    """Whether a connection that should be silent has ended."""
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True


def hold(kind: str, port: int, count: int, seconds: float, cookie: str, tls: bool) -> dict[str, float]:
    """Open ``count`` connections, let the proxy come to rest, say "ready", and hold them for ``seconds``.

    ``requests`` in the result are connections held for a second.
    """
    if kind == "websocket":
        context = client_context() if tls else None
        held = [_websocket(port, turn, cookie, context) for turn in range(count)]
    else:
        held = [_keep_alive(port, turn, cookie) for turn in range(count)]
    time.sleep(_SETTLE)
    print("ready", flush=True)
    time.sleep(seconds)
    errors = sum(map(lost, held))
    return {"requests": count * seconds, "rate": count, "errors": errors, "connections": count}


def main() -> None:
    """The command line that the bench uses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("http", "websocket"))
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--cookie", default="SRV=none")
    parser.add_argument("--tls", action="store_true")
    chosen = parser.parse_args()
    print(json.dumps(hold(chosen.kind, chosen.port, chosen.count, chosen.seconds, chosen.cookie, chosen.tls)))


if __name__ == "__main__":
    main()
