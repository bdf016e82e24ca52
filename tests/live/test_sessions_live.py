"""Sessions with a real proxy: one of them over several protocols, and what becomes of them when backends change."""

from __future__ import annotations

import itertools
import re
import select
from collections.abc import Callable
from typing import NamedTuple

from clients import HANDSHAKE, STRANGER, body_of, connect, port_of, read_all, read_until
from parts import Backend, Proxy

USERS = [b"user-%d" % number for number in range(6)]


class Answer(NamedTuple):
    """``cookie``: as the client sends it back from now on, b"": as before."""

    status: int
    backend: str | None
    cookie: bytes
    head: bytes


def request(path: str, *fields: bytes) -> bytes:
    return b"\r\n".join((f"GET {path} HTTP/1.1".encode(), b"Host: x", b"Connection: close", *fields, b"", b""))


def told(answer: bytes) -> Answer:
    head = answer.partition(b"\r\n\r\n")[0]
    status = int(head.split(b" ", 2)[1])
    cookie = re.search(rb"Set-Cookie: ([^;\r]+)", head)
    return Answer(status, body_of(answer)["backend"] if status == 200 else None, cookie[1] if cookie else b"", head)


def ask(port: int, path: str = "/", cookie: bytes = b"", *fields: bytes, source: str = "127.0.0.1") -> Answer:
    with connect(port, source=source) as client:
        client.sendall(request(path, *([b"Cookie: " + cookie] if cookie else []), *fields))
        return told(read_all(client))


# One session over several protocols.

SEVERAL = """
[cluster.web]
affinity = {{ by = "header:X-User", space = "user" }}
sessions = {{ group = "users", steering = true }}
backends = {{ a = "{web_a}", b = "{web_b}" }}
[cluster.devices]
affinity = {{ by = "key", space = "user" }}
sessions = {{ group = "users" }}
backends = {{ a = "{devices_a}", b = "{devices_b}" }}
[frontend.web]
listen = "tcp:0:interface=127.0.0.1"
cluster = "web"
[frontend.devices]
listen = "tcp:0:interface=127.0.0.1"
protocol = "tcp"
cluster = "devices"
inspect = {{ by = "mqtt", key = "user" }}
"""


def text(value: bytes) -> bytes:
    return len(value).to_bytes(2, "big") + value


def mqtt_connect(user: bytes) -> bytes:
    """CONNECT of MQTT 3.1.1 (section 3.1) with a user name and a password."""
    packet = text(b"MQTT") + b"\x04\xc2\x00\x3c" + text(b"device of " + user) + text(user) + text(b"secret")
    return b"\x10" + bytes([len(packet)]) + packet


def test_one_session_over_several_protocols(
    proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]]
) -> None:
    """A user's requests, WebSockets and MQTT connections land on one backend, whichever is first; moved, all follow."""
    (web_a, web_b), (devices_a, devices_b) = backends("a", "b"), backends("a", "b", tcp=True)
    endpoints = {
        "web_a": web_a.endpoint,
        "web_b": web_b.endpoint,
        "devices_a": devices_a.endpoint,
        "devices_b": devices_b.endpoint,
    }
    it = proxy(SEVERAL.format(**endpoints))
    web, devices = port_of(it), port_of(it, "devices")

    def by_request(user: bytes) -> str | None:
        return ask(web, "/", b"", b"X-User: " + user).backend

    def by_websocket(user: bytes) -> str:
        with connect(web) as client:
            client.sendall(HANDSHAKE + b"X-User: " + user + b"\r\n\r\n")
            found = re.search(rb'"backend": "(\w)"', read_until(client, b'"method"'))
            assert found is not None
            return found[1].decode()

    def by_mqtt(user: bytes) -> str:
        with connect(devices) as client:
            client.sendall(mqtt_connect(user))
            return read_until(client, b"\n").split(b"\n")[0].decode()

    homes = {}
    for user, order in zip(USERS, itertools.permutations((by_request, by_websocket, by_mqtt)), strict=True):
        served = [by(user) for by in (*order, *order)]
        assert len(set(served)) == 1, (user, served)
        homes[user] = served[0]
    assert set(homes.values()) == {"a", "b"}
    for user, home in homes.items():
        other = "b" if home == "a" else "a"
        ask(web, f"/?header=Sticky-Move:{other}", b"", b"X-User: " + user)
        assert [by(user) for by in (by_mqtt, by_websocket, by_request)] == [other] * 3
    devices_b.kill()
    for user in USERS:
        assert [by(user) for by in (by_mqtt, by_websocket, by_request)] == ["a"] * 3


