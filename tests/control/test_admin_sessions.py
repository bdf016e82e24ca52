"""Sessions as an operator finds, moves, pins and ends them; and why a request goes where it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from controls_scene import TOKEN, Scene

from stickyproxy.config.limits import Limits
from stickyproxy.model import Arrival
from stickyproxy.sansio.http1 import parse_request_head
from stickyproxy.sansio.sessions import PINNED, SessionTable

BACKENDS = {"a": "tcp:127.0.0.1:1", "b": "tcp:127.0.0.1:2"}
TABLES: dict[str, Any] = {
    "frontend": {"web": {"listen": "tcp:0", "cluster": "app", "routes": [{"path": "/kept/", "cluster": "kept"}]}},
    "cluster": {
        "app": {
            "affinity": {"by": ["source", "header:X-User", {"by": "learned", "name": "PHPSESSID"}]},
            "backends": BACKENDS,
        },
        "kept": {"affinity": "cookie", "backends": BACKENDS},
        "none": {"backends": BACKENDS},
    },
}


@pytest.fixture
def scene(token_file: Path) -> Scene:
    return Scene(token_file, TABLES)


def bind(scene: Scene, backend: str, address: str, **headers: str) -> None:
    """A client of the cluster app is served by ``backend``."""
    lines = ["GET / HTTP/1.1", "Host: x", *(f"{n.replace('_', '-')}: {v}" for n, v in headers.items()), "", ""]
    head = parse_request_head("\r\n".join(lines).encode(), Limits())
    scene.proxy.clusters["app"].affinity.bind(Arrival(address, False, head), backend)


def find(scene: Scene, query: str) -> list[dict[str, Any]]:
    answer = scene.ask("GET", f"/api/sessions?{query}")
    assert answer.status == 200, answer
    found: list[dict[str, Any]] = answer.json()["sessions"]
    return found


def test_a_session_is_found(scene: Scene) -> None:
    """By what its client is known by, whichever of these; a secret one finds it and is not told."""
    bind(scene, "a", "192.0.2.1", X_User="alice", Cookie="PHPSESSID=secret")
    bind(scene, "b", "192.0.2.2", X_User="bob")
    (alice,) = find(scene, "key=alice")
    assert (alice["backend"], alice["cluster"], alice["pinned"]) == ("a", "app", False)
    told = {key["by"]: key["key"] for key in alice["keys"]}
    assert told == {"source": "192.0.2.1", "header X-User": "alice", "learned PHPSESSID": None}
    assert "secret" not in str(alice)
    assert find(scene, "key=secret") == find(scene, "address=192.0.2.1") == find(scene, "key=192.0.2.1") == [alice]
    assert find(scene, "key=carol") == find(scene, "cluster=none") == find(scene, "key=alice&backend=b") == []
    assert {each["backend"] for each in find(scene, "")} == {"a", "b"}
    assert [each["backend"] for each in find(scene, "cluster=app&backend=b")] == ["b"]
    kept = scene.ask("GET", "/api/sessions").json()["clusters"]
    assert {name: [link["kept_by"] for link in links] for name, links in kept.items()} == {
        "app": ["table", "table", "table"],
        "kept": ["client"],
        "none": [None],
    }


@pytest.mark.parametrize("by", ["header:X-API-Key", "header:Mcp-Session-Id", "query:access-token", "query:jsessionid"])
def test_what_no_log_may_have_is_not_told_here(token_file: Path, by: str) -> None:
    """A key that lets whoever has it be the client is told to nobody, though reading is open on this machine."""
    tables = {**TABLES, "cluster": {**TABLES["cluster"], "app": {"affinity": by, "backends": BACKENDS}}}
    scene = Scene(token_file, tables)
    name = by.partition(":")[2]
    field = f"{name}: hush-hush" if by.startswith("header") else "X: y"
    target = f"/?{name}=hush-hush"
    head = parse_request_head(f"GET {target} HTTP/1.1\r\nHost: x\r\n{field}\r\n\r\n".encode(), Limits())
    scene.proxy.clusters["app"].affinity.bind(Arrival("192.0.2.1", False, head), "a")
    (found,) = find(scene, "cluster=app")
    assert found["keys"][0]["key"] is None and "hush" not in str(found)
    assert find(scene, "key=hush-hush") == [found]


def test_many_sessions_come_in_pages(scene: Scene) -> None:
    """Page by page I see each session once, also while others come and go."""
    for number in range(1500):
        bind(scene, "ab"[number % 2], f"10.0.{number >> 8}.{number & 255}", X_User=f"u{number}")
    seen: list[str] = []
    after = ""
    for page in range(100):
        answer = scene.ask("GET", f"/api/sessions?limit=400{after}").json()
        seen += [key["key"] for each in answer["sessions"] for key in each["keys"] if key["by"] == "header X-User"]
        if answer["next"] is None:
            break
        after = f"&after={answer['next']}"
        bind(scene, "a", f"10.9.0.{page}", X_User=f"new{page}")
    assert sorted(seen) == sorted(f"u{number}" for number in range(1500))
    assert len(find(scene, "limit=1000&backend=b")) == 750
    backends = scene.ask("GET", "/api/clusters/app").json()["backends"]
    assert backends["b"]["sessions"] == 750


def test_a_session_is_moved_pinned_and_ended(scene: Scene) -> None:
    """It goes where I say; pinned it stays there, unused and whatever else happens; ended it is a new client's."""
    bind(scene, "a", "192.0.2.1", X_User="alice")
    table: Any = scene.proxy.clusters["app"].sessions
    (alice,) = find(scene, "key=alice")
    path = f"/api/clusters/app/sessions/{alice['id']}"
    moved = scene.ask("PUT", path, {"backend": "b"}, token=TOKEN).json()
    assert (moved["backend"], moved["pinned"]) == ("b", False)
    pinned = scene.ask("PUT", path, {"pinned": True}, token=TOKEN).json()
    assert (pinned["backend"], pinned["pinned"], pinned["why"]) == ("b", True, "an operator has pinned it")
    bind(scene, "a", "192.0.2.1", X_User="alice")  # another served her while b was away
    assert find(scene, "key=alice")[0]["backend"] == "b"
    assert scene.ask("PUT", path, {"backend": "a"}, token=TOKEN).json()["pinned"]
    assert not scene.ask("PUT", path, {"pinned": False}, token=TOKEN).json()["pinned"]
    bind(scene, "b", "192.0.2.1", X_User="alice")
    assert find(scene, "key=alice")[0]["backend"] == "b"
    assert scene.ask("DELETE", path, token=TOKEN).json()["backend"] == "b"
    assert len(table) == 0
    assert scene.ask("DELETE", path, token=TOKEN).status == 404


