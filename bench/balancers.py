"""What a choice costs: ``python -m bench.balancers`` prints µs for each balancer and number of backends."""

from __future__ import annotations

import time
from random import Random
from timeit import repeat

from stickyproxy.conformance import MemoryCandidate, make_arrival
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

SIZES = (4, 16, 64)
ARRIVALS = [make_arrival(number) for number in range(100)]


def microseconds(balancer: IBalancer, size: int) -> float:
    """The best of many rounds, for backends of several weights that are busy."""
    random = Random(1)
    candidates = [MemoryCandidate(f"b{number}", 1 + number % 3, random.randrange(8)) for number in range(size)]
    if isinstance(balancer, LeastTime):
        for each in candidates:
            balancer.answered(each, random.random())

    def choices() -> None:
        for arrival in ARRIVALS:
            balancer.choose(candidates, arrival)

    return min(repeat(choices, number=1, repeat=100)) / len(ARRIVALS) * 1e6


def main() -> None:
    key = find_key("source")
    balancers: dict[str, IBalancer] = {
        "round-robin": RoundRobin(),
        "least-connections": LeastConnections(),
        "random-two": RandomTwo(Random(1)),
        "least-time": LeastTime(time.time, 10.0),
        "consistent-hash": ConsistentHash(key),
        "consistent-hash, load = 1.25": ConsistentHash(key, 1.25),
        "first": First(8),
    }
    print("| µs for a choice | " + " | ".join(f"{size} backends" for size in SIZES) + " |")
    print("|---|" + "---|" * len(SIZES))
    for name, balancer in balancers.items():
        print(f"| {name} | " + " | ".join(f"{microseconds(balancer, size):.1f}" for size in SIZES) + " |")


if __name__ == "__main__":
    main()
