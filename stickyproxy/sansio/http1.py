"""HTTP/1.1 heads: bytes to judged values. Floor 2, pure.

RFC 9110 and RFC 9112 as an intermediary. What each layer checks:

* llhttp (through ``httptools``, strict): known methods, characters of target, names and values, CR LF only, no
  obs-fold, no NUL, no space before the colon, Content-Length digits, its repetition and overflow, Content-Length
  beside Transfer-Encoding, ``chunked`` last.
* here: the request line to the byte (one space each, ``HTTP/1.0`` or ``HTTP/1.1``, no RTSP, no HTTP/0.9), the form of
  the target, Host (one, well-formed, agreeing with an absolute target), Transfer-Encoding nothing but ``chunked`` and
  not in HTTP/1.0, Expect nothing but ``100-continue``, and the limits.
* ``body``: what follows the head.

A head is parsed whole and by a parser of its own: nothing of one message can colour the next.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
    HttpResponseParser,
)

from stickyproxy.errors import BadAnswer, BadRequest, HTTPError
from stickyproxy.model import CHUNKED, UNTIL_CLOSE, Field, RequestHead, ResponseHead

#: The fields that the proxy acts on; a head's ``named`` holds their values.
SEMANTIC = frozenset(
    (
        b"host cookie connection keep-alive upgrade expect te trailer transfer-encoding content-length via date "
        b"forwarded x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port x-real-ip x-request-id "
        b"sec-websocket-key sec-websocket-version sec-websocket-protocol sec-websocket-extensions sec-websocket-accept"
    ).split()
)

_HEAD_END = b"\r\n\r\n"
_UNKNOWN_METHOD = re.compile(rb"[A-Z][!#$%&'*+\-.^_`|~0-9A-Za-z]* [!-~]+ HTTP/1\.[01]\r\n")
_AUTHORITY = re.compile(
    rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]+|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\])(?::([0-9]{1,5}))?"
)
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE)
_VERSION = re.compile(rb" HTTP/([0-9](?:\.[0-9])?)\Z")
_NO_CONTENT = frozenset((204, 304))


class RequestLimits(Protocol):
    """Bytes, but ``fields`` counts (``config.specs.Limits``)."""

    @property
    def target(self) -> int: ...
    @property
    def head(self) -> int: ...
    @property
    def fields(self) -> int: ...


class _Sink:
    """What llhttp tells while it reads one head."""

    __slots__ = ("fields", "named", "reason", "target")

    def __init__(self) -> None:
        self.fields: list[Field] = []
        self.named: dict[bytes, list[bytes]] = {}
        self.target = b""
        self.reason = b""

    def on_url(self, target: bytes) -> None:
        self.target = target

    def on_status(self, reason: bytes) -> None:
        self.reason = reason

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        value = value.rstrip(b" \t")  # llhttp leaves white space behind the value
        self.fields.append((lower, name, value))
        if lower in SEMANTIC:
            if lower in self.named:
                self.named[lower].append(value)
            else:
                self.named[lower] = [value]


class HeadCollector:
    """Gathers a head that comes in pieces, refusing it as soon as it can not become a good one.

    ``feed`` is linear in the bytes, whatever their split. ``limit`` and ``target_limit`` are bytes.
    """

    __slots__ = ("_bytes", "_is_request", "_limit", "_parser", "_target_limit")

    def __init__(self, *, is_request: bool, limit: int, target_limit: int = 0) -> None:
        self._bytes = bytearray()
        self._is_request = is_request
        self._limit = limit
        self._target_limit = target_limit
        self._parser = (HttpRequestParser if is_request else HttpResponseParser)(_Sink())

    def feed(self, data: bytes) -> tuple[bytes, bytes] | None:
        """The whole head and the bytes behind it, or None while it is incomplete.

        Raises ``BadRequest`` or ``BadAnswer``.
        """
        searched = max(0, len(self._bytes) - 3)
        self._bytes += data
        end = self._bytes.find(_HEAD_END, searched)
        if end >= 0:
            whole = bytes(self._bytes)
            return whole[: end + 4], whole[end + 4 :]
        if self._is_request and len(self._bytes) > self._target_limit and self._bytes.find(b"\r\n") < 0:
            raise BadRequest("the request line is longer than allowed", status=414)
        if len(self._bytes) > self._limit:
            raise _too_large(self._is_request)
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            raise (_refusal(error, bytes(self._bytes)) if self._is_request else BadAnswer(str(error))) from None
        return None


def parse_request_head(data: bytes, limits: RequestLimits) -> RequestHead:
    """Judge a whole request head (``data`` ends with its empty line).

    Raises ``BadRequest`` with status 400, 414, 417, 431, 501 or 505.
    """
    if len(data) > limits.head:
        raise _too_large(True)
    line_end = data.find(b"\r\n")
    if line_end > limits.target:
        raise BadRequest("the request line is longer than allowed", status=414)
    sink = _Sink()
    parser = HttpRequestParser(sink)
    try:
        parser.feed_data(data)
    except HttpParserUpgrade:
        pass
    except HttpParserError as error:
        raise _refusal(error, data) from None
    fields, named = sink.fields, sink.named
    if len(fields) > limits.fields:
        raise BadRequest("more header fields than allowed", status=431)
    method, target = parser.get_method(), sink.target
    line = data[:line_end]
    if line == b"%b %b HTTP/1.1" % (method, target):
        minor = 1
    elif line == b"%b %b HTTP/1.0" % (method, target):
        minor = 0
    else:
        raise _bad_line(line, "the request line is not METHOD SP TARGET SP HTTP/1.1")
    authority = _authority(named.get(b"host"), minor)
    if target[0] != 0x2F or b"#" in target:
        target, authority = _unusual_target(method, target, authority)
    tokens = connection_tokens(named[b"connection"]) if b"connection" in named else ()
    upgrade = None
    if minor == 1 and b"upgrade" in tokens and b"upgrade" in named:
        upgrade = b", ".join(named[b"upgrade"]).lower()
    if b"expect" in named and (len(named[b"expect"]) > 1 or named[b"expect"][0].lower() != b"100-continue"):
        raise BadRequest("only 100-continue can be expected of this server", status=417)
    body = _request_body(named, minor)
    return RequestHead(method, target, minor, fields, named, body, authority, _goes_on(tokens, minor), upgrade)


def parse_response_head(data: bytes, method: bytes, limits: int = 64 * 1024) -> ResponseHead:
    """Judge a whole response head, the answer to a request with ``method``. ``limits``: bytes of the head.

    Raises ``BadAnswer``.
    """
    if len(data) > limits:
        raise _too_large(False)
    sink = _Sink()
    parser = HttpResponseParser(sink)
    try:
        parser.feed_data(data)
    except HttpParserUpgrade:
        pass
    except HttpParserError as error:
        raise BadAnswer(f"the backend's answer is malformed: {error}") from None
    version = parser.get_http_version()
    if data[:7] != b"HTTP/1." or version not in ("1.1", "1.0"):
        raise BadAnswer("the backend does not speak HTTP/1.1")
    minor = 1 if version == "1.1" else 0
    status = parser.get_status_code()
    if status < 100 or status > 599:
        raise BadAnswer("the backend's answer has a status code out of range")
    named = sink.named
    keep_alive = _goes_on(connection_tokens(named[b"connection"]) if b"connection" in named else (), minor)
    body = _response_body(named, minor)
    if method == b"HEAD" or status < 200 or status in _NO_CONTENT:
        body = 0
    return ResponseHead(status, sink.reason, minor, sink.fields, named, body, keep_alive and body != UNTIL_CLOSE)


def find_head_end(data: bytes) -> int:
    """Where the bytes behind the first head begin, or -1 while it is incomplete."""
    end = data.find(_HEAD_END)
    return end + 4 if end >= 0 else -1


def connection_tokens(values: list[bytes]) -> list[bytes]:
    """The lower-case tokens of a list-valued field (RFC 9110 section 5.6.1)."""
    return [token for value in values for item in value.lower().split(b",") if (token := item.strip(b" \t"))]


def _goes_on(tokens: Sequence[bytes], minor: int) -> bool:
    """Whether the connection is kept after this message (RFC 9112 section 9.3)."""
    return b"close" not in tokens and (minor == 1 or b"keep-alive" in tokens)


def _request_body(named: dict[bytes, list[bytes]], minor: int) -> int:
    coding = named.get(b"transfer-encoding")
    if coding is not None:
        if len(coding) != 1 or coding[0].lower() != b"chunked" or minor == 0 or b"content-length" in named:
            raise BadRequest("the only Transfer-Encoding is chunked, in HTTP/1.1 and without Content-Length")
        return CHUNKED
    length = named.get(b"content-length")
    if length is None:
        return 0
    if len(length) != 1 or not length[0].isdigit() or len(length[0]) > 19:
        raise BadRequest("Content-Length is not one decimal number")
    return int(length[0])


def _response_body(named: dict[bytes, list[bytes]], minor: int) -> int:
    length = named.get(b"content-length")
    if b"transfer-encoding" in named:
        coding = named[b"transfer-encoding"]
        if len(coding) != 1 or coding[0].lower() != b"chunked" or minor == 0 or length is not None:
            raise BadAnswer("the backend's Transfer-Encoding is not plain chunked")
        return CHUNKED
    if length is None:
        return UNTIL_CLOSE
    if len(length) != 1 or not length[0].isdigit() or len(length[0]) > 19:
        raise BadAnswer("the backend's Content-Length is not one decimal number")
    return int(length[0])


def _authority(hosts: list[bytes] | None, minor: int) -> bytes:
    if hosts is None:
        if minor == 1:
            raise BadRequest("an HTTP/1.1 request needs Host")
        return b""
    if len(hosts) != 1:
        raise BadRequest("more than one Host")
    authority = _parse_authority(hosts[0])
    if authority is None:
        raise BadRequest("Host is not a host and perhaps a port")
    return authority


@lru_cache(maxsize=1024)
def _parse_authority(raw: bytes) -> bytes | None:
    match = _AUTHORITY.fullmatch(raw) if len(raw) <= 260 else None
    if match is None or (match[1] is not None and int(match[1]) > 65535):
        return None
    return raw.lower()


def _unusual_target(method: bytes, target: bytes, authority: bytes) -> tuple[bytes, bytes]:
    """Absolute-form and asterisk-form (RFC 9112 section 3.2), anything else is refused."""
    if method == b"CONNECT":
        raise BadRequest("this server is no forward proxy", status=501)
    if target == b"*" and method == b"OPTIONS":
        return target, authority
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise BadRequest("the request target is neither a path nor an absolute http URL")
    named = _parse_authority(match[1])
    if named is None or (authority and named != authority):
        raise BadRequest("the request target names another host than Host")
    rest = match[2]
    return (rest if rest[:1] == b"/" else b"/" + rest), named


def _too_large(is_request: bool) -> HTTPError:
    if is_request:
        return BadRequest("the header fields are larger than allowed", status=431)
    return BadAnswer("the head of the backend's answer is larger than allowed")


def _refusal(error: HttpParserError, data: bytes) -> BadRequest:
    """llhttp's complaint as a status. Its texts are constants: they never quote the input."""
    if isinstance(error, HttpParserInvalidMethodError) and _UNKNOWN_METHOD.match(data):
        return BadRequest("this method is not implemented", status=501)
    return _bad_line(data[: max(0, data.find(b"\r\n"))], f"the request is malformed: {error}")


def _bad_line(line: bytes, otherwise: str) -> BadRequest:
    version = _VERSION.search(line)
    if version and version[1] not in (b"1.1", b"1.0"):
        return BadRequest("only HTTP/1.1 and HTTP/1.0 are spoken here", status=505)
    return BadRequest(otherwise)
