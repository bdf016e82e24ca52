"""Sessions of several processes: whatever comes when, in the end all know the same, and nobody is lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from stickyproxy.sansio import records
from stickyproxy.sansio.records import Answered, Ask, Bind, Enter, Forget, Gone, Record, Seen, encode, message
from stickyproxy.sansio.replicas import ASKED, Authority, Replica
from stickyproxy.sansio.sessions import Session

KEYS = [b"ann", b"bob", b"eve", b"cid", b"dan", b"fay"]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Answer:
    """Waits, and keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str | None] = []

    def callback(self, result: str | None) -> None:
        self.told.append(result)


class House:
    """A parent and its children, with the messages between them on their way until ``deliver`` takes them."""

    def __init__(self, children: int, clock: Clock | None = None, **options: Any) -> None:
        self.clock = clock or Clock()
        self.options = options
        self.to_parent: dict[int, deque[bytes]] = {}
        self.to_child: dict[int, deque[bytes]] = {}
        self.entering: dict[int, Iterator[None]] = {}
        self.told_soon = 0
        self.parent = Authority("app", self.clock, self.send, self.soon, **options)
        self.children: dict[int, Replica] = {}
        for _ in range(children):
            self.start()

    def send(self, child: int, data: bytes) -> None:
        self.to_child[child].append(data)

    def soon(self) -> None:
        self.told_soon += 1

    def start(self) -> int:
        """A new child."""
        number = len(self.to_parent)
        queue = self.to_parent[number] = deque()
        self.to_child[number] = deque()
        self.children[number] = Replica("app", self.clock, queue.append, Answer, **self.options)
        self.children[number].enter()
        return number

    def kill(self, number: int) -> None:
        """A child dies; what it has sent arrives."""
        while self.to_parent[number]:
            self.deliver_to_parent(number)
        del self.children[number]
        self.entering.pop(number, None)
        self.parent.leave(number)

    def deliver_to_parent(self, number: int) -> None:
        if self.to_parent[number]:
            data = self.to_parent[number].popleft()
            assert records.table_of(data) == "app"
            entering = self.parent.received(number, records.records_of(data))
            if entering is not None:
                self.entering[number] = entering

    def deliver_to_child(self, number: int) -> None:
        if self.to_child[number]:
            data = self.to_child[number].popleft()
            if number in self.children:
                self.children[number].received(records.records_of(data))

    def go_on(self, number: int) -> None:
        """The parent tells a child that enters another part."""
        if number in self.entering and next(self.entering[number], self) is self:
            del self.entering[number]

    def settle(self) -> None:
        """Everything arrives."""
        while True:
            for number in self.children:
                self.go_on(number)
                self.deliver_to_parent(number)
                self.deliver_to_child(number)
            self.parent.flush()
            if not (any(self.to_parent.values()) or self.entering or any(self.to_child[n] for n in self.children)):
                return

    def tell_seen(self, number: int) -> None:
        for _ in self.children[number].tell_seen():
            pass

    def known(self, number: int | None = None) -> dict[frozenset[bytes], tuple[str, float]]:
        """What a child knows, None: the parent."""
        table = self.parent if number is None else self.children[number]
        return {frozenset(session.keys): (session.backend, session.until) for session in table.sessions()}


def test_who_is_bound_by_one_is_known_to_all() -> None:
    """A client that was bound in one process is known in the others, with its keys, and until it is forgotten."""
    house = House(3)
    house.children[0].bind((b"ann", b"cookie"), "a", 600)
    house.settle()
    assert [house.children[number].find(key) for number in range(3) for key in (b"ann", b"cookie")] == ["a"] * 6
    assert house.known(2) == {frozenset((b"ann", b"cookie")): ("a", 1600.0)}
    house.children[1].forget(b"cookie")
    house.settle()
    assert house.known() == house.known(0) == house.known(1) == house.known(2) == {}


def test_a_miss_asks() -> None:
    """Who is not known here is asked for, once however many wait, and found as soon as the parent has answered."""
    house = House(2)
    house.settle()
    house.children[0].bind((b"ann",), "a")
    waiting = [house.children[1].find(b"ann") for _ in range(2)] + [house.children[1].find(b"eve")]
    assert len(house.to_parent[1]) == 2
    house.settle()
    assert [each.told for each in waiting] == [["a"], ["a"], [None]]  # type: ignore[union-attr]
    assert house.children[1].find(b"ann") == "a"