def test_pinned_sessions_are_not_given_up() -> None:
    """Neither idleness nor want of room ends one that is pinned."""
    now = 0.0
    table = SessionTable(lambda: now, idle=10, size=3)
    table.bind([b"p"], "a", PINNED)
    now = 100.0
    for number in range(10):
        table.bind([b"%d" % number], "b")
    assert len(table) == 3
    assert table.held() == table.counts() == {"a": 1, "b": 2}
    now = 200.0
    assert table.find(b"p") == "a"
    assert table.find(b"9") is None
    assert table.held() == table.counts() == {"a": 1, "b": 0}
    for number in range(4):
        table.bind([b"p%d" % number], "b", PINNED)
    assert len(table) == 3


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/sessions?cluster=other", None, 404),
        ("GET", "/api/sessions?limit=0", None, 422),
        ("GET", "/api/sessions?limit=1001", None, 422),
        ("GET", "/api/sessions?limit=x", None, 422),
        ("GET", "/api/sessions?after=app", None, 422),
        ("GET", "/api/sessions?limit=1&limit=2", None, 422),
        ("GET", "/api/sessions?lmit=1", None, 422),
        ("GET", "/api/sessions?address=192.0.2", None, 422),
        ("GET", "/api/sessions?key=%ff", None, 400),
        ("PUT", "/api/clusters/app/sessions/0", {"backend": "b"}, 404),
        ("PUT", "/api/clusters/app/sessions/0", {"backend": "c"}, 422),
        ("PUT", "/api/clusters/app/sessions/0", {"pinned": 1}, 422),
        ("PUT", "/api/clusters/app/sessions/0", {}, 422),
        ("PUT", "/api/clusters/kept/sessions/0", {"backend": "b"}, 409),
        ("DELETE", "/api/clusters/none/sessions/0", None, 409),
        ("DELETE", "/api/clusters/other/sessions/0", None, 404),
        ("POST", "/api/explain", {}, 422),
        ("POST", "/api/explain", {"url": 1}, 422),
        ("POST", "/api/explain", {"url": "ftp://x/"}, 422),
        ("POST", "/api/explain", {"url": "http://[x/"}, 422),
        ("POST", "/api/explain", {"url": "http://x:99999999/"}, 422),
        ("POST", "/api/explain", {"url": "http://x/", "headers": ["a b"]}, 422),
        ("POST", "/api/explain", {"url": "http://x/", "headers": ["a: b\r\nc: d"]}, 422),
        ("POST", "/api/explain", {"url": "http://x/", "address": "x"}, 422),
        ("POST", "/api/explain", {"url": "http://x/", "frontend": "x"}, 422),
        ("POST", "/api/explain", {"url": "http://x/", "frontend": None}, 422),
    ],
)
def test_wrong_questions(scene: Scene, method: str, path: str, body: dict[str, Any] | None, status: int) -> None:
    """What cannot be found or makes no sense gets a status that says so."""
    answer = scene.ask(method, path, body, token=TOKEN)
    assert answer.status == status, answer
    assert answer.json()["detail"]


