"""Frontends, and the whole process, drained by the API: who may come, who ends, and how it listens again."""

from __future__ import annotations

from typing import Any

import pytest
from closed_house import Guest, House

from stickyproxy.control.refusal import Refusal


def test_a_frontend_is_drained() -> None:
    """It listens no more, its connections end with my code, the others' go on; what is left is cut at the deadline."""
    house = House()
    web, raw = (house.proxy.frontends[name].factory.connections for name in ("web", "raw"))
    polite, rude, other = Guest(web), Guest(web, polite=False), Guest(raw)
    begun = house.drain(frontend="web", deadline="10s", code=1012)
    assert (begun["id"], begun["stage"]) == ("frontend web", "closing")
    assert house.open == ["tcp:8082"]
    assert (polite.told, rude.told, other.told) == ([1012], [1012], [])
    house.clock.pump([0.1] * 110)
    report = house.result(house.controls.drained("frontend web", None))
    assert (report["stage"], report["cut"], report["sockets"]) == ("cut", 1, 0)
    assert {name: each["closed"] for name, each in house.result(house.controls.snapshot())["frontends"].items()} == {
        "web": True,
        "raw": False,
    }
    house.cancel("frontend web")
    assert sorted(house.open) == ["tcp:8080", "tcp:8081", "tcp:8082"]
    with pytest.raises(Refusal):
        house.cancel("frontend web")


def test_the_process_is_drained() -> None:
    """Nobody comes to any frontend; afterwards those listen again that were not closed by themselves."""
    house = House()
    guests = [Guest(each.factory.connections) for each in house.proxy.frontends.values()]
    house.drain(frontend="raw")
    report = house.drain(process=True)
    assert (report["id"], house.open, [guest.told for guest in guests]) == ("process", [], [[None], [None]])
    assert house.cancel("process")["ended"]
    assert house.open == ["tcp:8080", "tcp:8081"]
    house.cancel("frontend raw")
    assert sorted(house.open) == ["tcp:8080", "tcp:8081", "tcp:8082"]


def test_a_port_that_is_taken_meanwhile() -> None:
    """Then I am told, the frontend stays closed as a whole, and I can try again."""
    house = House()
    house.drain(frontend="web")
    house.taken.add("tcp:8081")
    with pytest.raises(Refusal, match="cannot listen on tcp:8081: taken"):
        house.cancel("frontend web")
    assert house.open == ["tcp:8082"]
    house.taken.clear()
    house.cancel("frontend web")
    assert sorted(house.open) == ["tcp:8080", "tcp:8081", "tcp:8082"]


def test_a_reload_leaves_it_closed() -> None:
    """Also with another endpoint; one that an open frontend has now is listened on, and one that it loses is not."""
    house = House()
    house.drain(frontend="web")
    web, raw = house.tables["frontend"]["web"], house.tables["frontend"]["raw"]
    web["listen"], raw["listen"] = ["tcp:8080", "tcp:8082", "tcp:8083"], ["tcp:8081"]
    house.reload()
    assert house.open == ["tcp:8081"]
    house.cancel("frontend web")
    assert sorted(house.open) == ["tcp:8080", "tcp:8081", "tcp:8082", "tcp:8083"]
    house.drain(frontend="web")
    gone = house.tables["frontend"].pop("web")
    house.reload()
    house.tables["frontend"]["web"] = gone
    house.reload()
    assert sorted(house.open) == ["tcp:8080", "tcp:8081", "tcp:8082", "tcp:8083"]


@pytest.mark.parametrize(
    ("wanted", "kind"),
    [
        ({"frontend": "none"}, "unknown"),
        ({"frontend": ["web"]}, "invalid"),
        ({"frontend": "web", "stay": "5s"}, "invalid"),
        ({"frontend": "web", "cluster": "app"}, "invalid"),
        ({"frontend": "web", "deadline": 3}, "invalid"),
        ({"process": False}, "invalid"),
        ({"process": True, "frontend": "web"}, "invalid"),
    ],
)
def test_wrong_drains_close_nothing(wanted: dict[str, Any], kind: str) -> None:
    """What makes no sense is refused before anything happens."""
    house = House()
    with pytest.raises(Refusal) as refused:
        house.drain(**wanted)
    assert (refused.value.kind, len(house.open)) == (kind, 3)
