"""Tokens: what the affinity cookie says, for nobody but us to read or write. Floor 2, pure.

A token is 33 bytes, 44 characters of base64url (RFC 4648 section 5; no padding is needed)::

    version (1)  key id (4)  issued, seconds since the epoch (4)  tag of the backend (8)  MAC (16)

Everything is HMAC-SHA256 (RFC 2104), cut off, under a key of its own for every cluster and cookie name, so that a token
of one cluster means nothing to another. The tag depends on the id of the backend alone: not on its address, nor on its
place in the configuration, and it reveals none of them.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from stickyproxy.model import GONE, Arrival

#: Bytes of a key: as many as the hash gives (RFC 2104 section 3).
KEY_SIZE = 32
#: Characters of a token.
TOKEN_SIZE = 44
#: Of those of other versions (``sealed``): signed, and encrypted.
SEALED_SIZES = (52, 64)

_VERSION = b"\x01"
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_FILE_OPENING = "# Keys of stickyproxy, base64url, one a line: the first signs, all verify. Keep this file secret.\n"


def looks_like_token(text: bytes) -> bool:
    """Whether ``text`` has the form of a token of any version; who wrote it is another question."""
    return (len(text) == TOKEN_SIZE or len(text) in SEALED_SIZES) and not text.translate(None, _ALPHABET)


def mac(key: bytes, what: bytes, *parts: bytes) -> bytes:
    """The HMAC of ``parts`` for one purpose; the lengths are part of it, so that no two lists look alike."""
    return hmac.digest(key, what + b"".join(len(part).to_bytes(4, "big") + part for part in parts), "sha256")


class KeyRing:
    """The secret keys, each of 16 bytes or more: the first signs, all verify. Its repr shows none of them."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("a key ring needs a key")
        if any(len(key) < 16 for key in keys):
            raise ValueError(f"a key is shorter than 16 bytes; {KEY_SIZE} random bytes are right")
        self._keys = tuple(dict.fromkeys(keys))

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._keys)}>"

    def scoped(self, *scope: bytes) -> list[tuple[bytes, bytes]]:
        """For each key its id (4 bytes, telling nothing) and the key to use for ``scope``, in order."""
        return [(mac(key, b"stickyproxy key id")[:4], mac(key, b"stickyproxy scope", *scope)) for key in self._keys]


class Token(NamedTuple):
    """What a genuine token says. ``backend`` is ``GONE`` if it is not in the cluster any more."""

    backend: str
    issued: int  #: seconds since the epoch
    newest: bool  #: signed with the key that signs now


class _Key(NamedTuple):
    id: bytes
    secret: bytes
    tags: dict[bytes, str]


class Scheme(Protocol):
    """What the tokens of one cluster and cookie name are like. Nothing of it raises, whatever was sent."""

    renews: bool  #: a token may have to be replaced by one that says the same

    def members(self, ids: Iterable[str]) -> None:
        """The backends have these ids from now on."""

    def recall(self, token: bytes, arrival: Arrival) -> str | None:
        """The backend that ``token`` names (``GONE``: one of former times), or None if it is not good here."""

    def is_current(self, token: bytes, backend_id: str, arrival: Arrival) -> bool:
        """Whether ``token`` is good for ``backend_id``, and need not be replaced."""

    def issue(
        self, backend_id: str, now: float, arrival: Arrival, former: bytes | None, lifetime: float | None
    ) -> bytes:
        """A token for a backend. ``now`` is in seconds since the epoch, ``lifetime`` in seconds, None: as configured.

        ``former`` is what the client came with, if anything.
        """


