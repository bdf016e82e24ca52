"""Regular expressions of the operator's that are run on what strangers send. Floor 2, pure.

Python's ``re`` goes back and tries again, and a careless pattern can take it exponential time: ``(a+)+b`` on thirty
``a`` is minutes, for every request that somebody likes to send. Such patterns are refused here, by a rule that can be
told: what is repeated a varying number of times has one length and no alternatives (``a+``, ``[ab]+``, ``(?:ab)+``).
What is left takes at worst the length to the power of the number of repeats: bound the length too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

_parser: Any = import_module("re._parser")  # what re.compile itself uses; sre_parse until Python 3.10


def capturing(pattern: str) -> re.Pattern[bytes]:
    """``pattern`` with one group that captures, for UTF-8 bytes. ValueError for what is none, or may take for ever."""
    raw = pattern.encode()
    try:
        parsed = _parser.parse(raw)
        compiled = re.compile(raw, re.DOTALL)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f'"{pattern}" is not a regular expression: {error}') from None
    if compiled.groups != 1:
        raise ValueError(f'"{pattern}": expected one group "(…)" that captures the key, found {compiled.groups}')
    if any(_varies(body) for body in _repeated(parsed)):
        raise ValueError(
            f'"{pattern}" may take for ever: expected that what "*", "+", "?" or "{{}}" repeats has one length, '
            'such as "[^/]+", without "|"'
        )
    return compiled


def _below(parsed: Any) -> Iterator[tuple[Any, Any]]:
    """The tokens at all depths of a parsed pattern."""
    for operation, value in parsed:
        yield operation, value
        stack = [value]
        while stack:
            each = stack.pop()
            if isinstance(each, _parser.SubPattern):
                yield from _below(each)
            elif isinstance(each, tuple | list):
                stack += each


def _repeated(parsed: Any) -> Iterator[Any]:
    """What is repeated a varying number of times, more than once perhaps."""
    for operation, value in _below(parsed):
        if operation in (_parser.MAX_REPEAT, _parser.MIN_REPEAT) and value[0] != value[1] and value[1] > 1:
            yield value[2]


def _varies(body: Any) -> bool:
    shortest, longest = body.getwidth()
    return bool(shortest != longest) or any(operation is _parser.BRANCH for operation, _ in _below(body))
