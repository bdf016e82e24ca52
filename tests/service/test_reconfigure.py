"""A running configuration becomes another one: what differs is changed, and all else is as it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from stickyproxy.config import from_tables
from stickyproxy.extensions import find_extensions
from stickyproxy.listening import CannotListen, listen_on
from stickyproxy.model import BackendState
from stickyproxy.sansio.selection import Choice
from stickyproxy.service import Proxy, build
from stickyproxy.testing import make_arrival
from stickyproxy.wires.http import HTTPFrontendFactory

EXTENSIONS = find_extensions()
TABLES: dict[str, Any] = {
    "frontend": {"web": {"listen": ["tcp:8080"], "cluster": "app", "limits": {"connections": 100}}},
    "cluster": {
        "app": {
            "affinity": "source",
            "backends": {"a": "tcp:127.0.0.1:9001", "b": {"endpoint": "tcp:127.0.0.1:9002", "weight": 2}},
        }
    },
}


class Room:
    """A proxy that runs on a reactor in memory."""

    def __init__(self, tables: dict[str, Any] = TABLES) -> None:
        self.tables = copy.deepcopy(tables)
        self.taken: set[str] = set()
        self.reactor = MemoryReactorClock()
        self.proxy = build(from_tables(self.tables, EXTENSIONS), self.reactor, EXTENSIONS, listen=self._listen)
        self.proxy.privilegedStartService()
        self.proxy.startService()

    def _listen(self, endpoint: str, factory: Any) -> Deferred[Any]:
        if endpoint in self.taken:
            return fail(CannotListenError("", 1, OSError("taken")))
        return listen_on(self.reactor)(endpoint, factory)

    def reload(self) -> Failure | None:
        """Load ``tables`` as they are now; the failure, if there is one."""
        failures: list[Failure] = []
        self.proxy.reconfigure(from_tables(self.tables, EXTENSIONS)).addErrback(failures.append)
        return failures[0] if failures else None

    @property
    def app(self) -> Any:
        return self.tables["cluster"]["app"]

    @property
    def web(self) -> Any:
        return self.tables["frontend"]["web"]


def ports(reactor: Any) -> list[int]:
    return sorted(server[0] for server in reactor.tcpServers)


def served(proxy: Proxy, number: int) -> str:
    """Who serves client ``number`` of cluster app, and is bound to it from now on."""
    choice = proxy.clusters["app"].select(make_arrival(number))
    assert isinstance(choice, Choice)
    proxy.clusters["app"].bind(make_arrival(number), choice)
    return choice.candidate.id


def test_what_does_not_differ_is_not_touched() -> None:
    """A new limit touches neither cluster nor members, sessions, counts, sockets nor what connections share."""
    room = Room()
    proxy = room.proxy
    before = {number: served(proxy, number) for number in range(20)}
    frontend, cluster = proxy.frontends["web"], proxy.clusters["app"]
    kept = frontend.factory, frontend.admission, cluster, cluster.affinity, cluster.balancer, *cluster.members.values()
    room.web["limits"] = {"connections": 7, "fields": 9}
    listener = proxy.listeners["tcp:8080"]
    assert room.reload() is None
    assert frontend.factory.limits.fields == 9 and proxy.configuration.frontends[0].limits.connections == 7
    again = frontend.factory, frontend.admission, cluster, cluster.affinity, cluster.balancer, *cluster.members.values()
    assert [one is other for one, other in zip(kept, again, strict=True)] == [True] * len(kept)
    assert proxy.listeners["tcp:8080"] is listener and len(room.reactor.tcpServers) == 1
    assert {number: served(proxy, number) for number in range(20)} == before


def test_a_backend_comes_and_goes() -> None:
    """Who stays keeps its place, counts and sessions; whose backend is gone gets another; nobody else moves."""
    room = Room()
    proxy = room.proxy
    before = {number: served(proxy, number) for number in range(30)}
    a = proxy.clusters["app"].members["a"]
    a.active = 5
    room.app["backends"] = {"c": "tcp:127.0.0.1:9003", "a": "tcp:127.0.0.1:9001"}
    assert room.reload() is None
    assert list(proxy.clusters["app"].members) == ["c", "a"] and proxy.clusters["app"].members["a"] is a
    after = {number: served(proxy, number) for number in range(30)}
    assert all(after[number] == "a" for number in before if before[number] == "a")
    assert set(after.values()) == {"a", "c"} and a.active == 5


def test_another_endpoint_is_another_backend() -> None:
    """Its sessions follow the name, and what was open stays where it was."""
    room = Room()
    proxy = room.proxy
    before = {number: served(proxy, number) for number in range(20)}
    old = proxy.clusters["app"].members["b"]
    room.app["backends"]["b"] = "tcp:127.0.0.1:9992"
    assert room.reload() is None
    assert proxy.clusters["app"].members["b"] is not old
    assert {number: served(proxy, number) for number in range(20)} == before


def test_what_an_operator_has_set_stays_unless_the_file_speaks() -> None:
    """A state that was set by hand survives a reload about something else, and yields to the file's next word."""
    room = Room()
    b = room.proxy.clusters["app"].members["b"]
    b.set_state(BackendState.DRAIN)
    b.weight = 9
    room.web["limits"] = {"fields": 9}
    assert room.reload() is None
    assert (b.state, b.weight) == (BackendState.DRAIN, 9)
    room.app["backends"]["b"] = {"endpoint": "tcp:127.0.0.1:9002", "weight": 3}
    assert room.reload() is None
    assert (b.state, b.weight) == (BackendState.DRAIN, 3)
    room.app["backends"]["b"]["state"] = "maintenance"
    assert room.reload() is None
    assert b.state is BackendState.MAINTENANCE


