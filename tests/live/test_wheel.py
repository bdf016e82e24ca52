"""What is installed is what is in the checkout, and ``twistd`` finds it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import twisted
from parts import ROOT, Program, free_port

CACHES = shutil.ignore_patterns("__pycache__", "dropin.cache", "*.egg-info")
TROUBLE = re.compile(r"plugin cache|Unable to write|Unexpected error|Traceback", re.IGNORECASE)
CONFIG = """
[frontend.web]
listen = "tcp:{port}:interface=127.0.0.1"
cluster = "app"
[cluster.app]
backends = {{ a = "tcp:127.0.0.1:{backend}" }}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built from a copy, so that nothing of an older build gets in."""
    source = tmp_path_factory.mktemp("source")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("stickyproxy", "twisted"):
        shutil.copytree(ROOT / name, source / name, ignore=CACHES)
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, source],
        check=True,
        capture_output=True,
        timeout=120,
    )
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new venv with the wheel and Twisted in it; the other dependencies are lent by ours."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True, timeout=60)
    python = venv / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(venv), "platbase": str(venv)}))
    shutil.copytree(Path(twisted.__file__).parent, site / "twisted", ignore=CACHES)
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel],
        check=True,
        timeout=60,
    )
    return python


def twistd(python: Path, cwd: Path, *arguments: str | Path) -> Program:
    run = "from twisted.scripts.twistd import run; run()"
    return Program(python, "-c", run, *arguments, cwd=cwd, env={"PYTHONPATH": ""})


def test_wheel_carries_every_file(wheel: Path) -> None:
    """All of the package and the twistd plug-in are in the wheel; nothing that would hide Twisted is."""
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "stickyproxy").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "dropin.cache"
    }
    assert ours - names == set()
    assert {name for name in names if name.startswith("twisted/")} == {"twisted/plugins/stickyproxy_plugin.py"}


def test_twistd_lists_stickyproxy(python: Path, tmp_path: Path) -> None:
    """After a plain install ``twistd --help`` offers stickyproxy, then again from its cache, without a complaint."""
    for _ in range(2):
        with twistd(python, tmp_path, "--help") as run:
            assert run.process.wait(30) == 0
        assert re.search(r"^\s+stickyproxy\s+\S", run.log, re.MULTILINE)
        assert not TROUBLE.search(run.log)


def test_installed_stickyproxy_serves(python: Path, tmp_path: Path) -> None:
    """The installed package runs as a daemon outside any checkout, and its log has no complaint."""
    config = tmp_path / "proxy.toml"
    config.write_text(CONFIG.format(port=free_port(), backend=free_port()))
    with twistd(python, tmp_path, "-n", "--pidfile=", "stickyproxy", "--config", config) as run:
        run.wait_for(r"Frontend web listens on ")
        run.stop()
    assert "Server Shut Down." in run.log
    assert not TROUBLE.search(run.log)