# Under change.

CHANGE = "".join(
    f"[cluster.{name}]\naffinity = 'cookie'\nsessions = {{ {sessions} }}\nbackends = {{ a = 'A', b = {b} }}\n"
    for name, sessions, b in (
        ("up", "group = 'g'", "'B'"),
        ("drain", "group = 'g'", "{ endpoint = 'B', state = 'drain' }"),
        ("maintenance", "group = 'g'", "{ endpoint = 'B', state = 'maintenance' }"),
        ("rebind", "when_down = 'rebind'", "'B'"),
        ("wait", "when_down = 'wait', grace = '60s'", "'B'"),
        ("fail", "when_down = 'fail'", "'B'"),
        ("home", "return_home = true", "'B'"),
        ("together", "together = '60s'", "'B'"),
        ("steer", "steering = true", "'B'"),
    )
)
WAYS = ("up", "rebind", "wait", "fail", "home", "steer")


def test_sessions_under_change(proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]]) -> None:
    """Draining, in maintenance, killed and started again, born together, steered: each session does as its policy."""
    a, b = backends("a", "b")
    clusters = CHANGE.replace("'A'", f"'{a.endpoint}'").replace("'B'", f"'{b.endpoint}'")
    routes = ", ".join(
        f'{{ path = "/{name}", cluster = "{name}" }}' for name in (*WAYS, "drain", "maintenance", "together")
    )
    it = proxy(f'{clusters}\n[frontend.web]\nlisten = "tcp:0:interface=127.0.0.1"\nroutes = [{routes}]\n')
    port = port_of(it)
    cookies = {}
    for way in WAYS:
        new = [ask(port, f"/{way}") for _ in range(2)]
        assert {answer.backend for answer in new} == {"a", "b"}
        cookies[way] = next(answer.cookie for answer in new if answer.backend == "b")

    def again(way: str) -> tuple[int, str | None]:
        """The client of ``b``, with its newest cookie."""
        answer = ask(port, f"/{way}", cookies[way])
        cookies[way] = answer.cookie or cookies[way]
        return answer.status, answer.backend

    drains = ask(port, "/drain", cookies["up"])
    assert (drains.backend, drains.cookie) == ("b", b"")
    assert {ask(port, "/drain").backend for _ in range(6)} == {"a"}
    rebound = ask(port, "/maintenance", cookies["up"])
    assert rebound.backend == "a"
    assert ask(port, "/up", rebound.cookie).backend == "a"
    assert len({ask(port, "/together").backend for _ in range(5)}) == 1
    assert {ask(port, "/together", source=source).backend for source in ("127.0.0.1", STRANGER)} == {"a", "b"}

    b.kill()
    with connect(port, timeout=60) as waiting:
        waiting.sendall(request("/wait", b"Cookie: " + cookies["wait"]))
        assert again("fail") == (503, None)
        assert again("rebind") == (200, "a")
        assert [ask(port, "/home", cookies["home"])[1:3] for _ in range(3)] == [("a", b"")] * 3
        assert not select.select([waiting], [], [], 0)[0]
        b.start()
        patient = told(read_all(waiting))
    assert (patient.backend, patient.cookie) == ("b", b"")
    assert {way: again(way)[1] for way in WAYS} == {**dict.fromkeys(WAYS, "b"), "rebind": "a"}

    moved = ask(port, "/steer?header=Sticky-Move:a", cookies["steer"])
    assert moved.backend == "b" and b"sticky-" not in moved.head.lower()
    assert ask(port, "/steer", moved.cookie).backend == "a"
    ended = ask(port, "/steer?header=Sticky-Release:1", moved.cookie)
    assert b"Max-Age=0" in ended.head
