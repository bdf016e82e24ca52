"""Mistakes in a configuration: gathered, never raised one by one. Floor 2.

While the file is read, a mistake knows only the keys from where it was found: ``Wrong`` carries those, and each table
above puts its own key in front (``Gather.at``). At the top they become ``Mistake`` values.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from stickyproxy.errors import StickyproxyError

#: The way to a value: table keys, and positions in lists.
Keys = tuple[str | int, ...]


class Mistake(NamedTuple):
    """One thing to correct. ``key`` is a dotted path (``cluster.app.timeouts.conect``), empty for the file itself."""

    path: Path | None  #: None: the command line
    key: str
    message: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (str(self.path or "command line"), self.key, self.message)))


class ConfigurationErrors(StickyproxyError):
    """Everything that is wrong with a configuration; its text is one line for each of ``mistakes``."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))


class Wrong(ValueError):
    """Mistakes on their way up: pairs of the keys below the place where it is caught, and what was expected there."""

    def __init__(self, *found: tuple[Keys, str]) -> None:
        super().__init__(*found)
        self.found = found


class Gather:
    """Goes on after a mistake, and raises all of them at the end."""

    def __init__(self) -> None:
        self.found: list[tuple[Keys, str]] = []

    @contextmanager
    def at(self, *keys: str | int) -> Iterator[None]:
        """What goes wrong within the block was found below ``keys``."""
        try:
            yield
        except Wrong as wrong:
            self.found += [((*keys, *rest), message) for rest, message in wrong.found]
        except ValueError as error:
            self.add(keys, str(error))

    def add(self, keys: Keys, message: str) -> None:
        self.found.append((keys, message))

    def finish(self) -> None:
        if self.found:
            raise Wrong(*self.found)


def dotted(keys: Keys) -> str:
    """As one would write it in TOML, with positions in brackets: ``frontend.web.routes[0].cluster``."""
    text = ""
    for key in keys:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            bare = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)
            text += f".{bare}" if text else bare
    return text


def instead(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown ``word``: the near name, else all that would have been right."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    if near:
        return f'did you mean "{near[0]}"?'
    return f"expected one of: {', '.join(names)}" if names else "there are none"
