"""What clients are known by, as the configuration says it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stickyproxy.config.structure import Structure
from stickyproxy.config.units import KeyName, Place
from stickyproxy.extensions import Extensions

READ = Structure(Place(Path("/")), Extensions({})).value


@pytest.mark.parametrize("text", ["source/24/56", "header:X-User", "path:/room/([^/]+)", "key"])
def test_keys(text: str) -> None:
    """A key is written in one word."""
    assert READ(text, KeyName) == text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("cokie:SRV", 'there is no key "cokie"; did you mean "cookie"?'),
        ("xyz", 'there is no key "xyz"; expected one of: bearer, client-certificate, cookie'),
        ("header", 'expected "header:NAME", found "header"'),
        ("path:/x", "expected one group"),
        (7, 'expected what clients are known by: "source" or "source/24/56", "header:NAME"'),
    ],
)
def test_mistakes(value: object, expected: str) -> None:
    """What is no key is told with the nearest that is, or with what one looks like."""
    with pytest.raises(ValueError, match=re.escape(expected)):
        READ(value, KeyName)
