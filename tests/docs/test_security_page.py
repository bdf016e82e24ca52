"""docs/security.md: its limits are those of the configuration, and each of them stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest

from stickyproxy.config.limits import AnswerLimits, ClusterTimeouts, FrontendTimeouts, Limits
from stickyproxy.config.units import Duration, Place, Size
from stickyproxy.tls.flow import EMPTY

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
TOLD = dict(re.findall(r"`((?:timeouts|limits)\.\w+)` \(`([^`]+)`\)", PAGE))
KEYS = {
    **{f"timeouts.{field.name}": field for cls in (FrontendTimeouts, ClusterTimeouts) for field in attrs.fields(cls)},
    **{f"limits.{field.name}": field for cls in (AnswerLimits, Limits) for field in attrs.fields(cls)},
}


def read(text: str) -> Any:
    """A value as the page has it, as TOML means it."""
    at = Place(Path("/"))
    if text == '"unlimited"':
        return None
    if not text.startswith('"'):
        return int(text)
    kind = Duration if re.fullmatch(r'"[0-9]+(ms|s|m|h|d)"', text) else Size
    return kind.__metadata__[0].read(text.strip('"'), at)  # type: ignore[attr-defined]


@pytest.mark.parametrize("key", KEYS)
def test_a_limit_is_told_with_its_default(key: str) -> None:
    """I find every limit on the page, and it is as large as it says."""
    attrs.resolve_types(Limits)
    assert key in TOLD or f"`{key}`" in PAGE
    if key in TOLD:
        assert read(TOLD[key]) == KEYS[key].default


def test_no_limit_is_told_that_is_none() -> None:
    """What the page names can be configured."""
    assert set(TOLD) <= set(KEYS) and len(TOLD) > 15
    assert f"at most {EMPTY} records without data" in PAGE
