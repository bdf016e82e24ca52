"""``stickyproxy.config.load``: a TOML file to a configuration, or to every mistake in it."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.config import Configuration, ConfigurationErrors, from_tables, load
from stickyproxy.config.logs import AccessLog
from stickyproxy.config.specs import (
    AnswerLimits,
    BackendTLS,
    ClusterTimeouts,
    FrontendTimeouts,
    Inspect,
    Limits,
    Named,
    Pool,
    Route,
)
from stickyproxy.config.units import Duration, Size, read_duration, read_size, write_duration, write_size
from stickyproxy.extensions import Extension, find_extensions
from stickyproxy.interfaces import IAffinity, IBalancer
from stickyproxy.model import Backend, BackendState

ROOT = Path(__file__).parent.parent.parent
KEYS = [
    "frontend",
    "cluster",
    "web",
    "app",
    "listen",
    "routes",
    "timeouts",
    "tls",
    "affinity",
    "by",
    "balance",
    "backends",
]
KEYS += ["a", "keys", "key_file", "limits", "pool", "process", "access_log", "protocol"]
BASE = """
[frontend.web]
listen = "tcp:8080"
cluster = "app"
[cluster.app]
backends.a = "tcp:127.0.0.1:9001"
"""


def _rich(
    cluster: str,
    random: Any,
    *,
    pattern: str,
    idle: Duration | None = 60.0,
    room: Size = 1024,
    ratio: float = 0.5,
    words: tuple[str, ...] = (),
    secure: Literal["auto"] | bool = "auto",
    depth: int = 1,
    cache: Path | None = None,
) -> None:
    """An affinity with an option of every kind."""


class Own:
    """Extensions that are only in this test."""

    found: Mapping[Any, Mapping[str, Any]] = {
        IAffinity: {"none": Extension("none", IAffinity, lambda: None), "rich": Extension("rich", IAffinity, _rich)},
        IBalancer: {
            "round-robin": Extension("round-robin", IBalancer, lambda: None),
            "fair": Extension("fair", IBalancer, lambda quota=1: None),
        },
    }

    def of(self, interface: Any) -> Mapping[str, Any]:
        return self.found[interface]


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Configuration]:
    """``read(toml)``: what ``load`` makes of a file in a directory of its own."""

    def read(toml: str, extensions: Any = None) -> Configuration:
        path = tmp_path / "proxy.toml"
        path.write_text(textwrap.dedent(toml))
        return load(path, extensions or find_extensions())

    return read


@pytest.fixture
def mistakes(read: Callable[..., Configuration]) -> Callable[..., dict[str, str]]:
    """``mistakes(toml)``: the message for each key."""

    def mistakes(toml: str, extensions: Any = None) -> dict[str, str]:
        with pytest.raises(ConfigurationErrors) as caught:
            read(toml, extensions)
        found: dict[str, str] = {}
        for mistake in caught.value.mistakes:
            found[mistake.key] = "; ".join(filter(None, (found.get(mistake.key), mistake.message)))
        return found

    return mistakes


def test_defaults(read: Callable[..., Configuration]) -> None:
    """A file with one backend is enough, and all else has the defaults that are documented."""
    configuration = read(BASE)
    (frontend,), (cluster,) = configuration.frontends, configuration.clusters
    assert (frontend.name, frontend.listen, frontend.cluster, frontend.protocol) == (
        "web",
        ("tcp:8080",),
        "app",
        "http",
    )
    assert (frontend.routes, frontend.trusted_proxies, frontend.accept_proxy_protocol) == ((), (), ())
    assert (frontend.timeouts, frontend.limits, frontend.tls, frontend.access_log) == (
        FrontendTimeouts(),
        Limits(),
        None,
        AccessLog(),
    )
    assert (cluster.name, cluster.backends) == ("app", (Backend("a", "tcp:127.0.0.1:9001"),))
    assert (cluster.balance, cluster.affinity) == (Named("round-robin"), Named("none"))
    assert (cluster.timeouts, cluster.pool, cluster.tls) == (ClusterTimeouts(), Pool(), None)
    assert (cluster.keys, cluster.key_file, cluster.send_proxy_protocol) == ((), None, None)


def test_every_key_arrives(read: Callable[..., Configuration], tmp_path: Path) -> None:
    """What is written is what the proxy gets: units converted, paths absolute, tables as values."""
    for name in ("certs", "clients.pem", "ca.pem", "own.pem"):
        (tmp_path / name).touch()
    configuration = read("""
        access_log = false
        [frontend.web]
        listen = ["tcp:8080", "unix:/run/web.sock"]
        protocol = "http"
        routes = [{ host = "*.example.org", path = "/v1/", cluster = "app" }, { cluster = "app", path = "/x" }]
        trusted_proxies = ["10.0.0.0/8", "::1"]
        accept_proxy_protocol = "192.0.2.7"
        access_log = "log/web.log"
        timeouts = { head = "500ms", body = "2s", send = "3s", keep_alive = "5m", linger = "4s", tunnel = "1h" }
        limits.target = "1KiB"
        limits.head = 4096
        limits.fields = 7
        limits.body = "1GiB"
        limits.body_rate = "500B"
        limits.chunk_extensions = 9
        limits.trailers = "2KiB"
        limits.requests = 1000
        limits.pipelined = 0
        limits.connections = 10000
        limits.connections_per_address = 20
        tls.certificates = "certs"
        tls.minimum_version = "1.3"
        tls.client_ca = "clients.pem"
        tls.client_certificates = "optional"
        [frontend.quiet]
        listen = "tcp:8081"
        cluster = "app"
        [cluster.app]
        balance = "least-connections"
        affinity = { by = "cookie", name = "STICK", max_age = "7d", secure = true }
        timeouts = { connect = "1s", answer = "1.5s" }
        pool = { size = 0, idle = "1d" }
        limits = { head = "8KiB", interim = 0 }
        send_proxy_protocol = 2
        tls = { ca = "ca.pem", server_name = "internal.example.org", certificate = "own.pem" }
        keys = ["0123456789abcdef", "ghijklmnopqrstuv"]
        [cluster.app.backends]
        a = "tcp:127.0.0.1:9001"
        b = { endpoint = "unix:/run/b.sock", weight = 256, state = "drain" }
        """)
    web, quiet = configuration.frontends
    (app,) = configuration.clusters
    assert configuration.path == tmp_path / "proxy.toml"
    assert web.listen == ("tcp:8080", "unix:/run/web.sock")
    assert web.routes == (Route("app", "*.example.org", "/v1/"), Route("app", None, "/x"))
    assert (web.trusted_proxies, web.accept_proxy_protocol) == (("10.0.0.0/8", "::1/128"), ("192.0.2.7/32",))
    assert (web.access_log, quiet.access_log) == (AccessLog(str(tmp_path / "log/web.log")), None)
    assert web.timeouts == FrontendTimeouts(head=0.5, body=2.0, send=3.0, keep_alive=300.0, linger=4.0, tunnel=3600.0)
    assert web.limits == Limits(1024, 4096, 7, 1 << 30, 500, 9, 2048, 1000, 0, 10000, 20)
    assert web.tls is not None
    assert attrs.astuple(web.tls) == ((tmp_path / "certs",), "1.3", tmp_path / "clients.pem", "optional")
    assert app.balance == Named("least-connections")
    assert app.affinity == Named("cookie", {"name": "STICK", "max_age": 604800.0, "secure": True})
    assert (app.timeouts, app.pool) == (ClusterTimeouts(1.0, 1.5), Pool(0, 86400.0))
    assert app.limits == AnswerLimits(8192, 0)
    assert (app.send_proxy_protocol, app.keys) == (2, (b"0123456789abcdef", b"ghijklmnopqrstuv"))
    assert app.tls == BackendTLS(tmp_path / "ca.pem", "internal.example.org", tmp_path / "own.pem", True)
    assert app.backends[1] == Backend("b", "unix:/run/b.sock", 256, BackendState.DRAIN)


def test_every_mistake_at_once(mistakes: Callable[..., dict[str, str]]) -> None:
    """One look at the file is enough to correct it: every mistake is told, with its key and a near name."""
    found = mistakes("""
        [frontend.web]
        listen = ["tcp:8080", "tpc:8081"]
        protocol = "htp"
        cluster = "ap"
        name = "web"
        routes = [{ cluster = "app" }, { host = "a:80", path = "v1", cluster = "appp", pth = 1 }]
        trusted_proxies = ["10.0.0.1/8", 5]
        timeouts = { conect = "5s", head = 10 }
        limits = { body = "1 GB", fields = 0 }
        [cluster.app]
        balance = "round-robbin"
        affinity = { by = "cookie", nam = "x", http_only = 1 }
        keys = ["too short"]
        send_proxy_protocol = true
        [cluster.app.timeouts]
        conect = "5s"
        [cluster.app.backends]
        a = "tcp:127.0.0.1"
        b = { endpoint = "tcp:127.0.0.1:9002", weight = -1, state = "down" }
        "c d" = {}
        """)
    told = {
        "frontend.web.listen[1]": 'did you mean "tcp"?',
        "frontend.web.protocol": 'expected "http" or "tcp", found "htp"',
        "frontend.web.cluster": 'there is no cluster "ap"; did you mean "app"?',
        "frontend.web.name": "unknown key; ",
        "frontend.web.routes[1].host": "without a port",
        "frontend.web.routes[1].path": 'begins with "/"',
        "frontend.web.routes[1].cluster": 'did you mean "app"?',
        "frontend.web.routes[1].pth": 'unknown key; did you mean "path"?',
        "frontend.web.trusted_proxies[0]": 'write "10.0.0.0/8"',
        "frontend.web.trusted_proxies[1]": "found a number",
        "frontend.web.timeouts.conect": "unknown key; ",
        "frontend.web.timeouts.head": 'expected a duration such as "500ms"',
        "frontend.web.limits.body": 'expected a size such as "64KiB"',
        "frontend.web.limits.fields": "1 or more, found 0",
        "cluster.app.balance": 'did you mean "round-robin"?',
        "cluster.app.affinity.nam": 'unknown option of "cookie"; did you mean "name"?',
        "cluster.app.affinity.http_only": "expected true or false, found a number",
        "cluster.app.keys[0]": "16 bytes or more, found 9 bytes",
        "cluster.app.send_proxy_protocol": "expected 1 or 2, found true",
        "cluster.app.timeouts.conect": 'did you mean "connect"?',
        "cluster.app.backends.a": "the port is missing",
        "cluster.app.backends.b.weight": "expected a whole number from 0 to 256",
        "cluster.app.backends.b.state": 'expected "up", "drain" or "maintenance", found "down"',
        'cluster.app.backends."c d"': "up to 64 letters",
        'cluster.app.backends."c d".endpoint': "required: an endpoint string",
    }
    assert found.keys() == told.keys()
    assert {key: told[key] for key, message in found.items() if told[key] not in message} == {}


def test_mistakes_read_as_lines(tmp_path: Path) -> None:
    """Each mistake is a line of file, key and what to do; without a file it is the command line."""
    path = tmp_path / "proxy.toml"
    path.write_text(BASE + 'backends.c = "x"\n[admin]\nlisten = "tcp:1"\n')
    with pytest.raises(ConfigurationErrors) as caught:
        load(path, find_extensions())
    assert str(caught.value).splitlines() == [
        f'{path}: cluster.app.backends.c: expected an endpoint string such as "tcp:127.0.0.1:9001", found "x"',
        f'{path}: admin.token_file: required: "tcp:1" can be reached from elsewhere',
    ]
    with pytest.raises(ConfigurationErrors, match=r"^command line: frontend: required"):
        from_tables({"cluster": {"app": {"backends": {"a": "tcp:127.0.0.1:1"}}}}, find_extensions())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[frontend.web\n", r"is not TOML: .*\(at line 1, column 14\)"),
        (b"a = 1\na = 2\n", r"is not TOML: .*\(at line 2, column 6\)"),
        (b"a = '\xff'", "is not UTF-8 at byte 5"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_unreadable(tmp_path: Path, content: bytes | None, message: str) -> None:
    """A file that is no TOML, or is not there, is a mistake like others, with line and column."""
    path = tmp_path / "proxy.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationErrors) as caught:
        load(path, find_extensions())
    (mistake,) = caught.value.mistakes
    assert (mistake.path, mistake.key) == (path, "")
    assert re.fullmatch(message, mistake.message)


def test_executable_file(read: Callable[..., Configuration]) -> None:
    """The file may begin with a line that makes it executable."""
    assert read("#!/usr/bin/env -S stickyproxy run\n" + BASE).frontends[0].name == "web"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("2s", 2.0), ("5m", 300.0), ("1h", 3600.0), ("7d", 604800.0), ("1.5s", 1.5), ("2 s", 2.0)],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations have the unit with them."""
    assert read_duration(text) == seconds


