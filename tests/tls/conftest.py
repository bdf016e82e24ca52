"""Certificates for tests of TLS, made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trustme


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pem(tmp_path: Path, authority: trustme.CA) -> Callable[..., Path]:
    """Writes a certificate for names, with its key in the same file, and returns the path."""

    def write(file: str, *names: str, by: trustme.CA = authority, **options: object) -> Path:
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(by.issue_cert(*names, **options).private_key_and_cert_chain_pem.bytes())  # type: ignore[arg-type]
        return path

    return write


@pytest.fixture
def ca_file(tmp_path: Path, authority: trustme.CA) -> Path:
    """The authority that signs what ``pem`` writes."""
    path = tmp_path / "authority.pem.txt"
    authority.cert_pem.write_to_path(str(path))
    return path
