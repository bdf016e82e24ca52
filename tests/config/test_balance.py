"""``balance`` in a configuration: every balancer with its options, made to work, and their mistakes."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from stickyproxy.config import ConfigurationErrors, load
from stickyproxy.conformance import MemoryCandidate, check_balancer, make_arrival
from stickyproxy.extensions import find_extensions, make
from stickyproxy.interfaces import IBalancer

TEXT = """
[frontend.web]
listen = "tcp:8080"
cluster = "app"
[cluster.app]
backends.a = "tcp:127.0.0.1:9001"
balance = {}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "proxy.toml"


def made(path: Path, balance: str) -> IBalancer:
    """The balancer of a cluster with this line."""
    path.write_text(TEXT.format(balance))
    named, extensions = load(path, find_extensions()).clusters[0].balance, find_extensions()
    balancer: IBalancer = make(
        extensions.of(IBalancer)[named.name], named.options, clock=lambda: 1000.0, random=Random(1), cluster="app"
    )
    return balancer


@pytest.mark.parametrize(
    "balance",
    [
        '"round-robin"',
        '"least-connections"',
        '"random-two"',
        '"least-time"',
        '{ by = "least-time", window = "30s" }',
        '"consistent-hash"',
        '{ by = "consistent-hash", key = "query:client", load = 2 }',
        '{ by = "consistent-hash", load = "unlimited" }',
        '{ by = "first", fill = 10 }',
    ],
)
def test_every_balancer(path: Path, balance: str) -> None:
    """A balancer is named in the configuration, with its options, and works as such."""
    check_balancer(lambda: made(path, balance), weighted=False)


def test_a_key(path: Path) -> None:
    """The key of a configuration is what clients are told apart by: here a parameter, whatever their address."""
    balancer = made(path, '{ by = "consistent-hash", key = "query:client" }')
    candidates = [MemoryCandidate(id) for id in "abc"]
    homes = [balancer.choose(candidates, make_arrival(number)).id for number in range(90)]
    moved = [make_arrival(number)._replace(client="203.0.113.9") for number in range(90)]
    assert [balancer.choose(candidates, arrival).id for arrival in moved] == homes
    assert min(Counter(homes).values()) > 15


@pytest.mark.parametrize(
    ("balance", "message"),
    [
        ('"consistent_hash"', 'cluster.app.balance: unknown name "consistent_hash"; did you mean "consistent-hash"?'),
        (
            '{ by = "consistent-hash", key = "headr:X" }',
            'cluster.app.balance.key: there is no key "headr"; did you mean "header"?',
        ),
        (
            '{ by = "consistent-hash", load = 1 }',
            'cluster.app.balance.load: expected a number above 1, such as 1.25 or "unlimited", found 1',
        ),
        ('{ by = "consistent-hash", load = "1" }', "cluster.app.balance.load: expected a number above 1"),
        ('{ by = "consistent-hash", load = nan }', "cluster.app.balance.load: expected a number above 1"),
        ('{ by = "consistent-hash", load = inf }', "cluster.app.balance.load: expected a number above 1"),
        ('{ by = "consistent-hash", load = true }', "cluster.app.balance.load: expected a number above 1"),
        ('"first"', "cluster.app.balance.fill: required: a whole number, 1 or more"),
        ('{ by = "least-time", window = "0s" }', "cluster.app.balance.window: expected a duration longer than nothing"),
    ],
)
def test_mistakes(path: Path, balance: str, message: str) -> None:
    """A mistake in the options names the key, and what is expected."""
    path.write_text(TEXT.format(balance))
    with pytest.raises(ConfigurationErrors, match=re.escape(message)):
        load(path, find_extensions())