def test_endpoints_come_and_go_and_change_hands() -> None:
    """A new one is listened on, an old one no more, and one that another frontend has now keeps its socket."""
    room = Room()
    listener = room.proxy.listeners["tcp:8080"]
    room.tables["frontend"] = {
        "other": {"listen": ["tcp:8080"], "cluster": "app", "protocol": "tcp"},
        "web": {"listen": ["tcp:8081", "tcp:8082"], "cluster": "app"},
    }
    assert room.reload() is None
    assert set(room.proxy.listeners) == {"tcp:8080", "tcp:8081", "tcp:8082"}
    assert room.proxy.listeners["tcp:8080"] is listener and listener.frontend == "other"
    assert listener.switch.wrapped is room.proxy.frontends["other"].outer
    assert ports(room.reactor) == [8080, 8081, 8082]
    del room.tables["frontend"]["web"]
    assert room.reload() is None
    assert set(room.proxy.listeners) == set(room.proxy.frontends["other"].spec.listen) == {"tcp:8080"}


def test_endpoints_that_are_written_alike() -> None:
    """Two frontends on port 0 have a port each, before and after a reload, and when one of them goes."""
    room = Room()
    room.tables["frontend"]["web"]["listen"] = ["tcp:0", "tcp:0"]
    room.tables["frontend"]["more"] = {"listen": ["tcp:0"], "cluster": "app"}
    for _ in range(2):
        assert room.reload() is None
        found = {name: each.listeners for name, each in room.proxy.frontends.items()}
        assert {name: len(each) for name, each in found.items()} == {"web": 2, "more": 1}
        assert len({id(listener) for each in found.values() for listener in each}) == 3
        for name, each in found.items():
            assert {listener.description for listener in each} == {"tcp:0"}
            assert {listener.frontend for listener in each} == {name}
            assert {listener.switch.wrapped for listener in each} == {room.proxy.frontends[name].outer}
    del room.tables["frontend"]["more"]
    assert room.reload() is None
    assert room.proxy.frontends["web"].listeners == found["web"] and len(room.proxy.listening()) == 2


def test_opentelemetry_comes_and_goes() -> None:
    """Turned on and off by reloads, requests are recorded for spans while it is on, in the frontend that goes on."""
    room = Room()
    room.web["trace"], room.tables["access_log"] = True, False
    pool = ThreadPool(0, 1)  # never started: nothing is to be sent
    room.reactor.getThreadPool = lambda: pool  # type: ignore[attr-defined]
    frontend = room.proxy.frontends["web"]
    for wanted in (False, True, True, False, True):
        room.tables.pop("opentelemetry", None)
        if wanted:
            room.tables["opentelemetry"] = {}
        assert room.reload() is None
        assert room.proxy.frontends["web"] is frontend
        assert isinstance(frontend.factory, HTTPFrontendFactory) and frontend.factory.tracing is not None
        assert (frontend.factory.record is not None) is wanted


