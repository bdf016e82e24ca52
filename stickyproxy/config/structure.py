"""From TOML values to specs, by their annotations. Floor 2.

cattrs finds the hook for a type; the hooks here are strict (``"5"`` is no number, ``true`` is no 1) and go on after a
mistake, so that all of them are told at once.
"""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin

import attrs
from cattrs import Converter

from stickyproxy.config.forms import BackendTable
from stickyproxy.config.mistakes import Gather, Keys, Wrong, instead
from stickyproxy.config.named import Named
from stickyproxy.config.specs import BackendTLS
from stickyproxy.config.units import (
    NAME,
    AnyPath,
    BackendEndpoint,
    ByName,
    Kind,
    Makes,
    OneOf,
    Place,
    Shorthand,
    found,
    joined,
)
from stickyproxy.interfaces import IAffinity
from stickyproxy.model import Backend

#: Parameters of an extension's ``make`` that are filled in, not configured.
INJECTED = frozenset({"cluster", "key_ring", "clock", "random", "sessions", "backends"})


class Extensions(Protocol):
    """What is installed (``stickyproxy.extensions.find_extensions()``)."""

    def of(self, interface: Any, /) -> Mapping[str, Any]:
        """The ``IExtension`` providers that make ``interface``, by name."""


def options(extension: Any) -> dict[str, inspect.Parameter]:
    """The options of an ``IExtension`` provider, by name; annotations are resolved."""
    parameters = inspect.signature(extension.make, eval_str=True).parameters
    return {name: p for name, p in parameters.items() if name not in INJECTED and p.kind is not p.VAR_KEYWORD}


def asks_for(extension: Any, what: str) -> bool:
    """Whether an ``IExtension`` provider asks for one of ``INJECTED``: the key ring of its cluster, say."""
    return what in inspect.signature(extension.make).parameters


