"""HTTP/1.1 heads: bytes to judged values. Floor 2, pure.

RFC 9110 and RFC 9112 as an intermediary. What each layer checks:

* llhttp (through ``httptools``, strict): known methods, ASCII without controls in the target, names that are tokens, no
  control bytes in values, CR LF only, no obs-fold, no space before the colon, Content-Length of digits, once, and not
  beside Transfer-Encoding, ``chunked`` last.
* here, of requests: no CR or LF before the method (llhttp skips them), the request line to the byte (one space each,
  ``HTTP/1.0`` or ``HTTP/1.1``, no RTSP, no HTTP/0.9), no CONNECT, the target a path without fragment and backslash, an
  http URL or the ``*`` of OPTIONS, Host (one, a name or an address and perhaps a port, agreeing with such a URL),
  lengths of 18 digits at most, Transfer-Encoding nothing but ``chunked``, once, and not in HTTP/1.0, no content of
  TRACE, Expect nothing but ``100-continue``, what Connection may remove, and the limits.
* here, of answers: the status line to the byte, a status from 100 to 599, no control characters in the reason (llhttp
  looks at neither), Transfer-Encoding nothing but ``chunked`` and not in HTTP/1.0, lengths of 18 digits at most (a
  client may count in 64 bits with a sign), no content in 1xx, and the limit.
* ``body``: what follows the head, to the byte: chunk sizes, extensions, trailers. ``exchange.connection``: what follows
  that.
* ``forwarding``: what goes no further (fields of one connection, identity, imitations of framing fields, trailers that
  may be none), and Max-Forwards. ``upgrade``: handshakes of WebSockets; other upgrades are not asked for.

A head is parsed whole and by a parser of its own: nothing of one message can colour the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Protocol

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
    HttpResponseParser,
)

from stickyproxy.errors import BadAnswer, BadRequest, HTTPError
from stickyproxy.model import CHUNKED, UNTIL_CLOSE, RequestHead, ResponseHead
from stickyproxy.sansio.fields import REQUEST_NAMES, RESPONSE_NAMES, FieldReader, removable, without

_HEAD_END = b"\r\n\r\n"
EMPTY_LINES = re.compile(rb"\A(?:\r\n)+")  # before a request line: RFC 9112 section 2.2
#: Bytes of a host (a name has 253 at most, RFC 1035) and its port.
_AUTHORITY_SIZE = 260
_UNKNOWN_METHOD = re.compile(rb"[A-Z][!#$%&'*+\-.^_`|~0-9A-Za-z]* [!-~]+ HTTP/1\.[01]\r\n")
_AUTHORITY = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=-]+|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)(.*)", re.IGNORECASE)
_IS_PATH = re.compile(rb"/[^?#\\]*(?:\?[^#]*)?").fullmatch  # browsers send backslashes in queries, never in paths
_IS_REASON = re.compile(rb"[\t -~\x80-\xff]*").fullmatch
_VERSION = re.compile(rb" HTTP/([0-9](?:\.[0-9])?)\Z")
_MINOR = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}
_FRAMED = frozenset((b"content-length", b"transfer-encoding"))
_new = tuple.__new__  # a NamedTuple's own constructor costs three times as much
_NO_CONTENT = frozenset((204, 304))
_TRACED = "TRACE has no content"


class RequestLimits(Protocol):
    """Bytes, but ``fields`` counts (``config.specs.Limits``)."""

    @property
    def target(self) -> int: ...
    @property
    def head(self) -> int: ...
    @property
    def fields(self) -> int: ...


class HeadCollector:
    """Gathers a head that comes in pieces, refusing it as soon as it can not become a good one.

    ``feed`` is linear in the bytes, whatever their split. ``limit`` and ``target_limit`` are bytes. Empty lines before
    a request line count as part of its head, and are not in what is returned.
    """

    __slots__ = ("_bytes", "_is_request", "_limit", "_parser", "_target_limit")

    def __init__(self, *, is_request: bool, limit: int, target_limit: int = 0) -> None:
        self._bytes = bytearray()
        self._is_request = is_request
        self._limit = limit
        self._target_limit = target_limit
        self._parser = (HttpRequestParser if is_request else HttpResponseParser)(None)

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The whole head and the bytes behind it, or None while it is incomplete.

        Raises ``BadRequest`` or ``BadAnswer``.
        """
        searched = max(0, len(self._bytes) - 3)
        self._bytes += data
        if self._is_request and (empty := EMPTY_LINES.match(self._bytes)):
            self._limit -= empty.end()
            del self._bytes[: empty.end()]
            searched = 0
        end = self._bytes.find(_HEAD_END, searched)
        if end >= 0:
            whole = bytes(self._bytes)
            return whole[: end + 4], whole[end + 4 :]
        if self._is_request and len(self._bytes) > self._target_limit + 1 and self._bytes.find(b"\r\n") < 0:
            raise BadRequest("the request line is longer than allowed", status=414)
        if len(self._bytes) > self._limit:
            raise _too_large(self._is_request)
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            raise (_refusal(error, bytes(self._bytes)) if self._is_request else _malformed(error)) from None
        return None


