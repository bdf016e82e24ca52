"""Memory that all processes of one stickyproxy have in common: rates and counts of connections. Floor 3.

The parent makes it (``SharedMemory.create``) and gives each child the file descriptor at its start: a memfd, or a
temporary file without a name, so nothing is left behind whatever ends first. A child opens it with a slot that no
other living process has. Before a configuration is built anywhere, the parent ``provide``s its regions
(``regions_of``), at the start as at a reload; the children find them by their names, since the list of regions stands
in the memory itself. Whoever is gone has its slot ``clear``ed, and then given to its successor.

A region stays where it is as long as the configuration has it. One that it has no more is given back to the system, and
its place is not used again: who still serves by the former configuration may write there.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import tempfile
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

from stickyproxy.config.specs import Configuration, Frontend, Route
from stickyproxy.sansio import admission, ratelimit
from stickyproxy.sansio.admission import Admission, SharedAdmission
from stickyproxy.sansio.networks import Networks

#: What the first bytes say: the layout of this version.
_MAGIC = b"sticky\x00\x01"
_HEAD = struct.Struct("=8sQ")
#: Bytes for the list of regions, of which about 10,000 fit.
_LIST = 1 << 20
_SECRET = 32


class Region(NamedTuple):
    """A piece of memory with a name. ``each``: every process has one of this size for itself, which all can read."""

    name: str
    size: int
    each: bool


class Tallies(NamedTuple):
    """A region that each process has for itself: ours, and those of the others."""

    own: memoryview
    others: Sequence[memoryview]


class Memory(Protocol):
    """Where rates and counts are kept. ``secret`` keys the places in it."""

    @property
    def secret(self) -> bytes: ...

    def cells(self, region: Region) -> memoryview:
        """A region that all processes write."""

    def tallies(self, region: Region) -> Tallies | None:
        """A region that each process has for itself; None: there is only this one."""


class PrivateMemory:
    """That of a process without siblings."""

    def __init__(self) -> None:
        self.secret = os.urandom(_SECRET)
        self._cells: dict[Region, bytearray] = {}

    def cells(self, region: Region) -> memoryview:
        """Bytes of its own, the same for the same region."""
        return memoryview(self._cells.setdefault(region, bytearray(region.size)))

    def provide(self, regions: Collection[Region]) -> None:
        """Others are not needed any more."""
        self._cells = {region: cells for region, cells in self._cells.items() if region in regions}

    def tallies(self, region: Region) -> Tallies | None:
        """None: nobody else counts."""
        return None


class SharedMemory:
    """That of all processes that have ``fd`` open, each with a ``slot`` of its own."""

    def __init__(self, fd: int, slot: int) -> None:
        """Raises ``ValueError`` if ``fd`` is not what ``create`` of this version has made."""
        self.fd = fd
        self.slot = slot
        self._read()

    @classmethod
    def create(cls, slots: int) -> SharedMemory:
        """A new one, for its parent: ``slots`` children can be open at a time, with the slots from 0 on.

        The parent counts nothing itself. A child that drains counts as long as it lives: more slots than workers are
        wanted, and cost nothing.
        """
        fd = _nameless_file()
        os.ftruncate(fd, _LIST)
        _write_list(fd, {"secret": os.urandom(_SECRET).hex(), "slots": slots, "regions": {}})
        return cls(fd, 0)

    @property
    def secret(self) -> bytes:
        return bytes.fromhex(self._list["secret"])

    @property
    def slots(self) -> int:
        """For how many processes there is room."""
        return int(self._list["slots"])

    def provide(self, regions: Iterable[Region]) -> None:
        """These there are from now on, new ones full of zeros. Only the parent may, with what ``regions_of`` says."""
        had, have = self._list["regions"], {}
        for region in regions:
            size = _pages(region.size) * (self.slots if region.each else 1)
            known = had.get(region.name)
            if known is None or known[1:] != [size, region.each]:
                end = os.fstat(self.fd).st_size
                os.ftruncate(self.fd, end + size)
                known = [end, size, region.each]
            have[region.name] = known
        self._list["regions"] = have
        _write_list(self.fd, self._list)
        for offset, size, _ in (known for known in had.values() if known not in have.values()):
            self._zero(offset, size)

    def clear(self, slot: int) -> None:
        """What the process with this slot has counted is gone with it. Only the parent may, once it is dead."""
        for offset, size, each in self._list["regions"].values():
            if each:
                section = size // self.slots
                self._zero(offset + slot * section, section)

    def cells(self, region: Region) -> memoryview:
        """Raises ``KeyError`` where the parent has not provided it."""
        offset, size, _ = self._of(region)
        return memoryview(mmap.mmap(self.fd, size, offset=offset))[: region.size]

    def tallies(self, region: Region) -> Tallies:
        """Raises ``KeyError`` where the parent has not provided it."""
        offset, size, _ = self._of(region)
        section = size // self.slots
        whole = memoryview(mmap.mmap(self.fd, size, offset=offset))
        everyone = [whole[start : start + region.size] for start in range(0, size, section)]
        return Tallies(everyone[self.slot], [*everyone[: self.slot], *everyone[self.slot + 1 :]])

    def close(self) -> None:
        """What was given stays; nothing more is."""
        os.close(self.fd)

    def _of(self, region: Region) -> tuple[int, int, bool]:
        self._read()  # there may have been reloads since
        offset, size, each = self._list["regions"][region.name]
        return offset, size, each

    def _read(self) -> None:
        magic, length = _HEAD.unpack(os.pread(self.fd, _HEAD.size, 0).ljust(_HEAD.size, b"\0"))
        if magic != _MAGIC:
            raise ValueError("this is not the shared memory of this version of stickyproxy")
        self._list = json.loads(os.pread(self.fd, length, _HEAD.size))

    def _zero(self, offset: int, size: int) -> None:
        with mmap.mmap(self.fd, size, offset=offset) as piece:
            if hasattr(mmap, "MADV_REMOVE"):  # Linux: it takes no memory any more
                piece.madvise(mmap.MADV_REMOVE)
            else:
                piece[:] = bytes(size)


def regions_of(configuration: Configuration) -> list[Region]:
    """What the processes of this configuration have in common."""
    regions = []
    for frontend in configuration.frontends:
        if frontend.limits.connections is not None or frontend.limits.connections_per_address is not None:
            regions.append(connections_region(frontend))
        for place in (None, *frontend.routes):
            access = frontend.access if place is None else place.access
            if access is not None and access.rate is not None:
                regions.append(rate_region(frontend, place))
    return regions


def admission_of(frontend: Frontend, memory: Memory) -> Admission:
    """What counts the connections of ``frontend`` in ``memory``."""
    limits, exempt = frontend.limits, Networks(frontend.trusted_proxies)
    tallies = memory.tallies(connections_region(frontend))
    if tallies is None:
        return Admission(limits.connections, limits.connections_per_address, exempt)
    return SharedAdmission(limits.connections, limits.connections_per_address, exempt, *tallies, memory.secret)


def rate_region(frontend: Frontend, route: Route | None) -> Region:
    """For the ``access.rate`` of ``frontend``, or of one of its routes."""
    place = "" if route is None else f" {route.host or ''}{route.path}"
    return Region(f"rate {frontend.name}{place}", ratelimit.BYTES, False)


def connections_region(frontend: Frontend) -> Region:
    """For the connections of ``frontend``."""
    return Region(f"connections {frontend.name}", admission.BYTES, True)


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("stickyproxy")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _write_list(fd: int, regions: object) -> None:
    text = json.dumps(regions).encode()
    if len(text) > _LIST - _HEAD.size:
        raise ValueError("there are too many regions of shared memory")
    os.pwrite(fd, _HEAD.pack(_MAGIC, len(text)) + text, 0)


def _pages(size: int) -> int:
    return -(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
