"""``load``: a TOML file, or tables like its, to a ``Configuration``. Floor 2."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from stickyproxy.config.forms import Document
from stickyproxy.config.mistakes import ConfigurationErrors, Mistake, Wrong, dotted
from stickyproxy.config.rules import broken_rules
from stickyproxy.config.specs import Configuration
from stickyproxy.config.structure import Extensions, Structure
from stickyproxy.config.units import Place


def load(path: str | Path, extensions: Extensions) -> Configuration:
    """Read the file at ``path``; relative paths in it start at its directory.

    ``extensions`` are what ``balance`` and ``affinity.by`` may name, and whose options are checked. Raises
    ``ConfigurationErrors`` with every mistake of the file, also where it cannot be read or is not TOML.
    """
    path = Path(path).absolute()
    return parse(document_at(path), extensions, path)


def document_at(path: Path) -> bytes:
    """What stands in the file at ``path``. Raises ``ConfigurationErrors`` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationErrors([Mistake(path, "", f"cannot be read: {error.strerror}")]) from None


def parse(document: bytes, extensions: Extensions, path: Path) -> Configuration:
    """What ``load`` does with ``document``, which was read from ``path``."""
    try:
        tables = tomllib.loads(document.decode())
    except UnicodeDecodeError as error:
        raise ConfigurationErrors([Mistake(path, "", f"is not UTF-8 at byte {error.start}")]) from None
    except (ValueError, RecursionError) as error:  # tomllib fails by itself on 5000 digits, and on deep nesting
        raise ConfigurationErrors([Mistake(path, "", f"is not TOML: {error}")]) from None
    return from_tables(tables, extensions, path)


def from_tables(document: Mapping[str, Any], extensions: Extensions, path: Path | None = None) -> Configuration:
    """What ``load`` does with the tables of a file.

    ``path`` None: they came from elsewhere, and relative paths start at the working directory.
    """
    table = dict(document)
    clusters = table.get("cluster")
    names = frozenset(clusters) if isinstance(clusters, dict) else frozenset()
    structure = Structure(Place(path.parent if path else Path.cwd(), names), extensions)
    found = list(broken_rules(table, extensions))
    try:
        read: Document = structure.value(table, Document)
    except Wrong as wrong:
        found = [*wrong.found, *found]
    if found:
        raise ConfigurationErrors(Mistake(path, dotted(keys), message) for keys, message in found)
    told = {name for name, frontend in table["frontend"].items() if "access_log" in frontend}
    frontends = (f if f.name in told else attrs.evolve(f, access_log=read.access_log) for f in read.frontend)
    return Configuration(tuple(frontends), read.cluster, path, read.admin, read.opentelemetry, read.process)
