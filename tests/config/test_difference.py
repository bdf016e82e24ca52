"""What a new file says otherwise, in words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from stickyproxy.config import from_tables
from stickyproxy.config.difference import difference
from stickyproxy.extensions import find_extensions

EXTENSIONS = find_extensions()
TABLES: dict[str, Any] = {
    "frontend": {"web": {"listen": "tcp:8080", "cluster": "app", "limits": {"fields": 100}}},
    "cluster": {
        "app": {
            "keys": ["0123456789abcdef0123456789abcdef"],
            "affinity": {"by": "cookie", "name": "SRV"},
            "probe": {"by": "http", "path": "/healthz", "interval": "2s"},
            "backends": {"a": "tcp:127.0.0.1:9001", "b": {"endpoint": "tcp:127.0.0.1:9002", "weight": 2}},
        }
    },
}


@pytest.mark.parametrize(
    ("where", "value", "told"),
    [
        ("frontend.web.limits.fields", 50, ["frontend.web.limits.fields 100 → 50"]),
        ("frontend.web.listen", ["tcp:1", "tcp:2"], ["frontend.web.listen tcp:8080 → tcp:1, tcp:2"]),
        ("frontend.new", {"listen": "tcp:9", "cluster": "app"}, ["frontend.new added (tcp:9)"]),
        ("cluster.app.backends.b", None, ["cluster.app.backends.b removed (tcp:127.0.0.1:9002)"]),
        ("cluster.app.backends.c", "tcp:h:3", ["cluster.app.backends.c added (tcp:h:3)"]),
        ("cluster.app.backends.b.weight", 3, ["cluster.app.backends.b.weight 2 → 3"]),
        ("cluster.app.backends.b.state", "drain", ["cluster.app.backends.b.state up → drain"]),
        ("cluster.app.affinity.name", "X", ["cluster.app.affinity.name changed"]),
        ("cluster.app.affinity", ["cookie", "source"], ["cluster.app.affinity cookie → cookie, source"]),
        ("cluster.app.keys", ["fedcba9876543210fedcba9876543210"], ["cluster.app.keys changed"]),
        ("cluster.app.probe.path", "/up", ["cluster.app.probe.path changed"]),
        ("cluster.app.probe.interval", "5s", ["cluster.app.probe.interval 2.0 → 5.0"]),
        ("cluster.app.probe", None, ["cluster.app.probe http → none"]),
        ("cluster.app.eject", {}, ["cluster.app.eject changed"]),
        ("cluster.app.timeouts", {"connect": "1s"}, ["cluster.app.timeouts.connect 5.0 → 1.0"]),
        ("process", {"workers": 4}, ["process.workers 1 → 4"]),
    ],
)
def test_a_change_in_words(where: str, value: Any, told: list[str]) -> None:
    """The place as in the file, and what stood and stands there; secrets and options only by their names."""
    tables = copy.deepcopy(TABLES)
    table = tables
    *keys, last = where.split(".")
    for key in keys:
        table = table.setdefault(key, {})
    if value is None:
        del table[last]
    else:
        table[last] = value
    changes = difference(from_tables(TABLES, EXTENSIONS), from_tables(tables, EXTENSIONS))
    assert [str(change) for change in changes] == told
    assert "0123456789abcdef" not in repr(changes)


def test_the_same_file_is_no_change() -> None:
    """Nothing is told of a file that says the same."""
    assert difference(from_tables(TABLES, EXTENSIONS), from_tables(copy.deepcopy(TABLES), EXTENSIONS)) == []
