"""The program ``stickyproxy``: what it tells of a configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stickyproxy.command import main
from stickyproxy.conformance import make_arrival
from stickyproxy.sansio.affinity import CookieAffinity
from stickyproxy.sansio.cookies import CookieTemplate
from stickyproxy.sansio.tokens import KeyRing, Tokens

FILE = """
[frontend.web]
listen = "tcp:8080"
cluster = "app"
routes = [{ host = "api.example.org", path = "/v1/", cluster = "api" }]
[cluster.app]
affinity = ["cookie", "header:X-User"]
keys = ["0123456789abcdef"]
backends.a = "tcp:127.0.0.1:9001"
backends.b = { endpoint = "tcp:127.0.0.1:9002", state = "drain" }
backends.c = { endpoint = "tcp:127.0.0.1:9003", weight = 0 }
[cluster.api]
affinity = "cookie"
backends.d = "tcp:127.0.0.1:9004"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "proxy.toml"
    path.write_text(FILE)
    return path


def token(backend: str) -> str:
    affinity = CookieAffinity(
        CookieTemplate("SRV"), Tokens(KeyRing([b"0123456789abcdef"]), "app", b"SRV"), lambda: 1.7e9
    )
    affinity.members("abc")
    set_cookie = affinity.bind(make_arrival(), backend)
    assert set_cookie is not None
    return set_cookie.partition(b";")[0].decode()


def test_explain_new_client(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new client: no route but the default, nobody knows it, and why two of three backends get no new clients."""
    assert main(["explain", "-c", str(config), "http://example.org/shop"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "frontend web",
        "route: none matches, so it goes to cluster app",
        "affinity cookie: knows nothing of this client",
        "affinity header X-User: the request has no such key",
        "backend a is up, weight 1, serves 0",
        "backend b drains, so that it serves bound clients only",
        "backend c has no weight, so that it serves bound clients only",
        "served by a: the balancer round-robin chose it for a new client",
    ]


def test_explain_bound_client(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bound client is with its backend although that drains; its cookie is not quoted."""
    cookie = token("b")
    assert main(["explain", "-c", str(config), "-H", f"Cookie: {cookie}", "http://example.org/"]) == 0
    out = capsys.readouterr().out
    assert "affinity cookie: bound to b\n" in out and out.endswith("served by b: the client is bound to it\n")
    assert cookie not in out


def test_explain_route(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The route that holds is told; no key file is made by asking."""
    assert main(["explain", "-c", str(config), "http://api.example.org:8080/v1/x?y"]) == 0
    assert "route: host api.example.org, path /v1/ leads to cluster api\n" in capsys.readouterr().out
    assert [path.name for path in config.parent.iterdir()] == ["proxy.toml"]


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["example.org"], 2, "expected a URL"),
        (["-H", "Content-Length: x", "http://example.org/"], 2, "the proxy answers 400 Bad Request"),
        (["--frontend", "nowhere", "http://example.org/"], 2, "expected one of: web"),
    ],
)
def test_wrong_words(
    config: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, told: str
) -> None:
    """What cannot be explained is told, with what is expected instead."""
    assert main(["explain", "-c", str(config), *words]) == status
    assert told in capsys.readouterr().err


def test_wrong_configuration(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Mistakes in the file are told as ``--check`` does, and one that is not there is named."""
    config.write_text(FILE.replace("weight = 0", "wait = 0"))
    assert main(["explain", "-c", str(config), "http://example.org/"]) == 1
    assert 'did you mean "weight"?' in capsys.readouterr().err
    assert main(["explain", "-c", str(config.parent / "none.toml"), "http://example.org/"]) == 1
    assert "none.toml" in capsys.readouterr().err


def test_the_program(config: Path) -> None:
    """Installed beside ``twistd`` there is a program ``stickyproxy`` whose help stands alone."""
    program = Path(sys.executable).with_name("stickyproxy")
    done = subprocess.run([program, "explain", "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "X-Sticky-Explain" in done.stdout and "--client ADDRESS" in done.stdout
