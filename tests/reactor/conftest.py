"""``run(program)`` runs a coroutine function on our reactor, ``run_both(program)`` also on Twisted's epoll reactor."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from programs import Program, make_epoll, make_uv, run_on


@pytest.fixture
def run() -> Callable[[Program], None]:
    return lambda program: run_on(make_uv(), program)


@pytest.fixture(params=[make_uv, make_epoll], ids=["uv", "epoll"])
def run_both(request: pytest.FixtureRequest) -> Callable[[Program], None]:
    """The same program must do the same on both."""
    return lambda program: run_on(request.param(), program)
