"""WebSocket handshakes as people and programs get them wrong."""

from __future__ import annotations

import base64
import gc
import hashlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.config.specs import Limits
from stickyproxy.errors import BadAnswer, BadRequest
from stickyproxy.model import RequestHead, ResponseHead
from stickyproxy.sansio.http1 import parse_request_head, parse_response_head
from stickyproxy.sansio.upgrade import Extension, Offer, check_answer, check_request, is_upgrade

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # of RFC 6455 section 1.3, as is its answer
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
GOOD = {
    b"Host": [b"chat.example.org:8080"],
    b"Upgrade": [b"websocket"],
    b"Connection": [b"Upgrade"],
    b"Sec-WebSocket-Key": [KEY],
    b"Sec-WebSocket-Version": [b"13"],
}
GOOD_ANSWER = {b"Upgrade": [b"websocket"], b"Connection": [b"Upgrade"], b"Sec-WebSocket-Accept": [ACCEPT]}


def changed(fields: dict[bytes, list[bytes]], changes: dict[str, list[bytes]]) -> bytes:
    """Field lines, some of them changed; ``sec_websocket_key=[]`` leaves that one out."""
    named = {name.replace("_", "-").title().replace("Websocket", "WebSocket"): value for name, value in changes.items()}
    together = fields | {name.encode(): values for name, values in named.items()}
    return b"".join(b"%b: %b\r\n" % (name, value) for name, values in together.items() for value in values) + b"\r\n"


def request(**changes: list[bytes]) -> RequestHead:
    return parse_request_head(b"GET /chat?room=1 HTTP/1.1\r\n" + changed(GOOD, changes), Limits())


def answer(**changes: list[bytes]) -> ResponseHead:
    return parse_response_head(b"HTTP/1.1 101 Switching Protocols\r\n" + changed(GOOD_ANSWER, changes), b"GET")


def offer(protocols: bytes | None = None, extensions: bytes | None = None) -> Offer:
    return check_request(
        request(
            sec_websocket_protocol=[] if protocols is None else [protocols],
            sec_websocket_extensions=[] if extensions is None else [extensions],
        )
    )


# The client's handshake


def test_plain_handshake() -> None:
    """A browser's handshake is right, and I learn what it offers."""
    head = request(
        connection=[b"keep-alive, Upgrade"],
        sec_websocket_protocol=[b"chat, superchat"],
        sec_websocket_extensions=[b'permessage-deflate; client_max_window_bits, x-mine; A=b; c="d"'],
    )
    assert is_upgrade(head)
    assert check_request(head) == Offer(
        key=KEY,
        protocols=(b"chat", b"superchat"),
        extensions=(
            Extension(b"permessage-deflate", ((b"client_max_window_bits", None),)),
            Extension(b"x-mine", ((b"a", b"b"), (b"c", b"d"))),
        ),
        version=13,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"upgrade": [b"WebSocket"]},
        {"upgrade": [b"h2c, WEBSOCKET"]},
        {"upgrade": [b"h2c", b"websocket"]},
        {"connection": [b"upgrade"]},
        {"connection": [b"keep-alive, UPGRADE"]},
        {"connection": [b"keep-alive", b"Upgrade"]},
        {"connection": [b"keep-alive,,Upgrade ,"]},
        {"host": [b"[::1]:8080"]},
        {"origin": [b"an origin that only the backend may judge"]},
        {"sec_websocket_protocol": [b"a", b"b, c"]},
        {"sec_websocket_protocol": [b"a,"]},
        {"sec_websocket_extensions": [b"a", b"b; c"]},
        {"sec_websocket_extensions": [b", permessage-deflate;server_max_window_bits=99 ;server_max_window_bits = 8"]},
        {"content_length": [b"0"]},
    ],
)
def test_other_ways_to_ask_rightly(changes: dict[str, list[bytes]]) -> None:
    """Lists, case and repetition that the RFC permits are accepted."""
    head = request(**changes)
    assert is_upgrade(head)
    assert check_request(head).key == KEY


