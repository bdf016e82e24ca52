"""Nothing is left of what a reload takes away, nor of a proxy that has stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

MIB = 1024 * 1024


def test_200_reloads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Backends, frontends, probes and certificates come and go 200 times: no socket, no timer, no object, no memory."""
    authority = trustme.CA()
    for name in ("one", "two"):
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / f"{name}.pem"))
    program = [sys.executable, Path(__file__).with_name("leaking.py"), str(tmp_path)]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    early, late = told["20 reloads"], told["200 reloads"]
    with capsys.disabled():
        print(
            f"\n200 reloads: {late['descriptors'] - early['descriptors']:+} descriptors, "
            f"{late['calls'] - early['calls']:+} timed calls, {(late['memory'] - early['memory']) / MIB:+.2f} MiB"
        )
    assert late["memory"] - early["memory"] < 2 * MIB
    for few, many in ((early, late), (told["20 restarts"], told["40 restarts"])):
        for what in ("descriptors", "calls", "parts"):
            assert many[what] == few[what], (what, few, many)
    assert not {"Proxy", "Cluster", "Member", "Frontend", "Listener"} & told["40 restarts"]["parts"].keys()
