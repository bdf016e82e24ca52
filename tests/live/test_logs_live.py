"""The access log of a real proxy: rotated under load, and without a secret."""

from __future__ import annotations

import json
import re
import signal
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import bcrypt
from clients import HANDSHAKE, configuration, connect, port_of, read_until, wait_until
from parts import ROOT, Backend, Program, Proxy, converse

SECRET = "s3cr3t"
LOGS = """
access_log = { path = "combined.log" }
frontend.json.access_log = { path = "access.json", format = "json" }
frontend.own.access_log = { path = "own.log", format = '{request} {referer} {target} {path} {field:Origin} {agent}' }
frontend.web.access = { users_file = "../users" }
frontend.web.trusted_proxies = ["127.0.0.1"]
"""
FIELDS = "".join(
    f"{name}: {value}\r\n"
    for name, value in {
        "Authorization": f"Basic {b64encode(b'ann:' + SECRET.encode()).decode()}",
        "Proxy-Authorization": f"Bearer {SECRET}",
        "Cookie": f"session={SECRET}; SRV={SECRET}",
        "X-Api-Key": SECRET,
        "X-Auth-Token": SECRET,
        "X-CSRF-Token": SECRET,
        "Mcp-Session-Id": SECRET,
        "X-Forwarded-Access-Token": SECRET,
        "X-Forwarded-Client-Cert": SECRET,
        "Referer": f"https://ann:{SECRET}@example.org/a;jsessionid={SECRET}?code={SECRET}&state=1#id_token={SECRET}",
        "User-Agent": "test",
    }.items()
)
TARGETS = (
    f"/a?access_token={SECRET}&b=kept",
    f"/a?b=kept&user[password]={SECRET}",
    f"/a?X-Amz-Signature={SECRET};{SECRET}",
    f"/socket.io/?EIO=4&sid={SECRET}",
    f"/a;jsessionid={SECRET}?b=kept",
    f"/a?%70assword={SECRET}",
    f"/a?next=https://ann:{SECRET}@example.org/",
    f"http://ann:{SECRET}@localhost/a",
)


def ask(port: int, target: str = "/") -> bytes:
    head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{FIELDS}\r\n"
    return converse(port, head.encode())


def test_logs(proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]], tmp_path: Path) -> None:
    """Every way to show a password or a token leaves no trace of it in any log; SIGUSR1 loses no line of any."""
    hashed = bcrypt.hashpw(SECRET.encode(), bcrypt.gensalt(4))
    (tmp_path / "users").write_bytes(b"ann:" + hashed + b"\n")
    running = proxy(configuration(backends("a"), LOGS, frontends=("web", "json", "own")))
    for name in ("web", "json", "own"):
        for target in TARGETS:
            assert ask(port_of(running, name), target).startswith(b"HTTP/1.1 ")
        with connect(port_of(running, name)) as websocket:
            websocket.sendall(HANDSHAKE.replace(b"/live", f"/live?token={SECRET}".encode()) + FIELDS.encode() + b"\r\n")
            read_until(websocket, b"\r\n\r\n")
            websocket.sendall(b"\x88\x82\0\0\0\0\x03\xe8")  # Close, 1000
            read_until(websocket, b"\x03\xe8")
    files = [running.directory / name for name in ("combined.log", "access.json", "own.log")]
    wait_until(lambda: all(file.read_text().count("\n") == len(TARGETS) + 2 for file in files))
    for file in files:
        text = file.read_text()
        assert SECRET not in text and b64encode(SECRET.encode()).decode() not in text
        assert text.count("kept") >= 3 and text.count("\n") == len(TARGETS) + 2
        file.rename(file.with_suffix(".1"))
    assert SECRET not in running.log
    running.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: all(file.exists() for file in files))
    lines = [json.loads(line) for line in (running.directory / "access.1").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["http"] * 9 + ["websocket"]
    assert lines[-1]["closed"] in ("client", "backend")
    for _ in range(3):
        ask(port_of(running, "json"))
    running.stop()
    assert files[1].read_text().count("\n") == 3


def test_twistds_own_log_is_rotated_by_the_same_signal(program: Callable[..., Program], tmp_path: Path) -> None:
    """One signal for all: access logs go on in new files, and the log of twistd is rotated as twistd does it."""
    (tmp_path / "proxy.toml").write_text(
        'access_log = "access.log"\nfrontend.web.listen = "tcp:0:interface=127.0.0.1"\nfrontend.web.cluster = "app"\n'
        'cluster.app.backends.a = "tcp:127.0.0.1:1"\n'
    )
    twistd, own = Path(sys.executable).with_name("twistd"), tmp_path / "own.log"
    options = ("-n", "--pidfile=", f"--logfile={own}", "stickyproxy", "--config", tmp_path / "proxy.toml")
    running = program(twistd, *options, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    wait_until(lambda: own.exists() and "listens on" in own.read_text())
    found = re.search(r"port=(\d+)", own.read_text())
    assert found is not None
    ask(int(found[1]))
    (tmp_path / "access.log").rename(tmp_path / "access.log.1")
    running.process.send_signal(signal.SIGUSR1)
    wait_until(lambda: (tmp_path / "access.log").exists() and (tmp_path / "own.log.1").exists())
    ask(int(found[1]))
    running.stop()
    assert [(tmp_path / name).read_text().count(" 502 ") for name in ("access.log.1", "access.log")] == [1, 1]
    assert "Shut Down" in own.read_text()