@pytest.mark.parametrize(
    "value", ["", "5", 5, 2.5, True, "-1s", "1 week", "0s", "1e3s", "٣s", "s", ["1s"], "9" * 400 + "d"]
)
def test_no_durations(value: object) -> None:
    """A number without a unit, and all else that could be misread, is no duration."""
    with pytest.raises(ValueError, match="expected a duration"):
        read_duration(value)


@pytest.mark.parametrize(
    ("text", "size"), [("64KiB", 65536), ("16MiB", 1 << 24), ("1GiB", 1 << 30), (0, 0), (7, 7), ("7B", 7)]
)
def test_sizes(text: str | int, size: int) -> None:
    """Sizes are in units of 1024, or bytes."""
    assert read_size(text) == size


@pytest.mark.parametrize("value", ["", "5", -1, 2.5, True, "-1KiB", "64KB", "64k", "0.5GiB", "unlimited", None])
def test_no_sizes(value: object) -> None:
    """A unit that could mean 1000 or 1024, and all else that could be misread, is no size."""
    with pytest.raises(ValueError, match="expected a size"):
        read_size(value)


@given(st.integers(1, 10**9 - 1))
def test_units_back(number: int) -> None:
    """What the reference shows as a default means that default."""
    assert read_size(write_size(number)) == number
    assert read_duration(write_duration(number / 1000)) == pytest.approx(number / 1000)


