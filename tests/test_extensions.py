"""Extensions: found on the path, told apart by name, made with their options, and documented as they work."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from stickyproxy.config.named import Named
from stickyproxy.config.reading import from_tables
from stickyproxy.extensions import Extension, find_extensions, make
from stickyproxy.interfaces import IAffinity, IBalancer, IExtension
from stickyproxy.sansio.affinity import CookieAffinity, TableAffinity
from stickyproxy.sansio.sessions import SessionTable
from stickyproxy.sansio.tokens import KeyRing

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```(python|toml)\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.DOTALL)
CONTEXT: dict[str, Any] = {
    "cluster": "app",
    "key_ring": KeyRing([b"k" * 32]),
    "clock": lambda: 1.7e9,
    "random": Random(1),
    "sessions": SessionTable(lambda: 1.7e9),
}

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run Python in a process of its own that finds these modules below stickyproxy/plugins/ in another directory."""

    def run(code: str, **modules: str) -> subprocess.CompletedProcess[str]:
        plugins = tmp_path / "stickyproxy" / "plugins"
        plugins.mkdir(parents=True)
        for name, source in modules.items():
            (plugins / f"{name}.py").write_text(source)
        path = os.pathsep.join([str(ROOT), str(tmp_path)])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)

    return run


LIST = """
from stickyproxy.extensions import find_extensions
from stickyproxy.interfaces import IAffinity, IBalancer
print(sorted(find_extensions().of(IBalancer)), sorted(find_extensions().of(IAffinity)))
"""
BALANCER = """
from stickyproxy.extensions import Extension
from stickyproxy.interfaces import IBalancer
from stickyproxy.sansio.balancing import RoundRobin
class Mine(RoundRobin): pass
mine = Extension("%s", IBalancer, Mine)
"""


def test_builtins() -> None:
    """The balancers and affinities of the documentation are there."""
    extensions = find_extensions()
    assert set(extensions.of(IBalancer)) == {
        "round-robin", "least-connections", "random-two", "least-time", "consistent-hash", "first"
    }  # fmt: skip
    assert set(extensions.of(IAffinity)) >= {"none", "cookie", "source"}
    assert extensions.of(IExtension) == {}
    assert all(IExtension.providedBy(each) for each in extensions.of(IAffinity).values())


def test_twisted_finds_them_too() -> None:
    """They are Twisted plug-ins: getPlugins finds the same ones."""
    from twisted.plugin import getPlugins

    import stickyproxy.plugins

    found = {each.name for each in getPlugins(IExtension, stickyproxy.plugins)}
    assert found >= {"round-robin", "least-connections", "none", "cookie", "source"}


def test_make() -> None:
    """An extension is made with its options and gets what it asks for, and no more."""
    affinities = find_extensions().of(IAffinity)
    cookie = make(affinities["cookie"], {"name": "STICKY", "max_age": 60.0}, **CONTEXT)
    assert isinstance(cookie, CookieAffinity)
    assert cookie.cookie == b"STICKY"
    assert isinstance(make(affinities["source"], {"ipv4_prefix": 24}, **CONTEXT), TableAffinity)
    assert make(affinities["none"], {}, **CONTEXT).remembers is False
    assert make(Extension("dice", IBalancer, lambda random: random), {}, **CONTEXT) is CONTEXT["random"]


def test_my_own(run: Run, tmp_path: Path) -> None:
    """A module of mine in another directory is found, without a warning and without a cache left beside it."""
    done = run(LIST, mine=BALANCER % "mine")
    assert done.stderr == ""
    assert [each.name for each in (tmp_path / "stickyproxy" / "plugins").iterdir()] == ["mine.py"]
    assert "'mine'" in done.stdout and "'round-robin'" in done.stdout


