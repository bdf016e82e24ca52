"""``stickyproxy.config.endpoints``: endpoint strings are judged before anything listens or connects."""

from __future__ import annotations

import pytest

from stickyproxy.config.endpoints import check_backend, check_listen


@pytest.mark.parametrize(
    "text",
    [
        "tcp:8080",
        "tcp:0",
        "tcp:port=8080:interface=127.0.0.1",
        "tcp6:8080",
        r"tcp:8080:interface=\:\:1",
        "unix:/run/web.sock:mode=660",
        "systemd:domain=INET:index=0",
        "haproxy:tcp:8080",
    ],
)
def test_listen(text: str) -> None:
    """Every kind that Twisted and its plug-ins can listen on is accepted."""
    check_listen(text)


@pytest.mark.parametrize(
    "text",
    ["tcp:127.0.0.1:9001", "tcp:host=localhost:port=1", r"tcp:\:\:1:9001", "unix:/run/b.sock", "tls:example.org:443"],
)
def test_backend(text: str) -> None:
    """Every kind that Twisted and its plug-ins can connect to is accepted."""
    check_backend(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("8080", 'such as "tcp:8080", found "8080"'),
        ("tcp:", 'such as "tcp:8080"'),
        ("tpc:8080", 'did you mean "tcp"'),
        ("gopher:70", "expected one of: .*, tcp,"),
        ("tcp:http", 'a port from 0 to 65535, found "http"'),
        ("tcp:65536", "a port from 0 to 65535"),
        ("tcp:-1", "a port from 0 to 65535"),
        ("tcp:8080:interfce=127.0.0.1", "interfce"),
        ("ssl:8443:privateKey=/nothing.pem", "No such file"),
    ],
)
def test_not_to_listen_on(text: str, message: str) -> None:
    """What Twisted could not listen on is refused, and says what is wrong with it."""
    with pytest.raises(ValueError, match=message):
        check_listen(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("127.0.0.1:9001", 'unknown kind of endpoint "127.0.0.1"'),
        ("tcp:127.0.0.1", "the port is missing"),
        ("tcp:127.0.0.1:0", "a port from 1 to 65535"),
        ("tls:example.org:443:trustrots=x", "trustrots"),
        ("systemd:domain=INET:index=0", "unknown kind"),
    ],
)
def test_not_to_connect_to(text: str, message: str) -> None:
    """What Twisted could not connect to is refused, and says what is wrong with it."""
    with pytest.raises(ValueError, match=message):
        check_backend(text)
