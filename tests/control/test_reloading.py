"""Reloads that come faster than they can be made, and admin endpoints that one of them adds."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trustme
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs

from stickyproxy.config import from_tables
from stickyproxy.config.admin import Admin
from stickyproxy.config.process import Process
from stickyproxy.config.specs import Configuration, FrontendTLS
from stickyproxy.control.controls import LocalControls
from stickyproxy.control.reloading import Loaded, Reloading
from stickyproxy.control.service import AdminService
from stickyproxy.extensions import find_extensions
from stickyproxy.service import build
from stickyproxy.testing import MemoryTransport

EXTENSIONS = find_extensions()


def of(*backends: str) -> Configuration:
    told = dict.fromkeys(backends, "tcp:127.0.0.1:9001")
    tables = {"frontend": {"web": {"listen": "tcp:8080", "cluster": "app"}}, "cluster": {"app": {"backends": told}}}
    return from_tables(tables, EXTENSIONS)


class Slow:
    """A program whose reloads take until somebody says so."""

    def __init__(self) -> None:
        self.runs = self.file = of("a")
        self.read = 0
        self.under_way: list[tuple[Configuration, Deferred[None]]] = []
        self.told: list[bool] = []
        clock = MemoryReactorClock()
        self.reloading = Reloading(self._read, lambda: self.runs, self._apply, clock, self.told.append)

    def _read(self, document: bytes | None) -> Loaded:
        self.read += 1
        return Loaded(b"", self.file)

    def _apply(self, loaded: Loaded) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.under_way.append((loaded.configuration, done))
        return done

    def end(self, error: Exception | None = None) -> None:
        configuration, done = self.under_way.pop(0)
        if error is not None:
            done.errback(error)
        else:
            self.runs = configuration
            done.callback(None)


@pytest.fixture
def slow() -> Iterator[Slow]:
    made = Slow()
    before = signal.getsignal(signal.SIGHUP)
    made.reloading.startService()
    yield made
    made.reloading.stopService()
    signal.signal(signal.SIGHUP, before)


def test_a_reload_waits_for_the_one_before_it(slow: Slow) -> None:
    """Each tells what it has changed itself, and systemd is not told that all is done while one is under way."""
    slow.file = of("a", "b")
    first = Deferred.fromCoroutine(slow.reloading.reload())
    second = Deferred.fromCoroutine(slow.reloading.reload())
    assert (len(slow.under_way), slow.told) == (1, [True])
    slow.end()
    assert slow.told == [True, False, True]
    slow.end()
    results: list[list[str]] = []
    for reload in (first, second):
        reload.addCallback(results.append)
    assert results == [["cluster.app.backends.b added (tcp:127.0.0.1:9001)"], []]


def test_one_that_fails_lets_the_next_have_its_turn(slow: Slow) -> None:
    """The second is loaded though the first could not be, of which the log says why, whoever asked for it."""
    first = Deferred.fromCoroutine(slow.reloading.reload())
    second = Deferred.fromCoroutine(slow.reloading.reload())
    failures: list[BaseException] = []
    first.addErrback(lambda failure: failures.append(failure.value))
    with capturedLogs() as events:
        slow.end(OSError("no"))
    slow.end()
    assert [event["reason"] for event in events if "is not loaded" in event.get("log_format", "")] == ["no"]
    assert [str(error) for error in failures] == ["no"]
    assert (second.called, slow.reloading.done, slow.reloading.failed) == (True, 1, 1)


def test_many_signals_are_few_reloads(slow: Slow) -> None:
    """However many come while one is loaded, one more follows, and has what the file says then."""
    for _ in range(50):
        slow.reloading._hangup()
    slow.file = of("a", "z")
    slow.end()
    slow.end()
    assert (slow.under_way, slow.read, slow.reloading.done) == ([], 2, 2)
    assert [backend.id for backend in slow.runs.clusters[0].backends] == ["a", "z"]


def test_what_only_a_start_changes_is_told(slow: Slow) -> None:
    """Another place for a take-over is in the file, and the log says that it is not in force yet."""
    slow.file = attrs.evolve(slow.runs, process=Process(takeover=Path("/run/other")))
    with capturedLogs() as events:
        for _ in range(2):
            slow.reloading._hangup()
            slow.end()
    assert sum("of the next start" in event["log_format"] for event in events) == 1


def test_an_admin_endpoint_that_a_reload_adds_is_known_for_what_it_is(tmp_path: Path) -> None:
    """One that only this machine reaches is no reason for a warning."""
    reactor = MemoryReactorClock()
    reactor.running = True
    proxy = build(of("a"), reactor, EXTENSIONS)
    admin = AdminService(None, LocalControls(proxy, reactor), reactor)
    admin.startService()

    async def nothing() -> None:
        pass

    with capturedLogs() as events:
        spec = Admin(listen=(f"unix:{tmp_path}/admin",))
        done = Deferred.fromCoroutine(admin.reconfigure(spec, nothing))
    assert done.called
    texts = [str(event.get("log_format")) for event in events]
    assert sum("listens on" in text for text in texts) == 1
    assert not any("elsewhere" in text for text in texts)
    listener = next(iter(admin.listeners.values()))
    certificate = tmp_path / "ours.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    with_tls = attrs.evolve(spec, tls=FrontendTLS(certificates=(certificate,)))
    assert Deferred.fromCoroutine(admin.reconfigure(with_tls, nothing)).called
    assert listener.switch.wrapped is listener.site, "TLS on a Unix socket, which no client of ours asks for"
    channel = listener.site.buildProtocol(None)
    transport = MemoryTransport(channel)
    assert Deferred.fromCoroutine(admin.reconfigure(None, nothing)).called
    assert transport.disconnecting, "a connection outlives the endpoint that a reload takes away"
