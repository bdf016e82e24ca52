"""Drains that I begin, wait for and end by the API; and what I see as it happens."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from controls_scene import TOKEN, Scene, told
from twisted.logger import capturedLogs, formatEvent

BACKEND = {"cluster": "app", "backend": "b"}


def test_a_drain_is_waited_for(scene: Scene) -> None:
    """The answer to ``wait`` comes when the last request is over, with nothing left; meanwhile I see what is."""
    member = scene.proxy.clusters["app"].members["b"]
    member.active = 1
    begun = scene.ask("POST", "/api/drains", BACKEND | {"deadline": "20s"}, token=TOKEN)
    assert begun.status == 200, begun
    assert (begun.json()["stage"], begun.json()["sockets"], begun.json()["ended"]) == ("closing", 1, False)
    path = f"/api/drains/{quote(begun.json()['id'])}"
    assert [drain["id"] for drain in scene.ask("GET", "/api/drains").json()["drains"]] == [begun.json()["id"]]
    waiting = scene.connect()
    waiting.deliver(f"GET {path}?wait=30s HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    scene.clock.pump([0.1] * 10)
    assert waiting.written == b""
    member.active = 0
    with capturedLogs() as events:
        scene.clock.pump([0.1] * 5)
    answer = told(waiting.written).json()
    assert (answer["stage"], answer["sockets"], answer["ended"]) == ("done", 0, True)
    assert [formatEvent(event).partition(" after")[0] for event in events] == [
        "The drain of backend b of app is over (done)"
    ]
    scene.clock.advance(60)
    assert scene.ask("GET", path).json()["running"] == answer["running"] < 5
    assert scene.ask("DELETE", path, token=TOKEN).status == 409


def test_a_drain_is_cancelled(scene: Scene) -> None:
    """The backend is as it was; waiting for no longer than I said tells how far it is."""
    scene.proxy.clusters["app"].members["b"].active = 1
    path = f"/api/drains/{quote(scene.ask('POST', '/api/drains', BACKEND, token=TOKEN).json()['id'])}"
    waiting = scene.connect()
    waiting.deliver(f"GET {path}?wait=500ms HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    scene.clock.pump([0.1] * 6)
    assert not told(waiting.written).json()["ended"]
    assert scene.ask("GET", "/api/clusters/app/backends/b").json()["state"] == "maintenance"
    assert scene.ask("DELETE", path, token=TOKEN).json()["stage"] == "cancelled"
    assert scene.ask("GET", "/api/clusters/app/backends/b").json()["file"] == {}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"cluster": "app"}, 422),
        ({"cluster": "none", "backend": "b"}, 404),
        ({"cluster": "app", "backend": "none"}, 404),
        ({"cluster": ["app"], "backend": "b"}, 422),
        (BACKEND | {"deadline": 30}, 422),
        (BACKEND | {"deadline": "soon"}, 422),
        (BACKEND | {"code": 1006}, 422),
        (BACKEND | {"code": "1001"}, 422),
        (BACKEND | {"speed": 1}, 422),
    ],
)
def test_wrong_drains(scene: Scene, body: dict[str, Any], status: int) -> None:
    """Nothing is drained by what makes no sense."""
    assert scene.ask("POST", "/api/drains", body, token=TOKEN).status == status
    assert scene.ask("GET", "/api/drains").json() == {"drains": []}
    assert scene.ask("GET", "/api/drains/none").status == 404
    assert scene.ask("DELETE", "/api/drains/none", token=TOKEN).status == 404


def test_without_a_file_there_is_nothing_to_load(scene: Scene) -> None:
    """A proxy that was not started from a file says so."""
    assert scene.ask("POST", "/api/reload", token=TOKEN).status == 503
    fields = {"Content-Type": "application/toml"}
    assert scene.ask("POST", "/api/plan", b"x = 1", token=TOKEN, fields=fields).status == 503


def test_events(scene: Scene) -> None:
    """I get a snapshot at once and every second, and what the log says; who does not read holds nobody up."""
    scene.events.startService()
    looking = scene.connect()
    looking.deliver(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    scene.clock.pump([0.1] * 25)
    scene.ask("PUT", "/api/clusters/app/backends/b", {"state": "drain"}, token=TOKEN)
    scene.clock.pump([0.1] * 11)
    events = [block.split(b"\r\n")[-1] if b"\r\n" in block else block for block in looking.written.split(b"\n\n")]
    names = [line for block in events for line in block.split(b"\n") if line.startswith(b"event: ")]
    assert names.count(b"event: snapshot") >= 3
    assert b"event: log" in names
    datas = [line[6:] for block in events for line in block.split(b"\n") if line.startswith(b"data: ")]
    said = [event["text"] for event in map(json.loads, datas) if "text" in event]
    assert any("Backend b of app is changed by alice at 127.0.0.1" in text for text in said)
    looking.lose()
    scene.clock.pump([0.1] * 11)
    calls = scene.clock.getDelayedCalls()
    scene.events.stopService()
    assert len(calls) <= 3  # nobody looks, nothing is made