def parse_request_head(data: bytes, limits: RequestLimits) -> RequestHead:
    """Judge a whole request head (``data`` ends with its empty line).

    Raises ``BadRequest`` with status 400, 414, 417, 431, 501 or 505.
    """
    if len(data) > limits.head:
        raise _too_large(True)
    reader = FieldReader(REQUEST_NAMES)
    try:
        HttpRequestParser(reader).feed_data(data)
    except HttpParserUpgrade:
        _refuse_connect(data)
    except HttpParserError as error:
        raise _refusal(error, data, limits) from None
    line = data[: data.find(b"\r\n")]
    if len(line) > limits.target:
        raise BadRequest("the request line is longer than allowed", status=414)
    plain, named = reader.plain, reader.named
    if len(plain) // 4 + len(named) + reader.repeated > limits.fields:
        raise BadRequest("more header fields than allowed", status=431)
    try:
        method, target, version = line.split(b" ")
        minor = _MINOR[version]
    except (ValueError, KeyError):
        raise _bad_line(line, "the request line is not METHOD SP TARGET SP HTTP/1.1") from None
    hosts = named.get(b"host")
    usual = hosts is not None and len(hosts) == 1 and len(hosts[0]) <= _AUTHORITY_SIZE
    authority = _parse_authority(hosts[0]) if usual else _authority(hosts, minor)  # type: ignore[index]
    if authority is None:
        raise BadRequest("Host is not a host and perhaps a port")
    if target[0] != 0x2F or 0x23 in target or 0x5C in target or method[0] < 0x41:
        target, authority = _unusual_target(method, target, authority)
    keep_alive, upgrade = minor == 1, None
    if b"connection" in named:
        plain, keep_alive, upgrade = _obey(plain, named, minor)
    if b"expect" in named and [value.lower() for value in named[b"expect"]] != [b"100-continue"]:
        raise BadRequest("only 100-continue can be expected of this server", status=417)
    body = 0 if _FRAMED.isdisjoint(named) else _request_body(method, named, minor)
    return _new(RequestHead, (method, target, minor, plain, named, body, authority, keep_alive, upgrade))


def parse_response_head(data: bytes, method: bytes, limits: int = 64 * 1024) -> ResponseHead:
    """Judge a whole response head, the answer to a request with ``method``. ``limits``: bytes of the head.

    Raises ``BadAnswer``.
    """
    if len(data) > limits:
        raise _too_large(False)
    reader = FieldReader(RESPONSE_NAMES)
    try:
        HttpResponseParser(reader).feed_data(data)
    except HttpParserUpgrade:
        pass
    except HttpParserError as error:
        raise _malformed(error) from None
    line = data[: data.find(b"\r\n")]
    minor, status, reason = _STATUS_LINES.get(line) or _read_status_line(line)
    plain, named = reader.plain, reader.named
    keep_alive = minor == 1
    if b"connection" in named:
        plain, keep_alive, _ = _obey(plain, named, minor)
    body = _response_body(named, minor)
    if method == b"HEAD" or status < 200 or status in _NO_CONTENT:
        if body and body != UNTIL_CLOSE:
            keep_alive = keep_alive and _goes_on(status)
        body = 0
    return _new(ResponseHead, (status, reason, minor, plain, named, body, keep_alive and body != UNTIL_CLOSE))


