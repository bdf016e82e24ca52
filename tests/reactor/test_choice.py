"""Which reactor ``twistd stickyproxy`` runs on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).parents[2]
TWISTD = Path(sys.executable).with_name("twistd")


def reactor_of(tmp_path: Path, *options: str, path: str = "") -> str:
    """The class that ``twistd`` tells in its log; it serves, and is stopped again."""
    command = [TWISTD, *options, "-n", "--pidfile=", "stickyproxy", "--listen", "tcp:0:interface=127.0.0.1"]
    process = subprocess.Popen(
        [*command, "--backend", "a=tcp:127.0.0.1:9"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    told = ""
    for line in iter(process.stdout.readline, ""):
        if "reactor class: " in line:
            told = line.strip().rstrip(".").rpartition(".")[2]
        if "listens on" in line:
            break
    port = re.search(r"port=(\d+)", line)
    assert port is not None
    with pytest.raises(HTTPError, match=r"50[23]"):  # nobody is behind it
        urlopen(f"http://127.0.0.1:{port[1]}/", timeout=20)
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=20)
    assert "Server Shut Down" in rest
    assert "Traceback" not in rest
    return told


def test_ours_by_itself(tmp_path: Path) -> None:
    """Where uvloop is installed, nobody has to ask for the fast reactor; the log says that it runs."""
    pytest.importorskip("uvloop", reason="without uvloop there is no reactor of ours")
    assert reactor_of(tmp_path) == "UVReactor"


def test_another_one(tmp_path: Path) -> None:
    """Who names a reactor gets it."""
    assert reactor_of(tmp_path, "--reactor=select") == "SelectReactor"


def test_without_uvloop(tmp_path: Path) -> None:
    """Without uvloop Twisted's default reactor serves; so it does in the second half of ``make test``."""
    assert reactor_of(tmp_path, path=str(ROOT / "tests" / "no_uvloop")) not in ("", "UVReactor")
