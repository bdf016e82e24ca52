"""What a client must know of a proxy before the load begins: its cookie, having tried that affinity works."""

from __future__ import annotations

import http.client
from collections.abc import Callable

from bench import nginx, websocket
from bench.handshakes import client_context
from bench.processes import BenchError

NO_COOKIE = "SRV=none"


def over_http(tls: bool) -> Callable[[int, bool], str]:
    """Ask once without a cookie and then with the one given: the backend and the connection must stay the same."""

    def learn(port: int, sticky: bool) -> str:
        connection = _connection(port, tls)
        try:
            cookie, seen = NO_COOKIE, set()
            for turn in range(6):
                connection.request("GET", f"/learn/{turn}", headers={"Cookie": cookie} if turn else {})
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200 or len(body) != nginx.ANSWER_SIZE:
                    raise BenchError(f"answers with {answer.status} {answer.reason} and {len(body)} bytes")
                if sticky and connection.sock is None:
                    raise BenchError("does not keep the connection")
                given = answer.headers["Set-Cookie"]
                if given and turn:
                    raise BenchError(f"sets a cookie again, although it was sent {cookie!r}")
                if given:
                    cookie = given.partition(";")[0]
                elif turn:
                    seen.add(body[:1])
            if sticky and len(seen) != 1:
                raise BenchError(f"is not sticky: {cookie!r} was served by {sorted(seen)}")
            return cookie
        finally:
            connection.close()

    return learn


def _connection(port: int, tls: bool) -> http.client.HTTPConnection:
    if not tls:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=5.0, context=client_context())


def over_websocket(tls: bool) -> Callable[[int, bool], str]:
    """The same with the handshakes of WebSockets."""

    def learn(port: int, sticky: bool) -> str:
        cookie, seen = "", set()
        for turn in range(5):
            opened = websocket.upgrade(port, f"/learn/{turn}", cookie or NO_COOKIE, client_context() if tls else None)
            opened.connection.close()
            if opened.cookie and turn:
                raise BenchError(f"sets a cookie again, although it was sent {cookie!r}")
            cookie = cookie or opened.cookie or NO_COOKIE
            if turn:
                seen.add(opened.backend)
        if sticky and len(seen) != 1:
            raise BenchError(f"is not sticky: {cookie!r} was served by {sorted(seen)}")
        return cookie

    return learn


def no_cookie(port: int, sticky: bool) -> str:
    """Nothing is learned: the relay knows no cookies, and for a few long bodies they do not matter."""
    return NO_COOKIE
