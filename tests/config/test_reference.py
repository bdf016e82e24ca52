"""``docs/configuration.md`` and the samples in ``conf/`` say what the proxy reads, no more and no less."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import attrs
import pytest

from stickyproxy.config import load
from stickyproxy.config.forms import BackendTable, Document
from stickyproxy.config.named import Named
from stickyproxy.config.reference import TABLES, render
from stickyproxy.config.structure import options
from stickyproxy.config.units import Makes, Told
from stickyproxy.extensions import find_extensions
from stickyproxy.interfaces import IAffinity, IBalancer, IProbe, IStreamInspector
from stickyproxy.model import Backend

ROOT = Path(__file__).parent.parent.parent
SAMPLES = sorted((ROOT / "conf").glob("*.toml"))


def _specs(spec: type) -> Iterator[type]:
    """``spec`` and all specs that its keys lead to."""
    yield spec
    for field in attrs.fields(attrs.resolve_types(spec)):
        yield from _within(field.type)


def _within(annotation: Any) -> Iterator[type]:
    if any(isinstance(mark, Makes) for mark in getattr(annotation, "__metadata__", ())):
        if (named := get_args(annotation)[0]) is not Named:
            yield named
        return
    if isinstance(annotation, type) and attrs.has(annotation):
        yield from _specs(BackendTable if annotation is Backend else annotation)
    for argument in get_args(annotation):
        yield from _within(argument)


def test_reference_is_up_to_date() -> None:
    """The reference is that of this version (``python docs/reference.py`` writes it)."""
    assert (ROOT / "docs" / "configuration.md").read_text() == render(find_extensions())


def test_reference_is_whole() -> None:
    """Every table, every key and every option is in the reference, with its meaning."""
    text = render(find_extensions())
    assert {spec for _, spec in TABLES} == set(_specs(Document))
    for where, spec in TABLES:
        section = text.partition(f"## `[{where}]`" if where else "## At the top")[2].partition("\n## ")[0]
        rows = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
        fields = attrs.fields_dict(spec).items()
        tables = {key for key, field in fields if f"{where}.{key}".strip(".") in dict(TABLES) and not field.metadata}
        assert rows == [
            key
            for key in attrs.fields_dict(spec)
            if key not in ("name", "id", "options", "links") and key not in tables
        ], where
    for interface in (IAffinity, IBalancer, IProbe, IStreamInspector):
        for name, extension in find_extensions().of(interface).items():
            by, _, mode = name.partition("/")
            title = f'`{by}`, `mode = "{mode}"`' if mode else f"`{by}`"
            section = text.partition(f"\n### {title}\n")[2].partition("\n#")[0]
            assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(options(extension))
            for parameter in options(extension).values():
                assert any(isinstance(mark, Told) for mark in parameter.annotation.__metadata__), (name, parameter)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_samples(path: Path) -> None:
    """Every sample can be served as it is, and listens on loopback only."""
    configuration = load(path, find_extensions())
    assert configuration.clusters
    assert all("interface=127.0.0.1" in listen for frontend in configuration.frontends for listen in frontend.listen)


def test_access_sample(tmp_path: Path) -> None:
    """The sample with passwords is right with its file of users as well."""
    (tmp_path / "users").touch()
    path = tmp_path / "access.toml"
    path.write_text(re.sub("^#: ?", "", (ROOT / "conf" / "access.toml").read_text(), flags=re.MULTILINE))
    web = load(path, find_extensions()).frontends[0]
    assert [access.users_file is not None for _, access in web.accesses()] == [False, False, False, True]


def test_complete_sample(tmp_path: Path) -> None:
    """The complete sample has every key, and is right with the lines that need files of one's own as well."""
    text = (ROOT / "conf" / "complete.toml").read_text()
    for name in ("certs", "clients.pem", "backends.pem", "proxy.pem", "users", "admin.token"):
        (tmp_path / name).touch()
    whole = tmp_path / "complete.toml"
    whole.write_text(re.sub(r"^key_file.*\n", "", re.sub("^#: ?", "", text, flags=re.MULTILINE), flags=re.MULTILINE))
    assert load(whole, find_extensions()).frontends[1].tls is not None
    for spec in _specs(Document):
        for field in attrs.fields(spec):
            assert field.name in ("name", "id", "options", "links") or re.search(
                rf"\b{field.name}\b *=|\b{field.name}[].]", text
            ), field.name
    for interface in (IAffinity, IBalancer, IProbe, IStreamInspector):
        for name in find_extensions().of(interface):
            assert f'"{name.rpartition("/")[2]}"' in text
