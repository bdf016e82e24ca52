"""``[admin]``: where it may listen, and what its file of tokens must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stickyproxy.config import ConfigurationErrors, from_tables
from stickyproxy.config.endpoints import is_local
from stickyproxy.control.operators import TokenFileError, read_tokens
from stickyproxy.extensions import find_extensions


def load(admin: dict[str, Any]) -> Any:
    tables: dict[str, Any] = {
        "frontend": {"web": {"listen": "tcp:0", "cluster": "app"}},
        "cluster": {"app": {"backends": {"a": "tcp:127.0.0.1:1"}}},
        "admin": admin,
    }
    return from_tables(tables, find_extensions()).admin


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("tcp:9900:interface=127.0.0.1", True),
        ("tcp:9900:127.1.2.3", True),
        ("tcp:9900:interface=\\:\\:1", True),
        ("unix:/run/admin.sock:mode=600", True),
        ("tcp:9900", False),
        ("tcp:9900:interface=0.0.0.0", False),
        ("tcp:9900:interface=10.0.0.1", False),
        ("tcp:9900:interface=localhost", False),
        ("systemd:domain=INET:index=0", False),
    ],
)
def test_who_reaches_it(endpoint: str, local: bool, tmp_path: Path) -> None:
    """Where others can reach it there must be tokens; on loopback and Unix sockets there may be none."""
    (tmp_path / "admin.token").touch()
    assert is_local(endpoint) is local
    assert load({"listen": endpoint, "token_file": str(tmp_path / "admin.token")}).listen == (endpoint,)
    if local:
        assert load({"listen": endpoint}).token_file is None
    else:
        with pytest.raises(ConfigurationErrors, match=r"admin\.token_file: required: .* can be reached from elsewhere"):
            load({"listen": endpoint})


def test_the_table_is_checked() -> None:
    """A file that is not there, no address, a misspelled key: each is told."""
    with pytest.raises(ConfigurationErrors) as errors:
        load({"token_file": "/none/admin.token", "lisen": "tcp:1"})
    assert {mistake.key for mistake in errors.value.mistakes} == {"admin.listen", "admin.token_file", "admin.lisen"}


@pytest.mark.parametrize(
    ("content", "mode", "expected"),
    [
        (b"t" * 32, 0o644, "run: chmod 600"),
        (b"t" * 32, 0o640, "run: chmod 600"),
        (b"t" * 32, 0o700, "run: chmod 600"),
        (b"", 0o600, "holds no token"),
        (b"# nothing\n\n", 0o600, "holds no token"),
        (b"alice and bob\n", 0o600, "line 1"),
        (b"alice tok\xc3\xa9n\n", 0o600, "line 1"),
        (b"t" * 600, 0o600, "512"),
        (b"t" * 70_000, 0o600, "larger than"),
    ],
)
def test_files_of_tokens_that_are_refused(content: bytes, mode: int, expected: str, tmp_path: Path) -> None:
    """A file that others may use, or that holds something else, is refused with what to do; no token is quoted."""
    path = tmp_path / "admin.token"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(TokenFileError, match=expected) as error:
        read_tokens(path)
    assert "tttt" not in str(error.value)


def test_names_of_tokens(tmp_path: Path) -> None:
    """A line is a token, or a name and a token; the rest is a comment."""
    path = tmp_path / "admin.token"
    path.write_text("alice aaaa # of the night shift\n\nbbbb\n")
    path.chmod(0o400)
    assert read_tokens(path) == [("alice", "aaaa"), ("operator", "bbbb")]
    with pytest.raises(TokenFileError, match="no plain file"):
        read_tokens(Path("/dev/null"))
