"""The admin API as its clients meet it, and everything that is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from controls_scene import TOKEN, Scene, told
from twisted.logger import LogLevel, capturedLogs

BACKEND = "/api/clusters/app/backends/b"


def test_clusters_and_backends_are_read(scene: Scene) -> None:
    """What I see of a cluster is the same, whichever path I take to it; HEAD has the length of GET and no content."""
    everything = scene.ask("GET", "/api/clusters")
    assert everything.status == 200
    assert everything.fields["Content-Type"] == "application/json"
    clusters = everything.json()["clusters"]
    assert len(clusters["api"]["backends"]) == 8
    assert scene.ask("GET", "/api/clusters/api").json() == clusters["api"]
    assert scene.ask("GET", BACKEND).json()["weight"] == 3
    head = scene.ask("HEAD", "/api/clusters")
    assert (head.status, head.data) == (200, b"")
    assert head.fields["Content-Length"] == everything.fields["Content-Length"]
    assert scene.ask("GET", "/api/frontends").json()["frontends"]["web"]["protocol"] == "http"
    assert scene.ask("GET", "/api/certificates").json() == {"certificates": []}
    assert scene.ask("GET", "/api/version").json()["processes"]


def test_a_backend_is_drained(scene: Scene) -> None:
    """With a token I change state and weight; the log says that it was me, and from where."""
    with capturedLogs() as events:
        answer = scene.ask("PUT", BACKEND, {"state": "drain", "weight": 5}, token=TOKEN)
    assert answer.status == 200
    assert answer.json()["file"] == {"state": "up", "weight": 3}
    assert scene.ask("GET", BACKEND).json() == answer.json()
    (event,) = [event for event in events if event["log_namespace"] == "stickyproxy.control.controls.LocalControls"]
    assert event["by"] == "alice at 127.0.0.1"


def test_security_fields_are_everywhere(scene: Scene) -> None:
    """Nothing is kept by a cache, framed, or taken for what it is not, mistakes included."""
    for answer in (scene.ask("GET", "/"), scene.ask("GET", "/api/clusters"), scene.ask("GET", "/none")):
        assert answer.fields["Cache-Control"] == "no-store"
        assert answer.fields["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.fields["Content-Security-Policy"]
        assert "Server" not in answer.fields


REFUSED: list[tuple[str, dict[str, Any], int]] = [
    ("no token", {}, 401),
    ("a wrong token", {"token": "x" * 32}, 401),
    ("another scheme", {"fields": {"Authorization": f"Basic {TOKEN}"}}, 401),
    ("a token with more behind it", {"token": TOKEN + " x"}, 401),
    ("a token that is not ASCII", {"token": "\xe9" * 32}, 401),
    ("no JSON", {"token": TOKEN, "body": b"{"}, 400),
    ("no UTF-8", {"token": TOKEN, "body": b'{"state": "\xff"}'}, 400),
    ("a number that JSON does not have", {"token": TOKEN, "body": b'{"weight": NaN}'}, 400),
    ("very deep JSON", {"token": TOKEN, "body": b"[" * 60_000}, 400),
    ("a number with very many digits", {"token": TOKEN, "body": b'{"weight": ' + b"9" * 5000 + b"}"}, 400),
    ("a list", {"token": TOKEN, "body": b"[]"}, 422),
    ("no body", {"token": TOKEN, "body": b""}, 400),
    ("an unknown key", {"token": TOKEN, "body": {"stat": "up"}}, 422),
    ("an unknown state", {"token": TOKEN, "body": {"state": "off"}}, 422),
    ("another type of content", {"token": TOKEN, "fields": {"Content-Type": "text/html"}}, 415),
    ("no type of content", {"token": TOKEN, "fields": {"Content-Type": None}}, 415),
    ("a large body", {"token": TOKEN, "body": b" " * 70_000}, 413),
    ("an unknown cluster", {"token": TOKEN, "path": "/api/clusters/none/backends/b"}, 404),
    ("an unknown backend", {"token": TOKEN, "path": "/api/clusters/app/backends/none"}, 404),
    ("a name with a slash", {"token": TOKEN, "path": "/api/clusters/app%2Fx/backends/b"}, 404),
    ("a name that is no UTF-8", {"token": TOKEN, "path": "/api/clusters/%ff/backends/b"}, 400),
    ("a path with more", {"token": TOKEN, "path": BACKEND + "/"}, 404),
    ("a parameter", {"token": TOKEN, "path": BACKEND + "?x=1"}, 422),
    ("another method", {"token": TOKEN, "method": "PATCH"}, 405),
    ("a strange method", {"token": TOKEN, "method": "BREW"}, 405),
    ("a stranger's page", {"token": TOKEN, "fields": {"Origin": "http://evil.example"}}, 403),
    ("a page without origin", {"token": TOKEN, "fields": {"Origin": "null"}}, 403),
    ("a page of another port", {"token": TOKEN, "fields": {"Origin": "http://localhost:9901"}}, 403),
    ("a page of another site", {"token": TOKEN, "fields": {"Sec-Fetch-Site": "cross-site"}}, 403),
    ("a name that is not ours", {"token": TOKEN, "fields": {"Host": "evil.example:9900"}}, 421),
    ("a name like an address", {"token": TOKEN, "fields": {"Host": "127.0.0.1.evil.example"}}, 421),
    ("no name", {"token": TOKEN, "fields": {"Host": None}}, 400),
]


@pytest.mark.parametrize(("why", "how", "status"), REFUSED, ids=[why for why, *_ in REFUSED])
def test_bad_calls_are_refused(scene: Scene, why: str, how: dict[str, Any], status: int) -> None:
    """Each gets its status and says what is wrong, in JSON; nothing is changed and the log has no traceback."""
    method, path = how.pop("method", "PUT"), how.pop("path", BACKEND)
    body = how.pop("body", {"state": "drain"})
    with capturedLogs() as events:
        answer = scene.ask(method, path, body, **how)
    how |= {"method": method, "path": path, "body": body}
    assert answer.status == status, answer
    problem = answer.json()
    assert problem["status"] == status
    assert problem["detail"]
    assert answer.fields["Content-Type"] == "application/problem+json"
    assert ("WWW-Authenticate" in answer.fields) is (status == 401)
    assert answer.fields.get("Allow") == ("GET, HEAD, OPTIONS, PUT" if status == 405 else None)
    assert not [event for event in events if event["log_level"] >= LogLevel.error]
    assert scene.ask("GET", BACKEND).json()["file"] == {}


def test_our_own_page_may_ask(scene: Scene) -> None:
    """A browser's request from our own page, by any name that is ours."""
    for host in ("localhost:9900", "127.0.0.1:9900", "[::1]:9900", "admin.example.org", "LOCALHOST"):
        origin = f"http://{host}".lower()
        fields = {"Host": host, "Origin": origin, "Sec-Fetch-Site": "same-origin"}
        assert scene.ask("PUT", BACKEND, {"weight": 4}, token=TOKEN, fields=fields).status == 200
    fields = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}  # a link to us elsewhere
    assert scene.ask("GET", "/", fields=fields).status == 200


