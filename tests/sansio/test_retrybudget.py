"""What happened of late, and how many retries that allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.sansio.health import Rate
from stickyproxy.sansio.recent import Recent
from stickyproxy.sansio.retrybudget import LEAST, WINDOW, RetryBudget


@given(st.lists(st.floats(0.0, 7.0), max_size=80))
def test_about_as_many_as_there_were(pauses: list[float]) -> None:
    """It is never more than there were in two windows, nor less than the half of one, and forgets what is long past."""
    recent, now, times = Recent(10.0), 1000.0, []
    for pause in pauses:
        now += pause
        recent.add(now)
        times.append(now)
        count = recent.count(now)
        assert 1 <= count <= sum(time > now - 20 for time in times)
    assert recent.count(now + 20) < 1e-6


def test_even_traffic_is_counted_right() -> None:
    """A hundred a second are a thousand in ten seconds, at any moment."""
    recent = Recent(10.0)
    for step in range(5000):
        recent.add(step / 100)
        if step > 2000:
            assert recent.count(step / 100) == pytest.approx(1000, abs=2)


def test_retries_are_a_share_of_requests() -> None:
    """In a storm a fifth of the requests may be tried again, and ten a second; at first also those that are open."""
    budget, now, allowed = RetryBudget(0.2), 0.0, 0
    assert not budget.counts(now)
    for second in range(60):
        now = float(second)
        for _ in range(1000):
            budget.request(now)
            allowed += budget.retry(now, active=50)
    assert allowed / 60_000 == pytest.approx(0.2 + LEAST / 1000, abs=0.03)
    assert budget.counts(now) and not budget.counts(now + 2 * WINDOW)


def test_a_quiet_cluster_may_always_retry() -> None:
    """Whoever asks now and then is never without a second attempt, whatever the share."""
    budget = RetryBudget(0.0)
    assert all(budget.retry(1.1 * number / LEAST, active=0) for number in range(1000))
    assert RetryBudget(1.0).retry(0.0, active=10**6)


def test_a_rate_of_failures() -> None:
    """Half of what was asked lately, if that was enough to say anything; a row is not needed."""
    rate = Rate(0.5, window=10.0, least=20)
    for number in range(18):
        rate.add(0.0, failed=number % 2 == 0)
    assert not rate.is_due(0.0)
    rate.add(0.0, failed=True)
    rate.add(0.0, failed=False)
    assert rate.is_due(0.0)
    for _ in range(5):
        rate.add(1.0, failed=False)
    assert not rate.is_due(1.0) and not rate.is_due(100.0)
