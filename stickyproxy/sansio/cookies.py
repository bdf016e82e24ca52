"""Cookies: reading ours, hiding it from the backend, setting it (RFC 6265, and 6265bis for the younger attributes).

Floor 2, pure. Reading and hiding run for every request: a field with one such cookie, written as every browser writes
it, is handled by two splits; everything else is taken apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from email.utils import mktime_tz, parsedate_tz
from typing import Any, Literal

import attrs


def find(fields: Sequence[bytes], mark: bytes) -> bytes | None:
    """The value of a cookie in the values of all Cookie fields of a request; ``mark`` is its name and ``=``.

    None if it is not there, or is there more than once with different values: nobody can say which one is meant.
    """
    if len(fields) == 1:
        before, found, after = fields[0].partition(mark)
        if not found:
            return None
        if (not before or before[-2:] == b"; ") and after.find(mark) < 0:
            return after.partition(b";")[0]
    pairs = (pair.lstrip(b" \t") for field in fields if mark in field for pair in field.split(b";"))
    values = {pair[len(mark) :] for pair in pairs if pair.startswith(mark)}
    return values.pop() if len(values) == 1 else None


def strip(value: bytes, mark: bytes) -> bytes:
    """``value`` (of a Cookie field) without one cookie, all else as it was; ``b""`` if nothing is left.

    ``mark`` is the cookie's name and ``=``.
    """
    before, found, after = value.partition(mark)
    if not found:
        return value
    if (not before or before[-2:] == b"; ") and after.find(mark) < 0:
        _, more, rest = after.partition(b";")
        return before[:-2] + more + rest if before else rest.lstrip(b" \t")
    pairs = value.split(b";")
    kept = [pair for pair in pairs if not pair.lstrip(b" \t").startswith(mark)]
    rest = b";".join(kept)
    return rest if kept and kept[0] is pairs[0] else rest.lstrip(b" \t")


def set_value(set_cookie: bytes, mark: bytes) -> bytes | None:
    """What the value of a Set-Cookie field gives the cookie of ``mark`` (its name and ``=``); None: it is for another.

    White space around name and value is no part of them (RFC 6265 section 5.2).
    """
    pair = set_cookie.partition(b";")[0]
    if mark[:-1] not in pair:
        return None
    name, equals, value = pair.partition(b"=")
    return value.strip(b" \t") if equals and name.strip(b" \t") == mark[:-1] else None


def with_value(set_cookie: bytes, value: bytes) -> bytes:
    """The value of a Set-Cookie field, with another value of the cookie."""
    pair, semicolon, attributes = set_cookie.partition(b";")
    return b"%b=%b%b%b" % (pair.partition(b"=")[0].strip(b" \t"), value, semicolon, attributes)


def attributes_of(set_cookie: bytes) -> list[tuple[bytes, bytes]]:
    """The attributes in the value of a Set-Cookie field: each as it is written, and its name in lower case."""
    written = [part.strip(b" \t") for part in set_cookie.split(b";")[1:]]
    return [(text, text.partition(b"=")[0].rstrip(b" \t").lower()) for text in written]


def is_ended(set_cookie: bytes, now: float) -> bool:
    """Whether the value of a Set-Cookie field ends the cookie: no value, or its time is over (RFC 6265 section 5.3).

    ``now`` is in seconds since the epoch.
    """
    if not set_cookie.partition(b";")[0].partition(b"=")[2].strip(b" \t"):
        return True
    attributes = {name: text.partition(b"=")[2].strip(b" \t") for text, name in attributes_of(set_cookie)}
    if re.fullmatch(rb"-?[0-9]+", attributes.get(b"max-age", b"")):
        return attributes[b"max-age"][:1] == b"-" or not attributes[b"max-age"].strip(b"0")
    date = parsedate_tz(attributes.get(b"expires", b"").decode("latin-1"))
    with suppress(ValueError, OverflowError):
        return date is not None and mktime_tz(date) <= now
    return False


def _matching(pattern: str, what: str, expected: str) -> Any:
    """An attrs validator: the text, where it is not None, matches ``pattern``."""

    def check(template: CookieTemplate, attribute: attrs.Attribute[str], value: str | None) -> None:
        if value is not None and not re.fullmatch(pattern, value):
            raise ValueError(f"cookie {what} {value!r}: expected {expected}")

    return check


@attrs.frozen
class CookieTemplate:
    """The cookie that we set: its name and attributes; a ValueError for what a browser would refuse.

    ``max_age`` is in seconds, None makes a cookie of the browser session. There is no Expires beside Max-Age: every
    browser of the last ten years knows the latter, and prefers it. ``secure="auto"`` is Secure on TLS.
    """

    name: str = attrs.field(
        validator=_matching(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", "name", "letters, digits, '-', '_' and '.', no separators")
    )
    path: str = attrs.field(
        default="/", validator=_matching(r"/[ -:<-~]*", "path", "ASCII that begins with '/', without ';'")
    )
    domain: str | None = attrs.field(
        default=None,
        validator=_matching(r"\.?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", "domain", "a host name, such as 'example.org'"),
    )
    max_age: float | None = attrs.field(default=None, validator=attrs.validators.optional(attrs.validators.ge(1)))
    secure: bool | Literal["auto"] = attrs.field(default="auto", validator=attrs.validators.in_((True, False, "auto")))
    http_only: bool = True
    same_site: Literal["lax", "strict", "none"] = attrs.field(
        default="lax", validator=attrs.validators.in_(("lax", "strict", "none"))
    )
    partitioned: bool = False
    _start: bytes = attrs.field(init=False, repr=False, eq=False)
    _on_plain: bytes = attrs.field(init=False, repr=False, eq=False)
    _on_tls: bytes = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        prefix = self.name.lower()
        for holds, why in (
            (self.partitioned, "partitioned"),
            (self.same_site == "none", 'same_site = "none"'),
            (prefix.startswith(("__secure-", "__host-")), f"the name {self.name!r}"),
        ):
            if holds and self.secure is not True:
                raise ValueError(f"cookie: browsers take {why} only with secure = true")
        if prefix.startswith("__host-") and (self.path != "/" or self.domain is not None):
            raise ValueError(f'cookie: browsers take the name {self.name!r} only with path = "/" and without domain')
        object.__setattr__(self, "_start", self.name.encode("ascii") + b"=")
        object.__setattr__(self, "_on_plain", self._attributes(secure=self.secure is True))
        object.__setattr__(self, "_on_tls", self._attributes(secure=self.secure is not False))

    def _attributes(self, *, secure: bool) -> bytes:
        parts = [f"; Path={self.path}"]
        if self.domain is not None:
            parts.append(f"; Domain={self.domain.removeprefix('.')}")
        if self.max_age is not None:
            parts.append(f"; Max-Age={int(self.max_age)}")
        if secure:
            parts.append("; Secure")
        if self.http_only:
            parts.append("; HttpOnly")
        parts.append(f"; SameSite={self.same_site.capitalize()}")
        if self.partitioned:
            parts.append("; Partitioned")
        return "".join(parts).encode("ascii")

    def end(self, secure: bool) -> bytes:
        """The value of a Set-Cookie field that has the browser forget the cookie (RFC 6265 section 5.3)."""
        return self.set(b"", secure, 0)

    def set(self, value: bytes, secure: bool, lifetime: float | None = None) -> bytes:
        """The value of a Set-Cookie field; ``secure`` says that the client came over TLS.

        ``lifetime`` in seconds overrides ``max_age``: the last Max-Age counts (RFC 6265 section 5.3).
        """
        line = self._start + value + (self._on_tls if secure else self._on_plain)
        return line if lifetime is None else b"%b; Max-Age=%d" % (line, lifetime)