def test_the_first_counts() -> None:
    """Two processes bind a new client at the same time: the first at the parent is right, and the other learns it."""
    house = House(3)
    house.settle()
    house.children[0].bind((b"ann",), "a")
    house.children[1].bind((b"ann",), "b")
    assert house.children[1].find(b"ann") == "b"
    house.deliver_to_parent(1)
    house.settle()
    assert [house.children[number].find(b"ann") for number in range(3)] == ["b"] * 3


def test_a_move_that_came_too_late() -> None:
    """Who moves a session that has been moved meanwhile has not: it stays with the first. A later move is as good."""
    house = House(2)
    house.children[0].bind((b"ann",), "a")
    house.settle()
    house.children[0].bind((b"ann",), "b")
    house.children[1].bind((b"ann",), "c")
    house.deliver_to_parent(0)
    house.settle()
    assert [house.children[number].find(b"ann") for number in range(2)] == ["b", "b"]
    house.children[1].bind((b"ann",), "c")
    house.settle()
    assert [house.children[number].find(b"ann") for number in range(2)] == ["c", "c"]


def test_used_in_one_process_alone() -> None:
    """A session that is used in one process does not end in the others; unused, it ends in all."""
    house = House(2, idle=80.0)
    house.children[0].bind((b"ann",), "a")
    house.settle()
    for _ in range(30):
        house.clock.now += house.children[0].told_every
        assert house.children[0].find(b"ann") == "a"
        house.tell_seen(0)
        house.tell_seen(1)
        house.settle()
    assert house.clock.now == 1300.0 and house.children[1].find(b"ann") == "a"
    house.clock.now += 91
    waiting = house.children[1].find(b"ann")
    house.settle()
    assert isinstance(waiting, Answer) and waiting.told == [None]


def test_seen_is_told_once() -> None:
    """Who was seen is told by the one that has seen him; nobody tells on what he was told."""
    house = House(3)
    for number in range(100):
        house.children[0].bind((b"%d" % number,), "a")
    house.settle()
    house.clock.now += 10
    for number in range(50):
        house.children[1].find(b"%d" % number)
    house.tell_seen(1)
    assert sum(len(list(records.records_of(data))) for data in house.to_parent[1]) == 50
    house.settle()
    for number in range(3):
        house.tell_seen(number)
    assert not any(house.to_parent.values())
    assert [session.seen for session in house.children[2].sessions()].count(1010.0) == 50


def test_a_child_that_starts_late() -> None:
    """It is told the whole table, in parts, while others go on; and who is not told yet is asked for."""
    house = House(1, size=20_000)
    for number in range(10_000):
        house.children[0].bind((b"client %d" % number,), "ab"[number % 2])
    house.settle()
    late = house.start()
    house.deliver_to_parent(late)
    house.go_on(late)
    house.go_on(late)
    house.deliver_to_child(late)
    assert 0 < len(house.children[late]) < 2000
    waiting = house.children[late].find(b"client 9999")
    house.children[0].bind((b"client 0",), "c")
    house.children[0].forget(b"client 5000")
    house.children[0].bind((b"newcomer",), "c")
    house.settle()
    assert isinstance(waiting, Answer) and waiting.told == ["b"]
    assert house.known(late) == house.known(0) == house.known()
    assert len(house.children[late]) == 10_000 and house.children[late].find(b"client 0") == "c"


def test_what_the_parent_wants() -> None:
    """An operator moves a session, and ends one: it is told as any change."""
    house = House(2)
    house.children[0].bind((b"ann",), "a")
    house.children[1].bind((b"bob",), "a")
    house.settle()
    house.parent.bind((b"ann",), "b")
    house.parent.forget(b"bob")
    house.settle()
    assert house.known(0) == house.known(1) == {frozenset((b"ann",)): ("b", float("inf"))}


def test_without_a_parent() -> None:
    """Whoever waits for a parent that is gone, or does not answer, is a new client; from then on nobody waits."""
    house = House(1)
    child = house.children[0]
    first = child.find(b"ann")
    house.clock.now += 1
    second = child.find(b"bob")
    child.give_up(1.0)
    assert isinstance(first, Answer) and first.told == [None]
    child.leave()
    assert isinstance(second, Answer) and second.told == [None]
    assert child.find(b"eve") is None
    child.bind((b"eve",), "a")
    assert child.find(b"eve") == "a"
    house.settle()  # a late answer is for nobody
    assert first.told == [None]


