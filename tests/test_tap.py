"""``twistd stickyproxy``: its options, and what it says to wrong ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from twisted.application.service import IService
from twisted.python.usage import UsageError

from stickyproxy import __version__
from stickyproxy.config import Configuration, load
from stickyproxy.config.named import Named
from stickyproxy.extensions import find_extensions
from stickyproxy.service import mistakes_of
from stickyproxy.tap import Options, makeService, summary

ROOT = Path(__file__).parent.parent
A = "a=tcp:127.0.0.1:9001"
MINIMAL = """
[frontend.web]
listen = "tcp:0:interface=127.0.0.1"
cluster = "app"
[cluster.app]
backends = { a = "tcp:127.0.0.1:9001" }
"""


def _configuration(*arguments: str) -> Configuration:
    options = Options()
    options.parseOptions(list(arguments))
    assert options.configuration is not None
    return options.configuration


def _twistd(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What ``twistd -n stickyproxy …`` answers, for words at which it does not begin to serve."""
    command = [Path(sys.executable).with_name("twistd"), "-n", "--pidfile=", "stickyproxy", *arguments]
    return subprocess.run(
        command, cwd=cwd, env={"PYTHONPATH": str(ROOT), "COLUMNS": "100"}, capture_output=True, text=True, timeout=60
    )


def test_without_a_file() -> None:
    """Backends on the command line are enough: HTTP on loopback, clients bound by a cookie, a key of its own."""
    configuration = _configuration("--backend", A, "--backend", r"b=unix:/run/b\=c.sock")
    (frontend,), (cluster,) = configuration.frontends, configuration.clusters
    assert (frontend.listen, frontend.protocol, frontend.cluster) == (
        ("tcp:8080:interface=127.0.0.1",),
        "http",
        cluster.name,
    )
    assert [(b.id, b.endpoint) for b in cluster.backends] == [("a", A[2:]), ("b", r"unix:/run/b\=c.sock")]
    assert cluster.affinity == Named("cookie", {"name": "SRV"})
    assert configuration.path is None
    assert len(cluster.keys[0]) >= 32
    assert cluster.keys != _configuration("--backend", A).clusters[0].keys


def test_listening_elsewhere() -> None:
    """``--listen`` may be given more than once, and takes the place of the default."""
    configuration = _configuration("--listen", "tcp:8081", "--listen", "unix:/run/x.sock", "--backend", A)
    assert configuration.frontends[0].listen == ("tcp:8081", "unix:/run/x.sock")


