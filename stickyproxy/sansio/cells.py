"""Places for keys in a piece of memory that several processes may share. Floor 2, pure.

A set-associative table, as in a processor's cache: a key has a tag, and the tag a set of ``WAYS`` places, where it
stands or not. So a look-up costs the same however full the table is, nothing is ever sorted or moved, and there is no
lock: a place is two words of 8 bytes, each written by one aligned store, which no processor tears.

Tags are keyed with a secret (BLAKE2b, RFC 7693): nobody can choose addresses that fall into one set.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b

#: Places in a set.
WAYS = 8
#: Bytes of a place: its tag, and what is kept of it.
PLACE = 16


def tags(secret: bytes) -> Callable[[str], int]:
    """What gives the tag of a key, never 0. ``secret``: 64 bytes at most, the same in all processes."""
    keyed = blake2b(key=secret, digest_size=8).copy

    def tag(key: str) -> int:
        digest = keyed()
        digest.update(key.encode())
        return int.from_bytes(digest.digest(), "little") or 1

    return lru_cache(4096)(tag)


def halves(cells: memoryview) -> tuple[memoryview, memoryview, int]:
    """The tags in ``cells`` as words, the bytes behind them of as many words, and the number of sets."""
    sets = len(cells) // (PLACE * WAYS)
    if not sets:
        raise ValueError(f"a table of places needs {PLACE * WAYS} bytes, not {len(cells)}")
    half = sets * WAYS * PLACE // 2
    return cells[:half].cast("Q"), cells[half : 2 * half], sets