def test_nothing_changes_when_an_endpoint_is_taken() -> None:
    """Neither the backends nor the first of two new endpoints, which is not listened on any more."""
    room = Room()
    room.taken.add("tcp:8082")
    before = room.proxy.configuration
    room.web["listen"] = ["tcp:8080", "tcp:8081", "tcp:8082"]
    room.app["backends"]["c"] = "tcp:127.0.0.1:9003"
    failure = room.reload()
    assert failure is not None and failure.check(CannotListen)
    assert "frontend web cannot listen on tcp:8082: taken" in failure.getErrorMessage()
    assert room.proxy.configuration is before and set(room.proxy.listeners) == {"tcp:8080"}
    assert list(room.proxy.clusters["app"].members) == ["a", "b"]
    room.taken.clear()
    assert room.reload() is None
    assert set(room.proxy.listeners) == {"tcp:8080", "tcp:8081", "tcp:8082"}


def test_nothing_changes_when_a_file_is_not_right(tmp_path: Path) -> None:
    """A certificate that is none is told, with its path, and the frontends are as they were."""
    broken = tmp_path / "site.pem"
    broken.write_text("nothing of the kind")
    room = Room()
    room.tables["frontend"]["secure"] = {
        "listen": "tcp:8443",
        "cluster": "app",
        "tls": {"certificates": [str(broken)]},
    }
    failure = room.reload()
    assert failure is not None and str(broken) in failure.getErrorMessage()
    assert set(room.proxy.frontends) == {"web"} and ports(room.reactor) == [8080]


def test_another_affinity_and_another_balancer() -> None:
    """They are new where their tables are; what is chosen goes by them at once."""
    room = Room()
    cluster = room.proxy.clusters["app"]
    before = cluster.affinity, cluster.balancer
    room.app["affinity"] = "cookie"
    room.app["balance"] = "least-connections"
    assert room.reload() is None
    assert cluster.affinity is not before[0] and cluster.balancer is not before[1]
    assert cluster.affinity.cookie == b"SRV" and cluster.balancer_name == "least-connections"
    arrival = make_arrival(1)
    choice = cluster.select(arrival)
    assert isinstance(choice, Choice)
    assert (cluster.bind(arrival, choice) or b"").startswith(b"SRV=")


def test_health_stays_with_who_stays() -> None:
    """Who is down is so after a reload; a backend that comes counts as well; without probe and eject nobody is."""
    room = Room()
    room.app["eject"] = {"failures": 1, "max_share": 1.0}
    assert room.reload() is None
    cluster = room.proxy.clusters["app"]
    cluster.members["b"].health.unreached("it refuses")
    assert cluster.health.down == {"b"} and {served(room.proxy, number) for number in range(9)} == {"a"}
    room.app["backends"]["c"] = "tcp:127.0.0.1:9003"
    assert room.reload() is None
    assert cluster.health.down == {"b"} and {served(room.proxy, number) for number in range(10, 30)} == {"a", "c"}
    del room.app["eject"]
    assert room.reload() is None
    assert cluster.health is None and "b" in {served(room.proxy, number) for number in range(40, 60)}


def test_probes_follow_the_members() -> None:
    """A backend that comes is probed, one that is gone is not any more."""
    room = Room()
    room.app["probe"] = {"by": "tcp", "interval": "1s", "jitter": 0}
    assert room.reload() is None

    def probed(seconds: int) -> set[int]:
        room.reactor.tcpClients.clear()
        for _ in range(seconds * 10):
            room.reactor.advance(0.1)
        return {port for _, port, *_ in room.reactor.tcpClients}

    assert probed(3) == {9001, 9002}
    room.app["backends"] = {"a": "tcp:127.0.0.1:9001", "c": "tcp:127.0.0.1:9003"}
    assert room.reload() is None
    assert probed(3) == {9001, 9003}
    del room.app["probe"]
    assert room.reload() is None
    assert probed(3) == set()


class Open:
    """A WebSocket or relay, as far as a drain sees it."""

    def __init__(self, among: set[Any]) -> None:
        self._among = among
        self.told: list[str] = []
        among.add(self)

    def drain(self, code: int | None = None) -> None:
        self.told.append("drain")

    def abort(self) -> None:
        self.told.append("abort")
        self._among.discard(self)

    def is_served_by(self, member: object) -> bool:
        return False


