"""What cookies cost: every case can be measured."""

from __future__ import annotations

import pytest

from bench import cookies


@pytest.mark.parametrize("case", cookies.CASES)
def test_every_case_is_measured(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each case binds its client, so that what is measured is what happens; and gives two figures."""
    monkeypatch.setattr(cookies, "_TIMES", 2)
    monkeypatch.setattr(cookies, "_ROUNDS", 1)
    known, _ = cookies.costs(*cookies.CASES[case])
    assert known > 0
