"""The words of ``stickyproxy``, and what needs no running proxy: places, tokens, help, completion."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trustme

from stickyproxy.command import main
from stickyproxy.command.answers import Failure, Status
from stickyproxy.command.instance import instance_of
from stickyproxy.command.manual import render
from stickyproxy.command.serving import twistd_words
from stickyproxy.command.top import quantile, reports
from stickyproxy.command.words import make_parser
from stickyproxy.config.endpoints import reached_at
from stickyproxy.model import Arrival
from stickyproxy.sansio.sealed import PLACES, SealedTokens
from stickyproxy.sansio.tokens import KeyRing, Tokens, format_key_file

ROOT = Path(__file__).parents[2]
KEY = b"0123456789abcdef"
FILE = """
[frontend.web]
listen = "tcp:8080"
cluster = "app"
[cluster.app]
keys = ["0123456789abcdef"]
affinity = {affinity}
backends.a = "tcp:127.0.0.1:9001"
"""
Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("endpoint", "place"),
    [
        ("tcp:9900:interface=127.0.0.1", ("127.0.0.1", 9900)),
        ("tcp:9900", ("127.0.0.1", 9900)),
        ("tcp:port=9900:interface=10.0.0.1", ("10.0.0.1", 9900)),
        (r"tcp:9900:interface=\:\:1", ("::1", 9900)),
        (r"tcp6:9900:interface=\:\:", ("::1", 9900)),
        ("tcp6:9900", ("::1", 9900)),
        ("unix:/run/x.sock:mode=600", ("/run/x.sock", None)),
        (r"unix:/run/b\:c.sock", ("/run/b:c.sock", None)),
        ("unix:address=/run/x.sock", ("/run/x.sock", None)),
        ("tcp:0:interface=127.0.0.1", None),
        ("systemd:domain=INET:index=0", None),
    ],
)
def test_where_a_listener_is_reached(endpoint: str, place: tuple[str, int | None] | None) -> None:
    """The command line finds the admin API by the endpoint string of the configuration, or says that it cannot."""
    assert reached_at(endpoint) == place


def chosen(config: Path | None = None, **more: Any) -> Namespace:
    return Namespace(**{"config": config, "admin": None, "token_file": None, "ca": None, "timeout": 5.0} | more)


def test_a_configuration_with_mistakes_elsewhere(tmp_path: Path) -> None:
    """While somebody edits the file I can still steer the proxy: only [admin] is read."""
    path = tmp_path / "proxy.toml"
    path.write_text('[cluster.app]\nafinity = 3\n[admin]\nlisten = ["systemd:name=x", "unix:/run/x.sock"]\n')
    assert str(instance_of(chosen(path)).place) == "unix:/run/x.sock"
    for text, told in (
        ("", "there is no [admin]"),
        ('[admin]\nlisten = "tcp:0"', "give --admin URL"),
        ("[admin", "proxy.toml: "),
    ):
        path.write_text(text)
        with pytest.raises(Failure, match=told.replace("[", r"\[")) as failed:
            instance_of(chosen(path))
        assert failed.value.status in (Status.AWAY, Status.FAILED)


def test_tls_is_that_of_the_configuration(tmp_path: Path) -> None:
    """Over TLS the very certificate of [admin.tls] is believed, whatever it is called by, and no other."""
    pems = []
    for name in ("ours.pem", "theirs.pem"):
        trustme.CA().issue_cert("admin.example.org").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / name))
        pems.append(tmp_path / name)
    path = tmp_path / "proxy.toml"
    path.write_text('[admin]\nlisten = "tcp:9900"\ntls.certificates = "ours.pem"\n')
    client = instance_of(chosen(path)).place.context
    assert client is not None
    for pem, good in zip(pems, (True, False), strict=True):
        assert _believes(client, pem) is good


def _believes(client: ssl.SSLContext, pem: Path) -> bool:
    """Whether a handshake in memory succeeds."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")]
    ends.append(server.wrap_bio(to_server, to_client, server_side=True))
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return True


@pytest.mark.parametrize(
    ("affinity", "scheme"),
    [
        ('"cookie"', lambda keys: Tokens(keys, "app", b"SRV")),
        ('["source", "cookie"]', lambda keys: Tokens(keys, "app", b"SRV")),
        ('{ by = "cookie", mode = "prefix", name = "SRV" }', lambda keys: Tokens(keys, "app", b"SRV")),
        (
            '{ by = "cookie", lifetime = "1h" }',
            lambda keys: SealedTokens(keys, "app", b"SRV", time.time, lifetime=3600),
        ),
        (
            '{ by = "cookie", encrypt = true, bind_to = "address" }',
            lambda keys: SealedTokens(
                keys, "app", b"SRV", time.time, place_of=PLACES["address"], random_bytes=Random(1).randbytes
            ),
        ),
    ],
)
def test_tokens_of_every_kind(
    tmp_path: Path, capsys: Capture, affinity: str, scheme: Callable[[KeyRing], Tokens | SealedTokens]
) -> None:
    """A cookie tells its backend, whichever mode it is of; of a backend that is gone it says so; keys are not shown."""
    path = tmp_path / "proxy.toml"
    path.write_text(FILE.format(affinity=affinity))
    tokens = scheme(KeyRing([KEY]))
    tokens.members(["a", "gone"])
    for backend, status, told in (("a", 0, "backend a\n"), ("gone", 1, "not there any more")):
        token = tokens.issue(backend, time.time(), Arrival("192.0.2.7", False), None, None).decode()
        for cookie in (token, f"SRV={token}", f"SRV={token}~value"):
            assert main(["token", "-c", str(path), "--client", "192.0.2.7", cookie]) == status
            out = capsys.readouterr().out
            assert told in out and "issued " in out and KEY.decode() not in out
    if "address" in affinity:
        assert main(["token", "-c", str(path), token]) == 1
        assert "--client ADDRESS" in capsys.readouterr().err
    assert main(["token", "-c", str(path), f"OTHER={token}"]) == 1
    assert main(["token", "-c", str(path), "hello"]) == 2


