"""What one configuration says otherwise than another. Floor 2.

For people who are about to load it, and for the log of what was loaded: no secret is quoted.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import attrs

from stickyproxy.config.mistakes import dotted
from stickyproxy.config.named import Named
from stickyproxy.config.specs import Configuration

#: What is never quoted.
SECRET = frozenset({"keys"})
_Keys = tuple[str, ...]


class Change(NamedTuple):
    """One thing that is otherwise. ``before`` and ``after`` are as people write them; None: it is not there.

    Both None: it differs, and is not for everybody to see, or too much.
    """

    keys: _Keys  #: where, as in the file: ``("cluster", "app", "backends", "b")``
    kind: str  #: ``"added"``, ``"removed"`` or ``"changed"``
    before: str | None = None
    after: str | None = None

    def __str__(self) -> str:
        """``cluster.app.backends.b removed (tcp:127.0.0.1:9002)``, ``frontend.web.limits.fields 100 → 50``."""
        where = dotted(self.keys)
        if self.kind != "changed":
            what = self.after if self.kind == "added" else self.before
            return f"{where} {self.kind}" + (f" ({what})" if what else "")
        if self.before is None and self.after is None:
            return f"{where} changed"
        return f"{where} {_shown(self.before)} → {_shown(self.after)}"


def difference(old: Configuration, new: Configuration) -> list[Change]:
    """What ``new`` says otherwise than ``old``, in the order of the file."""
    return [
        *_tables(("frontend",), _by(old.frontends, "name"), _by(new.frontends, "name")),
        *_tables(("cluster",), _by(old.clusters, "name"), _by(new.clusters, "name")),
        *_values((), old, new, but=("frontends", "clusters", "path")),
    ]


def _by(values: Iterable[Any], key: str) -> dict[str, Any]:
    return {getattr(value, key): value for value in values}


def _tables(keys: _Keys, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Tables with names: which have come, which have gone, and what is otherwise in those that stay."""
    for name, before in old.items():
        if name not in new:
            yield Change((*keys, name), "removed", before=_words(before))
    for name, after in new.items():
        if name not in old:
            yield Change((*keys, name), "added", after=_words(after))
        else:
            yield from _values((*keys, name), old[name], after)


def _values(keys: _Keys, old: Any, new: Any, but: tuple[str, ...] = ()) -> Iterator[Change]:
    for field in attrs.fields(type(new)):
        before, after = getattr(old, field.name), getattr(new, field.name)
        if before == after or field.name in but:
            continue
        here = (*keys, field.name)
        if field.name == "backends":
            yield from _tables(here, _by(before, "id"), _by(after, "id"))
        elif field.name in SECRET:
            yield Change(here, "changed")
        elif isinstance(after, Named) and isinstance(before, Named) and before.name == after.name:
            yield from _options(here, before, after)
        elif attrs.has(type(after)) and type(before) is type(after) and not isinstance(after, Named):
            yield from _values(here, before, after)
        else:
            words = _words(before), _words(after)
            yield Change(here, "changed", *(words if words[0] != words[1] else (None, None)))


def _options(keys: _Keys, old: Named, new: Named) -> Iterator[Change]:
    """Options may be secrets: only their names are told, and what stands beside them."""
    names = [name for name in {**old.options, **new.options} if old.options.get(name) != new.options.get(name)]
    yield from (Change((*keys, name), "changed") for name in names)
    if old.links != new.links:
        yield Change(keys, "changed", _words(old), _words(new))
    if type(old) is type(new):
        yield from _values(keys, old, new, but=("name", "options", "links"))


def _shown(words: str | None) -> str:
    return "none" if words is None else words


def _words(value: Any) -> str | None:
    """A value in short, as one would write it; None: there is none, or it is a table of many."""
    if isinstance(value, Named):
        return ", ".join(link.name for link in value.links) or value.name
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, str | int | float | Path):
        return str(value)
    if isinstance(value, tuple) and value and all(isinstance(each, str | Path) for each in value):
        return ", ".join(map(str, value))
    if isinstance(value, tuple):
        return f"{len(value)} of them" if value else "none"
    if hasattr(value, "endpoint"):
        return str(value.endpoint)
    return ", ".join(value.listen) if hasattr(value, "listen") else None