@pytest.mark.parametrize(
    ("frontend", "cluster", "key", "message"),
    [
        ("", "", "frontend.web.cluster", "required: the name of a cluster, or routes"),
        ("protocol = 'tcp'", "", "frontend.web.cluster", "required: the name of a cluster"),
        (
            "cluster = 'app'\nprotocol = 'tcp'\nlimits.fields = 3",
            "",
            "frontend.web.limits.fields",
            'only for protocol = "http"',
        ),
        (
            "cluster = 'app'\nprotocol = 'tcp'\ntimeouts.body = '3s'",
            "",
            "frontend.web.timeouts.body",
            "only for protocol",
        ),
        (
            "cluster = 'app'\nprotocol = 'tcp'\ntimeouts.head = '3s'",
            "",
            "frontend.web.timeouts.head",
            "only for protocol",
        ),
        (
            "cluster = 'app'\nprotocol = 'tcp'\nroutes = [{cluster = 'app'}]",
            "",
            "frontend.web.routes",
            'only for protocol = "http", or with inspect = "tls"',
        ),
        (
            "protocol = 'tcp'\ninspect = {by = 'tls', key = 'alpn'}\nroutes = [{cluster = 'app', host = 'a.example'}]",
            "",
            "frontend.web.routes",
            'only for protocol = "http", or with inspect = "tls"',
        ),
        (
            "protocol = 'tcp'\ninspect = 'tls'\nroutes = [{cluster = 'app', host = 'a.example', path = '/x'}]",
            "",
            "frontend.web.routes[0].path",
            'only for protocol = "http"',
        ),
        (
            "protocol = 'tcp'\ninspect = 'tls'\nroutes = [{cluster = 'app', host = 'a.x', access.deny = '::1'}]",
            "",
            "frontend.web.routes[0].access",
            'only for protocol = "http"',
        ),
        ("cluster = 'app'\ninspect = 'mqtt'", "", "frontend.web.inspect", 'only for protocol = "tcp"'),
        (
            "cluster = 'app'\nprotocol = 'tcp'\ninspect = 'tls'\ntls.certificates = 'proxy.toml'",
            "",
            "frontend.web.inspect",
            "it ends here",
        ),
        ("cluster = 'app'\nprotocol = 'tcp'\ninspect = 'mqqt'", "", "frontend.web.inspect", 'did you mean "mqtt"?'),
        (
            "cluster = 'app'\nprotocol = 'tcp'\ninspect = {by = 'mqtt', key = 'name'}",
            "",
            "frontend.web.inspect.key",
            'expected "client-id" or "user"',
        ),
        (
            "cluster = 'app'\nprotocol = 'tcp'\ninspect = {by = 'redis', byte = 1}",
            "",
            "frontend.web.inspect.byte",
            'did you mean "bytes"?',
        ),
        (
            "cluster = 'app'\nprotocol = 'tcp'\ninspect = {by = 'redis', bytes = 0}",
            "",
            "frontend.web.inspect.bytes",
            "more than nothing",
        ),
        (
            "cluster = 'app'\nprotocol = 'tcp'\ninspect = {by = 'redis', timeout = 'unlimited'}",
            "",
            "frontend.web.inspect.timeout",
            "expected a duration",
        ),
        ("cluster = 'app'\nprotocol = 'tcp'", "affinity = 'cookie'", "cluster.app.affinity.by", "frontend.web is TCP"),
        ("cluster = 'app'\nprotocol = 'tcp'", "affinity = 'key'", "cluster.app.affinity.by", "frontend.web has none"),
        ("cluster = 'app'\nprotocol = 'tcp'", "pool.size = 3", "cluster.app.pool", "only for HTTP"),
        ("cluster = 'app'\nprotocol = 'tcp'", "limits.interim = 3", "cluster.app.limits", "only for HTTP"),
        ("cluster = 'app'\nprotocol = 'tcp'", "timeouts.answer = '3s'", "cluster.app.timeouts.answer", "only for HTTP"),
        (
            "routes = [{cluster = 'app', host = 'a.example'}, {cluster = 'app', host = 'A.example', path = '/'}]",
            "",
            "frontend.web.routes[1]",
            "routes[0] has the same host and path",
        ),
        (
            "cluster = 'app'\ntls = { certificates = ['proxy.toml'], client_certificates = 'optional' }",
            "",
            "frontend.web.tls.client_certificates",
            "needs client_ca",
        ),
        ("cluster = 'app'\ntls.certificates = 'nothing.pem'", "", "frontend.web.tls.certificates", "no such file"),
        ("cluster = 'app'\ntls = {}", "", "frontend.web.tls.certificates", "required: a list"),
        ("cluster = 'app'", "tls = false", "cluster.app.tls", "leave it out"),
        ("cluster = 'app'", "tls = { verify = false, ca = 'proxy.toml' }", "cluster.app.tls.ca", "verify = false"),
        ("cluster = 'app'", "tls = true\nbackends.b = 'tls:a.example:1'", "cluster.app.backends.b", "is TLS already"),
        ("cluster = 'app'", "tls = true\nbackends.b = 'unix:/b'", "cluster.app.backends.b", "add tls.server_name"),
        ("cluster = 'app'", "key_file = 'k'", "cluster.app.key_file", 'affinity "none" signs nothing'),
        (
            "cluster = 'app'",
            "affinity = 'cookie'\nkeys = '0123456789abcdef'\nkey_file = 'k'",
            "cluster.app.key_file",
            "stands beside keys",
        ),
    ],
)
def test_what_does_not_go_together(
    mistakes: Callable[..., dict[str, str]], frontend: str, cluster: str, key: str, message: str
) -> None:
    """Keys that contradict each other, or would mean nothing where they stand, are mistakes."""
    found = mistakes(f"""
[frontend.web]
listen = "tcp:8080"
{frontend}
[cluster.app]
backends.a = "tcp:127.0.0.1:9001"
{cluster}
""")
    assert found.keys() == {key}
    assert message in found[key]