def test_what_a_path_can(scene: Scene) -> None:
    """OPTIONS tells the methods."""
    answer = scene.ask("OPTIONS", BACKEND)
    assert (answer.status, answer.fields["Allow"], answer.data) == (204, "GET, HEAD, OPTIONS, PUT", b"")
    assert scene.ask("OPTIONS", "/none").status == 404


def test_elsewhere_everything_needs_a_token(scene: Scene) -> None:
    """Where others reach the API, reading needs a token too; the page has nothing in it, and does not."""
    scene.site.local = False
    assert scene.ask("GET", "/api/clusters", peer="203.0.113.9").status == 401
    assert scene.ask("GET", "/api/clusters", peer="203.0.113.9", token=TOKEN).status == 200
    assert scene.ask("GET", "/", peer="203.0.113.9").status == 200


def test_guessing_is_slowed_down(scene: Scene) -> None:
    """After ten wrong tokens an address from elsewhere waits, with the right one as well; nobody else does."""
    scene.site.local = False
    statuses = [scene.ask("GET", "/api/version", token="x" * 32, peer="203.0.113.9").status for _ in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    answer = scene.ask("GET", "/api/version", token=TOKEN, peer="203.0.113.9")
    assert answer.status == 429
    assert 1 <= int(answer.fields["Retry-After"]) <= 61
    assert scene.ask("GET", "/api/version", token=TOKEN, peer="203.0.113.10").status == 200
    scene.clock.advance(7)
    assert scene.ask("GET", "/api/version", token=TOKEN, peer="203.0.113.9").status == 200
    scene.site.local = True  # others on this machine keep nobody out
    for _ in range(12):
        scene.ask("GET", "/api/version", token="x" * 32)
    assert scene.ask("GET", "/api/version", token="x" * 32).status == 429
    assert scene.ask("GET", "/api/version", token=TOKEN).status == 200


def test_without_tokens_nothing_can_be_changed() -> None:
    """Without a token_file I can look, and am told why I can do no more."""
    scene = Scene()
    assert scene.ask("GET", "/api/clusters").status == 200
    answer = scene.ask("PUT", BACKEND, {"state": "drain"})
    assert answer.status == 403
    assert "token_file" in answer.json()["detail"]
    assert scene.ask("PUT", BACKEND, {"state": "drain"}, token=TOKEN).status == 401


def test_a_body_without_end(scene: Scene) -> None:
    """A body is not kept past its limit, announced or in chunks; past some megabytes the connection ends."""
    head = f"PUT {BACKEND} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    announced = scene.connect()
    announced.deliver(f"{head}Content-Length: {1 << 40}\r\n\r\n".encode() + b"x" * 1000)
    assert announced.disconnecting
    chunked = scene.connect()
    chunked.deliver(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
    for _ in range(17):
        chunked.deliver(b"100000\r\n" + b"x" * 0x100000 + b"\r\n")
    assert chunked.disconnecting
    less = scene.connect()
    less.deliver(f"{head}Content-Type: application/json\r\nContent-Length: 8000000\r\n\r\n".encode())
    for _ in range(8):
        less.deliver(b"x" * 1_000_000)
    assert told(less.written).status == 413


def test_a_large_body_of_a_stranger_is_not_kept(scene: Scene) -> None:
    """Only who has a token may have megabytes of ours, all others some kilobytes."""
    stranger = scene.connect()
    stranger.deliver(
        b"POST /api/plan HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n" + b"#" * 2_999_999
    )
    (channel,) = scene.site.channels
    assert channel.requests[0].content.getbuffer().nbytes < 100_000
    stranger.deliver(b"#")
    assert told(stranger.written).status == 401
    fields = {"Content-Type": "application/toml"}
    assert scene.ask("POST", "/api/plan", b"#" * 3_000_000, token=TOKEN, fields=fields).status == 503


@pytest.mark.parametrize("slow", ["GET / HTTP/1.1", f"PUT {BACKEND} HTTP/1.1\r\nContent-Length: 9999\r\n\r\n"])
def test_a_request_byte_by_byte(scene: Scene, slow: str) -> None:
    """A request that takes too long ends its connection: nobody keeps all of them with a byte now and then."""
    transport = scene.connect()
    for byte in slow[:12].encode():
        transport.deliver(bytes((byte,)))
        scene.clock.advance(10)
        if transport.disconnecting:
            break
    assert transport.disconnecting


def test_answers_wait_for_who_does_not_take_them(scene: Scene) -> None:
    """A thousand requests in a row cost the memory of one answer, and come one after another as they are taken."""
    transport = scene.connect(high_water=65536)
    request = b"GET /vendor/uPlot.iife.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    transport.deliver(request * 1000)
    for _ in range(100):
        scene.clock.advance(0)
    assert transport.unread < 300_000
    for _ in range(100):  # nor is kept what is asked meanwhile
        transport.deliver(request * 100)
    assert sum(map(len, next(iter(scene.site.channels))._dataBuffer)) < 200_000
    taken = sum(transport.drain().count(b"HTTP/1.1 200 OK") for _ in range(50))
    assert taken > 50
    scene.clock.advance(301)
    transport.turn()
    assert not transport.connected and not scene.site.channels


def test_connections_are_bounded(scene: Scene) -> None:
    """The 257th connection takes the place of the one that has said nothing for longest; who gets an answer stays."""
    some = [scene.connect() for _ in range(256)]
    some[0].deliver(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    some[1].deliver(b"GET / HTTP/1.1\r\n")
    assert scene.ask("GET", "/api/version").status == 200
    for transport in some[:3]:
        transport.turn()
    assert [transport.connected for transport in some[:3]] == [True, False, True]
    assert len(scene.site.channels) <= 256


def test_where_nobody_is_served_any_more_nothing_goes_on(scene: Scene, token_file: Path) -> None:
    """Where [admin] is taken away, connections that are open are of no use: they end, with the answer under way."""
    kept, looking, asking = scene.connect(), scene.connect(), scene.connect()
    get = "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    kept.deliver(get.format("/api/version").encode())
    scene.events.startService()
    looking.deliver(get.format("/api/events").encode())
    for _ in range(50):
        scene.clock.advance(0)
    asking.deliver(get.format("/api/snapshot").encode())
    scene.site.close()
    for _ in range(50):
        scene.clock.advance(0)
    scene.events.stopService()
    assert all(each.disconnecting for each in (kept, looking, asking))
    assert asking.written.startswith(b"HTTP/1.1 200 OK") and asking.written.endswith(b"}\n")


def test_tokens_are_read_again(scene: Scene, token_file: Path) -> None:
    """A new file of tokens counts at once; one that others may read ends all tokens until it is mended."""
    token_file.write_text(f"# ours\n{'n' * 32}\nbob {'b' * 32} # bob's\n")
    assert scene.ask("PUT", BACKEND, {"weight": 4}, token=TOKEN).status == 401
    assert scene.ask("PUT", BACKEND, {"weight": 4}, token="b" * 32).status == 200
    assert scene.ask("PUT", BACKEND, {"weight": 4}, token="n" * 32).status == 200
    assert "nobody's" in scene.ask("PUT", BACKEND, {"weight": 4}, token="x" * 32).json()["detail"]
    token_file.chmod(0o644)
    refused = scene.ask("PUT", BACKEND, {"weight": 4}, token="b" * 32)
    assert (refused.status, "the token file is wrong" in refused.json()["detail"]) == (401, True)
    token_file.chmod(0o400)
    assert scene.ask("PUT", BACKEND, {"weight": 4}, token="b" * 32).status == 200
    token_file.unlink()
    assert scene.ask("PUT", BACKEND, {"weight": 4}, token="b" * 32).status == 401
