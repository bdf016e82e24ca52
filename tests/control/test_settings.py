"""What I have set while a proxy ran, after another process took over from it."""

from __future__ import annotations

import copy
import json
from typing import Any

from closed_house import TABLES, House

from stickyproxy.control.settings import settings_of


def set_up() -> tuple[dict[str, Any], dict[str, Any]]:
    """The tables of a proxy with two backends, and what was set there."""
    tables = copy.deepcopy(TABLES)
    tables["cluster"]["app"]["backends"] |= {
        "b": {"endpoint": "tcp:127.0.0.1:9002", "weight": 2},
        "c": "tcp:127.0.0.1:9003",
    }
    house = House(tables=tables)
    change = house.controls.change_backend
    house.result(change("app", "a", {"state": "maintenance"}, "alice"))
    house.result(change("app", "b", {"state": "drain", "weight": 7}, "alice"))
    house.drain(frontend="web")
    settings: dict[str, Any] = json.loads(json.dumps(settings_of(house.proxy)))
    return tables, settings


def values(house: House) -> dict[str, tuple[str, int]]:
    return {id: (each.state.value, each.weight) for id, each in house.proxy.clusters["app"].members.items()}


def test_states_weights_and_closed_frontends_come_over() -> None:
    """They are as I set them, also in the API, and a frontend that I drained is opened by the drain's name."""
    tables, settings = set_up()
    house = House(settings, tables)
    assert values(house) == {"a": ("maintenance", 1), "b": ("drain", 7), "c": ("up", 1)}
    assert house.open == ["tcp:8082"]
    report = house.result(house.controls.snapshot())["clusters"]["app"]["backends"]["b"]
    assert report["file"] == {"state": "up", "weight": 2}
    house.cancel("frontend web")
    assert sorted(house.open) == ["tcp:8080", "tcp:8081", "tcp:8082"]


def test_what_the_new_file_says_otherwise_holds() -> None:
    """As over a reload: where the file of the new process says something new, that is wanted; what is gone is gone."""
    tables, settings = set_up()
    app = tables["cluster"]["app"]["backends"]
    app["b"]["weight"] = 3
    app["new"] = app.pop("a")
    tables["frontend"]["other"] = tables["frontend"].pop("web")
    house = House(settings, tables)
    assert values(house) == {"b": ("drain", 3), "c": ("up", 1), "new": ("up", 1)}
    assert len(house.open) == 3


def test_an_older_version_tells_nothing() -> None:
    """Then all is as the file says."""
    assert len(House({}).open) == 3