def test_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--config`` reads a file, and knows where it was even after a change of directory."""
    (tmp_path / "proxy.toml").write_text(MINIMAL)
    monkeypatch.chdir(tmp_path)
    assert _configuration("-c", "proxy.toml").path == tmp_path / "proxy.toml"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to serve"),
        (["--config", "x", "--backend", A], "--config and --backend: only one"),
        (["--demo", "--backend", A], "--backend and --demo: only one"),
        (["--config", "x", "--listen", "tcp:1"], "--listen belongs to --backend"),
        (["--demo", "--listen", "tcp:1"], "--listen belongs to --backend"),
        (["--listen", "tcp:1"], "say what to serve"),
        (["--check"], "say what to serve"),
        (["--demo", "--check"], "--check needs something to check"),
        (["--backend", "tcp:127.0.0.1:9001"], "write NAME=ENDPOINT"),
        (["--backend", "tcp:127.0.0.1:9001:timeout=3"], "write NAME=ENDPOINT"),
        (["--backend", "a="], "write NAME=ENDPOINT"),
        (["--backend", A, "--backend", A], "there is a backend a already"),
        (["proxy.toml"], "given as --config FILE"),
        (["--bakend", A], "--bakend"),
    ],
)
def test_contradictions(arguments: list[str], message: str) -> None:
    """Words that contradict each other, or say nothing, are an error of usage that says what to write."""
    with pytest.raises(UsageError, match=message):
        Options().parseOptions(arguments)


def test_wrong_endpoints(capsys: pytest.CaptureFixture[str]) -> None:
    """Endpoints on the command line are judged as those of a file are, all at once."""
    with pytest.raises(SystemExit) as ended:
        Options().parseOptions(["--listen", "tpc:80", "--backend", A, "--backend", "b=tcp:127.0.0.1"])
    errors = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert [line.split(": ")[:2] for line in errors] == [
        ["command line", "frontend.main.listen[0]"],
        ["command line", "cluster.main.backends.b"],
    ]


def test_check(tmp_path: Path) -> None:
    """``--check`` shows what would be served, and serves nothing."""
    path = tmp_path / "proxy.toml"
    routes = 'routes = [{ host = "a.example", cluster = "app" }]'
    more = '[cluster.more]\nbackends.b = { endpoint = "tcp:127.0.0.1:9002", weight = 2, state = "drain" }'
    path.write_text(f'{MINIMAL}affinity = "cookie"\n{more}'.replace("[cluster.app]", f"{routes}\n[cluster.app]"))
    done = _twistd("--check", "--config", path, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "frontend web: HTTP on tcp:0:interface=127.0.0.1",
        "  a.example, / -> app",
        "  all else -> app",
        "cluster app: balance round-robin, affinity cookie",
        "  a: tcp:127.0.0.1:9001, weight 1",
        "cluster more: balance round-robin, affinity none",
        "  b: tcp:127.0.0.1:9002, weight 2, drain",
        f"{path}: fine (1 frontend, 2 clusters, 2 backends)",
    ]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("workers", "told"), [("3", ["process: 3 workers"]), ("1", [])])
def test_check_tells_how_many_workers(tmp_path: Path, workers: str, told: list[str]) -> None:
    """The summary has them where there are any beside the one process."""
    path = tmp_path / "proxy.toml"
    path.write_text(f"{MINIMAL}[process]\nworkers = {workers}\n")
    assert summary(_configuration("--config", str(path))).splitlines()[:-5] == told


@pytest.mark.parametrize("sample", ["tcp", "access", "minimal", "websocket"])
def test_samples_can_be_made(sample: str) -> None:
    """Every affinity, chain, balancer and inspector of the samples is made for a trial before anything is served."""
    extensions = find_extensions()
    configuration = load(Path(__file__).parent.parent / "conf" / f"{sample}.toml", extensions)
    assert list(mistakes_of(configuration, extensions, files=False)) == []


@pytest.mark.parametrize("check", [["--check"], []])
def test_mistakes(tmp_path: Path, check: list[str]) -> None:
    """Mistakes go to standard error, a line for each, and the status is 1: with ``--check``, and at a start."""
    path = tmp_path / "proxy.toml"
    path.write_text(MINIMAL + 'balanec = "round-robin"\n[admin]\nlisten = "tcp:1"\n')
    done = _twistd(*check, "--config", path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f'{path}: cluster.app.balanec: unknown key; did you mean "balance"?',
        f'{path}: admin.token_file: required: "tcp:1" can be reached from elsewhere',
    ]


def test_check_tries(tmp_path: Path) -> None:
    """``--check`` also finds options that do not go together, and files that do not hold what they should."""
    path = tmp_path / "proxy.toml"
    frontend = 'tls.certificates = "proxy.toml"\nroutes = [{ cluster = "app", access.users_file = "proxy.toml" }]'
    path.write_text(
        MINIMAL.replace("[cluster.app]", f'{frontend}\n[cluster.app]\ntls.ca = "proxy.toml"')
        + 'affinity = { by = "cookie", name = "a b" }\n'
    )
    done = _twistd("--check", "--config", path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    keys = [line.split(": ")[:2] for line in done.stderr.splitlines()]
    assert keys == [[str(path), key] for key in (
        "cluster.app.affinity", "cluster.app.tls", "frontend.web.tls", "frontend.web.routes[0].access.users_file"
    )]  # fmt: skip


def test_help_and_version(tmp_path: Path) -> None:
    """``--help`` is enough to begin with, and ``--version`` is ours."""
    told = _twistd("--help", cwd=tmp_path).stdout
    for word in ("--config", "--check", "--backend", "--listen", "--demo", "--version", "a=tcp:127.0.0.1:9001", "SRV"):
        assert word in told
    assert _twistd("--version", cwd=tmp_path).stdout == f"stickyproxy {__version__}\n"


def test_service(tmp_path: Path) -> None:
    """``makeService`` gives a service for ``twistd`` or any other program; nothing listens yet."""
    options = Options()
    options.parseOptions(["--backend", A])
    service = makeService(options)
    assert IService.providedBy(service)
    assert not service.running


def test_files_that_do_not_serve(tmp_path: Path) -> None:
    """A key file that is none ends the start with its name and a reason, and without a traceback."""
    path = tmp_path / "proxy.toml"
    path.write_text(MINIMAL + 'affinity = "cookie"\n')
    (tmp_path / "stickyproxy.key").mkdir()
    done = _twistd("--config", path, cwd=tmp_path)
    assert done.returncode == 1
    assert str(tmp_path / "stickyproxy.key") in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "conf").glob("*.toml")), ids=lambda path: path.name)
def test_every_sample_can_be_made(path: Path) -> None:
    """What ``--config`` tries before it serves, every sample passes, whatever affinities and balancers it has."""
    assert _configuration("--config", str(path)).clusters


def test_a_chain_is_tried_link_by_link(tmp_path: Path) -> None:
    """Affinities in a chain are made for a try like one alone."""
    path = tmp_path / "proxy.toml"
    path.write_text(MINIMAL + 'affinity = ["cookie", "source"]\n')
    assert _configuration("--config", str(path)).clusters[0].affinity.links
