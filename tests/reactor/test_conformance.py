"""Twisted's own suites, and those of ours that need a reactor in their process, run against our reactor."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("uvloop", reason="without uvloop there is no reactor of ours")

SUITE = Path(__file__).with_name("twisted_suite.py")
BLOCKS = {  # how many tests there are at least, and their modules
    "TCP and TLS": (175, "internet.test", "tcp tls newtls socket"),
    "core, time, threads": (40, "internet.test", "core time threads base main fdset filedescriptor abstract"),
    "UNIX, UDP, endpoints": (300, "internet.test", "unix udp udp_internals endpoints resolver"),
    "processes": (60, "internet.test", "process posixprocess sigchld stdio"),
    "protocols": (600, "test", "tcp ssl internet factories process threads udp unix policies loopback stdio amp ftp"),
    "web": (600, "web.test", "webclient http agent wsgi xmlrpc proxy cgi"),
}


@pytest.mark.parametrize("block", BLOCKS)
def test_twisted_own_suite(block: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever Twisted promises of its reactors holds for this one; what does not is skipped with its reason."""
    least, package, names = BLOCKS[block]
    modules = [f"twisted.{package}.test_{name}" for name in names.split()]
    run = subprocess.run(
        [sys.executable, SUITE, "uv", *modules],
        cwd=tmp_path,
        env={"PYTHONPATH": str(SUITE.parents[2]), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
    summary = run.stdout.strip().splitlines()[-1]
    with capsys.disabled():
        print(f"\n{block}, Twisted's own tests: {summary}")
    passed = re.search(r"PASSED \((?:skips=\d+, )?successes=(\d+)\)", summary)
    assert passed is not None, summary
    assert int(passed[1]) >= least


ROOT = Path(__file__).parents[2]
OURS = sorted(str(path) for path in ROOT.glob("tests/[!r]*/test_*.py") if "ensureDeferred" in path.read_text())
ON_LIBUV = """
import sys, pytest, pytest_twisted
from stickyproxy.reactor.uv import UVReactor, install
pytest_twisted.reactor_installers["default"] = lambda: pytest_twisted._install_reactor(install, UVReactor)
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_our_own_suites() -> None:
    """What our wires and TLS do on Twisted's own reactor, where ``make test`` runs them, they do on this one."""
    assert len(OURS) >= 4
    command = [sys.executable, "-c", ON_LIBUV, "-q", "-p", "no:cacheprovider", *OURS]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
