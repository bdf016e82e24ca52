"""The access log: how its lines reach the disk, and which."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.logger import capturedLogs

from stickyproxy.accesslog import AccessLog, CannotLog
from stickyproxy.config.logs import AccessLog as Spec
from stickyproxy.model import Entry, HTTPEntry, OpenEntry, Outcome, RelayEntry
from stickyproxy.sansio.loglines import line_of
from stickyproxy.sansio.masking import mask_of

WHEN = 971186136.25  # 10 October 2000, 13:55:36 UTC
combined = line_of("combined", mask_of(()))


def entry(status: int = 200, outcome: Outcome = Outcome.KEPT) -> HTTPEntry:
    return HTTPEntry("192.0.2.7", None, status, 2326, WHEN, 0.0123456, "app", "a", outcome, b"made")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def log(path: Path) -> Iterator[AccessLog]:
    access_log = AccessLog(Spec(str(path)))
    access_log.startService()
    yield access_log
    access_log.stopService()


def count(path: Path) -> int:
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return text.count("\n")


def test_a_batch_is_written(log: AccessLog, path: Path) -> None:
    """Each entry is a line."""
    log.write([entry(), RelayEntry("192.0.2.7", "tcp", 1, 2, WHEN, 0.5)])
    first, second = path.read_text().splitlines()
    assert first == combined(entry())
    assert '"TCP"' in second


def test_file_is_appended_to_and_private(path: Path) -> None:
    """A restart goes on in the same file, which others may not read."""
    for _ in range(2):
        access_log = AccessLog(Spec(str(path)))
        access_log.startService()
        access_log.write([entry()])
        access_log.stopService()
    assert count(path) == 2
    assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0


def test_lines_after_the_stop_are_written(log: AccessLog, path: Path) -> None:
    """A tunnel that ends while the proxy shuts down has its line too."""
    log.write([entry()])
    log.stopService()
    log.write([entry()])
    assert count(path) == 2


def test_rotation(log: AccessLog, path: Path) -> None:
    """After the file has been moved away and the log reopened, new lines go to a new file, and none is lost."""
    log.write([entry()])
    moved = path.rename(path.with_suffix(".1"))
    log.reopen()
    log.write([entry()])
    assert (count(moved), count(path)) == (1, 1)


def test_rotation_into_nowhere_goes_on_in_the_old_file(tmp_path: Path) -> None:
    """Where no new file can be opened, the lines go on into the old one, and the log says so."""
    folder = tmp_path / "logs"
    folder.mkdir()
    access_log = AccessLog(Spec(str(folder / "access.log")))
    access_log.startService()
    moved = folder.rename(tmp_path / "moved")
    with capturedLogs() as events:
        access_log.reopen()
    access_log.write([entry()])
    access_log.stopService()
    assert [event["path"] for event in events] == [str(folder / "access.log")]
    assert count(moved / "access.log") == 1


def test_a_file_that_can_not_be_opened_fails_the_start(tmp_path: Path) -> None:
    """A log in a directory that is not there is a mistake that the start tells."""
    with pytest.raises(CannotLog, match="cannot be opened: No such file"):
        AccessLog(Spec(str(tmp_path / "missing" / "access.log"))).startService()


def test_a_full_disk_is_told_once_and_survived(path: Path) -> None:
    """A full disk loses lines, is told once for the burst and once when it is over, and requests go on."""
    if not Path("/dev/full").exists():
        pytest.skip("a disk that is always full (/dev/full) is here on Linux alone")
    path.symlink_to("/dev/full")
    access_log = AccessLog(Spec(str(path)))
    access_log.startService()
    with capturedLogs() as events:
        for _ in range(3):
            access_log.write([entry()])
    assert [event["log_level"].name for event in events] == ["error"]

    path.unlink()
    access_log.reopen()
    with capturedLogs() as events:
        for _ in range(2):
            access_log.write([entry()])
    access_log.stopService()
    assert [(event["log_level"].name, event["lost"]) for event in events] == [("warn", 3)]
    assert count(path) == 2


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    """The path "-" is the standard output of the process, whatever stands in for sys.stdout, and stays open."""
    access_log = AccessLog(Spec())
    access_log.startService()
    access_log.write([entry()])
    access_log.reopen()
    access_log.write([entry()])
    access_log.stopService()
    print("still open")
    assert capfd.readouterr().out == f"{combined(entry())}\n" * 2 + "still open\n"


# Which


@pytest.mark.parametrize(
    ("one", "logged"),
    [
        (entry(), False),
        (entry(404), False),
        (entry(500), True),
        (entry(101), True),
        (entry(outcome=Outcome.REBOUND), True),
        (entry(outcome=Outcome.AWAY), True),
        (RelayEntry("192.0.2.7", "tcp", 1, 2, WHEN, 0.5), True),
        (OpenEntry("192.0.2.7", WHEN), False),
    ],
)
def test_what_is_rare_is_always_logged(path: Path, one: Entry, logged: bool) -> None:
    """With a sample of none there are errors, broken stickiness, upgrades and tunnels, and nothing else."""
    access_log = AccessLog(Spec(str(path), sample=0))
    access_log.startService()
    access_log.write([one])
    access_log.stopService()
    assert bool(count(path)) is logged


def test_the_share_of_the_sample(path: Path) -> None:
    """With sample = 0.25 every fourth request is logged, by chance."""
    chances = iter([0.0, 0.24, 0.25, 0.99])
    access_log = AccessLog(Spec(str(path), sample=0.25), lambda: next(chances))
    access_log.startService()
    access_log.write([entry()] * 4)
    access_log.stopService()
    assert count(path) == 2


def test_beginnings_are_logged_where_asked_for(path: Path) -> None:
    """With opens = true a TCP connection is told of when it has reached its backend."""
    access_log = AccessLog(Spec(str(path), opens=True))
    access_log.startService()
    access_log.write([OpenEntry("192.0.2.7", WHEN, "redis", "r1")])
    access_log.stopService()
    assert '"TCP"' in path.read_text() and "backend=r1" in path.read_text()
