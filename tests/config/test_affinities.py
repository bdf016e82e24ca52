"""How affinities are written: in one word, with options, as a chain; and what is told of mistakes in them."""

from __future__ import annotations

import tomllib

import pytest

from stickyproxy.config import ConfigurationErrors, from_tables
from stickyproxy.config.named import Named
from stickyproxy.extensions import find_extensions

FILE = """
[frontend.web]
listen = "tcp:8080"
cluster = "app"
[frontend.line]
listen = "tcp:8081"
protocol = "tcp"
cluster = "game"
[cluster.app]
backends.a = "tcp:127.0.0.1:9001"
{app}
[cluster.game]
backends.a = "tcp:127.0.0.1:9002"
{game}
"""


def affinity(app: str, game: str = "") -> Named:
    tables = tomllib.loads(FILE.format(app=app, game=game))
    return from_tables(tables, find_extensions()).clusters[0].affinity


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('affinity = "header:X-User"', Named("header", {"name": "X-User"})),
        ('affinity = { by = "header", name = "X-User" }', Named("header", {"name": "X-User"})),
        (
            'affinity = { by = "query:sid", memory = "hash" }',
            Named("query", {"name": "sid", "memory": "hash"}),
        ),
        (
            'affinity = { by = "header:Last-Event-ID", pattern = "([^-]+)-", memory = "name" }',
            Named("header", {"name": "Last-Event-ID", "pattern": "([^-]+)-", "memory": "name"}),
        ),
        ('affinity = "engine.io"', Named("engine.io")),
        (
            'affinity = ["cookie", { by = "header:X-User", space = "user" }]',
            Named(
                "cookie + header",
                links=(Named("cookie"), Named("header", {"name": "X-User", "space": "user"})),
            ),
        ),
        ('affinity = { by = "cookie", mode = "insert" }', Named("cookie", {"mode": "insert"})),
        ('affinity = { by = "cookie:ID", mode = "prefix" }', Named("cookie/prefix", {"name": "ID"})),
        (
            'affinity = { by = "cookie", mode = "rewrite", name = "ID", bind_to = "tls" }',
            Named("cookie/rewrite", {"name": "ID", "bind_to": "tls"}),
        ),
        (
            'affinity = [{ by = "cookie", mode = "passive", name = "ID" }, "learned:header:X-ID"]',
            Named(
                "cookie/passive + learned",
                links=(Named("cookie/passive", {"name": "ID"}), Named("learned", {"name": "header:X-ID"})),
            ),
        ),
        (
            'affinity.by = ["cookie", "source"]',
            Named("cookie + source", links=(Named("cookie"), Named("source"))),
        ),
    ],
)
def test_written(written: str, read: Named) -> None:
    """A word with its first option, a table and a list mean what they say."""
    assert affinity(written) == read


@pytest.mark.parametrize(
    ("app", "game", "mistake"),
    [
        ('affinity = "heder:X"', "", 'cluster.app.affinity: unknown name "heder:X"; did you mean "header"?'),
        ('affinity = "header:a b"', "", "cluster.app.affinity.name: "),
        ('affinity.by = ["cookie", "nowhere"]', "", "cluster.app.affinity.by[1]: unknown name"),
        ('affinity = { by = ["cookie"], idle = "5m" }', "", "cluster.app.affinity.idle: in a list, say whose option"),
        ('affinity = "cookie/prefix"', "", 'cluster.app.affinity: unknown name "cookie/prefix"'),
        ('affinity = { by = "cookie", mode = "prefix" }', "", "cluster.app.affinity.name: required"),
        (
            'affinity = { by = "cookie", mode = "prefixed" }',
            "",
            'cluster.app.affinity.mode: expected "insert", "prefix"',
        ),
        (
            'affinity = { by = "cookie", mode = "prefix", name = "ID", idle = "5m" }',
            "",
            'cluster.app.affinity.idle: unknown option of "cookie" with mode = "prefix"',
        ),
        ('affinity = { by = "source", mode = "hash" }', "", 'cluster.app.affinity.mode: unknown option of "source"'),
        ('affinity = "learned"', "", "cluster.app.affinity.name: required: the name of a cookie"),
        ('affinity = "learned:a b"', "", "cluster.app.affinity.name: "),
        (
            'affinity = { by = "cookie", mode = "passive", name = "ID" }\nkey_file = "keys"',
            "",
            'cluster.app.key_file: affinity "cookie/passive" signs nothing',
        ),
        (
            "",
            'affinity = { by = "cookie:ID", mode = "prefix" }',
            'cluster.game.affinity.by: "cookie" with mode = "prefix" needs',
        ),
        ("affinity.by = []", "", "cluster.app.affinity.by: expected at least one name"),
        ('affinity.by = [["cookie"]]', "", "cluster.app.affinity.by[0]: a list within a list"),
        ('affinity = { by = "path", pattern = "(" }', "", "cluster.app.affinity.pattern: "),
        ('affinity = { by = "header:X", pattern = "(a+)+b" }', "", "cluster.app.affinity.pattern: "),
        ("", 'affinity = "mcp"', 'cluster.game.affinity.by: "mcp" needs HTTP, but frontend.line is TCP'),
        ('affinity = "tlv:authority"', "", '"tlv" needs a PROXY header, but no frontend'),
        ('affinity = "tlv:ID"', "", 'cluster.app.affinity.name: tlv "ID": expected one of: alpn, authority'),
        ('sessions.idle = "5m"', "", 'cluster.app.sessions: affinity "none" keeps none'),
        ('affinity = "cookie"\nsessions.group = "a b"', "", "cluster.app.sessions.group: a name is made of"),
        (
            'affinity = "source"\nsessions = { group = "g", idle = "5m" }',
            'affinity = "key"\nsessions = { group = "g", idle = "6m" }',
            'cluster.game.sessions.idle: differs from cluster.app, which shares the group "g"',
        ),
        (
            'affinity = "source"\nsessions.group = "game"',
            'affinity = "source"',
            "cluster.app.sessions.group: cluster.game is not in it: give the group another name",
        ),
        (
            'affinity = ["cookie", "source", { by = "cookie", name = "B" }]',
            "",
            "cluster.app.affinity.by: only one affinity of a chain may have a cookie of its own",
        ),
        ("", 'affinity = "header:X"', 'cluster.game.affinity.by: "header" needs HTTP, but frontend.line is TCP'),
    ],
)
def test_mistakes(app: str, game: str, mistake: str) -> None:
    """A mistake is told with its place, and what to write instead."""
    with pytest.raises(ConfigurationErrors) as caught:
        affinity(app, game)
    assert mistake in str(caught.value)
