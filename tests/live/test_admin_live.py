"""The admin API of a real ``twistd``: what the documentation shows, and a thousand calls that are wrong."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from clients import port_of
from parts import ROOT, Backend, Proxy

TOKEN = "live" * 8
TOML = """
[frontend.web]
listen = "tcp:0:interface=127.0.0.1"
cluster = "app"
[cluster.app]
affinity = "source"
backends = {{ a = "{a}", b = "{b}" }}
[admin]
listen = "tcp:0:interface=127.0.0.1"
token_file = "admin.token"
"""


@pytest.fixture
def running(proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]], tmp_path: Path) -> Proxy:
    a, b = backends("a", "b")
    (tmp_path / "admin.token").write_text(f"alice {TOKEN}\n")
    (tmp_path / "admin.token").chmod(0o600)
    toml = TOML.format(a=a.endpoint, b=b.endpoint).replace('"admin.token"', f'"{tmp_path / "admin.token"}"')
    return proxy(toml)


def admin_port(running: Proxy) -> int:
    return int(running.wait_for(r"Admin API listens on \S+ 127\.0\.0\.1:(\d+)")[0][1])


@pytest.mark.needs("curl")
def test_what_the_documentation_shows(running: Proxy) -> None:
    """Each curl of docs/admin.md does what it says: a good status, and JSON."""
    text = (ROOT / "docs" / "admin.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    commands = re.findall(r"^curl (?:.*\\\n)*.*$", "".join(blocks), re.MULTILINE)
    assert len(commands) >= 8
    port = admin_port(running)
    for command in commands:
        told = command.replace("127.0.0.1:9900", f"127.0.0.1:{port}").replace("curl ", "curl -sS --fail-with-body ", 1)
        environment = {**os.environ, "TOKEN": TOKEN}
        ran = subprocess.run(
            ["bash", "-c", told], env=environment, cwd=running.directory, capture_output=True, text=True, timeout=90
        )
        assert ran.returncode == 0, (command, ran.stdout, ran.stderr)
        assert json.loads(ran.stdout), command
    running.wait_for(r"Backend b of app is changed by alice at 127\.0\.0\.1: state drain")


def test_a_thousand_bad_calls(running: Proxy) -> None:
    """Each gets a status of 4xx that fits, whatever it is; nothing has changed, and the log has no traceback."""
    port, chance = admin_port(running), random.Random(7)
    good = ("PUT", "/api/clusters/app/backends/a", b'{"state": "drain"}', TOKEN, "application/json")
    spoiled: list[Callable[[], tuple[tuple[str, str, bytes, str, str], set[int]]]] = [
        lambda: ((*good[:3], chance.randbytes(16).hex(), good[4]), {401, 429}),
        lambda: ((*good[:3], "", good[4]), {401, 429}),
        lambda: ((*good[:2], chance.randbytes(30), *good[3:]), {400}),
        lambda: ((*good[:2], good[2][: chance.randrange(len(good[2]))], *good[3:]), {400}),
        lambda: ((*good[:2], b'{"state": "%d"}' % chance.randrange(99), *good[3:]), {422}),
        lambda: ((*good[:2], b'{"weight": %d}' % chance.randrange(257, 10**9), *good[3:]), {422}),
        lambda: ((good[0], f"/api/clusters/{chance.randbytes(8).hex()}/backends/a", *good[2:]), {404}),
        lambda: ((good[0], f"/api/clusters/app/backends/{chance.randbytes(8).hex()}", *good[2:]), {404}),
        lambda: ((good[0], f"/{chance.randbytes(8).hex()}", *good[2:]), {404}),
        lambda: ((chance.choice(["POST", "DELETE", "PATCH"]), *good[1:]), {405}),
        lambda: ((*good[:2], b"x" * chance.randrange(70_000, 300_000), *good[3:]), {413}),
        lambda: ((*good[:4], "text/html"), {415}),
    ]
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    for count in range(1000):
        (method, path, body, token, kind), expected = spoiled[count % len(spoiled)]()
        fields = {"Content-Type": kind, "Authorization": f"Bearer {token}"}
        connection.request(method, path, body, fields)
        answer = connection.getresponse()
        about = json.loads(answer.read())
        assert answer.status == about["status"], about
        assert answer.status in expected, (method, path, body[:80], about)
    connection.request("GET", "/api/clusters/app")
    seen = json.loads(connection.getresponse().read())
    connection.close()
    assert [backend["file"] for backend in seen["backends"].values()] == [{}, {}]
    assert "Traceback" not in running.log


def ask(running: Proxy, method: str, path: str, body: str | None = None, kind: str = "application/json") -> Any:
    """The status and the JSON of an answer."""
    connection = HTTPConnection("127.0.0.1", admin_port(running), timeout=30)
    fields = {"Authorization": f"Bearer {TOKEN}", "Content-Type": kind}
    connection.request(method, path, body.encode() if body is not None else None, fields)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    return answer.status, told


def test_what_was_served_is_told(running: Proxy) -> None:
    """I see how many requests a backend has answered, how long they took, and whose session it has."""
    connection = HTTPConnection("127.0.0.1", port_of(running), timeout=30)
    for _ in range(3):
        connection.request("GET", "/")
        connection.getresponse().read()
    connection.close()
    backends = ask(running, "GET", "/api/clusters/app")[1]["backends"]
    (served,) = [backend for backend in backends.values() if backend["requests"]]
    assert (served["requests"], served["errors"], sum(served["durations"]), served["sessions"]) == (3, 0, 3, 1)
    (session,) = ask(running, "GET", "/api/sessions?address=127.0.0.1")[1]["sessions"]
    assert backends[session["backend"]] == served


def test_a_new_configuration(running: Proxy) -> None:
    """I see what it would do, load it, and what I changed by hand stays; a wrong one is told and changes nothing."""
    text = running.config.read_text()
    assert ask(running, "PUT", "/api/clusters/app/backends/a", '{"weight": 7}')[0] == 200
    wanted = text.replace("backends = {", 'backends = { c = "tcp:127.0.0.1:1",')
    status, plan = ask(running, "POST", "/api/plan", wanted, "application/toml")
    assert status == 200
    assert any("cluster.app.backends.c added" in line for line in plan["told"]), plan
    assert "c" not in ask(running, "GET", "/api/clusters/app")[1]["backends"]
    running.config.write_text(wanted)
    status, loaded = ask(running, "POST", "/api/reload")
    assert (status, loaded["changes"]) == (200, ["cluster.app.backends.c added (tcp:127.0.0.1:1)"])
    backends = ask(running, "GET", "/api/clusters/app")[1]["backends"]
    assert set(backends) == {"a", "b", "c"}
    assert (backends["a"]["weight"], backends["a"]["file"]) == (7, {"weight": 1})
    running.config.write_text(text.replace("source", "sauce"))
    for path, body in (("/api/plan", running.config.read_text()), ("/api/reload", None)):
        status, refused = ask(running, "POST", path, body, "application/toml")
        assert status == 422
        assert refused["mistakes"][0]["key"] == "cluster.app.affinity"
    assert set(ask(running, "GET", "/api/clusters/app")[1]["backends"]) == {"a", "b", "c"}
    running.config.write_text(wanted.replace("[admin]", '[admin]\nhosts = ["admin.example.org"]'))
    assert ask(running, "POST", "/api/reload")[0] == 200
    connection = HTTPConnection("127.0.0.1", admin_port(running), timeout=30)
    connection.request("GET", "/api/version", headers={"Host": "admin.example.org"})
    assert connection.getresponse().status == 200
    connection.close()
