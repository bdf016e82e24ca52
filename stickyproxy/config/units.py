"""What a value in the configuration may be: aliases to annotate specs and the options of extensions with. Floor 2.

An alias is its Python type with a ``Kind``, which says in words what is expected and reads the TOML value. For mypy
and at run time a ``Duration`` is a ``float``.
"""

from __future__ import annotations

import ipaddress
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import attrs

from stickyproxy.config.endpoints import check_backend, check_listen
from stickyproxy.config.mistakes import instead
from stickyproxy.sansio.keys import FORMS, find_key

DURATION = 'a duration such as "500ms", "2s", "5m", "1h" or "7d"'
SIZE = 'a size such as "64KiB", "16MiB" or "1GiB", or a number of bytes'
NETWORK = 'an address or a range of them such as "10.0.0.0/8" or "::1"'
HOST = 'a host name, or "*." and a host name, without a port'
KEY = f"what clients are known by: {', '.join(FORMS.values())}"
REALM = "up to 128 printable ASCII characters"
CLOSE_REASON = "a string of up to 123 bytes"
SIGNING_KEY = "a secret string of 16 bytes or more"

#: What a frontend, a cluster and a backend may be called: names stand in logs, paths and signed tokens.
NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")

_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]{1,15}) ?(B|KiB|MiB|GiB)")
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\]")


@attrs.frozen
class Place:
    """What reading a value may need to know of the file around it."""

    directory: Path  #: absolute; relative paths start here
    clusters: frozenset[str] = frozenset()


@attrs.frozen
class Kind:
    """How a value is written. ``expected`` finishes the sentence "expected …"; ``read`` raises ``ValueError``.

    ``write`` gives back the TOML value, where that is another.
    """

    expected: str
    read: Callable[[Any, Place], Any]
    write: Callable[[Any], Any] | None = None


@attrs.frozen
class Told:
    """What the reference says of an option, and what other proxies call it: ``Annotated[bool, Told("…")]``."""

    text: str
    elsewhere: str = ""


def told(text: str, elsewhere: str = "") -> dict[str, str]:
    """Metadata of a key: what it means, and what other proxies call it."""
    return {"text": text, "elsewhere": elsewhere}


@attrs.frozen
class ByName:
    """Marks a tuple that is a table in TOML: the key of each entry becomes the entry's attribute ``attribute``."""

    attribute: str


@attrs.frozen
class Makes:
    """Marks the name of an extension, with its options beside it; ``interface`` is what the extension makes."""

    interface: Any


@attrs.frozen(eq=False)
class OneOf:
    """Marks a name, or a table of ``by`` and the keys of the attrs class of that name."""

    classes: Mapping[str, type]


@attrs.frozen(eq=False)
class Shorthand:
    """Marks a table of ``cls`` that may be written as less: ``table`` makes the table of that, None: there is none.

    ``expected`` finishes the sentence "expected …"; ``default`` is how the table with every default is written.
    """

    expected: str
    cls: type
    table: Callable[[Any], Mapping[str, Any] | None]
    default: Any = True


def found(value: object) -> str:
    """What a value of the wrong type is, without showing it: it could be a secret in the wrong place."""
    if isinstance(value, bool):
        return str(value).lower()
    words = {str: "a string", int: "a number", float: "a number", dict: "a table", list: "a list"}
    return words.get(type(value), "a date or time")


def expect_text(value: object, expected: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected {expected}, found {found(value)}")
    return value


def expect_filled(value: object, expected: str) -> str:
    text = expect_text(value, expected)
    if not text:
        raise ValueError(f"expected {expected}, found an empty string")
    return text


def read_duration(value: object, _: Place | None = None) -> float:
    """``"500ms"``, ``"2s"``, ``"5m"``, ``"1h"``, ``"7d"`` → seconds; more than 0."""
    match = _DURATION.fullmatch(expect_text(value, DURATION))
    if not match:
        raise ValueError(f'expected {DURATION}, found "{value}"')
    seconds = float(match[1]) * _SECONDS[match[2]]
    if not seconds:
        raise ValueError(f'expected a duration longer than nothing, found "{value}"')
    return seconds


def read_size(value: object, _: Place | None = None) -> int:
    """``"64KiB"``, ``"16MiB"``, ``"1GiB"``, or an integer of bytes → bytes; 0 or more."""
    if type(value) is int and value >= 0:
        return value
    if type(value) is int:
        raise ValueError(f"expected {SIZE}, found {value}")
    match = _SIZE.fullmatch(expect_text(value, SIZE))
    if not match:
        raise ValueError(f'expected {SIZE}, found "{value}"')
    return int(match[1]) * _BYTES[match[2]]


def _some(value: object, _: Place) -> int:
    size = read_size(value)
    if not size:
        raise ValueError("expected a size of more than nothing, found 0")
    return size


def write_duration(seconds: float) -> str:
    """Seconds → ``"10m"``: in the largest unit that leaves no fraction."""
    milliseconds = round(seconds * 1000)
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if milliseconds % (_SECONDS[unit] * 1000) == 0)
    return f"{round(milliseconds / 1000 / _SECONDS[unit])}{unit}"