def test_why_a_client_is_where_it_is(scene: Scene) -> None:
    """For a client by its address, and by the cookie that it has, I am told who serves it, and why."""
    bind(scene, "b", "192.0.2.1", X_User="alice")
    told = scene.ask("POST", "/api/explain", {"url": "http://x/", "address": "192.0.2.1"}).json()
    assert (told["frontend"], told["cluster"], told["backend"], told["outcome"]) == ("web", "app", "b", "kept")
    assert "affinity source: bound to b" in told["why"]
    set_cookie = scene.proxy.clusters["kept"].affinity.bind(
        Arrival("192.0.2.9", False, parse_request_head(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Limits())), "a"
    )
    assert set_cookie is not None
    cookie = set_cookie.partition(b";")[0].decode()
    for headers in ([f"Cookie: {cookie}"], {"Cookie": cookie}):
        told = scene.ask("POST", "/api/explain", {"url": "http://x/kept/1", "headers": headers}).json()
        assert (told["cluster"], told["backend"], told["outcome"]) == ("kept", "a", "kept")
    for given in (cookie[:-1], f"{cookie[:-4]}AAAA", f"{cookie}; {cookie}x"):
        told = scene.ask("POST", "/api/explain", {"url": "http://x/kept/", "headers": [f"Cookie: z=1; {given}"]}).json()
        assert told["outcome"] == "new"
        assert "its cookie does not count: cut" in told["why"][1]


def test_what_is_remembered_elsewhere_is_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """With workers, what another process remembers of a client is told, and not only that there may be something."""

    async def later(backend: str | None) -> str | None:
        return backend

    source, user, learned = (link for _, link in scene.proxy.clusters["app"].links)
    monkeypatch.setattr(user, "recall", lambda arrival: later(None))
    monkeypatch.setattr(learned, "recall", lambda arrival: later("b"))
    told = scene.ask("POST", "/api/explain", {"url": "http://x/", "headers": ["X-User: eve"]}).json()
    assert told["why"][2] == "affinity header X-User: knows nothing of this client"
    assert told["why"][3] == "affinity learned PHPSESSID: bound to b"


def test_asking_takes_nobodys_place(token_file: Path) -> None:
    """Whoever asks does not stand in the line of clients, and does not use up what is left to be tried."""
    cluster = {
        "eject": {"failures": 1, "time": "10s", "trials": 1},
        "max_connections": 1,
        "queue": {"size": 2},
        "backends": {"a": "tcp:127.0.0.1:1", "b": {"endpoint": "tcp:127.0.0.1:2", "state": "drain"}},
    }
    scene = Scene(token_file, {**TABLES, "cluster": {**TABLES["cluster"], "app": cluster}})
    app = scene.proxy.clusters["app"]
    member = app.members["a"]
    member.active = 1
    for _ in range(3):
        told = scene.ask("POST", "/api/explain", {"url": "http://x/"}).json()
        assert told["backend"] == "a" and "a serves as many as it may now: a client waits in line" in told["why"]
    assert app.layers.limits.waiting(None) == 0
    member.active = 0
    assert member.health is not None
    member.health.lost("it is gone")
    scene.clock.advance(11)
    assert member.health.on_trial
    for _ in range(3):
        assert scene.ask("POST", "/api/explain", {"url": "http://x/"}).json()["backend"] == "a"
    assert not member.health.down
