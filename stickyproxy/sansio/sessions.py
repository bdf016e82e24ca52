"""Sessions: which backend serves whom, in memory, known under one key or several. Floor 2, pure.

A million sessions are to cost little memory and no pause of the garbage collector: the table is a dict from a key to a
number, and arrays that hold all else under that number. Who was not seen for longest goes first, when there are more
sessions or bytes than allowed.
"""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from zope.interface import implementer

from stickyproxy.interfaces import ISessionStore

#: Keys of one session; the oldest is given up for another.
KEYS = 8
#: Bytes of a session beside those of its keys: the arrays, and 1.5 places in the dict with its number.
_SESSION = 8 + 8 + 8 + 4 + 4 + 4 + 8 + 32
#: Bytes of a key beside its characters: a bytes object, and its place in the dict.
_KEY = 33 + 15 + 80
_NEVER = float("inf")
_NOBODY = -1  # the backend of a session that is being made
#: ``lifetime`` and ``until`` of a session that an operator has pinned: it stays where it is, used or not.
PINNED = 1e300
_HEAD = 0  # the number that no session has: the ends of the list meet there


class Session(NamedTuple):
    """A session as it is told to others. ``seen`` and ``until`` are in seconds of the table's clock."""

    keys: tuple[bytes, ...]
    backend: str
    seen: float
    until: float  #: infinite, if it ends by idleness alone


class Listed(NamedTuple):
    """A session among others. Times are in seconds of the table's clock."""

    keys: tuple[bytes, ...]
    backend: str
    since: float  #: when it was bound to that, as far as this table knows
    seen: float
    until: float