def write_size(size: int) -> str:
    """Bytes → ``"64KiB"``."""
    unit = next(unit for unit in ("GiB", "MiB", "KiB", "B") if unit == "B" or (size and size % _BYTES[unit] == 0))
    return f"{size // _BYTES[unit]}{unit}"


def whole(least: int, most: int | None = None, hint: str = "") -> Kind:
    """The kind of a whole number from ``least`` to ``most``."""
    expected = f"a whole number from {least} to {most}" if most else f"a whole number, {least} or more"

    def read(value: object, _: Place) -> int:
        if type(value) is not int:
            raise ValueError(f"expected {expected}, found {found(value)}")
        if value < least or (most and value > most):
            raise ValueError(f"expected {expected}, found {value}{hint}")
        return value

    return Kind(expected, read)


def above(least: float, example: float) -> Kind:
    """The kind of a number that is more than ``least``, and finite."""
    expected = f"a number above {least:g}, such as {example:g}"

    def read(value: object, _: Place) -> float:
        if type(value) not in (int, float):
            raise ValueError(f"expected {expected}, found {found(value)}")
        number = float(value)  # type: ignore[arg-type]
        if not least < number < float("inf"):
            raise ValueError(f"expected {expected}, found {value}")
        return number

    return Kind(expected, read)


def between(least: float, most: float, example: float) -> Kind:
    """The kind of a number from ``least`` to ``most``."""
    expected = f"a number from {least:g} to {most:g}, such as {example:g}"

    def read(value: object, _: Place) -> float:
        if type(value) not in (int, float):
            raise ValueError(f"expected {expected}, found {found(value)}")
        number = float(value)  # type: ignore[arg-type]
        if not least <= number <= most:
            raise ValueError(f"expected {expected}, found {value}")
        return number

    return Kind(expected, read)


def read_path(value: object, place: Place) -> Path:
    return place.directory / expect_filled(value, "a path")


def _existing(value: object, place: Place) -> Path:
    path = read_path(value, place)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ValueError(f"{(error.strerror or 'cannot be read').lower()}: {path}") from None
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a pipe or a device may never end
        raise ValueError(f"neither a file nor a directory: {path}")
    return path


def _endpoint(check: Callable[[str], None]) -> Callable[[object, Place], str]:
    def read(value: object, _: Place) -> str:
        text = expect_text(value, "an endpoint string")
        check(text)
        return text

    return read


def _network(value: object, _: Place) -> str:
    text = expect_text(value, NETWORK)
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        pass
    try:
        near = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(f'expected {NETWORK}, found "{text}"') from None
    raise ValueError(f'"{text}" names an address within a range: write "{near}" for the whole range')


def _cluster(value: object, place: Place) -> str:
    text = expect_text(value, "the name of a cluster")
    if text not in place.clusters:
        raise ValueError(f'there is no cluster "{text}"; {instead(text, place.clusters)}')
    return text


def _host(value: object, _: Place) -> str:
    text = expect_text(value, HOST)
    if not _HOST.fullmatch(text):
        raise ValueError(f'expected {HOST}, found "{text}"')
    return text


def _server_name(value: object, _: Place) -> str:
    text = expect_text(value, "a host name or an address")
    if not re.fullmatch(r"[\w.:-]+", text):
        raise ValueError(f'expected a host name or an address, found "{text}"')
    return text


def _prefix(value: object, _: Place) -> str:
    text = expect_text(value, 'a path that begins with "/"')
    if not text.startswith("/") or re.search(r"[?#\x00-\x1f\x7f]", text):
        raise ValueError(f'expected a path that begins with "/", without query and fragment, found "{text}"')
    return text


