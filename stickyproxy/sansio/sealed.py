"""Tokens that end by themselves, are good for one client, or are encrypted. Floor 2, pure.

Beside what the tokens of ``tokens`` say they say when they were renewed, and until when they are good. Version 2 is 39
bytes, 52 characters, signed by HMAC-SHA256 as version 1 is::

    version (1)  key id (4)  renewed (4)  until (4)  tag of the backend (8)  MAC (18)

Version 3 is 48 bytes, 64 characters, and encrypted by AES-SIV (RFC 5297), which is authentic as well::

    version (1)  key id (4)  nonce (11)  synthetic IV (16)  renewed, until and tag, encrypted (16)

So no two tokens look alike, and none tells which others are for the same backend. The nonce need not be a secret nor
unpredictable: AES-SIV keeps its promises when one comes twice, but for showing that what was encrypted is the same.
Both are authenticated together with the place that they are bound to, where they are bound to one.

Tokens of version 1 are good here as well, and replaced, but not where tokens are bound to a place.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from math import ceil
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from stickyproxy.model import GONE, Arrival
from stickyproxy.sansio.keys import find_key
from stickyproxy.sansio.tokens import TOKEN_SIZE, KeyRing, Tokens, looks_like_token, mac, tag_of

#: What part of its idle time a token may have before it is renewed: renewing costs a Set-Cookie.
RENEWED = 1 / 8
#: When a token ends that does not.
NEVER = 0xFFFFFFFF
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_SIGNED, _ENCRYPTED = b"\x02", b"\x03"
_SIGNED_SIZE, _ENCRYPTED_SIZE = 39, 48
_NONCE = 11

#: What an arrival has in common with those of the same place: one byte or more.
PlaceOf = Callable[[Arrival], bytes]
_network_of = find_key("source/24/56")


def _network(arrival: Arrival) -> bytes:
    return b"address" + (_network_of(arrival) or b"")


def _tls_state(arrival: Arrival) -> bytes:
    certificate = arrival.connection.certificate if arrival.connection is not None else None
    return b"tls" + (certificate or b"") if arrival.secure else b"plain"


#: What a token may be bound to.
PLACES: Mapping[str, PlaceOf] = {"address": _network, "tls": _tls_state}


class Said(NamedTuple):
    """What a genuine token says; times are in seconds since the epoch."""

    backend: str
    renewed: int
    until: int
    as_now: bool  #: it has the newest key, and the version that is issued now


class _Key(NamedTuple):
    id: bytes
    secret: bytes
    tags: dict[bytes, str]
    cipher: AESSIV


class SealedTokens:
    """A ``tokens.Scheme``. ``clock()`` gives seconds since the epoch; the three durations are in seconds.

    A token that was not renewed for ``idle``, and an eighth of it, or for ``max_age``, is as if absent; so is one that
    was first issued ``lifetime`` ago. It is renewed by ``issue``; ``is_current`` says when. ``place_of`` says what it
    is bound to. ``random_bytes(n)`` gives nonces, with it tokens are encrypted.
    """

    renews = True

    def __init__(
        self,
        key_ring: KeyRing,
        cluster: str,
        cookie: bytes,
        clock: Callable[[], float],
        *,
        idle: float | None = None,
        lifetime: float | None = None,
        max_age: float | None = None,
        place_of: PlaceOf | None = None,
        random_bytes: Callable[[int], bytes] | None = None,
        capacity: int = 50_000,
    ) -> None:
        self._keys = [_Key(id, key, {}, _cipher(key)) for id, key in key_ring.scoped(cluster.encode(), cookie)]
        self._former = Tokens(key_ring, cluster, cookie, capacity=1) if place_of is None else None
        self._clock = clock
        self._lifetime = lifetime
        slack = idle * RENEWED if idle is not None else NEVER
        self._renew_after = slack
        self._longest = min(idle + slack if idle is not None else NEVER, max_age or NEVER)
        self._place_of = place_of
        self._random_bytes = random_bytes
        self._said = lru_cache(maxsize=capacity)(self._read)  # what raises is not remembered: no forged token is

    def __len__(self) -> int:
        """How many verified tokens are remembered."""
        return self._said.cache_info().currsize

    def members(self, ids: Iterable[str]) -> None:
        names = frozenset(ids)
        for key in self._keys:
            key.tags.clear()
            key.tags.update((tag_of(key.secret, id), id) for id in names)
        if self._former is not None:
            self._former.members(names)
        self._said.cache_clear()

    def read(self, token: bytes, arrival: Arrival) -> Said | None:
        """What ``token`` says, though its time may be over; None if it is not genuine, or not for this place."""
        try:
            return self._said(token, self._place(arrival))
        except ValueError:
            return None

    def recall(self, token: bytes, arrival: Arrival) -> str | None:
        said = self._good(token, arrival)
        return None if said is None else said.backend

    def is_current(self, token: bytes, backend_id: str, arrival: Arrival) -> bool:
        said = self._good(token, arrival)
        if said is None or said.backend != backend_id or not said.as_now:
            return False
        return self._clock() - said.renewed <= self._renew_after

    def issue(
        self, backend_id: str, now: float, arrival: Arrival, former: bytes | None, lifetime: float | None
    ) -> bytes:
        said = self._good(former, arrival) if former is not None else None
        until = float(NEVER)
        if lifetime is not None:
            until = now + lifetime
        elif said is not None:
            until = said.until
        elif self._lifetime is not None:
            until = now + self._lifetime
        key = self._keys[0]
        told = b"".join(
            (int(now).to_bytes(4, "big"), min(ceil(until), NEVER).to_bytes(4, "big"), tag_of(key.secret, backend_id))
        )
        return base64.urlsafe_b64encode(self._seal(key, told, self._place(arrival)))

    def _place(self, arrival: Arrival) -> bytes:
        return b"" if self._place_of is None else self._place_of(arrival)

    def _good(self, token: bytes, arrival: Arrival) -> Said | None:
        """What ``token`` says, if it is genuine, for this place and neither idle nor over."""
        try:
            said = self._said(token, b"" if self._place_of is None else self._place_of(arrival))
        except ValueError:
            return None
        now = self._clock()
        return said if now < said.until and now - said.renewed <= self._longest else None

    def _read(self, token: bytes, place: bytes) -> Said:
        """What ``token`` says; ValueError if it is not genuine."""
        if not looks_like_token(token):
            raise ValueError
        if len(token) == TOKEN_SIZE:
            return self._read_former(token)
        raw = binascii.a2b_base64(token.translate(_TO_STANDARD))
        for position, key in enumerate(self._keys):
            if raw[1:5] == key.id:
                told = _open(key, raw, place)
                as_now = position == 0 and (raw[:1] == _ENCRYPTED) is (self._random_bytes is not None)
                backend = key.tags.get(told[8:], GONE)
                return Said(backend, int.from_bytes(told[:4], "big"), int.from_bytes(told[4:8], "big"), as_now)
        raise ValueError

    def _read_former(self, token: bytes) -> Said:
        said = self._former.read(token) if self._former is not None else None
        if said is None:
            raise ValueError
        until = NEVER if self._lifetime is None else min(NEVER, said.issued + ceil(self._lifetime))
        return Said(said.backend, said.issued, until, False)

    def _seal(self, key: _Key, told: bytes, place: bytes) -> bytes:
        if self._random_bytes is None:
            signed = _SIGNED + key.id + told
            return signed + mac(key.secret, b"sealed token", signed, place)[:18]
        opening = _ENCRYPTED + key.id + self._random_bytes(_NONCE)
        return opening + key.cipher.encrypt(told, [opening + place])


def _open(key: _Key, raw: bytes, place: bytes) -> bytes:
    """What ``raw`` tells, 16 bytes; ValueError if it was not sealed with ``key`` for ``place``."""
    version = raw[:1]
    if version == _SIGNED and len(raw) == _SIGNED_SIZE:
        signed = raw[:21]
        if hmac.compare_digest(raw[21:], mac(key.secret, b"sealed token", signed, place)[:18]):
            return raw[5:21]
    elif version == _ENCRYPTED and len(raw) == _ENCRYPTED_SIZE:
        with suppress(InvalidTag):
            return key.cipher.decrypt(raw[16:], [raw[:16] + place])
    raise ValueError


def _cipher(secret: bytes) -> AESSIV:
    """With a key of 64 bytes: AES-256 (RFC 5297 section 2.2)."""
    return AESSIV(mac(secret, b"AES-SIV, first half") + mac(secret, b"AES-SIV, second half"))
