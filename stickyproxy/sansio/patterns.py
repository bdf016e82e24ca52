"""Regular expressions of the operator's that are run on what strangers send. Floor 2, pure.

Python's ``re`` goes back and tries again, and a careless pattern can take it exponential time: ``(a+)+b`` on thirty
``a`` is minutes, for every request that somebody likes to send. Such patterns are refused here, by two rules that can
be told. What is repeated a varying number of times has one length and no alternatives (``a+``, ``[ab]+``,
``(?:ab)+``). And the steps that ``LONGEST_TEXT`` bytes may take are counted: few where a repeat cannot give back,
because what follows is none of what it repeats (``[^/]+/``), or nothing follows; else each repeat multiplies them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

_parser: Any = import_module("re._parser")  # what re.compile itself uses; sre_parse until Python 3.10
_compiler: Any = import_module("re._compiler")

#: Bytes of what a pattern may be tried on.
LONGEST_TEXT = 512
#: More steps than these, some hundredths of a second, are too many.
_STEPS = 1_000_000
_ALL = frozenset(range(256))
#: What may follow where ``$`` and ``\\Z`` hold.
_ENDS = {_parser.AT_END: frozenset(b"\n"), _parser.AT_END_STRING: frozenset(b"")}


def capturing(pattern: str) -> re.Pattern[bytes]:
    """``pattern`` with one group that captures, for UTF-8 bytes. ValueError for what is none, or may take for ever."""
    compiled = bounded(pattern)
    if compiled.groups != 1:
        raise ValueError(f'"{pattern}": expected one group "(…)" that captures the key, found {compiled.groups}')
    return compiled


def bounded(pattern: str) -> re.Pattern[bytes]:
    """``pattern`` for UTF-8 bytes. ValueError for what is none, or may take for ever."""
    raw = pattern.encode()
    try:
        parsed = _parser.parse(raw)
        compiled = re.compile(raw, re.DOTALL)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f'"{pattern}" is not a regular expression: {error}') from None
    if any(_varies(body) for body in _repeated(parsed)):
        raise ValueError(
            f'"{pattern}" may take for ever: expected that what "*", "+", "?" or "{{}}" repeats has one length, '
            'such as "[^/]+", without "|"'
        )
    if _steps(parsed, 0, None)[0] > _STEPS:
        raise ValueError(
            f'"{pattern}" may take for ever: expected that what "*" or "+" repeats cannot be what follows it, '
            'such as "[^/]+/" instead of ".*/"'
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


#: The bytes of which one comes next; None: nothing needs to, so that no repeat before is asked to give back.
_Next = frozenset[int] | None


def _steps(tokens: Any, after: int, following: _Next) -> tuple[int, _Next]:
    """A bound of the steps of ``tokens`` and of what is behind them (``after``), and what they begin with."""
    for token in reversed(list(tokens)):
        if after > _STEPS:
            break
        after, following = _step(tokens.state, token, after, following)
    return after, following


def _step(state: Any, token: Any, after: int, following: _Next) -> tuple[int, _Next]:
    operation, value = token
    if operation in (_parser.LITERAL, _parser.NOT_LITERAL, _parser.ANY, _parser.IN):
        return after + 1, _bytes_of(state, token)
    if operation is _parser.SUBPATTERN:
        return _steps(value[3], after, following)
    if operation is _parser.BRANCH:
        ways = [_steps(body, after, following) for body in value[1]]
        return sum(steps for steps, _ in ways), _any_of(*(begins for _, begins in ways))
    if operation in (_parser.MAX_REPEAT, _parser.MIN_REPEAT):
        return _repeat(value, after, following)
    if operation is _parser.AT and value in _ENDS:
        return after + 1, _ENDS[value]
    inner = [each for each in (value if isinstance(value, tuple) else [value]) if isinstance(each, _parser.SubPattern)]
    times = min(value[1], LONGEST_TEXT) if operation is _parser.POSSESSIVE_REPEAT else 1
    return after + LONGEST_TEXT + times * sum(_steps(body, 1, None)[0] for body in inner), _ALL


def _repeat(value: tuple[int, int, Any], after: int, following: _Next) -> tuple[int, _Next]:
    least, most, body = value[0], min(value[1], LONGEST_TEXT), value[2]
    if least >= most:
        for _ in range(most):
            after, following = _steps(body, after, following)
        return after, following
    if most == 1:
        steps, begins = _steps(body, after, following)
        return after + steps, _any_of(begins, following)
    steps, begins = _steps(body, 0, _ALL)
    begins = _ALL if begins is None else begins
    gives_back = not (following is None or begins.isdisjoint(following))
    total = (most - least + 1) * (steps + after) if gives_back else most * steps + after
    return total, begins if least else _any_of(begins, following)


def _any_of(*begins: _Next) -> _Next:
    known = [each for each in begins if each is not None]
    return frozenset[int]().union(*known) if len(known) == len(begins) else None


def _bytes_of(state: Any, token: Any) -> frozenset[int]:
    """The bytes that ``token`` matches, whether letters' case counts or not."""
    one = _parser.SubPattern(state, [token])
    matches = [_compiler.compile(one, flags | re.DOTALL).match for flags in (0, re.IGNORECASE)]
    return frozenset(byte for byte in _ALL if any(match(bytes([byte])) for match in matches))
