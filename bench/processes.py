"""Programs that the bench starts: pinned, logged, waited for, and ended whatever happens."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

_PR_SET_PDEATHSIG = 1
_ENDING = {signal.SIGINT, signal.SIGTERM}
_libc = ctypes.CDLL(None)


class BenchError(Exception):
    """What stops the bench: its message says what happened and, with a program's last words, why."""


class Command(NamedTuple):
    """What to run, and what to add to its environment."""

    arguments: Sequence[str]
    environment: Mapping[str, str] = {}


class Program:
    """A started program. What it says goes to ``log``, but its standard output is ours to read where it ``talks``."""

    def __init__(self, name: str, process: subprocess.Popen[str], log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def line(self, beginning: str, within: float = 60.0) -> str:
        """The next line that it prints that begins so; others are passed over. It is an error if none comes in time."""
        assert self._process.stdout is not None
        clock = threading.Timer(within, self._process.kill)
        clock.daemon = True  # a Ctrl-C within its start does not wait for it
        try:
            clock.start()
            for line in self._process.stdout:
                if line.startswith(beginning):
                    return line.strip()
        finally:
            clock.cancel()
        raise self.failed(f"ended, or was ended after {within:g} s, before it had printed {beginning!r}")

    def wait(self, until: float, sample: Callable[[], None]) -> None:
        """Call ``sample`` 20 times a second until it has ended well; ``until`` is by ``time.monotonic()``."""
        while self.running:
            if time.monotonic() > until:
                raise self.failed("did not end in time")
            sample()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.05)
        if self._process.returncode:
            raise self.failed(f"ended with status {self._process.returncode}")

    def listening(self, port: int, within: float = 15.0) -> None:
        """Wait until it accepts on ``port`` of 127.0.0.1."""
        until = time.monotonic() + within
        while time.monotonic() < until and self.running:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
                return
            time.sleep(0.02)
        raise self.failed(f"does not listen on port {port}" if self.running else "ended instead of listening")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for what ignores it. Stopping twice is fine."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(3.0)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def failed(self, what: str) -> BenchError:
        words = self.log.read_text(errors="replace").strip()[-2000:]
        return BenchError(f"{self.name} {what}" + (f"\nIts last words:\n{words}" if words else ""))


class Programs:
    """Starts programs in ``directory`` and ends those still running when its ``with`` block is left."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._ports: set[int] = set()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def port(self) -> int:
        """A free TCP port of 127.0.0.1, below those that connections get from the kernel, where no load takes it."""
        for port in random.sample(range(15000, 32000), 200):
            with contextlib.suppress(OSError), socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
                if port not in self._ports:
                    self._ports.add(port)
                    return port
        raise BenchError("No free port between 15000 and 32000 on 127.0.0.1")

    def start(self, name: str, command: Command, cores: Collection[int], talks: bool = False) -> Program:
        """Start ``command`` on ``cores``. It gets no terminal signals and cannot outlive us."""

        def pinned() -> None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
            os.sched_setaffinity(0, cores)
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

        log = self.directory / f"{name.replace(' ', '-')}.log"
        with log.open("w") as words, _uninterrupted():
            process = subprocess.Popen(
                command.arguments,
                cwd=self.directory,
                env={**os.environ, **command.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if talks else words,
                stderr=words,
                text=True,
                start_new_session=True,
                preexec_fn=pinned,
            )
            program = Program(name, process, log)
            self._stack.callback(program.stop)
        return program


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Signals that end us wait until the block is left, so that no program is started and not yet known."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def workplace() -> Iterator[Programs]:
    """A temporary directory whose programs are ended, and which is removed, on every way out, SIGTERM included."""

    def ended(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, ended)
    try:
        with tempfile.TemporaryDirectory(prefix="stickyproxy-bench-") as path, Programs(Path(path)) as programs:
            yield programs
    finally:
        signal.signal(signal.SIGTERM, before)
