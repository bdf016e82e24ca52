"""``access_log``: its shorthands, its table, and what is wrong in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stickyproxy.config import ConfigurationErrors, from_tables
from stickyproxy.config.logs import AccessLog
from stickyproxy.extensions import find_extensions

CLUSTER = {"app": {"backends": {"a": "tcp:127.0.0.1:9001"}}}


def read(access_log: Any, top: Any = True) -> AccessLog | None:
    frontend = {"listen": "tcp:8080", "cluster": "app"}
    if access_log is not None:
        frontend["access_log"] = access_log
    tables = {"access_log": top, "frontend": {"web": frontend}, "cluster": CLUSTER}
    return from_tables(tables, find_extensions()).frontends[0].access_log


@pytest.mark.parametrize(
    ("written", "means"),
    [
        (True, AccessLog()),
        (False, None),
        ("-", AccessLog("-")),
        ("/var/log/a", AccessLog("/var/log/a")),
        ("log/a", AccessLog(str(Path.cwd() / "log/a"))),
        ({}, AccessLog()),
        (
            {
                "path": "/a",
                "format": "json",
                "sample": 0.5,
                "size": "1MiB",
                "keep": 3,
                "mask_query": "t",
                "opens": True,
            },
            AccessLog("/a", "json", 0.5, 1 << 20, 3, ("t",), True),
        ),
        ({"format": "{client} {field:Accept}"}, AccessLog(format="{client} {field:Accept}")),
    ],
)
def test_written(written: Any, means: AccessLog | None) -> None:
    """A log is true, false, a path or a table, of a frontend and at the top."""
    assert read(written) == means
    assert read(None, top=written) == means


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        (1, "access_log: expected true, false, a path or a table, found a number"),
        ({"format": "jsno"}, 'access_log.format: expected "combined", .*did you mean "json"'),
        ({"format": "{clinet}"}, r'there is no placeholder "\{clinet\}"; did you mean "client"'),
        ({"format": "{client"}, "has no partner"),
        ({"format": "{field:Cookie}"}, "Cookie holds secrets: it is never logged"),
        ({"sample": 2}, "access_log.sample: expected a number from 0 to 1"),
        ({"path": "a", "size": 100}, "access_log.size: expected 64KiB or more, found 100B"),
        ({"size": "1MiB"}, "access_log.size: needs path"),
        ({"path": "a", "keep": 3}, "access_log.keep: needs size"),
        ({"mask_query": [""]}, "found an empty string"),
        ({"rotate": True}, "access_log.rotate: unknown key"),
    ],
)
def test_wrong(written: Any, complaint: str) -> None:
    """A mistake in the log is told with its key, and with what would have been right."""
    with pytest.raises(ConfigurationErrors, match=complaint):
        read(written)
    with pytest.raises(ConfigurationErrors, match=complaint):
        read(None, top=written)


def test_one_file_is_rotated_one_way() -> None:
    """Two frontends with one file must agree on when it is rotated."""
    with pytest.raises(ConfigurationErrors, match=r"frontend.web.access_log.path: another access log has this file"):
        read({"path": "a", "size": "1MiB"}, top={"path": "a", "size": "2MiB"})
    assert read({"path": "a", "size": "1MiB", "format": "json"}, top={"path": "a", "size": "1MiB"}) is not None
