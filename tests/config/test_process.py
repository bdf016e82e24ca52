"""``[process]``: how it ends."""

from __future__ import annotations

from typing import Any

import pytest

from stickyproxy.config import ConfigurationErrors, from_tables
from stickyproxy.config.process import Process
from stickyproxy.extensions import find_extensions


def process(**keys: Any) -> Process:
    tables = {
        "frontend": {"web": {"listen": "tcp:8080", "cluster": "app"}},
        "cluster": {"app": {"backends": {"a": "tcp:127.0.0.1:9001"}}},
        "process": keys,
    }
    return from_tables(tables, find_extensions()).process


def test_what_is_said() -> None:
    """Without the table, and with all of it."""
    assert process() == Process(drain=30.0, drain_window=None, drain_delay=None, takeover=None)
    told = process(drain="1m", drain_window="10s", drain_delay="5s")
    assert (told.drain, told.drain_window, told.drain_delay) == (60.0, 10.0, 5.0)
    assert process(drain="unlimited", drain_window="1h").drain is None


@pytest.mark.parametrize(("keys", "wrong"), [({"drain": "5s"}, "6s"), ({}, "31s")])
def test_window_longer_than_all(keys: dict[str, str], wrong: str) -> None:
    """WebSockets that are told to close after the end would be cut without a word."""
    with pytest.raises(ConfigurationErrors, match=r"process\.drain_window: expected no more than drain"):
        process(**keys, drain_window=wrong)
