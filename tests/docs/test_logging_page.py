"""``docs/logging.md`` tells of every placeholder, and its lines are what is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

from stickyproxy.model import HTTPEntry, Outcome, RelayEntry, RequestHead, Side
from stickyproxy.sansio.loglines import COLUMNS, line_of
from stickyproxy.sansio.masking import mask_of

PAGE = (Path(__file__).parent.parent.parent / "docs" / "logging.md").read_text()
FIELDS = [b"Referer", b": ", b"http://example.org/start", b"\r\n", b"User-Agent", b": ", b"Mozilla/4.08 [en]", b"\r\n"]
HEAD = RequestHead(b"GET", b"/a?b=c", 1, FIELDS, {}, 0, b"example.org", True, None)
REQUEST = HTTPEntry(
    "192.0.2.7", HEAD, 200, 2326, 971186136.25, 0.0123456, "app", "a", Outcome.KEPT, b"9f86d081884c7d65", "web"
)


def test_every_placeholder_is_told() -> None:
    """The table has every placeholder, its type in JSON and its meaning."""
    rows = re.findall(r"^\| `\{([\w:]+)\}` \| (\w*) ?\| (.+) \|$", PAGE, re.MULTILINE)
    assert [row for row in rows if row[0] != "field:NAME"] == [
        (name, column.type, column.meaning) for name, column in COLUMNS.items()
    ]


def test_the_lines_are_real() -> None:
    """The lines of the page are what the proxy writes."""
    websocket = RelayEntry(
        "192.0.2.7", "websocket", 17, 42, 971187002.0, 60.0, "app", "a", Outcome.KEPT, Side.CLIENT,
        HEAD._replace(target=b"/chat"), b"9f86d081884c7d65", code=1000, messages_received=3, messages_sent=5,
    )  # fmt: skip
    tcp = RelayEntry(
        "192.0.2.7", "tcp", 96, 512, 971187005.0, 1.80025, "redis", "r1", Outcome.NEW, Side.BACKEND
    )  # fmt: skip
    for entry in (REQUEST, websocket, tcp):
        assert line_of("combined", mask_of(()))(entry) in PAGE
    found = re.search(r"```json\n(.*)\n```", PAGE)
    assert found is not None
    assert json.loads(found[1]) == json.loads(line_of("json", mask_of(()))(REQUEST))
