"""What every test may use: ``@pytest.mark.needs("redis-server")`` for a test of a real outside part."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent

# A busy machine makes no test wrong. In CI, where Hypothesis has a profile of its own, this is what that says as well.
settings.register_profile("unhurried", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "needs(*parts): programs by name, or paths below the checkout (with a slash). Where one is missing the test is "
        "skipped; in CI (the environment variable CI is set) it fails.",
    )


def _find(part: str) -> str:
    """The path of ``part``; skips the test without it, or fails it in CI."""
    if "/" in part:
        found = str(ROOT / part) if (ROOT / part).exists() else None
    else:  # daemons live where the path of a plain user does not lead
        found = shutil.which(part, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"]))
    if found is None:
        reason = f"{part} is not here; .ci/run installs it"
        if os.environ.get("CI"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for part in mark.args:
            _find(part)


@pytest.fixture(scope="session")
def needs() -> Callable[[str], str]:
    """``needs("nginx")`` is the path of the program; without it the test is skipped, or fails in CI."""
    return _find