def test_too_many_questions() -> None:
    """So many strangers wait for an answer at a time, and no more."""
    house = House(1)
    found = [house.children[0].find(b"%d" % number) for number in range(ASKED + 5)]
    assert found[ASKED:] == [None] * 5
    house.settle()
    assert all(isinstance(each, Answer) and each.told == [None] for each in found[:ASKED])


class Scattered(RuleBasedStateMachine):
    """Binds, ends and questions in any process, messages that take any time, processes that come and go."""

    @initialize(children=st.integers(1, 4))
    def begin(self, children: int) -> None:
        self.house = House(children)
        self.told: set[bytes] = set()
        self.ending = False  # somebody forgets: whom, with which keys, depends on what comes first

    def child(self, number: int) -> int:
        alive = list(self.house.children)
        return alive[number % len(alive)]

    @rule(
        number=st.integers(0, 3),
        keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique=True),
        backend=st.sampled_from("abc"),
        lifetime=st.sampled_from([None, None, 50_000.0]),
    )
    def bind(self, number: int, keys: list[bytes], backend: str, lifetime: float | None) -> None:
        self.house.children[self.child(number)].bind(keys, backend, lifetime)
        if not self.ending:
            self.told.update(keys)

    @rule(number=st.integers(0, 3), key=st.sampled_from(KEYS))
    def forget(self, number: int, key: bytes) -> None:
        self.house.children[self.child(number)].forget(key)
        self.told.clear()
        self.ending = True

    @rule(number=st.integers(0, 3), key=st.sampled_from(KEYS))
    def find(self, number: int, key: bytes) -> None:
        self.house.children[self.child(number)].find(key)

    @rule(number=st.integers(0, 3), way=st.sampled_from(["up", "down", "flush", "enter", "seen"]))
    def time_passes(self, number: int, way: str) -> None:
        self.house.clock.now += 1
        child = self.child(number)
        if way == "up":
            self.house.deliver_to_parent(child)
        elif way == "down":
            self.house.deliver_to_child(child)
        elif way == "enter":
            self.house.go_on(child)
        elif way == "seen":
            self.house.tell_seen(child)
        else:
            self.house.parent.flush()

    @rule()
    def starts(self) -> None:
        if len(self.house.children) < 4:
            self.house.start()

    @rule(number=st.integers(0, 3))
    def dies(self, number: int) -> None:
        if len(self.house.children) > 1:
            self.house.kill(self.child(number))

    @rule()
    def all_is_quiet(self) -> None:
        self.house.settle()
        self.ending = False
        expected = self.house.known()
        for number, child in self.house.children.items():
            assert self.house.known(number) == expected
            assert not child._asked
        there = {key for keys in expected for key in keys}
        assert self.told <= there

    def teardown(self) -> None:
        if hasattr(self, "house"):
            self.all_is_quiet()


TestScattered = Scattered.TestCase
TestScattered.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

_texts = st.lists(st.binary(max_size=300), max_size=9).map(tuple)
_names = st.text(max_size=20)
_times = st.floats(0, 1e12)
_records = st.one_of(
    st.builds(Session, _texts, _names, _times, _times | st.just(float("inf"))),
    st.builds(Bind, _texts, _texts, _names, _names, _times | st.none()),
    st.builds(Forget, st.binary(), _texts),
    st.builds(Ask, st.binary()),
    st.builds(Answered, st.binary()),
    st.builds(Gone, _texts),
    st.builds(Seen, st.binary(), _times),
    st.just(Enter()),
)


@given(_names, st.lists(_records, max_size=5), st.data())
def test_what_is_told_is_heard(table: str, told: list[Record], data: st.DataObject) -> None:
    """Every record arrives as it was sent; a message that is cut off is an error, and nothing else."""
    sent = message(table, b"".join(map(encode, told)))
    assert records.table_of(sent) == table and list(records.records_of(sent)) == told
    cut = data.draw(st.integers(0, len(sent) - 1))
    try:
        heard = list(records.records_of(sent[:cut]))
    except ValueError:
        return
    assert heard == told[: len(heard)]


@pytest.mark.parametrize("data", [b"", b"\x02\x00\x01a", b"\x01\x00\x05a", b"\x01\x00\x01aX"])
def test_not_a_message(data: bytes) -> None:
    """Another version's message, or none at all, is refused."""
    with pytest.raises(ValueError, match="sessions"):
        records.table_of(data), list(records.records_of(data))