def shorthand(name: str, known: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """``"header:X-User"`` is the first option of ``"header"``: its name, and that option."""
    kind, colon, first = name.partition(":")
    if not colon or kind not in known:
        return name, {}
    key = next(iter(options(known[kind])), None)
    return (kind, {key: first}) if key is not None else (name, {})


def with_mode(name: str, table: Mapping[str, Any], known: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """``"cookie"`` with ``mode = "prefix"`` in ``table`` is the extension ``"cookie/prefix"``, with the rest of it."""
    of_mode = f"{name}/{table.get('mode')}"
    if of_mode not in known:
        return name, dict(table)
    return of_mode, {key: value for key, value in table.items() if key != "mode"}


def words_of(name: str) -> str:
    """The name of an extension as it is written: a mode is an option."""
    by, _, mode = name.partition("/")
    return f'"{by}" with mode = "{mode}"' if mode else f'"{by}"'


def named(known: Mapping[str, Any]) -> list[str]:
    """What ``by`` may name: a mode is none."""
    return sorted(name for name in known if "/" not in name)


def kind_of(type_: Any) -> Kind | None:
    """The ``Kind`` of an alias of ``units``, also where None is possible beside it."""
    marks = (mark for mark in getattr(type_, "__metadata__", ()) if isinstance(mark, Kind))
    return next(marks, None) or next(filter(None, map(kind_of, get_args(type_))), None)


def describe(type_: Any) -> str:
    """What a value of ``type_`` is written like: finishes the sentence "expected …"."""
    plain = {bool: "true or false", int: "a whole number", float: "a number", str: "a string", Path: "a path"}
    origin, arguments = get_origin(type_), get_args(type_)
    if origin is Annotated:
        kind = kind_of(type_)
        by_name = 'a name, or a table with "by"'
        marked = {ByName: "a table for each name", Makes: by_name, OneOf: by_name}
        named = [marked[type(mark)] for mark in type_.__metadata__ if type(mark) in marked]
        named += [mark.expected for mark in type_.__metadata__ if isinstance(mark, Shorthand)]
        return kind.expected if kind else named[0] if named else describe(arguments[0])
    if origin is Literal:
        return joined(f'"{a}"' if isinstance(a, str) else str(a).lower() for a in arguments)
    if origin in (Union, types.UnionType):
        words = [describe(a) for a in arguments if a is not type(None)]
        return joined([*words, '"unlimited"'] if may_be_unlimited(type_) else words)
    if origin is tuple:
        return f"a list; each: {describe(arguments[0])}"
    if isinstance(type_, type) and issubclass(type_, enum.Enum):
        return joined(f'"{member.value}"' for member in type_)
    return plain.get(type_, "a table")


class Structure:
    """Reads the values of one file; ``at`` is what they are relative to."""

    def __init__(self, at: Place, extensions: Extensions) -> None:
        self.at = at
        self.extensions = extensions
        self.converter = converter = Converter(detailed_validation=False)
        hooks: list[tuple[Callable[[Any], bool], Callable[[Any, Any], Any]]] = [
            (lambda type_: get_origin(type_) is Literal, _literal),
            (lambda type_: isinstance(type_, type) and issubclass(type_, enum.Enum), _member),
            (lambda type_: get_origin(type_) in (Union, types.UnionType), self._union),
            (lambda type_: get_origin(type_) is tuple, self._list),
            (attrs.has, self._table),
            (lambda type_: type_ is BackendTLS, self._backend_tls),
            (lambda type_: get_origin(type_) is Annotated, self._annotated),
        ]
        converter.register_structure_hook(Path, lambda value, _: self.value(value, AnyPath))
        for type_ in (bool, int, float, str):
            converter.register_structure_hook(type_, _plain)
        for predicate, hook in hooks:  # cattrs asks the last one first
            converter.register_structure_hook_func(predicate, hook)

    def value(self, value: Any, type_: Any) -> Any:
        """``value`` as a ``type_``; ``ValueError``, or ``Wrong`` where the mistake is deeper within."""
        return self.converter.structure(value, type_)

    def _annotated(self, value: Any, type_: Any) -> Any:
        for mark in type_.__metadata__:
            if isinstance(mark, Kind):
                return mark.read(value, self.at)
            if isinstance(mark, ByName):
                return self._by_name(value, get_args(get_args(type_)[0])[0], mark.attribute)
            if isinstance(mark, Makes):
                return self._named(value, mark.interface, get_args(type_)[0])
            if isinstance(mark, Shorthand):
                table = mark.table(value)
                return None if table is None else self._table(table, mark.cls)
            if isinstance(mark, OneOf):
                return self._one_of(value, mark.classes)
        return self.value(value, get_args(type_)[0])

    def _union(self, value: Any, type_: Any) -> Any:
        if value == "unlimited" and may_be_unlimited(type_):
            return None
        members = [a for a in get_args(type_) if a is not type(None)]
        for member in members:
            try:
                return self.value(value, member)
            except ValueError:
                if len(members) == 1 and not may_be_unlimited(type_):
                    raise
        raise ValueError(f"expected {describe(type_)}, found {_shown(value)}")

    def _list(self, value: Any, type_: Any) -> tuple[Any, ...]:
        member = get_args(type_)[0]
        if isinstance(value, str):  # a list of one may go without brackets
            return (self.value(value, member),)
        if not isinstance(value, list):
            raise ValueError(f"expected {describe(type_)}, found {found(value)}")
        gather, result = Gather(), []
        for position, item in enumerate(value):
            with gather.at(position):
                result.append(self.value(item, member))
        gather.finish()
        return tuple(result)

    def _by_name(self, value: Any, cls: type, attribute: str) -> tuple[Any, ...]:
        _expect_table(value)
        if not value:
            raise ValueError("expected at least one entry, found none")
        gather, result = Gather(), []
        for name, entry in value.items():
            with gather.at(name):
                if not NAME.fullmatch(name):
                    gather.add((name,), "a name is made of up to 64 letters, digits, dots, dashes and underscores")
                read = self._backend if cls is Backend else self._table
                result.append(read(entry, cls, **{attribute: name}))
        gather.finish()
        return tuple(result)

    def _backend(self, entry: Any, _: type, **given: Any) -> Backend:
        """``model.Backend`` stands on floor 0, where units are not known; ``BackendTable`` is how it is written."""
        if isinstance(entry, str):
            return Backend(**given, endpoint=self.value(entry, BackendEndpoint))
        table = self._table(entry, BackendTable, **given)
        return Backend(**attrs.asdict(table, recurse=False))

    def _backend_tls(self, value: Any, type_: type) -> Any:
        if value is False:
            raise ValueError("expected true or a table, found false: leave it out for plain connections")
        return self._table({} if value is True else value, type_)

    def _table(self, value: Any, cls: Any, **given: Any) -> Any:
        _expect_table(value)
        attrs.resolve_types(cls)
        fields = {f.name: f for f in attrs.fields(cls) if f.name not in given}
        types_ = {name: f.type for name, f in fields.items()}
        required = {name for name, f in fields.items() if f.default is attrs.NOTHING}
        return cls(**given, **self._keys(value, types_, required, "unknown key"))

    def _one_of(self, value: Any, classes: Mapping[str, type]) -> Any:
        table = {"by": value} if isinstance(value, str) else value
        if not isinstance(table, dict):
            raise ValueError(f'expected a name or a table with "by", found {found(value)}')
        keys: Keys = ("by",) if table is value else ()
        name = table.get("by")
        if not isinstance(name, str):
            raise Wrong((keys, f"required: expected one of: {', '.join(sorted(classes))}"))
        if name not in classes:
            raise Wrong((keys, f'unknown name "{name}"; {instead(name, classes)}'))
        return self._table({key: item for key, item in table.items() if key != "by"}, classes[name])

    def _named(self, value: Any, interface: Any, cls: type[Named]) -> Named:
        """``cls`` may have keys of its own, which stand among the options."""
        table = {"by": value} if isinstance(value, str | list) else value
        if not isinstance(table, dict):
            raise ValueError(f'expected a name or a table with "by", found {found(value)}')
        by: Keys = ("by",) if table is value else ()
        name, known = table.get("by"), self.extensions.of(interface)
        if isinstance(name, list) and interface is IAffinity:
            return self._chain(name, table, by)
        if not isinstance(name, str):
            raise Wrong((by, f"required: expected one of: {', '.join(named(known))}"))
        name, given = shorthand(name, known)
        table = {**given, **table}
        if name not in named(known):
            raise Wrong((by, f'unknown name "{name}"; {instead(name, named(known))}'))
        name, table = with_mode(name, table, known)
        parameters = options(known[name])
        types_ = {key: p.annotation for key, p in parameters.items()}
        required = {key for key, p in parameters.items() if p.default is p.empty}
        given = {key: item for key, item in table.items() if key != "by"}
        own = {f.name: f.type for f in attrs.fields(attrs.resolve_types(cls)) if f.metadata}
        read = self._keys(given, types_ | own, required, f"unknown option of {words_of(name)}")
        return cls(name, **{key: read.pop(key) for key in own if key in read}, options=read)

    def _chain(self, links: list[Any], table: dict[str, Any], by: Keys) -> Named:
        """Several affinities as one; each is written as if it were alone."""
        gather, result = Gather(), []
        for key in table.keys() - {"by"}:
            gather.add((key,), f'in a list, say whose option it is: {{ by = "…", {key} = … }}')
        for position, link in enumerate(links):
            with gather.at(*by, position):
                result.append(self._named(link, IAffinity, Named))
                if result[-1].links:
                    raise ValueError("a list within a list: write the names in one")
        if not links:
            gather.add(by, "expected at least one name, found none")
        gather.finish()
        return Named(" + ".join(link.name for link in result), links=tuple(result))

    def _keys(self, table: dict[str, Any], types_: dict[str, Any], required: set[str], unknown: str) -> dict[str, Any]:
        """The values of ``table``, each as its type; every mistake in it."""
        gather, result = Gather(), {}
        for key, value in table.items():
            with gather.at(key):
                if key in types_:
                    result[key] = self.value(value, types_[key])
                else:
                    gather.add((key,), f"{unknown}; {instead(key, types_)}")
        for key in types_:
            if key in required and key not in table:
                gather.add((key,), f"required: {describe(types_[key])}")
        gather.finish()
        return result


def _expect_table(value: Any) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"expected a table, found {found(value)}")


def _plain(value: Any, type_: type) -> Any:
    if type(value) is type_ or (type_ is float and type(value) is int):
        return value
    raise ValueError(f"expected {describe(type_)}, found {found(value)}")


def _literal(value: Any, type_: Any) -> Any:
    if any(value == allowed and type(value) is type(allowed) for allowed in get_args(type_)):
        return value
    raise ValueError(f"expected {describe(type_)}, found {_shown(value)}")


def _member(value: Any, type_: type[enum.Enum]) -> enum.Enum:
    try:
        return type_(value)
    except ValueError:
        raise ValueError(f"expected {describe(type_)}, found {_shown(value)}") from None


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value) if type(value) is int else found(value)


def may_be_unlimited(type_: Any) -> bool:
    """None may be written where it lifts a limit on a number; elsewhere the key is left out."""
    if get_origin(type_) is Annotated:
        reads_itself = any(isinstance(mark, Kind) for mark in type_.__metadata__)
        return not reads_itself and may_be_unlimited(get_args(type_)[0])
    members = [get_args(a)[0] if get_origin(a) is Annotated else a for a in get_args(type_)]
    return type(None) in members and (int in members or float in members)
