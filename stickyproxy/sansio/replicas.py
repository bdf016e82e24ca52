"""A table of sessions that several processes have: each child a replica, the parent the authority. Floor 2, pure.

Every replica is whole, so that who is known is found as in a table of one process. A change is made in the replica at
once and told to the parent, who makes it, too, and tells all children in one order what has become of the keys
concerned, the child that asked for it included. What he says is put over what a replica had: when all is told, all are
the same. His rule: **of two changes of a session, the first to reach him counts**. A child says with a change which
backend the session had; where the parent knows another one, the session keeps that, and the child learns it.

Who is not in a replica may be known all the same: the parent is asked before anybody is taken for new. So nothing
depends on how soon a change is told, and a child that has just started can serve before it knows all.

When a session was last seen is told every eighth of its idle time. A session of several processes may so be forgotten
an eighth of it late, and never early. Each process gives up by itself who has not been seen for longest, when there are
more sessions than allowed; the others may know them for longer.

Transports keep the order of messages of each child, both ways. They are made and read by ``sansio.records``.
"""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, Protocol, cast

from stickyproxy.sansio import records
from stickyproxy.sansio.records import Answered, Ask, Bind, Enter, Forget, Gone, Record, Seen, encode, message
from stickyproxy.sansio.sessions import Session, SessionTable

#: Keys that the parent is asked for at a time; more clients are taken for new without asking.
ASKED = 10_000
#: Sessions looked at in a row, whether they were seen.
_LOOKED_AT = 10_000
#: Seconds between two tellings of who was seen, at most.
_TOLD = 300.0


class Waiting(Protocol):
    """What waits for an answer: a Deferred, say."""

    def callback(self, result: str | None) -> object: ...


class Replica(SessionTable):
    """The table ``name`` in a child. ``send`` takes messages to the parent, in order.

    ``send`` is called before ``bind`` returns, so before the answer that carries the session is on its way.
    ``waiting`` makes an awaitable that is told the answer: ``Deferred``. The options are those of ``SessionTable``.
    """

    def __init__(
        self,
        name: str,
        clock: Callable[[], float],
        send: Callable[[bytes], object],
        waiting: Callable[[], Any],
        **kept: Any,
    ) -> None:
        super().__init__(clock, **kept)
        self.name = name
        self.alone = False  #: there is no parent to be asked, or told
        self.told_at = clock()  #: when it was told last who was seen
        self._send = send
        self._waiting = waiting
        self._asked: dict[bytes, tuple[float, list[Waiting]]] = {}
        self._told = array("d")  # when each session was seen as others know it, by its number

    def configure(self, **kept: Any) -> None:
        super().configure(**kept)
        self.told_every = min(self._idle / 8, _TOLD)  #: seconds after which it is to be told who was seen
        self._idle += self._idle / 8

    def enter(self) -> None:
        """Have the parent tell all that it knows, and whatever changes."""
        self._tell(Enter())

    def bind(self, keys: Sequence[bytes], backend_id: str, lifetime: float | None = None) -> None:
        if not keys:
            return
        now = self._clock()
        number = next((known for key in keys if (known := self._number(key, now))), 0)
        if number and lifetime is None and self._is_all_known(number, keys, backend_id):
            self.find(keys[0])
            return
        expected = self._ids[self._backends[number]] if number else ""
        others = tuple(key for key in self._reach(keys) if key not in keys)
        super().bind(keys, backend_id, lifetime)
        self._tell(Bind(tuple(keys), others, backend_id, expected, lifetime))

    def forget(self, key: bytes) -> None:
        others = self._reach((key,))
        super().forget(key)
        self._tell(Forget(key, tuple(other for other in others if other != key)))

    def _missing(self, key: bytes) -> Awaitable[str | None] | None:
        """The parent may know; None where he cannot be asked."""
        if self.alone or len(self._asked) >= ASKED:
            return None
        waiting = self._waiting()
        asked = self._asked.get(key)
        if asked is None:
            self._asked[key] = self._clock(), [waiting]
            self._tell(Ask(key))
        else:
            asked[1].append(waiting)
        return cast(Awaitable[str | None], waiting)

    def received(self, told: Iterable[Record]) -> None:
        """The parent says so."""
        for record in told:
            match record:
                case Session():
                    super().restore(record)
                    self._note(record.keys[0])
                case Answered(key):
                    self._answer(key)
                case Seen(key, seen):
                    if self.see(key, seen):
                        self._note(key)
                case Gone(keys):
                    self.take_away(keys)

    def give_up(self, seconds: float) -> None:
        """Who has waited for so long for an answer of the parent is a new client."""
        now = self._clock()
        for key in [key for key, (since, _) in self._asked.items() if not since <= now < since + seconds]:
            self._answer(key)

    def leave(self) -> None:
        """The parent is gone: whoever waits for him need not."""
        self.alone = True
        for key in [*self._asked]:
            self._answer(key)

    def tell_seen(self) -> Iterator[None]:
        """Tell who was seen since that was told last, a part of it at each step."""
        for start in range(0, len(self._keys), _LOOKED_AT):
            self._know(len(self._keys) - 1)
            found = bytearray()
            for number in range(start, min(start + _LOOKED_AT, len(self._keys))):
                seen = self._seen[number]
                if seen > self._told[number] and (keys := self._keys_of(number)):
                    self._told[number] = seen
                    found += encode(Seen(keys[0], seen))
                    if len(found) > records.CHUNK:
                        self._send_records(found)
                        found = bytearray()
            if found:
                self._send_records(found)
            yield

    def _answer(self, key: bytes) -> None:
        _, waiting = self._asked.pop(key, (0.0, ()))
        if waiting:
            backend = cast(str, self.find(key)) if self._number(key, self._clock()) else None
            for each in waiting:
                each.callback(backend)

    def _note(self, key: bytes) -> None:
        number = self._numbers.get(key, 0)
        self._know(number)
        self._told[number] = self._seen[number]

    def _know(self, number: int) -> None:
        if number >= len(self._told):
            self._told.extend([0.0] * (len(self._keys) - len(self._told)))

    def _tell(self, record: Record) -> None:
        if not self.alone:
            self._send_records(encode(record))

    def _send_records(self, encoded: bytes | bytearray) -> None:
        if not self.alone:
            self._send(message(self.name, encoded))