@implementer(ISessionStore)
class SessionTable:
    """At most ``size`` sessions in about ``memory`` bytes; one that is idle, or older than ``lifetime``, is forgotten.

    ``clock()`` gives seconds. ``idle`` and ``lifetime`` are in seconds, None: without end.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        idle: float | None = 1800.0,
        lifetime: float | None = None,
        size: int = 100_000,
        memory: int = 64 * 1024 * 1024,
    ) -> None:
        self._clock = clock
        self.configure(idle=idle, lifetime=lifetime, size=size, memory=memory)
        self._bytes = 0
        self._count = 0
        self._numbers: dict[bytes, int] = {}
        self._keys: list[bytes | tuple[bytes, ...] | None] = [None]
        self._ids: list[str] = []
        self._held: list[int] = []  # how many sessions each of them has
        self._backends = array("i", [_NOBODY])
        self._since = array("d", [0.0])
        self._seen = array("d", [0.0])
        self._until = array("d", [_NEVER])
        self._ends = _NEVER  # no session ends before, however much it is used: mostly that is all to be looked at
        self._next = array("i", [_HEAD])  # towards those that were seen longer ago
        self._before = array("i", [_HEAD])
        self._free: list[int] = []

    def configure(self, *, idle: float | None, lifetime: float | None, size: int, memory: int) -> None:
        """What holds from now on; sessions that there are keep the lifetime that they have been given."""
        self._idle = _NEVER if idle is None else idle
        self._lifetime = _NEVER if lifetime is None else lifetime
        self._size = size
        self._limit = memory

    def __len__(self) -> int:
        """How many sessions there are, those included that are idle too long and were not looked for."""
        return self._count

    @property
    def memory(self) -> int:
        """Bytes that the sessions take, nearly."""
        return self._bytes

    def find(self, key: bytes) -> str | Awaitable[str | None] | None:
        """The backend of the session with this key, which is seen by that."""
        number = self._numbers.get(key)
        if number is None:
            return self._missing(key)
        now = self._clock()
        seen = self._seen
        if now - seen[number] > self._idle or (now >= self._ends and now >= self._until[number]):  # noqa: SIM102 (rare)
            if self._until[number] != PINNED:
                self._drop(number)
                return self._missing(key)
        seen[number] = now
        following = self._next
        first = following[_HEAD]
        if first != number:  # to the front: both methods in one, since this is the way of every look-up
            before = self._before
            after, ahead = following[number], before[number]
            following[ahead], before[after] = after, ahead
            following[number], before[number] = first, _HEAD
            following[_HEAD] = before[first] = number
        return self._ids[self._backends[number]]

    def bind(self, keys: Sequence[bytes], backend_id: str, lifetime: float | None = None) -> None:
        """The session with any of ``keys``, else a new one, is served by ``backend_id`` and has all of them."""
        if not keys:
            return
        now = self._clock()
        number = next((known for key in keys if (known := self._number(key, now)) != _HEAD), _HEAD)
        if number == _HEAD:
            number = self._new(now)
        elif self._is_all_known(number, keys, backend_id) and lifetime is None:
            self.find(keys[0])
            return
        else:
            self._unlink(number)
            if self._until[number] == PINNED and lifetime != PINNED:
                backend_id, lifetime = self._ids[self._backends[number]], PINNED
        self._give_to(number, backend_id, now)
        self._seen[number] = now
        if lifetime is not None:
            self._until[number] = until = now + lifetime
            self._ends = min(self._ends, until)
        self._link(number)
        self._give(number, keys)
        self._make_room(now)

    def forget(self, key: bytes) -> None:
        """The session with this key ends, with all its keys."""
        number = self._numbers.get(key)
        if number is not None:
            self._drop(number)

    def sessions(self) -> Iterator[Session]:
        """All of them, the last seen first."""
        number = self._next[_HEAD]
        while number != _HEAD:
            yield self._session(number)
            number = self._next[number]

    def all_keys(self) -> list[bytes]:
        """All keys of all of them, those of a session not beside each other."""
        return list(self._numbers)

    def session(self, key: bytes) -> Session | None:
        """The session with this key, which is not seen by that."""
        number = self._numbers.get(key)
        return None if number is None else self._session(number)

    def counts(self) -> dict[str, int]:
        """How many sessions each backend has, without those that are over and were not looked for."""
        counts = dict.fromkeys(self._ids, 0)
        now, number = self._clock(), self._next[_HEAD]
        while number != _HEAD:
            if not self._is_over(number, now):
                counts[self._ids[self._backends[number]]] += 1
            number = self._next[number]
        return counts

    def held(self) -> dict[str, int]:
        """As ``counts``, at once, however many there are: with some of those that are over and were not looked for."""
        now, oldest = self._clock(), self._before
        for _ in range(1000):
            if oldest[_HEAD] == _HEAD or not self._is_over(oldest[_HEAD], now):
                break
            self._drop(oldest[_HEAD])
        return dict(zip(self._ids, self._held, strict=True))

    def page(self, below: int | None, count: int, of: str | None = None) -> tuple[list[tuple[int, Listed]], int]:
        """Those in ``count`` places below one (None: in the last), each with its own, and the lowest of these places.

        A session keeps its place, whatever becomes of others; it is 1 or more. ``of``: a backend, if not of all.
        """
        at = None if of is None else self._ids.index(of) if of in self._ids else _NOBODY
        served, now = self._backends, self._clock()
        end = len(served) if below is None else min(below, len(served))
        places = (n for n in range(end - 1, max(0, end - count - 1), -1) if served[n] != _NOBODY)
        found = [(n, self.listed(n)) for n in places if at in (None, served[n]) and not self._is_over(n, now)]
        return found, max(1, end - count)

    def listed(self, number: int) -> Listed:
        backend = self._ids[self._backends[number]]
        return Listed(self._keys_of(number), backend, self._since[number], self._seen[number], self._until[number])

    def look_up(self, key: bytes) -> Listed | None:
        """The session with this key, which is not seen by that."""
        number = self._numbers.get(key)
        return self.listed(number) if number is not None and not self._is_over(number, self._clock()) else None

    # As others tell it.

    def restore(self, session: Session) -> None:
        """It was known elsewhere, by the same clock, and is here: with these keys and no others, which no other has.

        Give those first that were seen first.
        """
        keys, backend_id, seen, until = session
        number = self._numbers.get(keys[0], _HEAD)
        if number == _HEAD:
            number = self._new(seen)
            self._seen[number] = seen
        else:
            self._unlink(number)
            self._seen[number] = max(seen, self._seen[number])
            for key in self._keys_of(number):
                if key not in keys:
                    self._forget_key(key)
            self._set_keys(number, keys[:1])
        self._give_to(number, backend_id, seen)
        self._until[number] = until
        self._ends = min(self._ends, until)
        self._link(number)
        self._give(number, keys)
        self._make_room(self._clock())

    def take_away(self, keys: Iterable[bytes]) -> None:
        """No session has these keys."""
        for key in keys:
            number = self._numbers.get(key)
            if number is not None:
                self._drop_key(number, key)

    def see(self, key: bytes, seen: float) -> bool:
        """The session with ``key`` was seen then, somewhere; whether that is news."""
        number = self._numbers.get(key)
        if number is None or seen <= self._seen[number]:
            return False
        self._seen[number] = seen
        self._unlink(number)
        self._link(number)
        return True

    # Sessions.

    def _missing(self, key: bytes) -> Awaitable[str | None] | None:
        """What ``find`` says where there is none."""
        return None

    def _session(self, number: int) -> Session:
        keys, backend, _, seen, until = self.listed(number)
        return Session(keys, backend, seen, until)

    def _reach(self, keys: Iterable[bytes]) -> tuple[bytes, ...]:
        """All keys of the sessions that have any of ``keys``, and those that none has."""
        reached: dict[bytes, None] = {}
        for key in keys:
            number = self._numbers.get(key)
            reached.update(dict.fromkeys((key,) if number is None else self._keys_of(number)))
        return tuple(reached)

    def _number(self, key: bytes, now: float) -> int:
        """The session that has ``key`` and is not over, or none."""
        number = self._numbers.get(key, _HEAD)
        if number != _HEAD and self._is_over(number, now):
            self._drop(number)
            return _HEAD
        return number

    def _is_over(self, number: int, now: float) -> bool:
        until = self._until[number]
        return until != PINNED and (now - self._seen[number] > self._idle or now >= until)

    def _is_all_known(self, number: int, keys: Sequence[bytes], backend_id: str) -> bool:
        numbers = self._numbers
        return self._ids[self._backends[number]] == backend_id and all(numbers.get(key) == number for key in keys)

    def _new(self, now: float) -> int:
        self._count += 1
        self._bytes += _SESSION
        until = now + self._lifetime
        self._ends = min(self._ends, until)
        if self._free:
            number = self._free.pop()
            self._until[number] = until
            return number
        self._keys.append(None)
        self._backends.append(_NOBODY)
        self._since.append(now)
        self._seen.append(now)
        self._until.append(until)
        self._next.append(_HEAD)
        self._before.append(_HEAD)
        return len(self._keys) - 1

    def _drop(self, number: int) -> None:
        for key in self._keys_of(number):
            del self._numbers[key]
            self._bytes -= _KEY + len(key)
        self._keys[number] = None
        self._held[self._backends[number]] -= 1
        self._backends[number] = _NOBODY
        self._unlink(number)
        self._free.append(number)
        self._count -= 1
        self._bytes -= _SESSION

    def _make_room(self, now: float) -> None:
        """Give up what was not seen for longest: what is too much, and a few of what is idle too long."""
        oldest = self._before
        while self._count > self._size or (self._bytes > self._limit and self._count > 1):
            self._spare_pinned()
            self._drop(oldest[_HEAD])
        for _ in range(2):
            last = oldest[_HEAD]
            if last == _HEAD or now - self._seen[last] <= self._idle or self._until[last] == PINNED:
                break
            self._drop(last)

    def _give_to(self, number: int, backend_id: str, now: float) -> None:
        at, before = self._id(backend_id), self._backends[number]
        if at != before:
            if before != _NOBODY:
                self._held[before] -= 1
            self._held[at] += 1
            self._backends[number] = at
            self._since[number] = now

    def _id(self, backend_id: str) -> int:
        if backend_id not in self._ids:
            self._ids.append(backend_id)
            self._held.append(0)
        return self._ids.index(backend_id)

    def _spare_pinned(self) -> None:
        """Who was not seen for longest and is pinned is as if he had been; if all are pinned, the last one goes."""
        oldest = self._before
        for _ in range(1000):  # at a time
            last = oldest[_HEAD]
            if self._until[last] != PINNED:
                break
            self._unlink(last)
            self._link(last)

    # Keys.

    def _keys_of(self, number: int) -> tuple[bytes, ...]:
        keys = self._keys[number]
        return () if keys is None else (keys,) if isinstance(keys, bytes) else keys

    def _give(self, number: int, keys: Sequence[bytes]) -> None:
        """The session has these keys too, whoever had them; past ``KEYS`` it loses its oldest."""
        for key in keys:
            known = self._numbers.get(key)
            if known is not None and known != number:
                self._drop_key(known, key)
            if known != number:
                self._numbers[key] = number
                self._bytes += _KEY + len(key)
        had = [key for key in self._keys_of(number) if key not in keys]
        whole = (*had, *dict.fromkeys(keys))
        for key in whole[:-KEYS]:
            self._forget_key(key)
        self._set_keys(number, whole[-KEYS:])

    def _set_keys(self, number: int, keys: tuple[bytes, ...]) -> None:
        self._keys[number] = keys[0] if len(keys) == 1 else keys

    def _drop_key(self, number: int, key: bytes) -> None:
        """Another session has it from now on."""
        left = tuple(one for one in self._keys_of(number) if one != key)
        if not left:
            self._drop(number)
            return
        self._forget_key(key)
        self._set_keys(number, left)

    def _forget_key(self, key: bytes) -> None:
        del self._numbers[key]
        self._bytes -= _KEY + len(key)

    # The order in which they were seen.

    def _link(self, number: int) -> None:
        following, before = self._next, self._before
        first = following[_HEAD]
        following[number], before[number] = first, _HEAD
        following[_HEAD] = before[first] = number

    def _unlink(self, number: int) -> None:
        following, before = self._next, self._before
        after, ahead = following[number], before[number]
        following[ahead], before[after] = after, ahead
