r"""WebSocket handshakes, verified on both legs: RFC 6455 section 4, RFC 7692 section 7. Floor 2, pure.

The handshake travels from the client to the backend as it was sent, key included: nothing is computed anew, all of it
is checked. What each layer checks:

* ``http1``: the heads themselves – framing, one well-formed Host, no control characters.
* Autobahn, of the client: GET, HTTP/1.1, the path, Host and its port, ``websocket`` in Upgrade and ``upgrade``
  in Connection, one Sec-WebSocket-Version that is 13, one Sec-WebSocket-Key of 16 bytes in base64, no repeated
  subprotocol. Of the backend: HTTP/1.1, 101, Upgrade, Connection, one Sec-WebSocket-Accept and the right one, at
  most one subprotocol, and one that was offered.
* here, since Autobahn leaves it open: fields are printable ASCII (Autobahn takes ``\x85`` for the end of a line), the
  version is ``13`` to the byte (Autobahn reads ``+1_3`` too), subprotocols are tokens, no fragment, no content; in the
  answer no framing of content and no empty subprotocol.
* here, since Autobahn has another purpose: extensions. It knows its own, with 9 to 15 window bits, from one field; but
  clients and backends may agree upon any, the client may name them in several fields, and RFC 7692 permits 8 bits.

Origin is not looked at: whom to serve is the backend's policy.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, NamedTuple, NoReturn

from autobahn.websocket.protocol import WebSocketClientProtocol, WebSocketServerProtocol

from stickyproxy.errors import BadAnswer, BadRequest, HTTPError
from stickyproxy.model import RequestHead, ResponseHead
from stickyproxy.sansio.frames import DEFLATE, PLAIN, UNKNOWN
from stickyproxy.sansio.http1 import tokens_of

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_IS_TOKEN = re.compile(_TOKEN).fullmatch
_IS_PRINTABLE = re.compile(rb"[\t -~]*").fullmatch
_PARAMETER = re.compile(rb"[ \t]*;[ \t]*(%b)(?:[ \t]*=[ \t]*(?:(%b)|\"(%b)\"))?" % (_TOKEN, _TOKEN, _TOKEN))
_EXTENSION = re.compile(rb"[ \t]*(%b)" % _TOKEN)
_SEPARATOR = re.compile(rb"[ \t]*(?:,[ \t]*)+|[ \t]*\Z")

#: The values of a window-bits parameter: RFC 7692 section 7.1.2, decimal without leading zeros.
_WINDOW_BITS = {b"%d" % bits: bits for bits in range(8, 16)}
_FLAGS = frozenset((b"server_no_context_takeover", b"client_no_context_takeover"))
_BITS = frozenset((b"server_max_window_bits", b"client_max_window_bits"))

_REQUEST_FIELDS = (
    b"host",
    b"upgrade",
    b"connection",
    b"sec-websocket-key",
    b"sec-websocket-version",
    b"sec-websocket-protocol",
)
_ANSWER_FIELDS = (b"upgrade", b"connection", b"sec-websocket-accept", b"sec-websocket-protocol")
_EXTENSIONS = b"sec-websocket-extensions"
_OTHER_VERSION = b"Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
_SUBJECTS = (
    "Sec-WebSocket-Key",
    "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol",
    "Sec-WebSocket-Accept",
    "Host",
    "Upgrade",
    "Connection",
    "method",
    "version",
)


class Extension(NamedTuple):
    """One element of Sec-WebSocket-Extensions, names in lower case; a parameter without a value has None."""

    name: bytes
    params: tuple[tuple[bytes, bytes | None], ...]


class Offer(NamedTuple):
    """What the client offered: the key as sent, and the subprotocols and extensions in its order of preference."""

    key: bytes
    protocols: tuple[bytes, ...]
    extensions: tuple[Extension, ...]
    version: int = 13


def is_upgrade(head: RequestHead) -> bool:
    """Whether ``head`` asks for a WebSocket, be it as clumsily as it may: ``check_request`` is to judge it then.

    Upgrade in HTTP/1.0 and to anything else (``h2c``) is to be ignored (RFC 9110 section 7.8).
    """
    named = head.named
    if b"upgrade" not in named and b"sec-websocket-key" not in named:
        return False
    if head.minor == 0:
        return False
    if b"websocket" in tokens_of(named.get(b"upgrade", [])):
        return True
    return b"sec-websocket-key" in named and b"upgrade" in tokens_of(named.get(b"connection", []))


def check_request(head: RequestHead) -> Offer:
    """Judge the client's opening handshake (RFC 6455 section 4.2.1).

    Raises ``BadRequest``: 426 for another version than 13, otherwise 400.
    """
    named = head.named
    if head.body != 0:
        raise BadRequest("a WebSocket handshake has no content")
    if b"#" in head.target:
        raise BadRequest("the target of a WebSocket handshake has no fragment")
    path = head.target.partition(b"?")[0]
    text = _text(b"%b %b HTTP/1.%d\r\n" % (head.method, path, head.minor), named, _REQUEST_FIELDS)
    if text is None:
        raise BadRequest("a WebSocket handshake is printable ASCII")
    _hear(_ClientJudge(text))
    if named[b"sec-websocket-version"] != [b"13"]:
        raise BadRequest("Sec-WebSocket-Version is not the number 13")
    protocols = _items(named.get(b"sec-websocket-protocol", []))
    if not all(map(_IS_TOKEN, protocols)):
        raise BadRequest("Sec-WebSocket-Protocol is not a list of tokens")
    extensions = _parse_extensions(b",".join(named.get(_EXTENSIONS, [])))
    if extensions is None:
        raise BadRequest("Sec-WebSocket-Extensions is not a list of extensions")
    return Offer(named[b"sec-websocket-key"][0], protocols, extensions)


def check_answer(offer: Offer, head: ResponseHead) -> None:
    """Judge a backend's 101 as the answer to ``offer`` (RFC 6455 section 4.2.2). Raises ``BadAnswer``."""
    named = head.named
    if b"content-length" in named or b"transfer-encoding" in named:
        raise BadAnswer("the backend's 101 frames content")
    if named.get(b"sec-websocket-protocol") == [b""]:
        raise BadAnswer("the backend's Sec-WebSocket-Protocol is empty")
    text = _text(b"HTTP/1.%d %d -\r\n" % (head.minor, head.status), named, _ANSWER_FIELDS)
    if text is None:
        raise BadAnswer("the backend's WebSocket handshake is not printable ASCII")
    _hear(_BackendJudge(text, offer))
    if _EXTENSIONS in named:
        _check_extensions(offer.extensions, named[_EXTENSIONS])