@pytest.mark.parametrize(("policy", "told"), [("keep", []), ("drain", ["drain"]), ("cut", ["abort"])])
def test_what_is_open_to_a_backend_that_is_gone(policy: str, told: list[str]) -> None:
    """It goes on, is drained or is cut, as the cluster's on_removal says in the new file."""
    room = Room()
    b = room.proxy.clusters["app"].members["b"]
    b.active, tunnel = 1, Open(b.tunnels)
    room.app["on_removal"] = policy
    del room.app["backends"]["b"]
    assert room.reload() is None
    room.reactor.advance(1)
    assert tunnel.told == told


@pytest.mark.parametrize(("policy", "told"), [("keep", ["drain"]), ("drain", ["drain"]), ("cut", ["abort"])])
def test_what_is_open_at_a_frontend_that_is_gone(policy: str, told: list[str]) -> None:
    """Also where its connections are kept, HTTP ends with the answer under way."""
    room = Room()
    room.web["on_removal"] = policy
    assert room.reload() is None
    connection = Open(room.proxy.frontends["web"].connections)
    room.tables["frontend"] = {"other": {"listen": "tcp:8081", "cluster": "app"}}
    assert room.reload() is None
    room.reactor.advance(1)
    assert connection.told == told


BACKENDS = st.dictionaries(
    st.sampled_from("abcd"),
    st.fixed_dictionaries(
        {
            "endpoint": st.sampled_from(["tcp:127.0.0.1:9001", "tcp:127.0.0.1:9002"]),
            "weight": st.integers(0, 3),
            "state": st.sampled_from(["up", "drain", "maintenance"]),
        }
    ),
    min_size=1,
)
CLUSTERS = st.dictionaries(
    st.sampled_from(["app", "api"]),
    st.fixed_dictionaries(
        {"backends": BACKENDS},
        optional={
            "affinity": st.sampled_from(["none", "source", "cookie", {"by": "source", "memory": "hash"}]),
            "balance": st.sampled_from(["round-robin", "random-two"]),
            "eject": st.just({}),
            "probe": st.sampled_from(["tcp", "http:/"]),
        },
    ),
    min_size=1,
)


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    clusters = draw(CLUSTERS)
    endpoints = st.lists(st.sampled_from([f"tcp:808{n}" for n in range(4)]), min_size=1, max_size=2, unique=True)
    frontends = {}
    free = {f"tcp:808{n}" for n in range(4)}
    for name in draw(st.lists(st.sampled_from(["web", "other"]), min_size=1, unique=True)):
        listen = [endpoint for endpoint in draw(endpoints) if endpoint in free]
        if listen:
            free -= set(listen)
            protocol = draw(st.sampled_from(["http", "tcp"]))
            frontends[name] = {
                "listen": listen,
                "cluster": draw(st.sampled_from(sorted(clusters))),
                "protocol": protocol,
            }
    for frontend in frontends.values():
        cluster = clusters[frontend["cluster"]]
        if frontend["protocol"] == "tcp" and cluster.get("affinity") == "cookie":
            cluster["affinity"] = "source"
        if frontend["protocol"] == "tcp" and cluster.get("probe") == "http:/":
            cluster["probe"] = "tcp"
    used = {frontend["cluster"] for frontend in frontends.values()}
    return {"frontend": frontends, "cluster": {name: table for name, table in clusters.items() if name in used}}


def seen(proxy: Proxy) -> dict[str, Any]:
    """What a proxy is, as far as its configuration makes it so."""
    return {
        "listeners": {name: listener.frontend for name, listener in proxy.listeners.items()},
        "frontends": {name: each.spec for name, each in proxy.frontends.items()},
        "factories": {name: type(each.factory) for name, each in proxy.frontends.items()},
        "clusters": {
            name: (
                cluster.spec,
                type(cluster.affinity),
                type(cluster.balancer),
                [(id, member.weight, member.state) for id, member in cluster.members.items()],
                cluster.health is None,
                [member.health is None for member in cluster.members.values()],
            )
            for name, cluster in proxy.clusters.items()
        },
    }


@settings(max_examples=25)
@given(st.lists(files(), min_size=2, max_size=4))
def test_any_way_leads_to_the_same_proxy(several: list[dict[str, Any]]) -> None:
    """After reloads a proxy is as one that was started with the last file."""
    room = Room(several[0])
    for tables in several[1:]:
        room.tables = copy.deepcopy(tables)
        assert room.reload() is None
    assert seen(room.proxy) == seen(Room(several[-1]).proxy)
    room.proxy.stopService()
    assert not [call for call in room.reactor.getDelayedCalls() if call.active() and "probe" in str(call)]