WRONG: list[dict[str, list[bytes]]] = [
    {"upgrade": []},
    {"connection": []},
    {"connection": [b"keep-alive"]},
    {"connection": [b"xupgrade"]},
    {"sec_websocket_key": []},
    {"sec_websocket_key": [KEY, KEY]},
    {"sec_websocket_key": [KEY + b", " + KEY]},
    {"sec_websocket_key": [b""]},
    {"sec_websocket_key": [b"dGhlIHNhbXBsZQ=="]},
    {"sec_websocket_key": [b"dGhlIHNhbXBsZSBub25jZXM="]},
    {"sec_websocket_key": [b"dGhlIHNhbXBsZSBub25j!Q=="]},
    {"sec_websocket_key": [b"dGhlIHNhbXBsZSBub25\xe9ZQ=="]},
    {"sec_websocket_version": []},
    {"sec_websocket_version": [b"13", b"13"]},
    {"sec_websocket_version": [b"13, 8"]},
    {"sec_websocket_version": [b"thirteen"]},
    {"sec_websocket_version": [b"+13"]},
    {"sec_websocket_version": [b"1_3"]},
    {"sec_websocket_version": [b"013"]},
    {"sec_websocket_version": [b"\xb9\xb3"]},
    {"sec_websocket_protocol": [b"chat, chat"]},
    {"sec_websocket_protocol": [b"chat", b"chat"]},
    {"sec_websocket_protocol": [b"two words"]},
    {"sec_websocket_protocol": [b"chat\x85Sec-WebSocket-Version: 13"]},
    {"sec_websocket_extensions": [b"a b"]},
    {"sec_websocket_extensions": [b";a"]},
    {"sec_websocket_extensions": [b"a;"]},
    {"sec_websocket_extensions": [b"a; b="]},
    {"sec_websocket_extensions": [b'a; b="c d"']},
    {"sec_websocket_extensions": [b'a; b="c']},
    {"sec_websocket_extensions": [b"a\xe9"]},
    {"content_length": [b"5"]},
    {"transfer_encoding": [b"chunked"]},
]


@pytest.mark.parametrize("changes", WRONG)
def test_wrong_handshake_is_a_bad_request(changes: dict[str, list[bytes]]) -> None:
    """Whatever field is missing, twice or wrong: 400, and the reason does not repeat what was sent."""
    head = request(**changes)
    with pytest.raises(BadRequest) as caught:
        check_request(head)
    assert caught.value.status == 400
    for value in (value for values in changes.values() for value in values if len(value) > 3):
        assert value.decode("latin-1") not in caught.value.detail


@pytest.mark.parametrize("changes", [change for change in WRONG if "upgrade" in change or "connection" in change])
def test_clumsy_handshake_is_still_a_handshake(changes: dict[str, list[bytes]]) -> None:
    """A handshake with only one of Upgrade and Connection is refused, not sent to the backend as a page request."""
    assert is_upgrade(request(**changes))


@pytest.mark.parametrize("version", [b"8", b"7", b"0", b"12", b"14", b"130"])
def test_other_version(version: bytes) -> None:
    """A client of another version is told which one is spoken."""
    with pytest.raises(BadRequest) as caught:
        check_request(request(sec_websocket_version=[version]))
    assert caught.value.status == 426
    assert b"Sec-WebSocket-Version: 13\r\n" in caught.value.fields


@pytest.mark.parametrize(
    "line",
    [b"POST /chat HTTP/1.1", b"HEAD /chat HTTP/1.1", b"GET /chat HTTP/1.0", b"OPTIONS * HTTP/1.1", b"GET //[ HTTP/1.1"],
)
def test_wrong_request_line(line: bytes) -> None:
    """A WebSocket begins with GET and HTTP/1.1."""
    with pytest.raises(BadRequest) as caught:
        check_request(parse_request_head(line + b"\r\n" + changed(GOOD, {}), Limits()))
    assert caught.value.status == 400


def test_fragment() -> None:
    """A target with a fragment is refused, wherever it comes from."""
    with pytest.raises(BadRequest):
        check_request(request()._replace(target=b"/chat?a#b"))


@pytest.mark.parametrize(
    "head",
    [
        request(upgrade=[b"h2c"], sec_websocket_key=[], connection=[b"Upgrade, HTTP2-Settings"]),
        request(upgrade=[b"websocketx"], connection=[b"close"]),
        request(upgrade=[], connection=[]),
        request(upgrade=[], connection=[], sec_websocket_key=[]),
        request()._replace(minor=0),
    ],
)
def test_not_a_handshake(head: RequestHead) -> None:
    """Other protocols, HTTP/1.0 and plain requests are no WebSockets."""
    assert not is_upgrade(head)