def test_tcp_with_proxy_header(read: Callable[..., Configuration]) -> None:
    """A TCP frontend that expects PROXY headers may say how long they may take."""
    configuration = read(
        BASE.replace("[cluster", "protocol = 'tcp'\naccept_proxy_protocol = '::1'\ntimeouts.head = '1s'\n[cluster")
    )
    assert configuration.frontends[0].timeouts.head == 1.0


@pytest.mark.parametrize(
    ("inspect", "spec"),
    [
        ("'mqtt'", Inspect("mqtt")),
        (
            "{ by = 'mqtt', key = 'user', bytes = '4KiB', timeout = '5s' }",
            Inspect("mqtt", {"key": "user"}, bytes=4096, timeout=5.0),
        ),
        ("{ by = 'redis', bytes = 100 }", Inspect("redis", bytes=100)),
    ],
)
def test_tcp_with_an_inspector(read: Callable[..., Configuration], inspect: str, spec: Inspect) -> None:
    """An inspector is named alone, or with its options and the bounds that are everyone's."""
    toml = BASE.replace("[cluster", f"protocol = 'tcp'\ninspect = {inspect}\n[cluster")
    assert read(toml + "\naffinity = 'key'").frontends[0].inspect == spec


def test_tcp_with_routes(read: Callable[..., Configuration]) -> None:
    """TLS that is passed through is routed by its host; a cluster for all others may be absent."""
    (frontend,) = read("""
        [frontend.secure]
        listen = "tcp:8443"
        protocol = "tcp"
        inspect = "tls"
        routes = [{ host = "*.example.org", cluster = "app" }]
        [cluster.app]
        backends.a = "tcp:127.0.0.1:9001"
    """).frontends
    assert (frontend.cluster, frontend.routes) == (None, (Route("app", "*.example.org"),))