def reserved_bits(head: ResponseHead) -> int:
    """What of a frame's reserved bits a verified 101 allows: ``PLAIN``, ``DEFLATE`` or ``UNKNOWN``."""
    if _EXTENSIONS not in head.named:
        return PLAIN
    accepted = _parse_extensions(b",".join(head.named[_EXTENSIONS])) or ()
    return DEFLATE if all(extension.name == b"permessage-deflate" for extension in accepted) else UNKNOWN


def _check_extensions(offered: tuple[Extension, ...], values: list[bytes]) -> None:
    """RFC 6455 section 9.1: of what was offered only; permessage-deflate by RFC 7692 section 7.1 besides."""
    accepted = _parse_extensions(values[0]) if len(values) == 1 else None
    if accepted is None:
        raise BadAnswer("the backend's Sec-WebSocket-Extensions is not one list of extensions")
    if len({extension.name for extension in accepted}) < len(accepted):
        raise BadAnswer("the backend accepted a WebSocket extension twice")
    for extension in accepted:
        offers = [offer for offer in offered if offer.name == extension.name]
        if not offers:
            raise BadAnswer("the backend accepted a WebSocket extension that was not offered")
        if extension.name == b"permessage-deflate" and not any(_agrees(offer, extension) for offer in offers):
            raise BadAnswer("the backend's permessage-deflate does not agree with what was offered")


def _agrees(offer: Extension, answer: Extension) -> bool:
    """Whether ``answer`` accepts this offer of permessage-deflate (RFC 7692 sections 7.1.1 and 7.1.2)."""
    asked, given = _deflate_params(offer, is_offer=True), _deflate_params(answer, is_offer=False)
    if asked is None or given is None:
        return False
    if b"server_no_context_takeover" in asked and b"server_no_context_takeover" not in given:
        return False
    if b"client_max_window_bits" in given and b"client_max_window_bits" not in asked:
        return False
    asked_bits = asked.get(b"server_max_window_bits")
    return asked_bits is None or given.get(b"server_max_window_bits", 16) <= asked_bits