class Tokens:
    """Tokens that are good for ever and everywhere (a ``Scheme``): issues them, and knows again those that it has seen.

    What was verified with the newest key is remembered, at most ``2 * capacity`` tokens: two tables, of which the older
    is dropped when the younger is full. A forged token is never remembered.
    """

    def __init__(self, key_ring: KeyRing, cluster: str, cookie: bytes, capacity: int = 50_000) -> None:
        self.renews = len(key_ring) > 1
        self._keys = [_Key(id, key, {}) for id, key in key_ring.scoped(cluster.encode(), cookie)]
        self._capacity = capacity
        self._young: dict[bytes, str] = {}
        self._old: dict[bytes, str] = {}
        self._issued: dict[str, tuple[int, bytes]] = {}

    def __len__(self) -> int:
        """How many verified tokens are remembered."""
        return len(self._young) + len(self._old)

    def members(self, ids: Iterable[str]) -> None:
        """The backends have these ids from now on; tokens of others are genuine still, but ``GONE``."""
        names = frozenset(ids)
        for key in self._keys:
            if any(id not in names for id in key.tags.values()):
                self._young, self._old = {}, {}
            known = {id: tag for tag, id in key.tags.items()}
            key.tags.clear()
            key.tags.update((known.get(id) or tag_of(key.secret, id), id) for id in names)
        self._issued = {id: issued for id, issued in self._issued.items() if id in names}

    def recall(self, token: bytes, arrival: Arrival | None = None) -> str | None:
        """The backend that ``token`` names (``GONE``: one of former times), or None if it is not ours."""
        known = self._young.get(token)
        if known is not None:
            return known
        known = self._old.get(token)
        if known is not None:
            self._remember(token, known)
            return known
        said = self.read(token)
        if said is None:
            return None
        if said.newest and said.backend != GONE:
            self._remember(token, said.backend)
        return said.backend

    def is_current(self, token: bytes, backend_id: str, arrival: Arrival | None = None) -> bool:
        """Whether ``token`` says just what ``issue(backend_id, ...)`` would say now, but for the time."""
        if self._young.get(token) == backend_id:
            return True
        said = self.read(token)
        return said is not None and said.newest and said.backend == backend_id

    def read(self, token: bytes) -> Token | None:
        """What ``token`` says; None if it is not a genuine one. It never raises."""
        if len(token) != TOKEN_SIZE or token.translate(None, _ALPHABET):
            return None
        raw = binascii.a2b_base64(token.translate(_TO_STANDARD))
        if raw[:1] != _VERSION:
            return None
        for place, key in enumerate(self._keys):
            if raw[1:5] == key.id and hmac.compare_digest(raw[17:], mac(key.secret, b"token", raw[:17])[:16]):
                return Token(key.tags.get(raw[9:17], GONE), int.from_bytes(raw[5:9], "big"), place == 0)
        return None

    def issue(
        self,
        backend_id: str,
        now: float,
        arrival: Arrival | None = None,
        former: bytes | None = None,
        lifetime: float | None = None,
    ) -> bytes:
        """A token for a backend; ``now`` is in seconds since the epoch. Within a second it is the same one for all."""
        second = int(now) & 0xFFFFFFFF
        issued = self._issued.get(backend_id)
        if issued is not None and issued[0] == second:
            return issued[1]
        key = self._keys[0]
        said = _VERSION + key.id + second.to_bytes(4, "big") + tag_of(key.secret, backend_id)
        token = base64.urlsafe_b64encode(said + mac(key.secret, b"token", said)[:16])
        if backend_id in key.tags.values():
            self._issued[backend_id] = second, token
            self._remember(token, backend_id)
        return token

    def _remember(self, token: bytes, backend_id: str) -> None:
        if len(self._young) >= self._capacity:
            self._old, self._young = self._young, {}
        self._young[token] = backend_id


def tag_of(secret: bytes, backend_id: str) -> bytes:
    """What stands for a backend in a token (8 bytes)."""
    return mac(secret, b"backend", backend_id.encode())[:8]


def generate_key(random_bytes: Callable[[int], bytes]) -> bytes:
    """A new key; ``random_bytes(n)`` gives n bytes fit for secrets, as ``os.urandom`` does."""
    return random_bytes(KEY_SIZE)


def format_key_file(keys: Sequence[bytes]) -> str:
    """The text of a key file."""
    return _FILE_OPENING + "".join(base64.urlsafe_b64encode(key).decode() + "\n" for key in keys)


def parse_key_file(text: str) -> tuple[bytes, ...]:
    """The keys of a key file, in order. A ValueError names the line that is wrong, but never quotes it."""
    keys = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            try:
                key = base64.b64decode(line, altchars=b"-_", validate=True)
            except ValueError:
                key = b""
            if len(key) < 16:
                raise ValueError(f"line {number}: expected a key, 16 bytes or more in base64url")
            keys.append(key)
    if not keys:
        raise ValueError("no key in it")
    return tuple(keys)
