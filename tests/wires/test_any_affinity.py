"""Whatever bytes come, by any door, for every affinity that a configuration can name: nothing is raised, bound outside
the cluster, or kept without bound.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from inspect import Parameter, signature
from random import Random
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matrix import EXTENSIONS, PORTS
from twisted.internet.task import Clock

from stickyproxy.cluster import Cluster
from stickyproxy.config import from_tables
from stickyproxy.errors import SessionLost
from stickyproxy.extensions import make
from stickyproxy.interfaces import IAffinity, IReadingAffinity, IStreamInspector
from stickyproxy.model import GONE, UNTIL_CLOSE, Arrival, Connection, RequestHead, ResponseHead
from stickyproxy.sansio.selection import Choice
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.service import build_cluster

SECRET = "s" * 32
#: What the affinities want to be told, where they cannot do without.
NEEDED: dict[str, Any] = {"name": "ID", "claim": "sub", "pattern": "/room/([^/]+)"}
GIVEN = ("cluster", "key_ring", "clock", "random", "sessions")
#: What else one may say.
MORE: list[dict[str, Any]] = [
    {"by": "cookie", "idle": "5m", "lifetime": "1h", "encrypt": True, "bind_to": "address", "nocache": True},
    {"by": "cookie", "attributes": "mirror", "application": "ID", "preserve": True, "indirect": False},
    {"by": "cookie", "accept_cookies_of": ["haproxy", "traefik", "envoy"]},
    {"by": "cookie", "mode": "prefix", "name": "ID", "encrypt": True},
    {"by": "learned", "name": "header:X-Field"},
    {"by": "bearer", "claim": "sub", "key": SECRET, "algorithms": ["HS256"]},
    {"by": "header", "name": "X-Field", "pattern": "([^.]+)", "memory": "name"},
    {"by": ["cookie", "header:X-Field", "query:ID", "engine.io", "learned:ID", "source", "key"]},
]
IDS = {*PORTS}


def configurations() -> list[dict[str, Any]]:
    """Every affinity with what it needs, in every ``memory`` that it has, and ``MORE``."""
    found: list[dict[str, Any]] = []
    for name, extension in EXTENSIONS.of(IAffinity).items():
        by, _, mode = name.partition("/")
        parameters = signature(extension.make, eval_str=True).parameters
        options = {
            key: NEEDED[key]
            for key, parameter in parameters.items()
            if parameter.default is Parameter.empty
            and key not in ("cluster", "key_ring", "clock", "random", "sessions")
        }
        memory = parameters["memory"].annotation if "memory" in parameters else None
        memories = [{"memory": word} for word in get_args(get_args(memory)[0])] if memory else [{}]
        if by == "tlv":
            options["name"] = "authority"
        found += [{"by": by, **({"mode": mode} if mode else {}), **options, **each} for each in memories]
    return found + MORE


def cluster_of(affinity: Mapping[str, Any], store: SessionTable) -> Cluster:
    backends = {id: f"tcp:127.0.0.1:{port}" for id, port in PORTS.items()}
    keeps_none = affinity["by"] == "none" or affinity.get("mode") == "passive"
    kept = {} if keeps_none else {"sessions": {"steering": True}}
    tables = {
        "frontend": {"web": {"listen": "tcp:0", "cluster": "app", "accept_proxy_protocol": ["127.0.0.1"]}},
        "cluster": {
            "app": {"backends": backends, "affinity": affinity, **({"sessions": {"steering": True}} if kept else {})}
        },
    }

    (spec,) = from_tables(tables, EXTENSIONS).clusters
    return build_cluster(spec, Clock(), EXTENSIONS, random=Random(1), directory=None, sessions=store)


def is_one_line(value: bytes) -> bool:
    return not {0, 10, 13} & set(value)


PIECES = [
    b"ID=",
    b"SRV=",
    b"a",
    b"~",
    b";",
    b" ",
    b",",
    b".",
    b"|",
    b"%",
    b"/",
    b"=",
    b'"',
    b"e30.eyJzdWIiOiJ4In0.",
    b"sid",
]
ANY = st.one_of(st.binary(max_size=120), st.lists(st.sampled_from(PIECES) | st.binary(max_size=4)).map(b"".join))
VALUE = ANY.filter(is_one_line)
VALUES = st.lists(VALUE, max_size=2)
FIELDS = (b"X-Field", b"ID", b"Mcp-Session-Id", b"Authorization", b"Set-Cookie", b"Sticky-Move", b"Sticky-TTL")


def plain(named: Mapping[bytes, Sequence[bytes]]) -> list[bytes]:
    return [piece for name, values in named.items() for value in values for piece in (name, b": ", value, b"\r\n")]


@st.composite
def requests(draw: st.DrawFn) -> Arrival:
    fields = {name: draw(VALUES) for name in FIELDS[:3]}
    named = {
        b"host": [draw(VALUE)],
        b"cookie": draw(VALUES),
        b"authorization": [b"Bearer " + each for each in draw(VALUES)],
    }
    target = b"/" + draw(st.sampled_from([b"", b"room/", b"a/b/", b"?ID=", b"?transport=polling&sid="])) + draw(VALUE)
    head = RequestHead(
        draw(st.sampled_from([b"GET", b"POST", b"DELETE"])), target, 1, plain(fields), named, 0, draw(VALUE), True, None
    )
    connection = draw(st.none() | st.builds(Connection, st.none() | VALUE, st.none() | st.binary(max_size=40)))
    client = draw(st.sampled_from(["192.0.2.1", "::1", "unix", ""]) | st.text(max_size=20))
    return Arrival(client, draw(st.booleans()), head, None, connection)


ARRIVALS = requests() | st.builds(Arrival, st.just("192.0.2.7"), st.booleans(), st.none(), ANY)
ANSWER = ResponseHead(200, b"OK", 1, [], {}, UNTIL_CLOSE, False)
ANSWERS = st.builds(
    lambda status, values: ANSWER._replace(status=status, plain=plain(values)),
    st.sampled_from([200, 302, 404, 500]),
    st.fixed_dictionaries(dict.fromkeys(FIELDS, VALUES)),
)


def serve(cluster: Cluster, arrival: Arrival, answer: ResponseHead, content: bytes) -> None:
    """As the wires do it."""
    affinity = cluster.affinity
    recalled = affinity.recall(arrival)
    assert recalled in (None, GONE, *IDS)
    try:
        choice = cluster.select(arrival)
    except SessionLost as lost:
        assert lost.status in (404, 503)
        return
    assert isinstance(choice, Choice) and choice.candidate.id in IDS
    assert recalled in (None, GONE, choice.candidate.id)
    if arrival.head is None:
        assert cluster.bind(arrival, choice) is None
    else:
        for value in arrival.head.named[b"cookie"]:
            assert is_one_line(value if cluster.hide is None else cluster.hide(value))
        head, set_cookie = cluster.settle(arrival, choice, answer)
        assert all(is_one_line(value) for value in (set_cookie or b"", *head.values(b"set-cookie")))
        read = affinity.reader(arrival, choice.candidate.id, head) if IReadingAffinity.providedBy(affinity) else None
        if read is not None:
            read(content[:7], False) or read(content, True)
    assert affinity.recall(arrival) in (None, GONE, *IDS)


@pytest.mark.parametrize("affinity", configurations(), ids=str)
def test_any_bytes(affinity: dict[str, Any]) -> None:
    """Any cookie, field, query, path, token, address, certificate or first bytes; any answer; again and again."""
    store = SessionTable(lambda: 1_700_000_000.0, size=20, memory=4000)
    cluster = cluster_of(affinity, store)

    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.tuples(ARRIVALS, ANSWERS, ANY), min_size=1, max_size=3), st.booleans())
    def whatever_comes(visits: list[tuple[Arrival, ResponseHead, bytes]], forgotten: bool) -> None:
        for arrival, answer, content in visits:
            serve(cluster, arrival, answer, content)
            assert len(store) <= 20 and (store.memory <= 4000 or len(store) == 1)
        if forgotten:
            cluster.affinity.forget(visits[-1][0])
            assert cluster.affinity.recall(visits[-1][0]) in (None, GONE, *IDS)

    whatever_comes()


@pytest.mark.parametrize("affinity", configurations(), ids=str)
def test_strangers_fill_no_memory(affinity: dict[str, Any]) -> None:
    """However many clients come with something new each time, no more is kept of the last than of the first."""
    cluster = cluster_of(affinity, SessionTable(lambda: 1_700_000_000.0, size=50))

    def strangers(start: int, end: int) -> int:
        for number in range(start, end):
            it = b"%d-of-many" % number
            fields = plain({b"X-Field": [it], b"ID": [it], b"Mcp-Session-Id": [it]})
            cookies = b"ID=%s; SRV=%s" % (it, it.rjust(40, b"x"))
            named = {b"cookie": [cookies], b"authorization": [b"Bearer e30.%s.x" % it]}
            target = b"/room/%s/x/%s/xhr?ID=%s" % (it, it, it)
            head = RequestHead(b"GET", target, 1, fields, named, 0, it, True, None)
            client = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
            serve(cluster, Arrival(client, False, head, it, Connection(it, it)), ANSWER, b"")
        return sys.getallocatedblocks()

    before = strangers(0, 8500)
    assert strangers(8500, 10_000) - before < 500


@pytest.mark.parametrize("name", EXTENSIONS.of(IStreamInspector))
def test_any_first_bytes(name: str) -> None:
    """Whatever an inspector makes of the first bytes of a connection: it is a key to be bound by, or none."""
    inspector = make(EXTENSIONS.of(IStreamInspector)[name], {})
    store = SessionTable(lambda: 1_700_000_000.0, size=5)
    cluster = cluster_of({"by": "key"}, store)

    @settings(max_examples=100, deadline=None)
    @given(ANY)
    def whatever_comes(data: bytes) -> None:
        key = inspector.inspect(data[: inspector.peek_bytes])
        arrival = Arrival("192.0.2.1", False, None, key)
        serve(cluster, arrival, ANSWER, b"")
        assert (cluster.affinity.recall(arrival) is None) is not bool(key)
        assert len(store) <= 5

    whatever_comes()
