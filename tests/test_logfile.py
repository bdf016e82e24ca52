"""A file that several processes append to, and rotate."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from twisted.logger import capturedLogs

from stickyproxy.accesslog import AccessLog
from stickyproxy.config.logs import AccessLog as Spec
from stickyproxy.logfile import LogFile
from stickyproxy.model import HTTPEntry

WRITER = """
import sys
from stickyproxy.logfile import LogFile
name, path = sys.argv[1:]
file = LogFile(path, 20_000, 100)
file.open()
print("ready", flush=True)
sys.stdin.readline()
for batch in range(400):
    file.write(b"".join(b"%s %06d %s\\n" % (name.encode(), batch * 5 + line, b"x" * 50) for line in range(5)))
    if file.full():
        file.rotate()
"""


def files(path: Path) -> list[Path]:
    """The file and what it was rotated to, newest first."""
    return [path, *sorted(path.parent.glob(path.name + ".*"), key=lambda file: int(file.suffix[1:]))]


def test_rotation_by_size(tmp_path: Path) -> None:
    """A file that is full becomes .1, that .2, and what is beyond those that are kept is gone."""
    path = tmp_path / "access.log"
    file = LogFile(str(path), 10, 2)
    for letter in b"abcd":
        file.write(bytes([letter]) * 9 + b"\n")
        assert file.full()
        file.rotate()
    file.close()
    assert [one.read_text()[:1] for one in files(path)] == ["", "d", "c"]


def test_a_file_without_a_limit_is_never_full(tmp_path: Path) -> None:
    """Without size a file grows."""
    file = LogFile(str(tmp_path / "access.log"))
    file.write(b"x" * 1000 + b"\n")
    assert not file.full()
    file.close()


def test_who_did_not_rotate_goes_on_in_the_new_file(tmp_path: Path) -> None:
    """Of two processes one rotates, and the other sees it before its next line."""
    path = tmp_path / "access.log"
    one, other = LogFile(str(path), 10, 5), LogFile(str(path), 10, 5)
    other.open()
    one.write(b"a" * 9 + b"\n")
    one.rotate()
    assert not other._is_current()
    other.rotate()  # it had found the old one full
    other.write(b"b\n")
    assert [file.read_text() for file in files(path)] == ["b\n", "a" * 9 + "\n"]
    one.close()
    other.close()


def test_several_processes_lose_no_line(tmp_path: Path) -> None:
    """Four processes write and rotate one file: every line is there once, whole, and no file was rotated early."""
    path = tmp_path / "access.log"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, name, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in "abcd"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n", timeout=60)
        assert writer.returncode == 0
    written = files(path)
    lines = "".join(file.read_text() for file in written).splitlines()
    assert sorted(line[:8] for line in lines) == [f"{name} {number:06}" for name in "abcd" for number in range(2000)]
    assert {len(line) for line in lines} == {59}
    assert all(20_000 <= file.stat().st_size < 40_000 for file in written[1:])


def test_what_can_not_be_rotated_goes_on(tmp_path: Path) -> None:
    """Where the full file can not be moved, the log says so once, and lines go on into it."""
    path = tmp_path / "access.log"
    (tmp_path / "access.log.1" / "in the way").mkdir(parents=True)
    log = AccessLog(Spec(str(path), size=50, keep=1))
    log.startService()
    with capturedLogs() as events:
        for _ in range(3):
            log.write([HTTPEntry("192.0.2.7", None, 200, 0, 0.0, 0.0)])
    log.stopService()
    assert [event["log_level"].name for event in events] == ["error"]
    assert path.read_text().count("\n") == 3


@pytest.mark.parametrize("after", ["", "a line\n"])
def test_a_torn_line_is_ended(tmp_path: Path, after: str) -> None:
    """What was cut off by a full disk does not run into the next line."""
    file = LogFile(str(tmp_path / "access.log"))
    file.write(b"half")
    file.write(b"whole\n" + after.encode())
    file.close()
    assert (tmp_path / "access.log").read_text() == "half\nwhole\n" + after