def test_a_key_file_is_not_made(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a key file: its keys are used; one that is not there is named, and not made."""
    path, key_file = tmp_path / "proxy.toml", tmp_path / "stickyproxy.key"
    path.write_text(FILE.format(affinity='"cookie"').replace("keys = ", "#"))
    tokens = Tokens(KeyRing([KEY]), "app", b"SRV")
    token = tokens.issue("a", 1.7e9).decode()
    assert main(["token", "-c", str(path), token]) == 1
    assert "there is no key file yet" in capsys.readouterr().err and not key_file.exists()
    key_file.write_text(format_key_file([bytes(32), KEY]))
    key_file.chmod(0o600)
    monkeypatch.setattr(sys, "stdin", iter_lines(f"{token}\n"))
    assert main(["token", "-c", str(path), "-"]) == 0
    assert "by the key of before" in capsys.readouterr().out


class iter_lines:  # noqa: N801 - stands for a function
    """Standard input of one line."""

    def __init__(self, line: str) -> None:
        self.readline = lambda: line


def test_rates_and_percentiles() -> None:
    """Rates are those between two looks, and a proxy that began anew meanwhile has none below zero."""
    bounds = [0.01, 0.1, 1.0]

    def snapshot(now: float, requests: int, errors: int, durations: list[int]) -> dict[str, Any]:
        about = {"requests": requests, "errors": errors, "durations": durations}
        return {"now": now, "bounds": bounds, "clusters": {"app": {"backends": {"a": about}}}}

    before, after = snapshot(100, 50, 1, [50, 0, 0, 0]), snapshot(102, 70, 5, [60, 9, 1, 0])
    (report,) = reports(before, after)
    assert (report["requests_per_second"], report["errors_per_second"], report["p95"]) == (10.0, 2.0, 0.1)
    (report,) = reports(after, snapshot(103, 3, 0, [3, 0, 0, 0]))
    assert report["requests_per_second"] == 0
    assert quantile([0, 0, 0, 5], bounds, 0.95) is None
    assert quantile([0, 0, 0, 0], bounds, 0.95) is None
    assert quantile([90, 5, 5, 0], bounds, 0.95) == 0.1


def test_what_run_types() -> None:
    """``run`` is twistd in the foreground, with its options behind ``--``; ``--daemon`` is without that."""
    words = make_parser().parse_args(["run", "p.toml", "--", "--uid", "www", "-l", "x"])
    assert " ".join(twistd_words(words)) == "twistd -n --pidfile= --uid www -l x stickyproxy --config p.toml"
    words = make_parser().parse_args(["run", "--daemon", "p.toml"])
    assert twistd_words(words) == ["twistd", "stickyproxy", "--config", "p.toml"]


def test_check_in_json(tmp_path: Path, capsys: Capture) -> None:
    """Scripts read what is served, or every mistake with its key."""
    path = tmp_path / "proxy.toml"
    path.write_text(FILE.format(affinity='"cookie"'))
    assert main(["check", str(path), "--json"]) == 0
    assert '"clusters": {"app": ["a"]}' in capsys.readouterr().out
    path.write_text(FILE.format(affinity='"cokie"'))
    assert main(["check", str(path), "--json"]) == 1
    assert '"key": "cluster.app.affinity"' in capsys.readouterr().out


@pytest.mark.parametrize(("module", "words"), [("rich", ["top"]), ("shtab", ["completion", "bash"])])
def test_what_is_not_installed(
    module: str, words: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without the extra I am told what to install."""
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    where = ["--admin", "http://127.0.0.1:1"] if words == ["top"] else []
    assert main([*words, *where]) == 1
    assert 'pip install "stickyproxy[' in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell: str, capsys: Capture, tmp_path: Path) -> None:
    """The script of each shell knows every command, and bash takes its own."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(name in script for name in ("run", "drain", "--token-file"))
    if shell == "bash" and (bash := shutil.which("bash")):
        (tmp_path / "script").write_text(script)
        subprocess.run([bash, "-n", tmp_path / "script"], check=True, timeout=30)


def test_the_manual_page_is_current() -> None:
    """docs/man/stickyproxy.1 says what --help says; otherwise run: python docs/manual.py."""
    page = (ROOT / "docs" / "man" / "stickyproxy.1").read_text()
    assert page == render()
    if man := shutil.which("groff"):
        done = subprocess.run([man, "-man", "-Tutf8", "-ww"], input=page, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def test_help_needs_nothing(capsys: Capture) -> None:
    """--help of the program tells the exit statuses, and every command's its options."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert all(f"\n  {status.value:3}  " in out for status in Status)
    with pytest.raises(SystemExit) as ended:
        main(["up"])
    assert ended.value.code == 2
