"""Extensions: found by name, and made with their options. Floor 3.

An extension is an ``Extension`` in a module below ``stickyproxy/plugins/``, in any directory of the module search path
(without an ``__init__.py`` there), as for every Twisted plug-in. The built-ins come by the same door.

Twisted's ``getPlugins`` finds the same objects. We look ourselves, since its cache (``dropin.cache``) would save
nothing here – what provides the interface that is asked for is imported anyway, and ours all provide the same one –
while it warns at every start where it cannot be written (an installation of root's).
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType, ModuleType
from typing import Any

import attrs
from twisted.logger import Logger
from twisted.plugin import IPlugin
from zope.interface import implementer

from stickyproxy import plugins
from stickyproxy.errors import StickyproxyError
from stickyproxy.interfaces import IExtension

_log = Logger()


class ExtensionError(StickyproxyError):
    """Two extensions claim one name."""


@implementer(IPlugin, IExtension)
@attrs.frozen(eq=False)
class Extension:
    """A named maker: ``Extension("first", IBalancer, First)`` in a module below ``stickyproxy/plugins/`` is enough."""

    name: str
    makes: Any
    make: Callable[..., Any]


@attrs.frozen
class Extensions:
    """What is installed."""

    _found: Mapping[Any, Mapping[str, IExtension]]

    def of(self, interface: Any) -> Mapping[str, IExtension]:
        """Those that make ``interface``, by name."""
        return self._found.get(interface, MappingProxyType({}))


def find_extensions() -> Extensions:
    """Everything that is installed. A module that cannot be imported is logged and left out.

    Raises ``ExtensionError`` when two extensions have the same name for the same interface.
    """
    found: dict[Any, dict[str, IExtension]] = {}
    for module in _modules():
        for value in vars(module).values():
            if IExtension.providedBy(value):
                first = found.setdefault(value.makes, {}).setdefault(value.name, value)
                if first is not value:
                    what = f'{value.makes.__name__} "{value.name}"'
                    raise ExtensionError(f"{what} is there twice: {_origin(first)} and {_origin(value)}; remove one")
    return Extensions(found)


def make(extension: IExtension, options: Mapping[str, Any], **context: Any) -> Any:
    """Make one with ``options``, and with what its ``make`` asks for of ``context`` (``cluster``, ``clock`` …)."""
    wanted = inspect.signature(extension.make).parameters
    return extension.make(**options, **{name: value for name, value in context.items() if name in wanted})


def _modules() -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(plugins.__path__, plugins.__name__ + "."):
        try:
            yield importlib.import_module(found.name)
        except Exception:
            _log.failure("{module} cannot be imported: its extensions are left out", module=found.name)


def _origin(extension: IExtension) -> str:
    source = inspect.unwrap(extension.make)
    return f"{source.__module__}.{source.__qualname__}"
