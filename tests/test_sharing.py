"""Memory that several processes have in common: what one writes the others read, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stickyproxy.config import load
from stickyproxy.extensions import find_extensions
from stickyproxy.sansio.admission import CROWDED, SharedAdmission
from stickyproxy.sharing import PrivateMemory, Region, SharedMemory, admission_of, regions_of

RATE, CONNECTIONS = Region("rate web", 1 << 16, False), Region("connections web", 5000, True)

CONFIGURATION = """
[frontend.web]
listen = "tcp:0"
cluster = "app"
routes = [{ host = "example.org", path = "/login", cluster = "app", access = { rate = { requests = 5 } } }]
limits = { connections = 10, connections_per_address = 2 }
access = { rate = { requests = 100 } }
[frontend.plain]
listen = "tcp:0"
cluster = "app"
access = { deny = ["192.0.2.0/24"] }
[cluster.app]
backends = { a = "tcp:127.0.0.1:1" }
"""

CHILD = """
import sys
from stickyproxy.sansio.ratelimit import TokenBuckets
from stickyproxy.sharing import Region, SharedMemory
memory = SharedMemory(int(sys.argv[1]), int(sys.argv[2]))
buckets = TokenBuckets(10, 3600.0, 10, memory.cells(Region("rate web", 1 << 16, False)), memory.secret)
print(sum(buckets.take("192.0.2.1", 0.0) == 0 for _ in range(4)))
memory.tallies(Region("connections web", 5000, True)).own[:4] = b"here"
"""


@pytest.fixture
def memory() -> Iterator[SharedMemory]:
    """Of a parent, with a region of either kind."""
    made = SharedMemory.create(4)
    made.provide([RATE, CONNECTIONS])
    yield made
    made.close()


def test_processes_write_and_read_the_same(memory: SharedMemory) -> None:
    """Each of three processes, which know the descriptor alone, takes from the bucket what the others have left."""
    outputs = [
        subprocess.run(
            [sys.executable, "-c", CHILD, str(memory.fd), str(slot)],
            pass_fds=[memory.fd],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()
        for slot in (1, 2, 3)
    ]
    assert outputs == ["4", "4", "2"]
    tallies = memory.tallies(CONNECTIONS)
    assert [bytes(other[:4]) for other in tallies.others] == [b"here"] * 3
    assert not any(tallies.own) and len(tallies.own) == 5000


def test_a_process_that_died(memory: SharedMemory) -> None:
    """What it counted is zero again, for who looks at it all the time, too; the others' counts stay."""
    children = [SharedMemory(memory.fd, slot) for slot in (1, 2)]
    for child in children:
        child.tallies(CONNECTIONS).own[:] = b"\x01" * 5000
    seen = memory.tallies(CONNECTIONS).others
    memory.clear(1)
    assert [sum(bytes(other)) for other in seen] == [0, 5000, 0]


def test_a_reload(memory: SharedMemory) -> None:
    """What stays keeps its place and its content, what is new is there for those who look for it, and zero."""
    child = SharedMemory(memory.fd, 1)
    before = child.cells(RATE)
    before[:5] = b"debts"
    memory.provide([RATE, CONNECTIONS, Region("rate api", 4096, False)])
    assert bytes(child.cells(RATE)[:5]) == b"debts"
    fresh = child.cells(Region("rate api", 4096, False))
    assert not any(fresh) and len(fresh) == 4096
    memory.provide([CONNECTIONS])
    before[:5] = b"still"  # a frontend that drains
    with pytest.raises(KeyError):
        SharedMemory(memory.fd, 2).cells(RATE)
    memory.provide([RATE, CONNECTIONS])
    assert not any(SharedMemory(memory.fd, 2).cells(RATE))
    child.cells(RATE)[:5] = b"anew!"
    assert bytes(memory.cells(RATE)[:5]) == b"anew!" and bytes(before[:5]) == b"still"


def test_another_size_is_another_place(memory: SharedMemory) -> None:
    """A region that is larger than before begins with zeros; no byte of another one is in it."""
    memory.cells(RATE)[:5] = b"debts"
    larger = RATE._replace(size=1 << 17)
    memory.provide([larger, CONNECTIONS])
    assert not any(memory.cells(larger))


def test_nothing_is_left_behind() -> None:
    """The memory of many reloads is what the last configuration needs, and its file has no name."""
    memory = SharedMemory.create(2)
    for number in range(200):
        memory.provide([Region(f"rate {number}", 1 << 16, False)])
        memory.cells(Region(f"rate {number}", 1 << 16, False))[:] = b"x" * (1 << 16)
    if sys.platform == "linux":
        assert os.fstat(memory.fd).st_blocks * 512 < 1 << 18
    assert os.fstat(memory.fd).st_nlink == 0
    memory.close()


def test_not_ours(tmp_path: Path) -> None:
    """Another version's memory, or any other file, is refused."""
    path = tmp_path / "file"
    for content in (b"", b"x" * 100):
        path.write_bytes(content)
        with path.open("rb") as file, pytest.raises(ValueError, match="not the shared memory"):
            SharedMemory(file.fileno(), 0)


def test_too_many_regions() -> None:
    """The list of regions has an end, and says so."""
    memory = SharedMemory.create(1)
    with pytest.raises(ValueError, match="too many"):
        memory.provide(Region("x" * 1000 + str(number), 1, False) for number in range(2000))
    memory.close()


def test_what_a_configuration_shares(tmp_path: Path) -> None:
    """Every rate and every limit of connections has a region; who limits nothing shares nothing."""
    path = tmp_path / "proxy.toml"
    path.write_text(CONFIGURATION)
    configuration = load(path, find_extensions())
    regions = regions_of(configuration)
    assert [(region.name, region.each) for region in regions] == [
        ("connections web", True),
        ("rate web", False),
        ("rate web example.org/login", False),
    ]
    memory = SharedMemory.create(2)
    memory.provide(regions)
    web = configuration.frontends[0]
    rooms = [admission_of(web, SharedMemory(memory.fd, slot)) for slot in (0, 1)]
    assert [rooms[at].admit("192.0.2.1") for at in (0, 1, 0)] == [None, None, CROWDED]
    alone = admission_of(web, PrivateMemory())
    assert alone.admit("192.0.2.1") is None and not isinstance(alone, SharedAdmission)
    memory.close()
