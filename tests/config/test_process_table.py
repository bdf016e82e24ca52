"""The table ``[process]``."""

from __future__ import annotations

import tomllib

import pytest

from stickyproxy.config import ConfigurationErrors, from_tables
from stickyproxy.config.process import Process
from stickyproxy.extensions import find_extensions

BASE = """
frontend.web = { listen = "tcp:0", cluster = "app" }
cluster.app.backends = { a = "tcp:127.0.0.1:9001" }
"""


def _process(text: str) -> Process:
    return from_tables(tomllib.loads(BASE + text), find_extensions()).process


def test_one_process_serves_unless_told_otherwise() -> None:
    """Without ``[process]`` there is one; ``workers`` is a number or ``"auto"``."""
    assert _process("") == Process(workers=1, stuck=10.0)
    assert _process('process = { workers = 3, stuck = "2s" }') == Process(workers=3, stuck=2.0)
    assert _process('process.workers = "auto"').workers == "auto"


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        ("workers = 0", 'process.workers: expected a whole number from 1 to 1024, or "auto", found 0'),
        ('workers = "all"', 'process.workers: expected a whole number from 1 to 1024, or "auto", found "all"'),
        ("workers = true", 'process.workers: expected a whole number from 1 to 1024, or "auto", found true'),
        ('stuck = "10s"', "process.stuck: only where there are several workers: leave this out"),
        ("worker = 2", 'process.worker: unknown key; did you mean "workers"?'),
    ],
)
def test_mistakes_are_told(table: str, mistake: str) -> None:
    """What cannot be is told with its key and what would be right."""
    with pytest.raises(ConfigurationErrors) as wrong:
        _process(f"[process]\n{table}")
    assert str(wrong.value).partition(": ")[2] == mistake