def _key_name(value: object, _: Place) -> str:
    text = expect_text(value, KEY)
    kind = re.split("[:/]", text, maxsplit=1)[0]
    if kind not in FORMS:
        raise ValueError(f'there is no key "{kind}"; {instead(kind, FORMS)}')
    find_key(text)
    return text


def _realm(value: object, _: Place) -> str:
    text = expect_text(value, REALM)
    if not re.fullmatch(r"[ -~]{1,128}", text):
        raise ValueError(f"expected {REALM}")
    return text


def _key_part(kind: str) -> Callable[[object, Place], str]:
    """Reads what stands behind the colon of a key of this kind."""

    def read(value: object, _: Place) -> str:
        text = expect_text(value, "a string")
        find_key(f"{kind}:{text}")
        return text

    return read


def _learned(value: object, _: Place) -> str:
    text = expect_text(value, "a name")
    find_key(text if text.startswith("header:") else f"cookie:{text}")
    return text


def _group(value: object, _: Place) -> str:
    text = expect_text(value, "a name")
    if not NAME.fullmatch(text):
        raise ValueError("a name is made of up to 64 letters, digits, dots, dashes and underscores")
    return text


def _secret(value: object, _: Place) -> bytes:
    secret = expect_text(value, SIGNING_KEY).encode()
    if len(secret) < 16:
        raise ValueError(f"expected {SIGNING_KEY}, found {len(secret)} bytes")
    return secret


def _close_reason(value: object, _: Place) -> str:
    text = expect_text(value, CLOSE_REASON)
    if len(text.encode()) > 123:
        raise ValueError(f"expected {CLOSE_REASON}, found {len(text.encode())} bytes")
    return text


def joined(words: Iterable[str]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


Duration = Annotated[float, Kind(DURATION, read_duration, write_duration)]
Size = Annotated[int, Kind(SIZE, read_size, write_size)]
# None is "absent" here, not "unlimited".
OwnDuration = Annotated[float | None, Kind(DURATION, read_duration, write_duration)]
OwnSize = Annotated[int | None, Kind(SIZE, _some, write_size)]
Count = Annotated[int, whole(1)]
OwnCount = Annotated[int | None, whole(1)]
CountOrZero = Annotated[int, whole(0)]
LoadFactor = Annotated[float, above(1, 1.25)]
Jitter = Annotated[float, between(0, 0.5, 0.1)]
Share = Annotated[float, between(0.01, 1, 0.5)]
OwnShare = Annotated[float | None, between(0.01, 1, 0.5)]
RetryShare = Annotated[float, between(0, 10, 0.2)]
Weight = Annotated[int, whole(0, 256)]
AnyPath = Annotated[Path, Kind("a path", read_path)]
ExistingPath = Annotated[Path, Kind("the path of an existing file or directory", _existing)]
ListenEndpoint = Annotated[str, Kind('an endpoint string such as "tcp:8080"', _endpoint(check_listen))]
BackendEndpoint = Annotated[str, Kind('an endpoint string such as "tcp:127.0.0.1:9001"', _endpoint(check_backend))]
Network = Annotated[str, Kind(NETWORK, _network)]
ClusterName = Annotated[str, Kind("the name of a cluster", _cluster)]
FieldName = Annotated[str, Kind("the name of a field", _key_part("header"))]
ParameterName = Annotated[str, Kind("the name of a parameter", _key_part("query"))]
CookieName = Annotated[str, Kind("the name of a cookie", _key_part("cookie"))]
LearnedName = Annotated[str, Kind('the name of a cookie, or "header:" and that of a field', _learned)]
KeyPattern = Annotated[str, Kind("a regular expression with one group", _key_part("path"))]
TLVName = Annotated[str, Kind("the name or the type of a TLV", _key_part("tlv"))]
GroupName = Annotated[str, Kind("a name of letters, digits, dots, dashes and underscores", _group)]
HostPattern = Annotated[str, Kind(HOST, _host)]
ServerName = Annotated[str, Kind("a host name or an address", _server_name)]
PathPrefix = Annotated[str, Kind('a path that begins with "/"', _prefix)]
KeyName = Annotated[str, Kind(KEY, _key_name)]
Realm = Annotated[str, Kind(REALM, _realm)]
CloseReason = Annotated[str, Kind(CLOSE_REASON, _close_reason)]
Secret = Annotated[bytes, Kind(SIGNING_KEY, _secret)]
