"""Basic authentication: what is taken for a name and a password, and for a file of users."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.sansio.basicauth import UsersFileError, challenge, credentials, read_users

HASH = b"$2y$10$" + b"a" * 53


def basic(text: bytes, scheme: bytes = b"Basic ") -> list[bytes]:
    return [scheme + b64encode(text)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (basic(b"ann:secret"), (b"ann", b"secret")),
        (basic(b"ann:secret", b"bAsIc   "), (b"ann", b"secret")),
        (basic(b"ann:a:b"), (b"ann", b"a:b")),
        (basic(b"ann:"), (b"ann", b"")),
        (basic(b":secret"), (b"", b"secret")),
        (basic("änn:gehéim".encode()), ("änn".encode(), "gehéim".encode())),
        (basic(b"ann:\xff\xfe"), (b"ann", b"\xff\xfe")),
        ([], None),
        ([b""], None),
        ([b"Basic"], None),
        ([b"Basic "], None),
        ([b"Bearer abc"], None),
        ([b"Basic\tYTpi"], None),
        ([b"BasicYTpi"], None),
        ([b"Basic YTpi, Basic YTpi"], None),
        ([b"Basic YTpi YTpi"], None),
        ([b"Basic YTp"], None),
        ([b"Basic Y!pi"], None),
        ([b"Basic YTpi\x0b"], None),
        (basic(b"no colon"), None),
        (basic(b"ann:se\0cret"), None),
        (basic(b"a\nnn:secret"), None),
        (basic(b"ann:secret") * 2, None),
    ],
)
def test_credentials(values: list[bytes], expected: tuple[bytes, bytes] | None) -> None:
    """One well-formed Basic field is a name and a password; anything else is nobody."""
    assert credentials(values) == expected


@given(st.lists(st.binary(max_size=60) | st.binary(max_size=40).map(lambda text: basic(text)[0]), max_size=2))
def test_any_field_is_somebody_or_nobody(values: list[bytes]) -> None:
    """Whatever stands in Authorization, nothing breaks."""
    found = credentials(values)
    assert found is None or (b":" not in found[0] and len(values) == 1)


def test_the_question() -> None:
    """A browser is told what the password is for, whatever characters that has."""
    assert challenge('the "back\\room"') == (
        b'WWW-Authenticate: Basic realm="the \\"back\\\\room\\"", charset="UTF-8"\r\n'
    )


def test_a_file_of_users() -> None:
    """Lines of htpasswd, comments, empty lines and the line ends of any system."""
    content = b"# staff\n\nann:" + HASH + b"\r\nbob:$2b$05$" + b"b" * 53 + b"  \n" + "änn:".encode() + HASH
    assert read_users(content) == {b"ann": HASH, b"bob": b"$2b$05$" + b"b" * 53, "änn".encode(): HASH}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "nobody"),
        (b"# ann:x\n", "nobody"),
        (b"ann:" + HASH + b"\nann:" + HASH, "line 2: this name"),
        (b"s3cret", "line 1: expected name:hash"),
        (b":" + HASH, "line 1: expected name:hash"),
        (b"ann" + HASH, "line 1: expected name:hash"),
        (b"a\0nn:" + HASH, "line 1: expected name:hash"),
        (b"\n\nann:s3cret", "line 3: expected a hash by bcrypt"),
        (b"ann:$apr1$s3cret$s3crets3crets3crets3cr", "line 1: expected a hash by bcrypt"),
        (b"ann:{SHA}s3crets3crets3crets3crets=", "line 1: expected a hash by bcrypt"),
        (b"ann:$2x$10$" + b"s" * 53, "line 1: expected a hash by bcrypt"),
        (b"ann:" + HASH + b"s3cret", "line 1: expected a hash by bcrypt"),
        (b"ann:" + HASH[:-1], "line 1: expected a hash by bcrypt"),
        (b"ann:$2y$03$" + b"s" * 53, "line 1: expected a cost from 4 to 16"),
        (b"ann:$2y$17$" + b"s" * 53, "line 1: expected a cost from 4 to 16"),
    ],
)
def test_mistakes_in_a_file_of_users(content: bytes, expected: str) -> None:
    """A mistake is told by its line, and nothing of that line is: it is a secret."""
    with pytest.raises(UsersFileError) as raised:
        read_users(content)
    assert expected in str(raised.value)
    assert "s3cret" not in str(raised.value) and "ann" not in str(raised.value)
    assert raised.value.__context__ is None