def _goes_on(status: int) -> bool:
    """Whether it is known where the next answer begins after the head of one without content that announces some.

    That is well-formed for HEAD and 304, and never for 204 and 1xx (RFC 9110 section 8.6, RFC 9112 section 6.1): a
    backend that thinks so may send it. Raises ``BadAnswer`` for 1xx, where another answer is to follow at once.
    """
    if status < 200:
        raise BadAnswer("the backend's interim answer announces content")
    return status != 204


#: Status lines that have come before, taken apart; there are few, and the bound keeps it so.
_STATUS_LINES: dict[bytes, tuple[int, int, bytes]] = {}


def _read_status_line(line: bytes) -> tuple[int, int, bytes]:
    minor = _MINOR.get(line[:8])
    if minor is None or not line[9:12].isdigit():
        raise BadAnswer("the backend does not speak HTTP/1.1")
    status = int(line[9:12])
    if not 100 <= status <= 599:
        raise BadAnswer("the backend's answer has a status code out of range")
    if not _IS_REASON(line[13:]):  # llhttp does not look
        raise BadAnswer("the backend's reason phrase has control characters")
    if len(_STATUS_LINES) < 256 and len(line) <= 64:
        _STATUS_LINES[line] = minor, status, line[13:]
    return minor, status, line[13:]


def tokens_of(values: Iterable[bytes]) -> tuple[bytes, ...]:
    """The lower-case tokens of a list-valued field (RFC 9110 section 5.6.1)."""
    return tuple(token for value in values for item in value.lower().split(b",") if (token := item.strip(b" \t")))


def _read_options(*values: bytes) -> tuple[bool, bool, bool, frozenset[bytes]]:
    """What Connection says: close, keep-alive, upgrade, and the names of the fields that it removes."""
    tokens = frozenset(tokens_of(values))
    return b"close" in tokens, b"keep-alive" in tokens, b"upgrade" in tokens, removable(tokens)


_options = lru_cache(maxsize=256)(_read_options)


def _obey(plain: list[bytes], named: dict[bytes, list[bytes]], minor: int) -> tuple[list[bytes], bool, bytes | None]:
    """A Connection field's will: the fields that it leaves, whether there may be another message, what to change to."""
    values = named[b"connection"]
    # What is remembered is small: who sends much must not have us keep it.
    read = _options if len(values) == 1 and len(values[0]) <= 64 else _read_options
    close, keep, change, unwanted = read(*values)
    upgrade = b", ".join(named[b"upgrade"]).lower() if minor and change and b"upgrade" in named else None
    return without(plain, unwanted) if unwanted else plain, not close and (minor == 1 or keep), upgrade


def _request_body(method: bytes, named: dict[bytes, list[bytes]], minor: int) -> int:
    coding = named.get(b"transfer-encoding")
    if coding is not None:
        if len(coding) != 1 or coding[0].lower() != b"chunked" or minor == 0 or b"content-length" in named:
            raise BadRequest("the only Transfer-Encoding is chunked, in HTTP/1.1 and without Content-Length")
        if method == b"TRACE":
            raise BadRequest(_TRACED)
        return CHUNKED
    length = named[b"content-length"]
    if len(length) != 1 or not length[0].isdigit() or len(length[0]) > 18:
        raise BadRequest("Content-Length is not one decimal number")
    body = int(length[0])
    if body and method == b"TRACE":
        raise BadRequest(_TRACED)
    return body


