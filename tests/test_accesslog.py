"""The access log: its lines, and how they reach the disk."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs

from stickyproxy.accesslog import AccessLog, CannotLog, format_http, format_relay
from stickyproxy.config.specs import Limits
from stickyproxy.model import HTTPEntry, Outcome, RelayEntry, RequestHead, Side
from stickyproxy.sansio.http1 import parse_request_head

WHEN = 971186136.25  # 10 October 2000, 13:55:36 UTC
COMBINED = re.compile(
    r'(?P<client>\S+) - - \[(?P<time>[^]]+)\] "(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}|-) (?P<sent>\d+) '
    r'"(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)" (?P<rest>.*)'
)


def head_of(*fields: str, line: str = "GET /a?b=c HTTP/1.1") -> RequestHead:
    return parse_request_head("\r\n".join([line, "Host: example.org", *fields, "", ""]).encode("latin-1"), Limits())


def entry(head: RequestHead | None = None, *, status: int = 200, request_id: bytes = b"made") -> HTTPEntry:
    return HTTPEntry(
        "192.0.2.7", head or head_of(), status, 2326, WHEN, 0.0123456, "app", "a", Outcome.KEPT, request_id
    )


def read(line: str) -> tuple[dict[str, str], dict[str, str]]:
    """The columns of Combined, and what stands behind them."""
    match = COMBINED.fullmatch(line)
    assert match, line
    columns = match.groupdict()
    return columns, dict(word.split("=", 1) for word in columns.pop("rest").split(" "))


# Lines


def test_line_of_a_request() -> None:
    """A request is one line in Combined format, with backend, cluster, duration and affinity behind it."""
    line = format_http(entry(head_of("Referer: http://example.org/start", "User-Agent: Mozilla/4.08 [en]")))
    assert line == (
        '192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] "GET /a?b=c HTTP/1.1" 200 2326 "http://example.org/start" '
        '"Mozilla/4.08 [en]" cluster=app backend=a ms=12.346 affinity=kept id=made'
    )


def test_line_of_a_request_that_could_not_be_read() -> None:
    """What was no request, and reached no backend, has dashes."""
    line = format_http(HTTPEntry("2001:db8::7", None, 400, 30, WHEN, 0.0))
    assert line == (
        '2001:db8::7 - - [10/Oct/2000:13:55:36 +0000] "-" 400 30 "-" "-" '
        "cluster=- backend=- ms=0.000 affinity=none id=-"
    )


def test_line_of_an_upgrade() -> None:
    """The 101 of a WebSocket is a request like any other."""
    columns, rest = read(format_http(entry(head_of("Upgrade: websocket", "Connection: Upgrade"), status=101)))
    assert (columns["status"], rest["backend"]) == ("101", "a")


def test_line_tells_the_id_that_the_backend_got() -> None:
    """A line is found by the X-Request-ID that the backend was told, whatever the client had sent."""
    assert read(format_http(entry(head_of("X-Request-ID: theirs"))))[1]["id"] == "made"


def test_line_of_a_websocket() -> None:
    """An ended WebSocket tells the bytes each way, how long it lived, and who closed it."""
    relay = RelayEntry(
        "192.0.2.7", "websocket", 17, 42, WHEN, 60.0, "app", "b", Outcome.NEW, Side.CLIENT, head_of(), b"made"
    )
    assert format_relay(relay) == (
        '192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] "WEBSOCKET /a?b=c" - 42 "-" "-" '
        "cluster=app backend=b ms=60000.000 affinity=new id=made received=17 sent=42 closed=client"
    )


@pytest.mark.parametrize(("closed_by", "word"), [(Side.CLIENT, "client"), (Side.BACKEND, "backend"), (None, "proxy")])
def test_line_of_a_tcp_relay(closed_by: Side | None, word: str) -> None:
    """An ended TCP relay has the same columns, without a target."""
    columns, rest = read(
        format_relay(RelayEntry("192.0.2.7", "tcp", 1, 2, WHEN, 0.5, "redis", "r1", closed_by=closed_by))
    )
    assert (columns["request"], columns["status"], columns["sent"]) == ("TCP", "-", "2")
    assert (rest["received"], rest["sent"], rest["closed"]) == ("1", "2", word)


def test_secrets_stay_out() -> None:
    """Neither cookies nor credentials are in the log."""
    head = head_of("Cookie: SRV=s3cret", "Authorization: Bearer s3cret", "Proxy-Authorization: Basic s3cret")
    assert "s3cret" not in format_http(entry(head))


def test_a_line_can_not_be_forged() -> None:
    """Quotes, backslashes and bytes that are not printable ASCII are escaped as Apache escapes them."""
    columns, _ = read(format_http(entry(head_of('User-Agent: a" 200 0 "-" "b\\', "Referer: \x85\xe9\t\u00ff"))))
    assert columns["agent"] == r"a\" 200 0 \"-\" \"b\\"
    assert columns["referer"] == r"\x85\xe9\x09\xff"


@given(st.binary(), st.binary(), st.text(), st.text())
def test_whatever_is_logged_is_one_readable_line(target: bytes, agent: bytes, cluster: str, backend: str) -> None:
    """Whatever bytes a head holds and however a backend is named, the line is ASCII with the same columns."""
    head = head_of()._replace(target=target, plain=[b"User-Agent", b": ", agent, b"\r\n"])
    line = format_http(HTTPEntry("192.0.2.7", head, 200, 0, WHEN, 0.0, cluster, backend, Outcome.NONE, b"made"))
    assert line.isascii() and line.isprintable()
    columns, rest = read(line)
    assert columns["status"] == "200"
    assert list(rest) == ["cluster", "backend", "ms", "affinity", "id"]


# Files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


@pytest.fixture
def log(path: Path) -> Iterator[AccessLog]:
    access_log = AccessLog(str(path))
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
    assert first == format_http(entry())
    assert '"TCP"' in second


def test_file_is_appended_to_and_private(path: Path) -> None:
    """A restart goes on in the same file, which others may not read."""
    for _ in range(2):
        access_log = AccessLog(str(path))
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
    access_log = AccessLog(str(folder / "access.log"))
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
        AccessLog(str(tmp_path / "missing" / "access.log")).startService()


def test_a_full_disk_is_told_once_and_survived(path: Path) -> None:
    """A full disk loses lines, is told once for the burst and once when it is over, and requests go on."""
    if not Path("/dev/full").exists():
        pytest.skip("a disk that is always full (/dev/full) is here on Linux alone")
    path.symlink_to("/dev/full")
    access_log = AccessLog(str(path))
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
    access_log = AccessLog("-")
    access_log.startService()
    access_log.write([entry()])
    access_log.reopen()
    access_log.write([entry()])
    access_log.stopService()
    print("still open")
    assert capfd.readouterr().out == f"{format_http(entry())}\n" * 2 + "still open\n"
