"""The proxies that are measured: how each is found, configured for a scene, and started. All on equal terms."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from bench import nginx
from bench.processes import Command
from bench.scene import Demand, Mode, Scene

ROOT = Path(__file__).resolve().parent.parent
_HERE = Path(__file__).resolve().parent

_HAPROXY = """\
global
    nbthread 1
    maxconn 4096
defaults
    mode {mode}
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    timeout http-keep-alive 10m
frontend bench
    bind 127.0.0.1:{port} backlog 4096{ssl}
    default_backend app
{frontend}backend app
{backend}    server a 127.0.0.1:{a} cookie a
    server b 127.0.0.1:{b} cookie b
"""

_HAPROXY_IDENTITY = """\
    http-request set-header X-Real-IP %[src]
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto {scheme}
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    http-request set-header X-Forwarded-Port %[dst_port]
"""

_STICKYPROXY = """\
[frontend.bench]
listen = ["tcp:{port}:interface=127.0.0.1"]
protocol = "{protocol}"
cluster = "app"
access_log = {access_log}
{tls}
[cluster.app]
balance = "round-robin"
[cluster.app.affinity]
{affinity}
[cluster.app.backends]
a = "tcp:127.0.0.1:{a}"
b = "tcp:127.0.0.1:{b}"
{more}"""

#: What ``--with`` adds to a stickyproxy that is measured beside the usual one.
EXTRAS = ("metrics", "log")


class Contender(NamedTuple):
    """A proxy to measure. ``missing`` says why it cannot take part in a mode, or None.

    ``sticky``: it has affinity. ``lacks``: what it cannot do.
    """

    name: str
    missing: Callable[[Mode], str | None]
    command: Callable[[Scene], Command]
    version: Callable[[], str]
    sticky: bool = True
    lacks: frozenset[Demand] = frozenset()

    def absent(self, mode: Mode, demands: frozenset[Demand]) -> str | None:
        """Why it cannot take part in a case, or None if it can."""
        if reason := self.missing(mode):
            return reason
        lacking = sorted(self.lacks & demands)
        return f"it has no {', '.join(lacking)}" if lacking else None


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    return done.stdout + done.stderr


def _first_version(text: str) -> str:
    found = re.search(r"\d+\.\d+[.\w]*", text)
    return found[0] if found else "?"


def _in_sbin(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def _distribution(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "checkout"


def _haproxy(scene: Scene) -> Command:
    """Its own cookie persistence (``cookie … insert``), connections to the servers reused, one thread."""
    file = scene.directory / "haproxy.cfg"
    http = scene.mode != "tcp"
    scheme = "https" if scene.mode == "https" else "http"
    cookie = "    cookie SRV insert indirect nocache\n    http-reuse always\n"
    file.write_text(
        _HAPROXY.format(
            mode="http" if http else "tcp",
            port=scene.port,
            ssl=f" ssl crt {scene.certificate} alpn http/1.1 ssl-min-ver TLSv1.2" if scene.mode == "https" else "",
            frontend=_HAPROXY_IDENTITY.format(scheme=scheme) if http else "",
            backend=cookie if http else "    balance source\n",
            a=scene.backends[0],
            b=scene.backends[1],
        )
    )
    return Command([_in_sbin("haproxy") or "haproxy", "-db", "-f", str(file)])


def stickyproxy(reactor: str | None = None, extra: str | None = None) -> Contender:
    """stickyproxy as its users run it, from this checkout, on ``twistd``'s choice of reactor or on ``reactor``.

    ``extra``: with one of ``EXTRAS``, metrics (which ``[admin]`` has counted) or the access log.
    """

    def command(scene: Scene) -> Command:
        file = scene.directory / "bench.toml"
        tls = f'[frontend.bench.tls]\ncertificates = ["{scene.certificate}"]\n' if scene.mode == "https" else ""
        file.write_text(
            _STICKYPROXY.format(
                port=scene.port,
                protocol="tcp" if scene.mode == "tcp" else "http",
                tls=tls,
                affinity='by = "source"' if scene.mode == "tcp" else 'by = "cookie"\nname = "SRV"',
                a=scene.backends[0],
                b=scene.backends[1],
                access_log=f'{{ path = "{scene.directory / "access.log"}" }}' if extra == "log" else "false",
                more=f'[admin]\nlisten = "unix:{scene.directory / "admin.sock"}"\n' if extra == "metrics" else "",
            )
        )
        chosen = [f"--reactor={reactor}"] if reactor else []
        arguments = [*_twistd(), "-n", "--pidfile=", "--logfile=-", *chosen, "stickyproxy", "--config", str(file)]
        return Command(arguments, {"PYTHONPATH": str(ROOT)})

    of_it = reactor or (extra and f"with {extra}")
    name = f"stickyproxy ({of_it})" if of_it else "stickyproxy"
    return Contender(name, lambda mode: None, command, lambda: _distribution("stickyproxy"))


def _twistd() -> list[str]:
    beside = Path(sys.executable).with_name("twistd")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "twisted"]


def _http_only(mode: Mode) -> str | None:
    return None if mode == "http" else f"it does not serve {mode}"


def _twisted_web_proxy(scene: Scene) -> Command:
    script = str(_HERE / "others" / "twisted_web_proxy.py")
    return Command([sys.executable, script, str(scene.port), str(scene.backends[0])])


_NODE_PATH = "/usr/share/nodejs:/usr/lib/nodejs:/usr/local/lib/node_modules:/usr/lib/node_modules"


def _node_http_proxy(scene: Scene) -> Command:
    script = str(_HERE / "others" / "node_http_proxy.js")
    return Command(["node", script, str(scene.port), str(scene.backends[0])], _node_environment())


def _node_environment() -> dict[str, str]:
    given = os.environ.get("NODE_PATH")
    return {"NODE_PATH": f"{given}:{_NODE_PATH}" if given else _NODE_PATH}


def _node_version() -> str:
    command = ["node", "-p", "require('http-proxy/package.json').version"]
    environment = {**os.environ, **_node_environment()}
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, env=environment)
    return done.stdout.strip() if done.returncode == 0 else ""


def _node_missing(mode: Mode) -> str | None:
    if shutil.which("node") is None or not _node_version():
        return "Node.js with http-proxy was not found (Debian: node-http-proxy)"
    return _http_only(mode)


_TWISTED_LACKS: frozenset[Demand] = frozenset({"WebSockets", "kept connections", "streamed bodies"})

#: Measured wherever they are found. The first is what the others are compared with. The last two are not sticky: they
#: do less than the others.
USUAL = (
    Contender("nginx", nginx.missing, nginx.proxy, lambda: _first_version(_output(_in_sbin("nginx") or "nginx", "-v"))),
    Contender(
        "HAProxy",
        lambda mode: None if _in_sbin("haproxy") else "HAProxy is not installed",
        _haproxy,
        lambda: _first_version(_output(_in_sbin("haproxy") or "haproxy", "-v")),
    ),
    stickyproxy(),
    Contender("node-http-proxy", _node_missing, _node_http_proxy, _node_version, sticky=False),
    Contender(
        *("twisted.web.proxy", _http_only, _twisted_web_proxy, lambda: version("twisted")),
        sticky=False,
        lacks=_TWISTED_LACKS,
    ),
)
