"""The key file: made once, for its owner only, and trusted only then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stickyproxy.keyfile import KeyFileError, read_or_create


def test_made_once(tmp_path: Path) -> None:
    """The first start makes the file for its owner only; every later start has the same key."""
    path = tmp_path / "stickyproxy.key"
    keys = read_or_create(path)
    assert [len(key) for key in keys] == [32]
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_or_create(path) == keys
    assert [each.name for each in tmp_path.iterdir()] == ["stickyproxy.key"]


def test_processes_that_start_together(tmp_path: Path) -> None:
    """However many processes start at once, all have the same key."""
    code = "import sys; from stickyproxy.keyfile import read_or_create as keys\n"
    code += "sys.stdin.read(1); print(keys(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(tmp_path / "k")]
    processes = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("x")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0] for process in processes]
    assert said == [f"{read_or_create(tmp_path / 'k')}\n"] * 4


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_others_may_read_it(tmp_path: Path, mode: int) -> None:
    """A key that others may read is refused, with the command that helps and without the key."""
    path = tmp_path / "k"
    read_or_create(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"chmod 600 {path}") as caught:
        read_or_create(path)
    assert path.read_text().splitlines()[-1] not in str(caught.value)


def test_nonsense(tmp_path: Path) -> None:
    """A file that holds no key is refused by name and line, not overwritten."""
    path = tmp_path / "k"
    path.touch(mode=0o600)
    path.write_text("# fine\nnot a key\n")
    with pytest.raises(KeyFileError, match="line 2"):
        read_or_create(path)
    assert path.read_text() == "# fine\nnot a key\n"


def test_no_such_directory(tmp_path: Path) -> None:
    """A directory that is not there is told, with the path."""
    with pytest.raises(KeyFileError, match="there/k: the keys cannot be read or saved: No such file"):
        read_or_create(tmp_path / "there" / "k")