def _deflate_params(extension: Extension, *, is_offer: bool) -> dict[bytes, int] | None:
    """The parameters of permessage-deflate (0 where there is no value), or None where one is wrong."""
    params: dict[bytes, int] = {}
    for name, value in extension.params:
        if name in params:
            return None
        if value is None and (name in _FLAGS or (is_offer and name == b"client_max_window_bits")):
            params[name] = 0
        elif value is not None and name in _BITS and value in _WINDOW_BITS:
            params[name] = _WINDOW_BITS[value]
        else:
            return None
    return params


def _parse_extensions(value: bytes) -> tuple[Extension, ...] | None:
    """The grammar of RFC 6455 section 9.1, with the empty elements of RFC 9110 section 5.6.1; None: it does not fit."""
    extensions: list[Extension] = []
    position = 0
    if start := _SEPARATOR.match(value):
        position = start.end()
    while position < len(value):
        if not (match := _EXTENSION.match(value, position)):
            return None
        name, params = match[1].lower(), []
        while parameter := _PARAMETER.match(value, match.end()):
            params.append((parameter[1].lower(), parameter[2] or parameter[3]))
            match = parameter
        if not (separator := _SEPARATOR.match(value, match.end())):
            return None
        extensions.append(Extension(name, tuple(params)))
        position = separator.end()
    return tuple(extensions)


def _items(values: list[bytes]) -> tuple[bytes, ...]:
    return tuple(item for value in values for part in value.split(b",") if (item := part.strip(b" \t")))


def _text(line: bytes, named: dict[bytes, list[bytes]], names: tuple[bytes, ...]) -> bytes | None:
    """A head of only the fields that Autobahn is to judge, or None where one is not printable ASCII."""
    values = [(name, value) for name in names if name in named for value in named[name]]
    if not _IS_PRINTABLE(line[:-2]) or not all(_IS_PRINTABLE(value) for _, value in values):
        return None
    return line + b"".join([b"%b: %b\r\n" % pair for pair in values]) + b"\r\n"


class _Silent:
    def debug(self, text: str, **fields: Any) -> None:
        pass


class _Right(Exception):
    """Autobahn has judged everything and found it right."""


class _AtTheEnd:
    """Stands where Autobahn, done with the handshake, looks up whom to tell: nothing behind that is wanted here.

    So no future is made, and Autobahn's choice between Twisted and asyncio (``txaio``) is not needed.
    """

    def __get__(self, judge: object, owner: type) -> NoReturn:
        raise _Right


def _hear(judge: _ClientJudge | _BackendJudge) -> None:
    try:
        judge.processHandshake()
    except _Right:
        return
    raise HTTPError("this version of Autobahn gave no verdict on a WebSocket handshake")


def _subject(reason: str) -> str:
    """What Autobahn complains of; its reasons quote the input, so they are not passed on."""
    return next((subject for subject in _SUBJECTS if subject in reason), "request line")


class _ClientJudge(WebSocketServerProtocol):
    """Autobahn's server, asked for its opinion of one handshake and dropped."""

    log = _Silent()
    peer = ""
    versions = (13,)
    trustXForwardedFor = 0
    webStatus = False
    maxConnections = 0
    factory = SimpleNamespace(externalPort=None)
    onConnect = _AtTheEnd()

    def __init__(self, text: bytes) -> None:
        self.data = text

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> NoReturn:
        if responseHeaders:
            raise BadRequest("only version 13 of WebSocket is spoken here", status=426, fields=_OTHER_VERSION)
        raise BadRequest(f"the WebSocket handshake fails at its {_subject(reason)}")


class _BackendJudge(WebSocketClientProtocol):
    """Autobahn's client, asked for its opinion of one answer and dropped."""

    log = _Silent()
    peer = ""
    version = WebSocketClientProtocol.DEFAULT_SPEC_VERSION
    autoPingInterval = 0
    openHandshakeTimeoutCall = None
    _onConnect = _AtTheEnd()

    def __init__(self, text: bytes, offer: Offer) -> None:
        self.data = text
        self.websocket_key = offer.key
        self.factory = SimpleNamespace(protocols=[protocol.decode("ascii") for protocol in offer.protocols])

    def failHandshake(self, reason: str) -> NoReturn:
        raise BadAnswer(f"the backend's WebSocket handshake fails at its {_subject(reason)}")
