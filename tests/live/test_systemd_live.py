"""Under systemd: its sockets, and the units in ``conf/systemd``. Systemd itself is played where it is not needed."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from clients import body_of, read_until
from parts import ROOT, Backend, Program, converse, free_port

UNITS = ROOT / "conf" / "systemd"
TWISTD = Path(sys.executable).with_name("twistd")
# As systemd starts a service: the sockets from 3 on, and whose they are.
START = """
import fcntl, os, sys
names, *numbers = sys.argv[1].split(",")
kept = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in numbers]
for place, number in enumerate(kept):
    os.dup2(number, 3 + place)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(kept)), "LISTEN_FDNAMES": names}
os.execv(sys.argv[2], sys.argv[2:])
"""
CONFIG = """
[frontend.web]
listen = "systemd:domain=INET:name=web"
cluster = "app"
[frontend.other]
listen = "systemd:domain=INET:index=1"
cluster = "app"
[cluster.app.backends]
a = "{}"
"""
GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.fixture
def config(backends: Callable[..., list[Backend]], tmp_path: Path) -> Path:
    path = tmp_path / "proxy.toml"
    path.write_text(CONFIG.format(backends("a")[0].endpoint))
    return path


def test_sockets_of_systemd(program: Callable[..., Program], config: Path) -> None:
    """By name and by place; who comes while the service restarts waits, and is answered."""
    web, other = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    with closing(web), closing(other):
        numbers = (web.fileno(), other.fileno())
        sockets = ",".join(["web:other", *map(str, numbers)])
        started = [sys.executable, "-c", START, sockets, TWISTD, "-n", "--pidfile=", "stickyproxy", "--config", config]

        def start() -> Program:
            running = program(*started, cwd=config.parent, env={"PYTHONPATH": str(ROOT)}, descriptors=numbers)
            running.wait_for("Frontend .* listens on systemd:", count=2)
            return running

        first = start()
        ports = [each.getsockname()[1] for each in (web, other)]
        assert [body_of(converse(port, GET))["backend"] for port in ports] == ["a", "a"]
        first.stop()
        with socket.create_connection(("127.0.0.1", ports[0]), 20) as waiting:
            waiting.sendall(GET)
            start()
            assert read_until(waiting, b'"}').startswith(b"HTTP/1.1 200 ")


@pytest.mark.needs("systemd-socket-activate")
def test_socket_activation(program: Callable[..., Program], needs: Callable[[str], str], config: Path) -> None:
    """systemd's own tool starts us when the first client comes, who is served."""
    port = free_port()
    config.write_text(re.sub(r"\[frontend.other\].*?(?=\[cluster)", "", config.read_text(), flags=re.DOTALL))
    tool = [needs("systemd-socket-activate"), "-l", f"127.0.0.1:{port}", "--fdname=web", "-E", f"PYTHONPATH={ROOT}"]
    running = program(*tool, TWISTD, "-n", "--pidfile=", "stickyproxy", "--config", config, cwd=config.parent)
    running.wait_for("Listening on")
    assert body_of(converse(port, GET, timeout=30))["backend"] == "a"


@pytest.mark.needs("systemd-analyze")
def test_units(needs: Callable[[str], str], tmp_path: Path) -> None:
    """systemd finds nothing wrong with the units, and the service well locked up."""
    analyze = needs("systemd-analyze")
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/stickyproxy/bin/twistd", str(TWISTD))
        (tmp_path / unit.name).write_text(text)
    units = sorted(tmp_path.iterdir())
    assert [unit.name for unit in units] == ["stickyproxy.service", "stickyproxy.socket"]
    verified = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, timeout=60)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
    secure = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=20", units[0]], capture_output=True, text=True, timeout=60
    )
    assert secure.returncode == 0, secure.stdout + secure.stderr


def test_units_let_tls_start() -> None:
    """Memory that is written and run is what pyOpenSSL's callbacks are made of: forbidden, no TLS frontend starts."""
    assert not re.search("^MemoryDenyWriteExecute=", (UNITS / "stickyproxy.service").read_text(), re.MULTILINE)


def test_units_start_what_there_is() -> None:
    """The options of ``twistd`` in the service are ones that it has: what comes before our name, and what after."""
    text = (UNITS / "stickyproxy.service").read_text()
    (command,) = re.findall(r"^ExecStart=\S+ (.*)$", text, re.MULTILINE)
    own, _, ours = command.partition(" stickyproxy ")
    told = [subprocess.run([TWISTD, *which, "--help"], capture_output=True, text=True, cwd=ROOT, timeout=60).stdout
            for which in ([], ["stickyproxy"])]  # fmt: skip
    for options, known in zip((own, ours), told, strict=True):
        for option in re.findall(r"(?<!\S)--?[a-z]+", options):
            assert re.search(rf"(?<![\w-]){option}\b", known), option