def _response_body(named: dict[bytes, list[bytes]], minor: int) -> int:
    length = named.get(b"content-length")
    coding = named.get(b"transfer-encoding")
    if coding is not None:
        if len(coding) != 1 or coding[0].lower() != b"chunked" or minor == 0 or length is not None:
            raise BadAnswer("the backend's Transfer-Encoding is not plain chunked")
        return CHUNKED
    if length is None:
        return UNTIL_CLOSE
    if len(length) != 1 or not length[0].isdigit() or len(length[0]) > 18:
        raise BadAnswer("the backend's Content-Length is not one decimal number")
    return int(length[0])


def _authority(hosts: list[bytes] | None, minor: int) -> bytes:
    """Without exactly one Host of a sensible size."""
    if hosts is not None:
        raise BadRequest("more than one Host" if len(hosts) > 1 else "Host is longer than any name")
    if minor == 1:
        raise BadRequest("an HTTP/1.1 request needs Host")
    return b""


@lru_cache(maxsize=1024)
def _parse_authority(raw: bytes) -> bytes | None:
    """``raw``, of ``_AUTHORITY_SIZE`` bytes at most, in lower case, or None."""
    match = _AUTHORITY.fullmatch(raw)
    if match is None or (match[2] is not None and int(match[2]) > 65535):
        return None
    if match[1] is not None:
        try:
            IPv6Address(match[1].decode("ascii"))
        except ValueError:
            return None
    return raw.lower()


def _refuse_connect(data: bytes) -> None:
    """A backend that takes CONNECT, be it of a path, makes a tunnel of a connection that others will use."""
    if data.lstrip(b"\r\n").startswith(b"CONNECT "):
        raise BadRequest("this server is no forward proxy", status=501) from None


def _unusual_target(method: bytes, target: bytes, authority: bytes) -> tuple[bytes, bytes]:
    """Absolute-form and asterisk-form (RFC 9112 section 3.2), and which into which; anything else is refused."""
    if method[0] < 0x41:  # llhttp skips bare CR and LF there; every method begins with a letter
        raise BadRequest("the request does not begin with a method")
    match = _ABSOLUTE.fullmatch(target)
    if match is not None:
        named = _parse_authority(match[1]) if len(match[1]) <= _AUTHORITY_SIZE else None
        if named is None or (authority and named != authority):
            raise BadRequest("the request target names another host than Host")
        target, authority = match[2] or (b"*" if method == b"OPTIONS" else b"/"), named
        if target[0] == 0x3F:
            target = b"/" + target
    if not _IS_PATH(target) and not (target == b"*" and method == b"OPTIONS"):
        raise BadRequest("the request target is neither a path nor an absolute http URL")
    return target, authority


def _too_large(is_request: bool) -> HTTPError:
    if is_request:
        return BadRequest("the header fields are larger than allowed", status=431)
    return BadAnswer("the head of the backend's answer is larger than allowed")


def _refusal(error: HttpParserError, data: bytes, limits: RequestLimits | None = None) -> BadRequest:
    """llhttp's complaint as a status. Its texts are constants: they never quote the input."""
    if limits is not None and data.find(b"\r\n") > limits.target:
        return BadRequest("the request line is longer than allowed", status=414)
    if isinstance(error, HttpParserInvalidMethodError) and _UNKNOWN_METHOD.match(data):
        return BadRequest("this method is not implemented", status=501)
    return _bad_line(data[: max(0, data.find(b"\r\n"))], f"the request is malformed: {error}")


def _malformed(error: HttpParserError) -> BadAnswer:
    return BadAnswer(f"the backend's answer is malformed: {error}")


def _bad_line(line: bytes, otherwise: str) -> BadRequest:
    version = _VERSION.search(line)
    if version and version[1] not in (b"1.1", b"1.0"):
        return BadRequest("only HTTP/1.1 and HTTP/1.0 are spoken here", status=505)
    return BadRequest(otherwise)
