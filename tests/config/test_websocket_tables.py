"""``websocket`` in the configuration: what it means, and what is told to be wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_access_tables import frontend

from stickyproxy.config import ConfigurationErrors
from stickyproxy.config.websocket import MessageRate, WebSocket


def test_what_is_written_arrives(tmp_path: Path) -> None:
    """Every key, and what holds without any."""
    assert frontend(tmp_path, {}).websocket == WebSocket()
    table = {
        "ping": "30s",
        "pong": "10s",
        "idle_by": "message",
        "frame": "64KiB",
        "message": 1000,
        "rate": {"messages": 5, "per": "1m"},
        "close": "1s",
        "drain_code": 1012,
        "drain_reason": "neu",
    }
    expected = WebSocket(30.0, 10.0, "message", 65536, 1000, MessageRate(5, 60.0, 5), 1.0, 1012, "neu")
    assert frontend(tmp_path, {}, websocket=table).websocket == expected


@pytest.mark.parametrize(
    ("table", "key", "message"),
    [
        (True, "", "expected a table"),
        ({"pings": "1s"}, ".pings", 'did you mean "ping"?'),
        ({"pong": "1s"}, ".pong", "needs ping"),
        ({"idle_by": "ping"}, ".idle_by", '"frame" or "message"'),
        ({"rate": {}}, ".rate.messages", "required"),
        ({"rate": {"messages": 0}}, ".rate.messages", "1 or more"),
        ({"drain_code": 1000}, ".drain_code", "1001 or 1012"),
        ({"drain_reason": "ü" * 62}, ".drain_reason", "up to 123 bytes, found 124"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, table: Any, key: str, message: str) -> None:
    """Each mistake is told with its key."""
    with pytest.raises(ConfigurationErrors) as raised:
        frontend(tmp_path, {}, websocket=table)
    ((where, told),) = ((mistake.key, mistake.message) for mistake in raised.value.mistakes)
    assert where == f"frontend.web.websocket{key}"
    assert message in told


def test_it_is_for_http(tmp_path: Path) -> None:
    """A TCP frontend has no WebSockets that it knows of."""
    with pytest.raises(ConfigurationErrors, match="only for protocol"):
        frontend(tmp_path, {}, protocol="tcp", websocket={"close": "1s"})
