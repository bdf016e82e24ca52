"""What holds a secret by its name is not in the log."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.sansio.masking import SECRETS, mask_of

mask = mask_of(SECRETS)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        (b"/a?b=c&d", b"/a?b=c&d"),
        (b"/a?token=s3cret", b"/a?token=***"),
        (b"/a?x=1&Access-Token=s3cret&y=2", b"/a?x=1&Access-Token=***&y=2"),
        (b"/a?token=s3cret;s3cret?s3cret=/s3cret&y=2", b"/a?token=***&y=2"),
        (b"/a?user[password]=s3cret&user.pwd=s3cret", b"/a?user[password]=***&user.pwd=***"),
        (b"/a?%74oken=s3cret", b"/a?%74oken=***"),
        (b"/a?token=", b"/a?token=***"),
        (b"/a?token&tokens=1&xtoken=2", b"/a?token&tokens=1&xtoken=2"),
        (b"/a;jsessionid=s3cret/b;v=1?x=1", b"/a;jsessionid=***/b;v=1?x=1"),
        (b"/socket.io/?EIO=4&transport=polling&sid=s3cret", b"/socket.io/?EIO=4&transport=polling&sid=***"),
        (b"https://user:s3cret@example.org/a", b"https://***@example.org/a"),
        (b"https://user:s3@cret@example.org/a@b", b"https://***@example.org/a@b"),
        (b"https://example.org/a#access_token=s3cret&x=1", b"https://example.org/a#access_token=***&x=1"),
        (b"/to?next=/a?token=s3cret&x=1", b"/to?next=/a?token=***&x=1"),
    ],
)
def test_secrets(url: bytes, masked: bytes) -> None:
    """Values of parameters that are named like secrets are ***, and so is userinfo; the rest is as it was."""
    assert mask(url) == masked


def test_names_of_ones_own() -> None:
    """A list of mine stands in place of the default."""
    assert mask_of(["My-Own"])(b"/?my_own=s3cret&token=1") == b"/?my_own=***&token=1"


@given(st.binary(max_size=200))
def test_masking_is_the_same_twice(url: bytes) -> None:
    """What is masked stays as it is."""
    assert mask(mask(url)) == mask(url)


def test_a_long_target_takes_no_time() -> None:
    """A target of any size is gone through once, whatever it is made of."""
    for piece in (b"?", b"?a", b"&token=", b"?a=", b"//", b"//a@", b";", b"%"):
        mask(piece * 100_000)
