"""Who moves when something happens, for every way to stick: the table of docs/affinity.md, measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from matrix import PORTS, Mode, Visitor, World

VISITORS, MANY = 200, 1000  #: many, where a share is counted
PAGE = Path(__file__).parents[2] / "docs/affinity.md"

#: By the words of the page.
MODES = {
    "`cookie`": Mode({"affinity": "cookie"}),
    "`cookie`, `idle`, `encrypt`": Mode({"affinity": {"by": "cookie", "idle": "1h", "encrypt": True}}),
    "`cookie`, prefix": Mode({"affinity": {"by": "cookie", "mode": "prefix", "name": "APP"}}),
    "`cookie`, rewrite": Mode({"affinity": {"by": "cookie", "mode": "rewrite", "name": "NODE"}}),
    "`cookie`, passive": Mode({"affinity": {"by": "cookie", "mode": "passive", "name": "ROUTE"}}),
    "`learned`": Mode({"affinity": "learned:APP"}),
    "`engine.io`": Mode({"affinity": "engine.io"}, client="engine.io"),
    "`sockjs`": Mode({"affinity": "sockjs"}),
    "`mcp`": Mode({"affinity": "mcp"}, client="mcp"),
    "`source`": Mode({"affinity": "source"}),
    "`header`": Mode({"affinity": "header:X-User"}),
    "`query`": Mode({"affinity": "query:client"}),
    "`path`": Mode({"affinity": "path:/room/([^/]+)"}),
    "`bearer`": Mode({"affinity": "bearer:sub"}),
    "`key` (TCP)": Mode({"affinity": "key"}, tcp=True),
    "`source`, hash": Mode({"affinity": {"by": "source", "memory": "hash"}}),
    "`header`, hash": Mode({"affinity": {"by": "header:X-User", "memory": "hash"}}),
    "`bearer`, hash": Mode({"affinity": {"by": "bearer:sub", "memory": "hash"}}),
    "`key` (TCP), hash": Mode({"affinity": {"by": "key", "memory": "hash"}}, tcp=True),
    '`["cookie", "header"]`': Mode({"affinity": ["cookie", "header:X-User"]}),
    "`cookie`, `return_home`": Mode({"affinity": "cookie", "sessions": {"return_home": True}}),
    '`none`, `balance = "consistent-hash"`': Mode({"balance": {"by": "consistent-hash", "key": "header:X-User"}}),
}


Homes = list[str | None]


def _is_back(world: World, visitors: list[Visitor]) -> Homes:
    """Where they were meanwhile."""
    world.kill("b")
    meanwhile = world.visits(visitors)
    world.kill("b", dead=False)
    return meanwhile


#: What happens, and whose sessions are looked at: those of ``b``, whom it happens to, or those of others.
EVENTS: dict[str, tuple[str, Callable[[World, list[Visitor]], Homes | None]]] = {
    "one added": ("abcd", lambda world, _: world.configure({**PORTS, "e": 9005})),
    "another removed": ("acd", lambda world, _: world.configure({id: PORTS[id] for id in "acd"})),
    "another gets weight 2": ("acd", lambda world, _: world.configure(PORTS, b={"weight": 2})),
    "new addresses": ("abcd", lambda world, _: world.configure({id: PORTS[id] + 10 for id in PORTS})),
    "other order": ("abcd", lambda world, _: world.configure({id: PORTS[id] for id in "dbca"})),
    "proxy restarts": ("abcd", lambda world, _: world.restart()),
    "own drains": ("b", lambda world, _: world.configure(PORTS, b={"state": "drain"})),
    "own in maintenance": ("b", lambda world, _: world.configure(PORTS, b={"state": "maintenance"})),
    "own removed": ("b", lambda world, _: world.configure({id: PORTS[id] for id in "acd"})),
    "own down": ("b", lambda world, _: world.kill("b")),
    "own back": ("b", _is_back),
}
#: What moves about one in n by hash.
SHARES = ("one added", "another gets weight 2")


def page() -> dict[str, dict[str, str]]:
    """The table of the page: by mode, then by event."""
    lines = PAGE.read_text().splitlines()
    heads = next(at for at, line in enumerate(lines) if line.startswith("| sessions that move"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[heads:]]
    rows = rows[: next((at for at, row in enumerate(rows) if len(row) < 2), None)]
    return {row[0]: dict(zip(rows[0][1:], row[1:], strict=True)) for row in rows[2:]}


def moved(name: str, event: str, directory: Path) -> float:
    """The part of the sessions that moved; everybody is served, and stays where he is then."""
    whose, happen = EVENTS[event]
    count = MANY if "hash" in name and event in SHARES else VISITORS
    visitors = [Visitor(number) for number in range(count)]
    world = World(MODES[name], directory)
    homes = world.visits(visitors)
    concerned = [number for number, home in enumerate(homes) if home in tuple(whose)]
    before = happen(world, visitors) or homes
    Random(7).shuffle(order := list(range(count)))
    after = {number: world.visit(visitors[number]) for number in order}
    assert None not in after.values()
    assert world.visits(visitors) == [after[number] for number in range(count)]
    return sum(after[number] != before[number] for number in concerned) / len(concerned)


@pytest.mark.parametrize("name", MODES)
def test_who_moves(name: str, tmp_path: Path) -> None:
    """The page tells of every way to stick which sessions move when something happens, as it is measured here."""
    measured = {event: f"{moved(name, event, tmp_path):.2g}" for event in EVENTS}
    assert measured == page().get(name)


def test_the_page_keeps_the_promises() -> None:
    """What is remembered never moves while its backend may serve; what is computed moves about one in n."""
    assert page().keys() == MODES.keys()
    for name, row in page().items():
        part = {event: float(cell) for event, cell in row.items()}
        unmoved = {"another removed", "new addresses", "other order"}
        if "hash" in name:
            assert all(part[event] == pytest.approx(1 / 5, abs=0.04) for event in SHARES)
            unmoved |= {"proxy restarts"}
        else:
            unmoved |= {"one added", "another gets weight 2", "own drains"}
            unmoved |= {"proxy restarts"} if "cookie" in name else {"own back"}
        assert {event for event in unmoved if part[event]} == set(), name


@pytest.mark.parametrize("name", [name for name in MODES if "hash" not in name])
def test_nobody_new_comes_to_one_that_drains(name: str, tmp_path: Path) -> None:
    """Draining, or of weight 0, a backend has its own sessions only, however many clients come."""
    for change in ({"state": "drain"}, {"weight": 0}):
        world = World(MODES[name], tmp_path)
        first = [Visitor(number) for number in range(8)]
        homes = world.visits(first)
        world.configure(PORTS, b=change)
        assert "b" not in world.visits(Visitor(number) for number in range(100, 140))
        assert world.visits(first) == homes and "b" in homes