def test_cluster_of_both(read: Callable[..., Configuration]) -> None:
    """A cluster that serves HTTP and TCP may say what concerns HTTP alone."""
    more = "pool.size = 3\n[frontend.raw]\nlisten = 'tcp:1'\nprotocol = 'tcp'\ncluster = 'app'\n"
    assert read(BASE + more).clusters[0].pool.size == 3


@pytest.mark.parametrize("empty", ["", "[frontend]\n[cluster]", "frontend = 5\ncluster = []"])
def test_nothing_to_serve(mistakes: Callable[..., dict[str, str]], empty: str) -> None:
    """A file without frontends and clusters serves nothing, and that is a mistake."""
    assert mistakes(empty).keys() == {"frontend", "cluster"}


def test_options_of_an_extension(read: Callable[..., Configuration]) -> None:
    """The options of somebody's own affinity are checked and converted as the built-in ones are."""
    configuration = read(
        BASE
        + """
balance = { by = "fair" }
affinity.by = "rich"
affinity.pattern = "x"
affinity.idle = "unlimited"
affinity.room = "2KiB"
affinity.ratio = 1
affinity.words = ["a"]
affinity.secure = false
affinity.cache = "c"
""",
        Own(),
    )
    options = dict(configuration.clusters[0].affinity.options)
    cache = options.pop("cache")
    assert configuration.path is not None
    assert cache == configuration.path.parent / "c"
    assert options == {"pattern": "x", "idle": None, "room": 2048, "ratio": 1, "words": ("a",), "secure": False}
    assert configuration.clusters[0].balance == Named("fair")


