"""The balancers that come with stickyproxy. Floor 3.

The parameters of the functions here, their types and defaults, are the options in the configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from stickyproxy.config.units import Count, Duration, KeyName, LoadFactor, Told
from stickyproxy.extensions import Extension
from stickyproxy.interfaces import IBalancer
from stickyproxy.sansio.balancing import (
    ConsistentHash,
    First,
    LeastConnections,
    LeastTime,
    RandomTwo,
    RoundRobin,
)
from stickyproxy.sansio.keys import find_key


def _consistent_hash(
    key: Annotated[
        KeyName,
        Told(
            "What is the same for the same client; those without it are served in turn. See [balancers](balancing.md).",
            "HAProxy `balance source`, `hdr()`, `url_param` …; nginx `hash KEY consistent`; Envoy `hash_policy`",
        ),
    ] = "source",
    load: Annotated[
        LoadFactor | None,
        Told(
            "How many times its share of what is open a backend takes, before its next ones are for another.",
            "HAProxy `hash-balance-factor`, Envoy `hash_balance_factor`",
        ),
    ] = None,
) -> ConsistentHash:
    """The same backend for the same key, by hashing alone. One that comes or goes moves its share of keys alone."""
    return ConsistentHash(find_key(key), load)


def _first(
    fill: Annotated[
        Count, Told("How many open requests and tunnels one takes for each of its weight.", "HAProxy `maxconn`")
    ],
) -> First:
    """The first backend that is not full, in the order of the configuration: the last ones may sleep."""
    return First(fill)


def _least_time(
    clock: Callable[[], float],
    window: Annotated[Duration, Told("How far back the average reaches, roughly.", "Finagle `decayTime`")] = 10.0,
) -> LeastTime:
    """The one that is likely to answer first, from how long answers took, what is open, and the weight."""
    return LeastTime(clock, window)


round_robin = Extension("round-robin", IBalancer, RoundRobin)
least_connections = Extension("least-connections", IBalancer, LeastConnections)
random_two = Extension("random-two", IBalancer, RandomTwo)
least_time = Extension("least-time", IBalancer, _least_time)
consistent_hash = Extension("consistent-hash", IBalancer, _consistent_hash)
first = Extension("first", IBalancer, _first)
