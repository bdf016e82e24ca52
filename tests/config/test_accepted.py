"""``accept_cookies_of``: how it is written, and what is told of mistakes in it."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from stickyproxy.config import ConfigurationErrors, from_tables
from stickyproxy.config.accepted import CaddyCookie, EnvoyCookie, HAProxyCookie, NginxCookie, TraefikCookie
from stickyproxy.config.endpoints import address_of
from stickyproxy.extensions import find_extensions
from stickyproxy.service import mistakes_of

FILE = """
frontend.web = {{ listen = "tcp:8080", cluster = "app" }}
[cluster.app]
backends.a = "tcp:127.0.0.1:9001"
affinity = {{ by = "cookie", {0} }}
"""


def read(written: str) -> Any:
    extensions = find_extensions()
    configuration = from_tables(tomllib.loads(FILE.format(written)), extensions)
    assert list(mistakes_of(configuration, extensions, files=False)) == []
    return configuration.clusters[0].affinity.options["accept_cookies_of"]


def test_written() -> None:
    """A name, a list of names, and tables mean what they say."""
    assert read('accept_cookies_of = "nginx"') == (NginxCookie(),)
    every = read('accept_cookies_of = ["haproxy", "nginx", "nginx-sticky-module", "traefik", "caddy", "envoy"]')
    assert [cookie.usual for cookie in every] == [None, None, "route", None, "lb", None]
    assert read(
        'accept_cookies_of = [{ by = "haproxy", name = "SERVERID", dynamic_key = "x" }, { by = "caddy", secret = "y" },'
        ' { by = "traefik", domain = "example.org", name = "_fb0b0" }, { by = "envoy" }]'
    ) == (
        HAProxyCookie(name="SERVERID", dynamic_key="x"),
        CaddyCookie(secret="y"),
        TraefikCookie(domain="example.org", name="_fb0b0"),
        EnvoyCookie(),
    )


@pytest.mark.parametrize(
    ("written", "key", "message"),
    [
        ('accept_cookies_of = ["haproxi"]', "[0]", 'unknown name "haproxi"; did you mean "haproxy"?'),
        ('accept_cookies_of = [{ by = "ngix" }]', "[0].by", 'unknown name "ngix"; did you mean "nginx"?'),
        (
            'accept_cookies_of = ["nginx", { by = "haproxy", dynamic-key = "x" }]',
            "[1].dynamic-key",
            'unknown key; did you mean "dynamic_key"?',
        ),
        ('accept_cookies_of = [{ by = "caddy", secret = 1 }]', "[0].secret", "expected a string, found a number"),
        ('accept_cookies_of = [{ name = "x" }]', "[0].by", "required: expected one of: caddy, envoy, haproxy, nginx, "),
        ("accept_cookies_of = [1]", "[0]", 'expected a name or a table with "by", found a number'),
    ],
)
def test_mistakes(written: str, key: str, message: str) -> None:
    """A name or an option that does not exist is told with the near one."""
    with pytest.raises(ConfigurationErrors) as told:
        read(written)
    (mistake,) = told.value.mistakes
    assert mistake.key == f"cluster.app.affinity.accept_cookies_of{key}"
    assert mistake.message.startswith(message)


@pytest.mark.parametrize(
    "written",
    ['path = "/app", accept_cookies_of = "haproxy"', 'accept_cookies_of = { by = "envoy", name = "a b" }'],
)
def test_what_does_not_go_together(written: str) -> None:
    """Names that no browser takes, and two cookies of one name, are mistakes of the cluster's affinity."""
    extensions = find_extensions()
    written = written.replace("= {", "= [{").replace("}", "}]")
    configuration = from_tables(tomllib.loads(FILE.format(written)), extensions)
    assert [mistake.key for mistake in mistakes_of(configuration, extensions, files=False)] == ["cluster.app.affinity"]


def test_secrets_are_not_shown() -> None:
    """What is secret is in no representation of a configuration."""
    assert "hush" not in repr((HAProxyCookie(dynamic_key="hush"), CaddyCookie(secret="hush")))


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        ("tcp:127.0.0.1:9001", ("127.0.0.1", 9001)),
        ("tcp:host=app.example.org:port=80:timeout=5", ("app.example.org", 80)),
        ("tcp:\\:\\:1:80", ("::1", 80)),
        ("tls:app.example.org:443", ("app.example.org", 443)),
        ("unix:/run/app", None),
    ],
)
def test_where_a_backend_is(endpoint: str, address: tuple[str, int] | None) -> None:
    """Host and port of an endpoint string, however it is written."""
    assert address_of(endpoint) == address