def test_wrong_options_of_an_extension(mistakes: Callable[..., dict[str, str]]) -> None:
    """Options that an extension does not have, lacks, or that are of another type are mistakes; ``cluster`` is ours."""
    found = mistakes(
        BASE
        + """
affinity = { by = "rich", idle = 5, depth = true, words = [1], secure = "yes", cluster = "x", patern = "x" }
""",
        Own(),
    )
    at = "cluster.app.affinity"
    assert found.keys() == {
        f"{at}.{key}" for key in ("idle", "depth", "words[0]", "secure", "cluster", "patern", "pattern")
    }
    assert found[f"{at}.pattern"] == "required: a string"
    assert found[f"{at}.idle"].endswith('or "unlimited", found 5')
    assert found[f"{at}.secure"] == 'expected "auto" or true or false, found "yes"'
    assert found[f"{at}.patern"] == 'unknown option of "rich"; did you mean "pattern"?'


def test_secrets_stay_secret(mistakes: Callable[..., dict[str, str]]) -> None:
    """A key in the wrong place or of the wrong form is not repeated in the message."""
    for toml in (
        'keys = "hush"',
        'keys = { hush = "hush-hush" }',
        'keys = ["hush"]',
        'affinity = { by = "cookie", key = "hush" }',
    ):
        assert "hush" not in " ".join(mistakes(BASE + toml).values())


@given(
    st.recursive(
        st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(KEYS),
                inner,
                max_size=5,
            )
        ),
        max_leaves=20,
    )
)
def test_any_tables(tables: Any) -> None:
    """Whatever shape a file has, the answer is a configuration or its mistakes, never a traceback."""
    document = tables if isinstance(tables, dict) else {"frontend": tables, "cluster": tables}
    with pytest.raises(ConfigurationErrors):
        from_tables(document, find_extensions())


def test_no_reactor() -> None:
    """Reading a configuration, endpoint strings and all, leaves the choice of a reactor to the program."""
    program = (
        "import sys, stickyproxy.tap; from stickyproxy.config import load; "
        "from stickyproxy.extensions import find_extensions; "
        f"load({str(ROOT / 'conf/complete.toml')!r}, find_extensions()); "
        "sys.exit('twisted.internet.reactor' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=60).returncode == 0
