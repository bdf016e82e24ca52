"""The table of sessions: bounds, time, several keys, and a model that it must agree with."""

from __future__ import annotations

import tracemalloc
from collections import OrderedDict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stickyproxy.sansio.sessions import KEYS, Session, SessionTable


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def table(clock: Clock | None = None, **options: float | None) -> SessionTable:
    return SessionTable(clock or Clock(), **options)  # type: ignore[arg-type]


def test_bound_and_found() -> None:
    """Who was bound is found, until he is bound elsewhere or forgotten."""
    sessions = table()
    assert sessions.find(b"ann") is None
    sessions.bind((b"ann",), "a")
    assert sessions.find(b"ann") == "a"
    sessions.bind((b"ann",), "b")
    assert (sessions.find(b"ann"), len(sessions)) == ("b", 1)
    sessions.forget(b"ann")
    sessions.forget(b"ann")
    assert (sessions.find(b"ann"), len(sessions), sessions.memory) == (None, 0, 0)


def test_idle() -> None:
    """A session is forgotten after the idle time, which starts anew with every use."""
    clock = Clock()
    sessions = table(clock, idle=60)
    sessions.bind((b"ann",), "a")
    sessions.bind((b"bob",), "b")
    clock.now += 50
    assert sessions.find(b"ann") == "a"
    clock.now += 50
    assert (sessions.find(b"ann"), sessions.find(b"bob")) == ("a", None)
    clock.now += 61
    sessions.bind((b"eve",), "a")
    assert len(sessions) == 1  # ann's went without being looked for


@pytest.mark.parametrize(("own", "lasts"), [(None, 100), (30, 30), (500, 500)])
def test_lifetime(own: float | None, lasts: float) -> None:
    """A session ends with its lifetime, however much it is used: the table's, or one of its own."""
    clock = Clock()
    sessions = table(clock, idle=None, lifetime=100)
    sessions.bind((b"ann",), "a", own)
    clock.now += lasts - 1
    assert sessions.find(b"ann") == "a"
    clock.now += 2
    assert sessions.find(b"ann") is None


def test_size() -> None:
    """However many come, there are no more sessions than allowed, and who was not seen for longest goes first."""
    sessions = table(size=10)
    sessions.bind((b"ann",), "a")
    for number in range(100):
        sessions.bind((b"%d" % number,), "b")
        assert sessions.find(b"ann") == "a"
    assert len(sessions) == 10
    assert [session.keys for session in sessions.sessions()][:2] == [(b"ann",), (b"99",)]
    assert sessions.counts() == {"a": 1, "b": 9}


def test_memory() -> None:
    """Long keys count: the bytes are bounded, too, and what the table says of them is what Python uses."""
    sessions = table(memory=100_000)
    for number in range(1000):
        sessions.bind((b"%05d" % number * 200,), "a")
    assert 60 < len(sessions) < 100 and sessions.memory <= 100_000
    tracemalloc.start()
    many = table(size=50_000, memory=1 << 30)
    for number in range(50_000):
        many.bind((b"%024d" % number,), "a")
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / 50_000 < 300
    assert 0.7 < many.memory / used < 1.4


def test_several_keys() -> None:
    """One session has several keys; what they were known for separately is one session from then on."""
    sessions = table()
    sessions.bind((b"cookie",), "a")
    sessions.bind((b"user",), "b")
    sessions.bind((b"cookie", b"user", b"device"), "a")
    assert [sessions.find(key) for key in (b"cookie", b"user", b"device")] == ["a"] * 3
    assert list(sessions.sessions()) == [Session((b"cookie", b"user", b"device"), "a", 1000.0, float("inf"))]
    for number in range(20):
        sessions.bind((b"device", b"%d" % number), "a")
    (session,) = sessions.sessions()
    assert len(session.keys) == KEYS and sessions.find(b"19") == "a" and sessions.find(b"cookie") is None


