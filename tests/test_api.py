"""A cluster without a configuration file."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.internet.testing import MemoryReactorClock

from stickyproxy.api import cluster_of
from stickyproxy.config import ConfigurationErrors
from stickyproxy.model import BackendState
from stickyproxy.sansio.balancing import RoundRobin
from stickyproxy.testing import make_arrival

BACKENDS = {"a": "tcp:127.0.0.1:9001", "b": {"endpoint": "tcp:127.0.0.1:9002", "weight": 2, "state": "drain"}}


def test_a_cluster_in_the_words_of_the_configuration() -> None:
    """What [cluster.NAME] takes, cluster_of takes, durations and tables included."""
    cluster = cluster_of(MemoryReactorClock(), BACKENDS, name="shop", affinity="cookie", timeouts={"connect": "2s"})
    assert (cluster.name, cluster.timeouts.connect, cluster.affinity.cookie) == ("shop", 2.0, b"SRV")
    assert (cluster.members["b"].weight, cluster.members["b"].state) == (2, BackendState.DRAIN)


def test_every_mistake_is_told() -> None:
    """All of them at once, where they are."""
    with pytest.raises(ConfigurationErrors) as raised:
        cluster_of(MemoryReactorClock(), {"a": "nonsense"}, balance="round-robbin", afinity="cookie")
    told = str(raised.value)
    for part in ("cluster.app.backends.a", "round-robin", "affinity"):
        assert part in told, told


def test_the_key_is_kept_where_i_say(tmp_path: Path) -> None:
    """With a directory, clients keep their backend when my program starts again; without one they need not."""
    arrival = make_arrival(1)

    def bound(**more: object) -> tuple[object, bytes]:
        cluster = cluster_of(MemoryReactorClock(), BACKENDS, affinity="cookie", **more)
        choice = cluster.select(arrival)
        assert choice is not None
        value = cluster.bind(arrival, choice)
        assert value is not None
        return cluster, value.partition(b";")[0]

    def recalled(cluster: object, cookie: bytes) -> str | None:
        assert arrival.head is not None
        head = arrival.head._replace(named={**arrival.head.named, b"cookie": [cookie]})
        return cluster.affinity.recall(arrival._replace(head=head))  # type: ignore[attr-defined, no-any-return]

    _, cookie = bound(directory=tmp_path)
    assert recalled(bound(directory=tmp_path)[0], cookie) == "a"
    assert recalled(bound()[0], cookie) is None
    assert recalled(bound(keys=["k" * 32])[0], bound(keys=["k" * 32])[1]) == "a"


def test_its_probes_are_a_service() -> None:
    """A cluster of my own is probed while the service runs that it has for that, whatever chooses in it."""
    reactor = MemoryReactorClock()
    cluster = cluster_of(reactor, BACKENDS, probe="tcp", balance=RoundRobin())
    assert cluster.probing is not None and not reactor.tcpClients
    cluster.probing.startService()
    reactor.advance(0.5)
    assert {port for _, port, *_ in reactor.tcpClients} == {9001, 9002}
    reactor.advance(3)
    assert cluster.health is not None and cluster.health.down == {"a", "b"}
    cluster.probing.stopService()
    assert cluster_of(reactor, BACKENDS).probing is None