class Authority(SessionTable):
    """The table ``name`` in the parent. Children are known by anything hashable.

    ``send(child, data)`` takes a message to one. ``soon`` is called when there is something to be told, which
    ``flush`` then does: at the end of a turn, say. ``followers`` are called with the keys of whatever changes.
    """

    def __init__(
        self,
        name: str,
        clock: Callable[[], float],
        send: Callable[[Any, bytes], object],
        soon: Callable[[], object],
        **kept: Any,
    ) -> None:
        super().__init__(clock, **kept)
        self.name = name
        self.followers: set[Callable[[Sequence[bytes]], object]] = set()
        self._send = send
        self._soon = soon
        self._is_soon = False
        self._unsent: dict[Hashable, bytearray] = {}

    def configure(self, **kept: Any) -> None:
        super().configure(**kept)
        self._idle += self._idle / 4  # later than any replica

    def enter(self, child: Hashable) -> Iterator[None]:
        """``child`` is told every change from now on, and at each step a part of what there is."""
        self._unsent.setdefault(child, bytearray())
        numbers, number = array("i"), self._before[0]
        while number:
            numbers.append(number)
            number = self._before[number]
        for number in numbers:  # who was seen last comes last; a number may mean another session by now, told as well
            if child not in self._unsent:
                return
            if self._keys_of(number) and self._write(child, encode(self._session(number))):
                yield

    def leave(self, child: Hashable) -> None:
        """``child`` is gone."""
        self._unsent.pop(child, None)

    def received(self, child: Hashable, told: Iterable[Record]) -> Iterator[None] | None:
        """``child`` says so. Returned is what tells it all, where it asks for that (``enter``)."""
        entering = None
        for record in told:
            match record:
                case Bind():
                    self._bind(record)
                case Seen(key, seen):
                    if self.see(key, seen):
                        self._tell_all(encode(record), child)
                case Ask(key):
                    number = self._number(key, self._clock())
                    known = encode(self._session(number)) if number else b""
                    self._write(child, known + encode(Answered(key)))
                case Forget(key, others):
                    self._forget_all(key, others)
                case Enter():
                    entering = self.enter(child)
        return entering

    def flush(self) -> None:
        """Send what is to be told."""
        self._is_soon = False
        for child, unsent in self._unsent.items():
            if unsent:
                self._unsent[child] = bytearray()
                self._send(child, message(self.name, unsent))

    def bind(self, keys: Sequence[bytes], backend_id: str, lifetime: float | None = None) -> None:
        """As the parent itself wants it: an operator moves a session, say."""
        reached = self._reach(keys)
        super().bind(keys, backend_id, lifetime)
        self._tell_of((*reached, *keys))

    def forget(self, key: bytes) -> None:
        self._forget_all(key, ())

    def restore(self, session: Session) -> None:
        """As another process has told the parent."""
        reached = self._reach(session.keys)
        super().restore(session)
        self._tell_of((*reached, *session.keys))

    def _forget_all(self, key: bytes, others: tuple[bytes, ...]) -> None:
        reached = self._reach((key, *others))
        super().forget(key)
        self._tell_of(reached)

    def _bind(self, wish: Bind) -> None:
        now = self._clock()
        number = next((known for key in wish.keys if (known := self._number(key, now))), 0)
        current = self._ids[self._backends[number]] if number else wish.backend
        reached = self._reach((*wish.keys, *wish.others))
        if current in (wish.backend, wish.expected):
            super().bind(wish.keys, wish.backend, wish.lifetime)
        else:
            super().bind(wish.keys, current)
        self._tell_of(reached)

    def _tell_of(self, keys: Sequence[bytes]) -> None:
        """What has become of ``keys``."""
        for follow in self.followers:
            follow(keys)
        numbers = dict.fromkeys(number for key in keys if (number := self._numbers.get(key)))
        told = b"".join(encode(self._session(number)) for number in numbers)
        gone = tuple(key for key in keys if key not in self._numbers)
        self._tell_all(told + encode(Gone(gone)) if gone else told)

    def _tell_all(self, encoded: bytes, but: Hashable = None) -> None:
        for child in self._unsent:
            if child != but:
                self._write(child, encoded)

    def _write(self, child: Hashable, encoded: bytes) -> bool:
        """Whether it was time to send."""
        unsent = self._unsent.setdefault(child, bytearray())
        unsent += encoded
        if not self._is_soon:
            self._is_soon = True
            self._soon()
        if len(unsent) < records.CHUNK:
            return False
        self._unsent[child] = bytearray()
        self._send(child, message(self.name, unsent))
        return True