@given(
    st.sampled_from([*sorted(GOOD), b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions"]),
    st.lists(st.binary(max_size=40), max_size=3),
)
def test_garbage_is_refused_or_right(name: bytes, values: list[bytes]) -> None:
    """Any bytes in any field either fit, or are refused with a status."""
    fields = GOOD | {name: values}
    named = {key.lower(): value for key, value in fields.items() if value}
    head = RequestHead(b"GET", b"/", 1, [], named, 0, b"", True, b"websocket")
    refused = None
    try:
        key = check_request(head).key
    except BadRequest as refusal:
        refused = refusal.status
    assert refused in (400, 426) if refused else len(base64.b64decode(key, validate=True)) == 16


# The backend's answer


def test_right_answer() -> None:
    """The answer of the RFC's own example passes."""
    check_answer(offer(b"superchat, chat"), answer(sec_websocket_protocol=[b"chat"]))
    check_answer(offer(), answer(upgrade=[b"WebSocket"], connection=[b"keep-alive, upgrade"]))
    check_answer(offer(b"chat"), answer())


@pytest.mark.parametrize(
    "changes",
    [
        {"upgrade": []},
        {"upgrade": [b"h2c"]},
        {"upgrade": [b"websocket", b"websocket"]},
        {"connection": []},
        {"connection": [b"close"]},
        {"sec_websocket_accept": []},
        {"sec_websocket_accept": [b""]},
        {"sec_websocket_accept": [ACCEPT, ACCEPT]},
        {"sec_websocket_accept": [ACCEPT.lower()]},
        {"sec_websocket_accept": [KEY]},
        {"sec_websocket_accept": [ACCEPT + b"\x85x"]},
        {"sec_websocket_protocol": [b"other"]},
        {"sec_websocket_protocol": [b"Chat"]},
        {"sec_websocket_protocol": [b"chat, superchat"]},
        {"sec_websocket_protocol": [b"chat", b"superchat"]},
        {"sec_websocket_protocol": [b""]},
        {"sec_websocket_extensions": [b"x-other"]},
        {"sec_websocket_extensions": [b"x-mine, x-mine"]},
        {"sec_websocket_extensions": [b"x-mine", b"permessage-deflate"]},
        {"sec_websocket_extensions": [b"x mine"]},
        {"content_length": [b"0"]},
        {"transfer_encoding": [b"chunked"]},
    ],
)
def test_lying_answer(changes: dict[str, list[bytes]]) -> None:
    """A backend that answers another handshake than the client's is found out: 502."""
    with pytest.raises(BadAnswer) as caught:
        check_answer(offer(b"chat, superchat", b"x-mine, permessage-deflate"), answer(**changes))
    assert caught.value.status == 502


@pytest.mark.parametrize(("minor", "status"), [(0, 101), (1, 200), (1, 100), (1, 426)])
def test_wrong_status(minor: int, status: int) -> None:
    """Only a 101 of HTTP/1.1 changes the protocol."""
    with pytest.raises(BadAnswer):
        check_answer(offer(), answer()._replace(minor=minor, status=status))


@pytest.mark.parametrize(
    ("offered", "accepted", "agreed"),
    [
        (b"permessage-deflate", b"permessage-deflate", True),
        (b"permessage-deflate", b"Permessage-Deflate; server_no_context_takeover", True),
        (b"permessage-deflate", b"permessage-deflate; client_no_context_takeover", True),
        (b"permessage-deflate", b"permessage-deflate; server_max_window_bits=8", True),
        (b"permessage-deflate", b'permessage-deflate; server_max_window_bits="15"', True),
        (b"permessage-deflate", b"permessage-deflate; server_max_window_bits=7", False),
        (b"permessage-deflate", b"permessage-deflate; server_max_window_bits=16", False),
        (b"permessage-deflate", b"permessage-deflate; server_max_window_bits=08", False),
        (b"permessage-deflate", b"permessage-deflate; server_max_window_bits", False),
        (b"permessage-deflate", b"permessage-deflate; client_max_window_bits=10", False),
        (b"permessage-deflate", b"permessage-deflate; server_no_context_takeover=1", False),
        (b"permessage-deflate", b"permessage-deflate; server_max_window_bits=9; server_max_window_bits=9", False),
        (b"permessage-deflate", b"permessage-deflate; novelty", False),
        (b"permessage-deflate; client_max_window_bits", b"permessage-deflate; client_max_window_bits=15", True),
        (b"permessage-deflate; client_max_window_bits=10", b"permessage-deflate; client_max_window_bits=12", True),
        (b"permessage-deflate; client_max_window_bits", b"permessage-deflate; client_max_window_bits", False),
        (b"permessage-deflate; client_max_window_bits", b"permessage-deflate", True),
        (b"permessage-deflate; server_no_context_takeover", b"permessage-deflate", False),
        (b"permessage-deflate; server_no_context_takeover", b"permessage-deflate; server_no_context_takeover", True),
        (b"permessage-deflate; server_max_window_bits=10", b"permessage-deflate", False),
        (b"permessage-deflate; server_max_window_bits=10", b"permessage-deflate; server_max_window_bits=11", False),
        (b"permessage-deflate; server_max_window_bits=10", b"permessage-deflate; server_max_window_bits=10", True),
        (b"permessage-deflate; server_max_window_bits=10, permessage-deflate", b"permessage-deflate", True),
        (b"permessage-deflate; novelty", b"permessage-deflate", False),
        (b"permessage-deflate; novelty, permessage-deflate", b"permessage-deflate", True),
        (b"permessage-deflate", b"permessage-deflate, permessage-deflate", False),
        (b"x-mine; a=1", b"X-Mine; b=2", True),
    ],
)
def test_extensions_agree(offered: bytes, accepted: bytes, agreed: bool) -> None:
    """An extension is accepted in a way that the client offered (RFC 7692 section 7.1)."""
    head = answer(sec_websocket_extensions=[accepted])
    if agreed:
        check_answer(offer(None, offered), head)
    else:
        with pytest.raises(BadAnswer):
            check_answer(offer(None, offered), head)


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_every_key_has_one_answer(nonce: bytes, other: bytes) -> None:
    """For any key the answer that RFC 6455 defines passes, and one for another key does not."""
    key = base64.b64encode(nonce)
    asked = check_request(request(sec_websocket_key=[key]))

    def accept(value: bytes) -> bytes:
        return base64.b64encode(hashlib.sha1(value + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())

    check_answer(asked, answer(sec_websocket_accept=[accept(key)]))
    if other != nonce:
        with pytest.raises(BadAnswer):
            check_answer(asked, answer(sec_websocket_accept=[accept(base64.b64encode(other))]))


@given(
    st.sampled_from([*sorted(GOOD_ANSWER), b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Extensions"]),
    st.lists(st.binary(max_size=40), max_size=3),
)
def test_garbage_from_the_backend(name: bytes, values: list[bytes]) -> None:
    """Any bytes in any field of the answer either fit, or are a 502 and nothing else."""
    named = {key.lower(): value for key, value in (GOOD_ANSWER | {name: values}).items() if value}
    head = ResponseHead(101, b"", 1, [], named, 0, True)
    refused = None
    try:
        check_answer(offer(b"chat", b"permessage-deflate"), head)
    except BadAnswer as refusal:
        refused = refusal.status
    assert refused == 502 or named[b"sec-websocket-accept"] == [ACCEPT]


# What it costs


def test_nothing_of_autobahn_stays() -> None:
    """After the check the memory of it is the offer alone."""
    check_answer(offer(), answer())
    gc.collect()
    assert not [kept for kept in gc.get_objects() if type(kept).__name__ in ("_ClientJudge", "_BackendJudge")]


def test_no_twisted() -> None:
    """The verification runs without Twisted and without a choice of framework."""
    script = """
import sys
from stickyproxy.sansio.upgrade import Offer, check_answer, check_request
from stickyproxy.model import RequestHead, ResponseHead
fields = {b"host": [b"a"], b"upgrade": [b"websocket"], b"connection": [b"upgrade"],
          b"sec-websocket-key": [b"dGhlIHNhbXBsZSBub25jZQ=="], b"sec-websocket-version": [b"13"]}
offer = check_request(RequestHead(b"GET", b"/", 1, [], fields, 0, b"a", True, b"websocket"))
fields[b"sec-websocket-accept"] = [b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]
check_answer(offer, ResponseHead(101, b"", 1, [], fields, 0, True))
print(any(name.partition(".")[0] in ("twisted", "asyncio") for name in sys.modules))
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
