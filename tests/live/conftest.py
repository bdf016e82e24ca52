"""Live tests run a real ``twistd stickyproxy`` between real backends and real clients; ``parts.py`` has the classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
from parts import Backend, Program, Proxy


@pytest.fixture
def _running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def proxy(_running: ExitStack, tmp_path: Path) -> Callable[..., Proxy]:
    """``proxy(toml, *arguments, tracebacks=False, listeners=None)``: a proxy that listens (``parts.Proxy``)."""
    count = 0

    def start(toml: str | None = None, *arguments: str, **more: object) -> Proxy:
        nonlocal count
        count += 1
        directory = tmp_path / f"proxy{count}"
        directory.mkdir()
        return _running.enter_context(Proxy(directory, toml, *arguments, **more))  # type: ignore[arg-type]

    return start


@pytest.fixture
def backends(_running: ExitStack) -> Callable[..., list[Backend]]:
    """``a, b = backends("a", "b", tcp=False, certificate=None)``: backends that listen (``parts.Backend``)."""

    def start(*names: str, tcp: bool = False, certificate: Path | None = None) -> list[Backend]:
        return [_running.enter_context(Backend(name, tcp=tcp, certificate=certificate)) for name in names]

    return start


@pytest.fixture
def program(_running: ExitStack) -> Callable[..., Program]:
    """``program(needs("redis-server"), "--port", …)``: any other process, ended with the test (``parts.Program``)."""

    def start(*arguments: str | Path, **more: object) -> Program:
        return _running.enter_context(Program(*arguments, **more))  # type: ignore[arg-type]

    return start


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> trustme.CA:
    """A certificate authority; ``authority.configure_trust(context)`` makes an ``ssl.SSLContext`` believe it."""
    return trustme.CA()


@pytest.fixture(scope="session")
def authority_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority's own certificate, as ``client_ca``, ``curl --cacert`` and ``NODE_EXTRA_CA_CERTS`` want it."""
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="session")
def certificate(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``certificate("localhost", "*.example.org")``: a PEM file with key and chain, signed by ``authority``."""

    def issue(*names: str) -> Path:
        path = tmp_path_factory.mktemp("certificate") / f"{names[0].replace('*', '_')}.pem"
        authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(str(path))
        return path

    return issue
