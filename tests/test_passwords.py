"""Passwords: verified elsewhere, once, and the same for those whom nobody knows."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs

from stickyproxy.errors import HTTPError
from stickyproxy.passwords import MEMORY, REMEMBERED, WAITING, WAITING_OF_ONE, Passwords, VerifyingThreads, load_users
from stickyproxy.sansio.basicauth import UsersFileError


def hashed(password: bytes, cost: int = 4) -> bytes:
    return bcrypt.hashpw(password, bcrypt.gensalt(cost))


CLIENT = "198.51.100.7"
USERS = {b"ann": hashed(b"secret"), b"bob": hashed(b"x" * 72, 5)}


class Desk:
    """Passwords whose verifications wait until ``work``."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.waiting: list[tuple[Deferred[Any], Callable[..., Any], tuple[Any, ...]]] = []
        self.asked: list[tuple[Any, ...]] = []
        self.passwords = Passwords(USERS, self._run, b"secret", self.clock.seconds)

    def _run(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        self.waiting.append((Deferred(), function, arguments))
        self.asked.append(arguments)
        return self.waiting[-1][0]

    def work(self) -> None:
        waiting, self.waiting = self.waiting, []
        for answer, function, arguments in waiting:
            answer.callback(function(*arguments))

    def verify(self, name: bytes, password: bytes) -> bool:
        answer = self.passwords.verify(name, password, CLIENT)
        if isinstance(answer, bool):
            return answer
        results: list[bool] = []
        answer.addCallback(results.append)
        self.work()
        return results[0]


@pytest.mark.parametrize(
    ("name", "password", "expected"),
    [
        (b"ann", b"secret", True),
        (b"ann", b"Secret", False),
        (b"ann", b"", False),
        (b"bob", b"secret", False),
        (b"Ann", b"secret", False),
        (b"eve", b"secret", False),
        (b"", b"", False),
        (b"bob", b"x" * 72, True),
        (b"bob", b"x" * 100, True),
        (b"bob", b"x" * 71, False),
    ],
)
def test_who_is_who(name: bytes, password: bytes, expected: bool) -> None:
    """A name comes in with its own password only; bcrypt looks at 72 bytes of it, as in every other program."""
    assert Desk().verify(name, password) is expected


def test_what_is_known_is_not_verified_again() -> None:
    """The next requests of a session cost no verification, for a while; a wrong password is never remembered."""
    desk = Desk()
    for _ in range(3):
        assert desk.verify(b"ann", b"secret")
    assert len(desk.asked) == 1
    assert desk.passwords.verify(b"ann", b"secret", CLIENT) is True
    desk.clock.advance(MEMORY)
    assert desk.verify(b"ann", b"secret") and len(desk.asked) == 2
    assert not any(desk.verify(b"ann", b"wrong") for _ in range(3)) and len(desk.asked) == 5


def test_names_and_passwords_do_not_run_together() -> None:
    """Where the name ends and the password begins is part of what is remembered."""
    desk = Desk()
    assert desk.verify(b"ann", b"secret")
    assert not desk.verify(b"anns", b"ecret") and not desk.verify(b"an", b"nsecret")
    assert all(b"secret" not in digest for digest in desk.passwords._known)


def test_unknown_names_cost_as_much() -> None:
    """How long a refusal takes does not tell whether there is somebody of that name: the dearest hash is tried."""
    desk = Desk()
    assert not desk.verify(b"eve", b"secret")
    assert desk.asked == [(b"secret", USERS[b"bob"])]
    assert not desk.verify(b"eve", b"x" * 72), "the password of whose hash that is"


def test_a_browser_asks_for_many_things_at_once() -> None:
    """The same credentials, while they are being verified, wait for the same answer."""
    desk = Desk()
    told: list[bool] = []
    for _ in range(6):
        answer = desk.passwords.verify(b"ann", b"secret", CLIENT)
        assert isinstance(answer, Deferred)
        answer.addCallback(told.append)
    desk.work()
    assert told == [True] * 6 and len(desk.asked) == 1


def test_only_so_many_wait() -> None:
    """A flood of guesses is refused with 503, and who is known comes in all the same."""
    desk = Desk()
    assert desk.verify(b"ann", b"secret")
    for number in range(WAITING):
        desk.passwords.verify(b"ann", b"%d" % number, f"192.0.2.{number}")
    with pytest.raises(HTTPError) as raised:
        desk.passwords.verify(b"bob", b"x" * 72, CLIENT)
    assert (raised.value.status, raised.value.fields) == (503, b"Retry-After: 1\r\n")
    assert desk.passwords.verify(b"ann", b"secret", CLIENT) is True
    desk.work()
    assert desk.verify(b"bob", b"x" * 72)


def test_who_guesses_leaves_room_for_others() -> None:
    """Of one address, in IPv6 of one /64, only a few wait: it hears 429, and others are verified."""
    desk = Desk()
    for number in range(WAITING_OF_ONE):
        desk.passwords.verify(b"ann", b"%d" % number, f"2001:db8::{number}")
    with pytest.raises(HTTPError) as raised:
        desk.passwords.verify(b"ann", b"another", "2001:db8::ffff")
    assert (raised.value.status, raised.value.fields) == (429, b"Retry-After: 1\r\n")
    assert desk.verify(b"ann", b"secret")
    assert isinstance(desk.passwords.verify(b"ann", b"another", "2001:db8::ffff"), Deferred)
    desk.work()
    assert not desk.passwords._waiting


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many users come in, no more than so many are remembered; the first of them is verified again."""
    monkeypatch.setattr("stickyproxy.passwords.REMEMBERED", 2)
    assert REMEMBERED > 2
    desk = Desk()
    long = [b"x" * length for length in (72, 73, 74)]
    assert all(desk.verify(b"bob", password) for password in long)
    assert len(desk.passwords._known) == 2 and len(desk.asked) == 3
    assert desk.passwords.verify(b"bob", long[2], CLIENT) is True
    assert desk.verify(b"bob", long[0]) and len(desk.asked) == 4


def test_a_verification_that_breaks() -> None:
    """An error is a refusal, and is told in the log without the password."""
    desk = Desk()
    told: list[bool] = []
    with capturedLogs() as events:
        answer = desk.passwords.verify(b"ann", b"secret", CLIENT)
        assert isinstance(answer, Deferred)
        answer.addCallback(told.append)
        desk.waiting[0][0].errback(RuntimeError("no memory"))
    assert told == [False]
    assert [event["log_format"] for event in events] == ["A password could not be verified"]
    assert "secret" not in repr(events)


@ensureDeferred
async def test_the_reactor_goes_on_meanwhile() -> None:
    """Verifications run in threads of their own, and what they find comes back in the reactor's."""
    threads = VerifyingThreads(reactor)
    threads.startService()
    try:
        assert await threads.run(threading.current_thread) is not threading.main_thread()
        passwords = Passwords(USERS, threads.run, b"secret", Clock().seconds)
        answers = [passwords.verify(b"ann", password, CLIENT) for password in (b"secret", b"wrong")]
        assert [await answer for answer in answers if isinstance(answer, Deferred)] == [True, False]
    finally:
        await deferToThread(threads.stopService)
    assert not any(thread.name.startswith("PoolThread-passwords") for thread in threading.enumerate())


@pytest.mark.needs("htpasswd")
def test_a_file_that_htpasswd_makes(tmp_path: Path, needs: Callable[[str], str]) -> None:
    """The tool that everybody has makes the file."""
    path = tmp_path / "users"
    for option, name, password in (("-cbB", "ann", "secret"), ("-bB", "bob", "geheim")):
        subprocess.run([needs("htpasswd"), option, "-C", "5", path, name, password], check=True, capture_output=True)
    users = load_users(path)
    assert set(users) == {b"ann", b"bob"}
    assert bcrypt.checkpw(b"geheim", users[b"bob"])


def test_files_that_cannot_be(tmp_path: Path) -> None:
    """What is wrong with a file is told with its path, and what is in it is not."""
    path = tmp_path / "users"
    for content, expected in ((None, "cannot be read: No such file"), (b"ann:s3cret", "line 1: expected a hash")):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UsersFileError, match=expected) as raised:
            load_users(path)
        assert str(path) in str(raised.value) and "s3cret" not in str(raised.value)
