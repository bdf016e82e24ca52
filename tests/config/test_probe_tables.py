"""``[cluster.NAME.probe]``, ``eject`` and ``when_all_down``: what they mean, and every mistake in them."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from stickyproxy.config.health import Eject
from stickyproxy.config.mistakes import ConfigurationErrors
from stickyproxy.config.reading import from_tables
from stickyproxy.config.specs import Cluster
from stickyproxy.extensions import find_extensions

BASE = """
[frontend.web]
listen = "tcp:8080"
cluster = "app"
[cluster.app]
backends.a = "tcp:127.0.0.1:9001"
"""


def cluster(toml: str) -> Cluster:
    (found,) = from_tables(tomllib.loads(BASE + toml), find_extensions()).clusters
    return found


def mistakes(toml: str) -> str:
    with pytest.raises(ConfigurationErrors) as caught:
        cluster(toml)
    return str(caught.value)


def test_nobody_probes() -> None:
    """Without the tables there is nothing of it."""
    assert (cluster("").probe, cluster("").eject) == (None, None)


@pytest.mark.parametrize(
    ("toml", "name", "options"),
    [
        ('probe = "tcp"', "tcp", {}),
        ('probe = "http:/healthz"', "http", {"path": "/healthz"}),
        ('probe = { by = "http", path = "/", expect = 204 }', "http", {"path": "/", "expect": ((204, 204),)}),
        (
            'probe = { by = "http", path = "/", expect = "200-299, 404" }',
            "http",
            {"path": "/", "expect": ((200, 299), (404, 404))},
        ),
        ('probe = { by = "websocket", path = "/ws", ping = true }', "websocket", {"path": "/ws", "ping": True}),
    ],
)
def test_probes(toml: str, name: str, options: dict[str, Any]) -> None:
    """By name, in short, or as a table."""
    probe = cluster(toml).probe
    assert probe is not None
    assert (probe.name, probe.options) == (name, options)
    assert (probe.interval, probe.interval_down, probe.timeout, probe.rise, probe.fall) == (2.0, None, None, 2, 3)


def test_numbers() -> None:
    """How often, how long and how many are beside the options."""
    probe = cluster('probe = { by = "tcp", interval = "500ms", timeout = "1s", rise = 1, fall = 5, jitter = 0 }').probe
    assert probe is not None
    assert (probe.interval, probe.timeout, probe.rise, probe.fall, probe.jitter) == (0.5, 1.0, 1, 5, 0)
    eject = cluster('eject = { failures = 3, time = "1m" }').eject
    assert eject == Eject(3, 60.0) and cluster("eject = {}").eject == Eject()


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('probe = "htp"', 'probe: unknown name "htp"'),
        ('probe = "http"', "probe.path: required"),
        ('probe = { by = "http", path = "healthz" }', 'begins with "/"'),
        ('probe = { by = "http", path = "/a b" }', 'begins with "/"'),
        ('probe = { by = "http", path = "/", host = "a\\r\\nb" }', "a host name"),
        ('probe = { by = "http", path = "/", method = "POST" }', 'expected "GET", "HEAD" or "OPTIONS"'),
        ('probe = { by = "http", path = "/", expect = "2xx" }', "status codes such as"),
        ('probe = { by = "http", path = "/", expect = "299-200" }', "status codes such as"),
        ('probe = { by = "http", path = "/", body = "(a+)+b" }', "may take for ever"),
        ('probe = { by = "http", path = "/", body = 1 }', "expected a regular expression, found a number"),
        ('probe = { by = "websocket", path = "/", protocol = "a, b" }', "the name of a subprotocol"),
        ('probe = { by = "websocket", path = "/", origin = "a b" }', "an origin"),
        ('probe = { by = "tcp", path = "/" }', 'unknown option of "tcp"'),
        ('probe = { by = "tcp", jitter = 0.7 }', "expected a number from 0 to 0.5"),
        ('probe = { by = "tcp", jitter = "10%" }', "expected a number from 0 to 0.5"),
        ('probe = { by = "tcp", rise = 0 }', "1 or more"),
        ("eject = { max_share = 2 }", "expected a number from 0.01 to 1"),
        ("eject = true", "expected a table"),
        ('when_all_down = "fail"', "needs probe or eject"),
        ("eject = { window = '5s' }", "eject.window: needs failure_rate"),
        ("eject = { failure_rate = 2 }", "expected a number from 0.01 to 1"),
        ("queue = { size = 5 }", "queue: needs max_connections"),
        ("max_connections = 0", "1 or more"),
        ('use_backups = "full"', "needs a backend with backup = true"),
        ("retry_budget = -1", "expected a number from 0 to 10"),
        ("slow_start = 30", "expected a duration"),
        ('eject = {}\nwhen_all_down = "panic"', 'expected "try" or "fail"'),
    ],
)
def test_mistakes(toml: str, message: str) -> None:
    """Each is told with what is expected."""
    assert message in mistakes(toml)