def test_one_name_twice(run: Run) -> None:
    """Two extensions of one name are an error that names both."""
    done = run(LIST, mine=BALANCER % "round-robin")
    message = done.stderr.strip().splitlines()[-1]
    assert "ExtensionError" in message
    assert 'IBalancer "round-robin" is there twice' in message
    assert "stickyproxy.sansio.balancing.round_robin.RoundRobin" in message
    assert "stickyproxy.plugins.mine.Mine" in message


def test_one_that_is_imported_by_another(run: Run) -> None:
    """An extension that a second module imports is still one."""
    done = run(LIST, mine=BALANCER % "mine", second="from stickyproxy.plugins.mine import mine")
    assert done.stderr == ""
    assert done.stdout.count("'mine'") == 1


def test_a_broken_one(run: Run) -> None:
    """A module that cannot be imported is logged by name, and the rest works."""
    tell = "import sys; from twisted.logger import globalLogBeginner, textFileLogObserver\n"
    tell += "globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)\n"
    done = run(tell + LIST, broken="import nothing_like_this", mine=BALANCER % "mine")
    assert "stickyproxy.plugins.broken cannot be imported" in done.stderr
    assert "nothing_like_this" in done.stderr
    assert "'mine'" in done.stdout and "'round-robin'" in done.stdout


def test_the_documentation_works(run: Run) -> None:
    """What docs/extending.md shows is found, is configured as shown there, and passes the checks shown there."""
    python = [text for kind, text in BLOCKS if kind == "python"]
    modules = {name[0]: text for text in python if (name := re.findall(r"plugins/(\w+)\.py", text))}
    assert sorted(modules) == ["my_affinity", "my_balancer", "my_inspector"]
    toml = [text for kind, text in BLOCKS if kind == "toml"]
    tables = "".join(sorted(toml)).replace("[cluster.app]\n", "")  # those of the cluster come first
    code = f"""
import tomllib
from stickyproxy.config.reading import from_tables
from stickyproxy.extensions import find_extensions, make
from stickyproxy.interfaces import IAffinity, IBalancer, IStreamInspector
from stickyproxy.plugins.my_affinity import ByTenant
from stickyproxy.plugins.my_balancer import Near
from stickyproxy.plugins.my_inspector import Table
extensions = find_extensions()
tables = tomllib.loads('''
[frontend.web]
listen = "tcp:0"
cluster = "app"
[cluster.app]
backends = {{ a = "tcp:127.0.0.1:1" }}
{tables}''')
configuration = from_tables(tables, extensions)
cluster, = configuration.clusters
inspect = configuration.frontends[1].inspect
inspector = make(extensions.of(IStreamInspector)[inspect.name], inspect.options)
assert (type(inspector), inspector.word, inspect.bytes, inspect.timeout) == (Table, b"room ", None, 10.0)
balancer = make(extensions.of(IBalancer)[cluster.balance.name], cluster.balance.options)
affinity = make(extensions.of(IAffinity)[cluster.affinity.name], cluster.affinity.options)
assert (type(balancer), balancer.site, type(affinity), affinity.field) == (Near, "berlin-", ByTenant, b"x-tenant")
{python[-1]}
test_near()
test_by_tenant()
test_table()
print("all of it")
"""
    done = run(code, **modules)
    assert (done.stderr, done.stdout) == ("", "all of it\n")


def test_builtin_options_are_configurable() -> None:
    """The options of the cookie are keys of the configuration, with units, and reach the affinity."""
    tables = {
        "frontend": {"web": {"listen": "tcp:0", "cluster": "app"}},
        "cluster": {
            "app": {
                "backends": {"a": "tcp:127.0.0.1:1"},
                "affinity": {"by": "cookie", "name": "S", "max_age": "7d", "secure": True, "same_site": "strict"},
                "balance": "least-connections",
            }
        },
    }
    (cluster,) = from_tables(tables, find_extensions()).clusters
    assert cluster.balance == Named("least-connections")
    assert cluster.affinity.options == {"name": "S", "max_age": 604800.0, "secure": True, "same_site": "strict"}