class Model(RuleBasedStateMachine):
    """Any sequence of calls: the table does what a dict of sessions does."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.table = SessionTable(self.clock, idle=100, lifetime=400, size=4)
        self.known: OrderedDict[int, tuple[set[bytes], str, float, float]] = OrderedDict()
        self.count = 0

    def of(self, key: bytes) -> int | None:
        return next((number for number, session in self.known.items() if key in session[0]), None)

    @rule(
        keys=st.lists(st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f", b"g"]), min_size=1, max_size=3, unique=True)
    )
    def bind(self, keys: list[bytes]) -> None:
        backend = f"backend-{keys[-1]!r}"
        self.table.bind(keys, backend)
        for number, (_, _, seen, until) in [*self.known.items()]:
            if self.clock.now - seen > 100 or self.clock.now >= until:
                del self.known[number]
        number = next((one for key in keys if (one := self.of(key)) is not None), None)
        mine, until = {keys[0]}, self.clock.now + 400
        if number is not None:
            mine, _, _, until = self.known.pop(number)
        for other in [*self.known]:
            self.known[other][0].difference_update(keys)
            if not self.known[other][0]:
                del self.known[other]
        self.count += 1
        self.known[self.count] = mine | set(keys), backend, self.clock.now, until
        while len(self.known) > 4:
            self.known.popitem(last=False)

    @rule(key=st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f", b"g"]))
    def find(self, key: bytes) -> None:
        number = self.of(key)
        expected = None
        if number is not None:
            keys, backend, seen, until = self.known.pop(number)
            if self.clock.now - seen <= 100 and self.clock.now < until:
                self.known[number] = keys, backend, self.clock.now, until
                expected = backend
        assert self.table.find(key) == expected

    @rule(key=st.sampled_from([b"a", b"b", b"c"]))
    def forget(self, key: bytes) -> None:
        self.table.forget(key)
        number = self.of(key)
        if number is not None:
            del self.known[number]

    @rule(seconds=st.sampled_from([0.5, 30.0, 90.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def is_consistent(self) -> None:
        there = list(self.table.sessions())
        assert len(there) == len(self.table) <= 4
        keys = [key for session in there for key in session.keys]
        assert len(keys) == len(set(keys)) == len(self.table._numbers)
        assert [session.seen for session in there] == sorted((session.seen for session in there), reverse=True)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@given(st.lists(st.binary(max_size=200), max_size=30))
def test_any_keys(keys: list[bytes]) -> None:
    """Any bytes are a key, and none of them grows the table past its bound."""
    sessions = table(size=5, memory=2000)
    for key in keys:
        sessions.bind((key,), "a")
    assert len(sessions) <= 5
    assert sessions.memory <= 2000 or len(sessions) == 1


def test_restored_elsewhere() -> None:
    """A table moves into another process: the same sessions, seen when they were seen, ending when they end."""
    now = [1000.0]
    table = SessionTable(lambda: now[0], idle=60.0)
    for number in range(50):
        now[0] += 1.0
        table.bind((b"key %d" % number, b"other %d" % number), f"b{number % 3}", 100.0 if number % 2 else None)
    sessions = [table.session(key) for key in table.all_keys()]
    moved = SessionTable(lambda: now[0], idle=60.0)
    for session in sorted({each for each in sessions if each is not None}, key=lambda session: session.seen):
        moved.restore(session)
    assert list(moved.sessions()) == list(table.sessions()) and moved.memory == table.memory
    assert table.session(b"nobody") is None
    now[0] += 40.0
    assert moved.counts() == table.counts() and 0 < sum(moved.counts().values()) < 50
    assert [moved.find(b"key %d" % number) for number in range(50)] == [
        table.find(b"other %d" % number) for number in range(50)
    ]


def test_counts_are_of_sessions_that_live() -> None:
    """What is over is not counted, also where nobody has looked for it."""
    now = [1000.0]
    table = SessionTable(lambda: now[0], idle=60.0)
    table.bind((b"short",), "a", 10.0)
    table.bind((b"idle",), "a")
    now[0] += 30.0
    table.bind((b"new",), "b")
    assert (table.counts(), len(table)) == ({"a": 1, "b": 1}, 3)
    now[0] += 40.0
    assert table.counts() == {"a": 0, "b": 1}
