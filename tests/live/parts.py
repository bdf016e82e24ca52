"""What live tests are made of: real processes on loopback, ended by their pid.

``Proxy`` is a ``twistd stickyproxy``, ``Backend`` is what it forwards to (``backend.py``), ``Program`` any other.
All are context managers; the fixtures ``proxy``, ``backends`` and ``program`` of ``conftest.py`` start and end them.
"""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parent.parent.parent
TROUBLE = re.compile(r"Traceback \(most recent call last\)|Unhandled [Ee]rror|plugin cache|was never awaited")
_given: set[int] = set()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that no outgoing connection can take meanwhile.

    It lies below the range from which the kernel gives ports to clients; asking for port 0 would give one of those.
    """
    for _ in range(1000):
        port = random.randrange(10240, 32768)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port
    raise AssertionError("no free port between 10240 and 32767")


def rss(pid: int) -> int:
    """Memory of a process that is in RAM, in bytes."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def converse(
    port: int, data: bytes, *, tls: ssl.SSLContext | None = None, timeout: float = 10, end: bool = False
) -> bytes:
    """Send raw bytes, and return all that comes until the other side closes. ``end``: close our half after sending."""
    with socket.create_connection(("127.0.0.1", port), timeout) as plain:
        connection = plain if tls is None else tls.wrap_socket(plain, server_hostname="localhost")
        with connection:
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
            received = bytearray()
            while piece := connection.recv(65536):
                received += piece
            return bytes(received)


class Program:
    """A running process. Its output (and errors) is read as it comes; ``wait_for`` waits for a part of it."""

    def __init__(
        self,
        *arguments: str | Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        descriptors: Sequence[int] = (),
    ) -> None:
        self.arguments = [str(argument) for argument in arguments]
        self._cwd, self.env, self._descriptors = cwd, env, descriptors
        self._lines: list[str] = []
        self._said = threading.Condition()
        self._start()

    def _start(self) -> None:
        self.stopped = False
        self.process = subprocess.Popen(
            self.arguments,
            cwd=self._cwd,
            env={**os.environ, **(self.env or {})},
            pass_fds=self._descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                with self._said:
                    self._lines.append(line)
                    self._said.notify_all()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        """All that it has said so far."""
        with self._said:
            return "".join(self._lines)

    def wait_for(self, pattern: str, *, count: int = 1, timeout: float = 15) -> list[re.Match[str]]:
        """The first ``count`` matches of a regular expression in the log, as soon as they are there."""
        deadline = time.monotonic() + timeout
        with self._said:
            while True:
                text = "".join(self._lines)
                found = list(re.finditer(pattern, text, re.MULTILINE))
                if len(found) >= count:
                    return found[:count]
                left = deadline - time.monotonic()
                ended = not self._reader.is_alive()
                assert left > 0 and not ended, (
                    f"{'it ended' if ended else f'{timeout} s passed'} without {pattern!r} (wanted {count}, found "
                    f"{len(found)}):\n{text}"
                )
                self._said.wait(min(left, 0.2))  # the end of the process tells no one

    def stop(self, number: signal.Signals = signal.SIGTERM, *, timeout: float = 15) -> int:
        """End it by a signal and return its exit status. Again is fine."""
        self.stopped = True
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(
                f"{self.arguments} did not end within {timeout} s of {number.name}:\n{self.log}"
            ) from None
        self._reader.join()
        return status

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self.stop(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class Backend(Program):
    """``backend.py`` under a name. ``start`` after ``stop`` or ``kill`` brings it back on the same port."""

    def __init__(self, name: str, *, tcp: bool = False, port: int = 0, certificate: Path | None = None) -> None:
        self.name = name
        super().__init__(
            *(sys.executable, Path(__file__).with_name("backend.py"), name, "--port", str(port or free_port())),
            *(["--tcp"] if tcp else []),
            *(["--certificate", certificate] if certificate else []),
        )

    def _start(self) -> None:
        self._lines.clear()
        super()._start()
        self.port = int(self.wait_for(r" listens on (\d+)$")[0][1])

    @property
    def endpoint(self) -> str:
        """As the configuration wants it: ``tcp:127.0.0.1:20123``."""
        return f"tcp:127.0.0.1:{self.port}"

    def start(self) -> None:
        assert self.process.poll() is not None, f"{self.name} still runs"
        self._start()


class Proxy(Program):
    """A ``twistd -n stickyproxy`` of this checkout, listening.

    ``toml`` is written to ``proxy.toml`` in ``directory`` (relative paths in it start there) and given as ``--config``;
    None: ``arguments`` alone say what to serve. At its end it must shut down in order, and no traceback may be in its
    log unless ``tracebacks``. ``listeners``: how many listening endpoints to wait for, where ``toml`` does not tell.
    """

    def __init__(
        self,
        directory: Path,
        toml: str | None,
        *arguments: str,
        tracebacks: bool = False,
        listeners: int | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self._tracebacks = tracebacks
        options = list(arguments)
        if toml is not None:
            self.config = directory / "proxy.toml"
            self.config.write_text(toml)
            options = ["--config", str(self.config), *options]
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        super().__init__(
            *(Path(sys.executable).with_name("twistd"), "-n", "--pidfile=", "stickyproxy", *options),
            cwd=directory,
            env={"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **(env or {})},
        )
        wanted = _listeners(toml, arguments) if listeners is None else listeners
        try:
            self.wait_for(r"Frontend \S+ listens on ", count=wanted, timeout=30)
        except BaseException:
            self.kill()
            raise

    def rss(self) -> int:
        """Bytes in RAM."""
        return rss(self.pid)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ran, ended_by_test = self.process.poll() is None, self.stopped
        if ran:
            self.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):  # it drains: the second signal ends that
                self.process.wait(1)
        self.stop()
        if error is None:
            peaceful = "Server Shut Down." in self.log if ran else ended_by_test
            assert peaceful, f"the proxy did not end in peace:\n{self.log}"
            assert self._tracebacks or not TROUBLE.search(self.log), self.log


def _listeners(toml: str | None, arguments: tuple[str, ...]) -> int:
    count = sum(argument.partition("=")[0] == "--listen" for argument in arguments)
    for frontend in tomllib.loads(toml or "").get("frontend", {}).values():
        listen = frontend["listen"]
        count += 1 if isinstance(listen, str) else len(listen)
    return count
