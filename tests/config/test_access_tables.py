"""``access`` in the configuration: what it means, and what is told to be wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stickyproxy.config import ConfigurationErrors, from_tables
from stickyproxy.config.access import Access, Rate
from stickyproxy.config.specs import Frontend
from stickyproxy.extensions import find_extensions


def frontend(path: Path, access: Any, **more: Any) -> Frontend:
    """The frontend of a file in ``path``."""
    tables = {
        "frontend": {"web": {"listen": "tcp:8080", "cluster": "app", "access": access, **more}},
        "cluster": {"app": {"backends": {"a": "tcp:127.0.0.1:9001"}}},
    }
    return from_tables(tables, find_extensions(), path / "proxy.toml").frontends[0]


def test_what_is_written_arrives(tmp_path: Path) -> None:
    """Lists, rates and the file of users, of a frontend and of its routes."""
    users = tmp_path / "users"
    users.touch()
    route = {"cluster": "app", "path": "/a", "access": {"allow": "10.0.0.0/8", "rate": {"requests": 5, "per": "1m"}}}
    access = {"deny": ["::/0"], "rate": {"requests": 9, "burst": 20}, "users_file": "users", "realm": 'a "b"'}
    web = frontend(tmp_path, access, routes=[route, {"cluster": "app", "path": "/b", "access": {}}])
    assert web.access == Access((), ("::/0",), Rate(9, 1.0, 20), users, 'a "b"')
    assert [route.access for route in web.routes] == [Access(("10.0.0.0/8",), (), Rate(5, 60.0, 5)), Access()]
    assert [keys for keys, _ in web.accesses()] == [("access",), ("routes", 0, "access"), ("routes", 1, "access")]


@pytest.mark.parametrize(
    ("access", "key", "message"),
    [
        ("everyone", "", "expected a table"),
        ({"alow": []}, ".alow", 'did you mean "allow"?'),
        ({"allow": []}, ".allow", "names nobody"),
        ({"allow": "10.0.0.1/8"}, ".allow", 'write "10.0.0.0/8" for the whole range'),
        ({"allow": ["10.0.0.0/8", "::1"], "deny": ["::1/128"]}, ".deny", '"::1/128" stands in allow, too'),
        ({"rate": 5}, ".rate", "expected a table"),
        ({"rate": {}}, ".rate.requests", "required: a whole number"),
        ({"rate": {"requests": 0}}, ".rate.requests", "a whole number from 1 to 1000000, found 0"),
        ({"rate": {"requests": 1, "per": 1}}, ".rate.per", "a duration"),
        ({"rate": {"requests": 1, "burst": 10**400}}, ".rate.burst", "a whole number from 1"),
        ({"rate": {"requests": 1, "burst": "unlimited"}}, ".rate.burst", "found a string"),
        ({"users_file": "nowhere"}, ".users_file", "no such file"),
        ({"users_file": "/dev/zero"}, ".users_file", "neither a file nor a directory"),
        ({"realm": "x"}, ".realm", "needs users_file"),
        ({"users_file": ".", "realm": "a\nb"}, ".realm", "printable ASCII"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, access: Any, key: str, message: str) -> None:
    """Each mistake is told with its key, at the frontend and at a route."""
    for place, where in (("access", access), ("routes", [{"cluster": "app", "access": access}])):
        with pytest.raises(ConfigurationErrors) as raised:
            frontend(tmp_path, **({"access": where} if place == "access" else {"access": {}, "routes": where}))
        (mistake,) = raised.value.mistakes
        assert mistake.key == f"frontend.web.{'access' if place == 'access' else 'routes[0].access'}{key}"
        assert message in mistake.message


@pytest.mark.parametrize("key", ["users_file", "realm"])
def test_tcp_has_no_words_for_a_password(tmp_path: Path, key: str) -> None:
    """A ``tcp`` frontend has lists and rates, and nothing that would be ignored."""
    assert frontend(tmp_path, {"deny": "::/0", "rate": {"requests": 1}}, protocol="tcp").access is not None
    with pytest.raises(ConfigurationErrors) as raised:
        frontend(tmp_path, {key: "."}, protocol="tcp")
    assert (f"frontend.web.access.{key}", 'only for protocol = "http"') in [
        (mistake.key, mistake.message) for mistake in raised.value.mistakes
    ]
