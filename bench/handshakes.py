"""Load of full TLS handshakes: connect, shake hands, say goodbye, wait for the end of the connection, begin again.

``python -m bench.handshakes PORT``. No session is offered, so none is resumed. RFC 8446 sections 2 and 6.1.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import socket
import ssl
import time
from array import array

from bench.figures import percentile

_READ = 16384
_GONE = 5.0


def client_context() -> ssl.SSLContext:
    """What every TLS client of the bench has: any certificate will do, TLS 1.3, and one group that all libraries have.

    Otherwise a newer OpenSSL would choose a post-quantum group with one proxy, and X25519 with another.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_ecdh_curve("prime256v1")
    return context


class Shake:
    """One connection, from its beginning to its end."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.begun = time.perf_counter()
        self.done = 0.0
        self.connection = socket.create_connection(("127.0.0.1", port), _GONE)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        self._shake()
        self.connection.setblocking(False)

    def ready(self) -> bool:
        """Read what has come, and say whether the connection is over. Raises OSError when it ends in another way."""
        data = self.connection.recv(_READ)
        if self.done:
            return not data
        if not data:
            raise ConnectionResetError
        self._in.write(data)
        self._shake()
        return False

    def _shake(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
            if self._tls.session_reused:
                raise ConnectionError("a session was resumed")
            self.done = time.perf_counter()
            self._tls.unwrap()
        self.connection.sendall(self._out.read())
        if self.done:
            self.connection.shutdown(socket.SHUT_WR)


class Load:
    """``sockets`` handshakes under way at once. One that fails, or whose connection does not end, is an error."""

    def __init__(self, port: int, sockets: int) -> None:
        self.errors = 0
        self._port = port
        self._context = client_context()
        self._poll = select.epoll()
        self._open: dict[int, Shake] = {}
        for _ in range(sockets):
            self._begin()

    def _begin(self) -> None:
        one = Shake(self._port, self._context)
        number = one.connection.fileno()
        self._open[number] = one
        self._poll.register(number, select.EPOLLIN)

    def run(self, seconds: float) -> dict[str, float]:
        """Go on for so long, and give the figures."""
        taken = array("d")
        errors, begun = self.errors, time.perf_counter()
        while (now := time.perf_counter()) < begun + seconds:
            for number, _ in self._poll.poll(0.5):
                try:
                    if not self._open[number].ready():
                        continue
                except OSError:
                    self.errors += 1
                one = self._open.pop(number)
                one.connection.close()
                if one.done:
                    taken.append(one.done - one.begun)
                self._begin()
            self._give_up(now)
        count, errors = len(taken), self.errors - errors
        p99 = percentile(sorted(taken), 0.99) * 1e3
        return {"requests": count, "rate": count / (now - begun), "errors": errors, "p99_ms": p99}

    def _give_up(self, now: float) -> None:
        """What has taken too long is an error, and another takes its place."""
        for number in [number for number, one in self._open.items() if now - one.begun > _GONE]:
            self.errors += 1
            self._open.pop(number).connection.close()
            self._begin()


def main() -> None:
    """The command line that the bench uses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--sockets", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--warm", type=float, default=0.3)
    chosen = parser.parse_args()
    load = Load(chosen.port, chosen.sockets)
    load.run(chosen.warm)
    print("ready", flush=True)
    print(json.dumps(load.run(chosen.seconds)))


if __name__ == "__main__":
    main()
