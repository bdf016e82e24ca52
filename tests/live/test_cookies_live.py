"""The modes of cookies, as curl with its cookie jar finds them at a real proxy over three backends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from clients import port_of, run
from parts import Backend, Proxy

AFFINITIES = {
    "insert": '{ by = "cookie", idle = "1h", encrypt = true, nocache = true }',
    "mirror": '{ by = "cookie", attributes = "mirror", application = "ID", bind_to = "address" }',
    "prefix": '{ by = "cookie", mode = "prefix", name = "ID" }',
    "rewrite": '{ by = "cookie", mode = "rewrite", name = "ID", bind_to = "tls" }',
    "passive": '{ by = "cookie", mode = "passive", name = "ID" }',
    "learned": '{ by = "learned", name = "ID" }',
}
#: What the backend sees of the cookies of a client that has been given ``ID=b``; None: something that only we can read.
SEEN = {"insert": "ID=b", "mirror": "ID=b", "prefix": "ID=b", "rewrite": None, "passive": "ID=b", "learned": "ID=b"}


class Jar:
    """A client of one mode."""

    def __init__(self, curl: str, path: Path, url: str) -> None:
        self.path, self._curl, self._url = path, curl, url

    def get(self, set_cookie: str = "") -> tuple[str, str]:
        """Who answers, and what that sees of cookies. ``set_cookie`` is what it sets."""
        query = f"?header={quote('Set-Cookie:' + set_cookie)}" if set_cookie else ""
        done = run(self._curl, "-sS", "-b", self.path, "-c", self.path, self._url + query)
        assert done.returncode == 0, done.stderr
        record = json.loads(done.stdout)
        return record["backend"], "; ".join(value for name, value in record["headers"] if name.lower() == "cookie")


def toml(backends: list[Backend], key_file: Path) -> str:
    lines = ['frontend.web.listen = "tcp:0:interface=127.0.0.1"']
    routes = ", ".join(f'{{ path = "/{name}/", cluster = "{name}" }}' for name in AFFINITIES)
    lines.append(f"frontend.web.routes = [{routes}]")
    for name, affinity in AFFINITIES.items():
        lines.append(f"cluster.{name}.affinity = {affinity}")
        if name not in ("passive", "learned"):
            lines.append(f'cluster.{name}.key_file = "{key_file}"')
        lines += [f'cluster.{name}.backends.{backend.name} = "{backend.endpoint}"' for backend in backends]
    return "\n".join([*lines, ""])


@pytest.mark.needs("curl")
def test_every_mode_with_a_cookie_jar(
    proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]], needs: Callable[[str], str], tmp_path: Path
) -> None:
    """In each mode a client is bound as soon as it was given a cookie, and backends see what they are to see."""
    running = proxy(toml(backends("a", "b", "c"), tmp_path / "keys"))
    curl, port = needs("curl"), port_of(running)
    for mode in AFFINITIES:
        jar = Jar(curl, tmp_path / mode, f"http://127.0.0.1:{port}/{mode}/")
        if mode in ("prefix", "rewrite", "passive", "learned"):
            assert {jar.get()[0] for _ in range(3)} == {"a", "b", "c"}, mode
        served, seen = jar.get("ID=b; Path=/; Max-Age=600")
        assert seen == "", mode
        home = "b" if mode == "passive" else served
        answers = [jar.get() for _ in range(4)]
        assert {backend for backend, _ in answers} == {home}, mode
        assert {seen for _, seen in answers} == {SEEN[mode]} or SEEN[mode] is None, mode
        kept = jar.path.read_text()
        assert ("\tID\tb\n" in kept) is (mode not in ("prefix", "rewrite")), mode
        assert ("\tSRV\t" in kept) is (mode in ("insert", "mirror")), mode
        jar.get("ID=; Path=/; Max-Age=0")
        left = jar.path.read_text()
        assert ("\tSRV\t" in left) is (mode == "insert"), mode
        if mode not in ("insert", "mirror"):  # those bind by their own cookie
            assert "\tID\t" not in left, mode
            assert {jar.get()[0] for _ in range(3)} == {"a", "b", "c"}, mode
