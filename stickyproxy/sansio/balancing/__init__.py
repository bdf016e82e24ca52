"""The balancers: which backend an unbound client gets. Each provides ``interfaces.IBalancer``. Floor 2, pure."""

from stickyproxy.sansio.balancing.consistent_hash import ConsistentHash
from stickyproxy.sansio.balancing.first import First
from stickyproxy.sansio.balancing.least_connections import LeastConnections
from stickyproxy.sansio.balancing.least_time import LeastTime
from stickyproxy.sansio.balancing.random_two import RandomTwo
from stickyproxy.sansio.balancing.round_robin import RoundRobin

__all__ = ["ConsistentHash", "First", "LeastConnections", "LeastTime", "RandomTwo", "RoundRobin"]
