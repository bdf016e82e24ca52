"""What the tests of the wires share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from house import House

from stickyproxy.config import specs
from stickyproxy.interfaces import IAffinity
from stickyproxy.model import Backend


@pytest.fixture
def house() -> Callable[..., House]:
    """Makes a ``House``; the dict changes the cluster, keywords the frontend (``timeouts``, ``limits``, …)."""

    def make(cluster: dict[str, Any] | None = None, /, affinity: IAffinity | None = None, **frontend: Any) -> House:
        backends = tuple(Backend(name, f"tcp:127.0.0.1:{port}") for name, port in (("a", 9001), ("b", 9002)))
        return House(
            attrs.evolve(specs.Frontend("web", ("tcp:8080",), "app"), **frontend),
            attrs.evolve(specs.Cluster("app", backends), **(cluster or {})),
            affinity,
        )

    return make
