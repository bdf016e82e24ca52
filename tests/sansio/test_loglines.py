"""The lines of an access log: Combined, JSON and formats, which nobody can forge."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stickyproxy.config.specs import Limits
from stickyproxy.model import Entry, HTTPEntry, OpenEntry, Outcome, RelayEntry, RequestHead, Side, Trace
from stickyproxy.sansio.http1 import parse_request_head
from stickyproxy.sansio.loglines import COLUMNS, formatted, line_of
from stickyproxy.sansio.masking import SECRETS, mask_of

WHEN = 971186136.25  # 10 October 2000, 13:55:36 UTC
COMBINED = re.compile(
    r'(?P<client>\S+) - - \[(?P<time>[^]]+)\] "(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}|-) (?P<sent>\d+) '
    r'"(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)" (?P<rest>.*)'
)

combined = line_of("combined", mask_of(SECRETS))


def head_of(*fields: str, line: str = "GET /a?b=c HTTP/1.1") -> RequestHead:
    return parse_request_head("\r\n".join([line, "Host: example.org", *fields, "", ""]).encode("latin-1"), Limits())


def entry(head: RequestHead | None = None, *, status: int = 200, request_id: bytes = b"made") -> HTTPEntry:
    return HTTPEntry(
        "192.0.2.7", head or head_of(), status, 2326, WHEN, 0.0123456, "app", "a", Outcome.KEPT, request_id
    )


def read(line: str) -> tuple[dict[str, str], dict[str, str]]:
    """The columns of Combined, and what stands behind them."""
    match = COMBINED.fullmatch(line)
    assert match, line
    columns = match.groupdict()
    return columns, dict(word.split("=", 1) for word in columns.pop("rest").split(" "))


# Lines


def test_line_of_a_request() -> None:
    """A request is one line in Combined format, with backend, cluster, duration and affinity behind it."""
    line = combined(entry(head_of("Referer: http://example.org/start", "User-Agent: Mozilla/4.08 [en]")))
    assert line == (
        '192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] "GET /a?b=c HTTP/1.1" 200 2326 "http://example.org/start" '
        '"Mozilla/4.08 [en]" cluster=app backend=a ms=12.346 affinity=kept id=made'
    )


def test_line_of_a_request_that_could_not_be_read() -> None:
    """What was no request, and reached no backend, has dashes."""
    line = combined(HTTPEntry("2001:db8::7", None, 400, 30, WHEN, 0.0))
    assert line == (
        '2001:db8::7 - - [10/Oct/2000:13:55:36 +0000] "-" 400 30 "-" "-" '
        "cluster=- backend=- ms=0.000 affinity=none id=-"
    )


def test_line_of_an_upgrade() -> None:
    """The 101 of a WebSocket is a request like any other."""
    columns, rest = read(combined(entry(head_of("Upgrade: websocket", "Connection: Upgrade"), status=101)))
    assert (columns["status"], rest["backend"]) == ("101", "a")


def test_line_tells_the_id_that_the_backend_got() -> None:
    """A line is found by the X-Request-ID that the backend was told, whatever the client had sent."""
    assert read(combined(entry(head_of("X-Request-ID: theirs"))))[1]["id"] == "made"


def test_line_of_a_websocket() -> None:
    """An ended WebSocket tells the bytes each way, how long it lived, and who closed it."""
    relay = RelayEntry(
        "192.0.2.7", "websocket", 17, 42, WHEN, 60.0, "app", "b", Outcome.NEW, Side.CLIENT, head_of(), b"made"
    )
    assert combined(relay) == (
        '192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] "WEBSOCKET /a?b=c" - 42 "-" "-" '
        "cluster=app backend=b ms=60000.000 affinity=new id=made received=17 sent=42 closed=client code=- messages=-/-"
    )


@pytest.mark.parametrize(("closed_by", "word"), [(Side.CLIENT, "client"), (Side.BACKEND, "backend"), (None, "proxy")])
def test_line_of_a_tcp_relay(closed_by: Side | None, word: str) -> None:
    """An ended TCP relay has the same columns, without a target."""
    columns, rest = read(combined(RelayEntry("192.0.2.7", "tcp", 1, 2, WHEN, 0.5, "redis", "r1", closed_by=closed_by)))
    assert (columns["request"], columns["status"], columns["sent"]) == ("TCP", "-", "2")
    assert (rest["received"], rest["sent"], rest["closed"]) == ("1", "2", word)


def test_secrets_stay_out() -> None:
    """Neither cookies nor credentials are in the log."""
    head = head_of("Cookie: SRV=s3cret", "Authorization: Bearer s3cret", "Proxy-Authorization: Basic s3cret")
    assert "s3cret" not in combined(entry(head))


def test_a_line_can_not_be_forged() -> None:
    """Quotes, backslashes and bytes that are not printable ASCII are escaped as Apache escapes them."""
    columns, _ = read(combined(entry(head_of('User-Agent: a" 200 0 "-" "b\\', "Referer: \x85\xe9\t\u00ff"))))
    assert columns["agent"] == r"a\" 200 0 \"-\" \"b\\"
    assert columns["referer"] == r"\x85\xe9\x09\xff"


@given(st.binary(), st.binary(), st.text(), st.text())
def test_whatever_is_logged_is_one_readable_line(target: bytes, agent: bytes, cluster: str, backend: str) -> None:
    """Whatever bytes a head holds and however a backend is named, the line is ASCII with the same columns."""
    head = head_of()._replace(target=target, plain=[b"User-Agent", b": ", agent, b"\r\n"])
    line = combined(HTTPEntry("192.0.2.7", head, 200, 0, WHEN, 0.0, cluster, backend, Outcome.NONE, b"made"))
    assert line.isascii() and line.isprintable()
    columns, rest = read(line)
    assert columns["status"] == "200"
    assert list(rest) == ["cluster", "backend", "ms", "affinity", "id"]


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("byte", [*range(256)])
def test_every_byte_is_escaped_wherever_it_stands(place: int, byte: int) -> None:
    """What is looked at together is escaped as if each value had been alone."""
    values = [b"target", b"agent", b"page"]
    values[place] += bytes([byte])
    plain = [b"user-agent", b": ", values[1], b"\r\n", b"Referer", b": ", values[2], b"\r\n"]
    columns, _ = read(combined(entry(head_of()._replace(target=values[0], plain=plain))))
    letter = chr(byte)
    escaped = rf"\{letter}" if letter in '"\\' else letter if 0x20 <= byte < 0x7F else rf"\x{byte:02x}"
    wanted = [*("target", "agent", "page")]
    wanted[place] += escaped
    assert [columns["request"], columns["agent"], columns["referer"]] == [f"GET {wanted[0]} HTTP/1.1", *wanted[1:]]


@given(st.floats(0, 1e5))
def test_milliseconds_have_three_places(seconds: float) -> None:
    """A duration is told to the microsecond."""
    _, rest = read(combined(entry()._replace(duration=seconds)))
    assert re.fullmatch(r"\d+\.\d{3}", rest["ms"])
    assert float(rest["ms"]) == pytest.approx(seconds * 1000, abs=0.00051)


def test_a_websocket_tells_its_messages_and_its_code() -> None:
    """Where frames are followed, the line of a WebSocket has the code of its end, and the messages each way."""
    relay = RelayEntry(
        "192.0.2.7", "websocket", 17, 42, WHEN, 1.0, head=head_of(), code=1001, messages_received=3, messages_sent=4
    )
    assert combined(relay).endswith(" closed=proxy code=1001 messages=3/4")


def test_a_trace_is_in_the_line() -> None:
    """A request that belongs to a trace is found by it."""
    traced = entry()._replace(trace=Trace("ab" * 16, "cd" * 8))
    assert combined(traced).endswith(f" id=made trace={'ab' * 16}")


def test_line_of_a_beginning() -> None:
    """A TCP connection that has reached its backend has the same columns."""
    columns, rest = read(combined(OpenEntry("192.0.2.7", WHEN, "redis", "r1", Outcome.NEW, "cache")))
    assert (columns["request"], rest["backend"], rest["affinity"]) == ("TCP", "r1", "new")


# JSON

ALL: list[Entry] = [
    entry(head_of("Referer: http://example.org/start", "User-Agent: Mozilla/4.08"))._replace(
        frontend="web", trace=Trace("ab" * 16, "cd" * 8, "ef" * 8)
    ),
    RelayEntry(
        "192.0.2.7", "websocket", 17, 42, WHEN, 60.0, "app", "b", Outcome.NEW, Side.CLIENT, head_of(), b"made", "web",
        code=1000, messages_received=3, messages_sent=4, reason="closed",
    ),
    OpenEntry("192.0.2.7", WHEN, "redis", "r1", Outcome.NEW, "cache"),
]  # fmt: skip


def test_json() -> None:
    """With format = "json" a line is one object, with numbers as numbers, and no key where there is no value."""
    tell = line_of("json", mask_of(SECRETS))
    assert json.loads(tell(entry()._replace(frontend="web"))) == {
        "time": "2000-10-10T13:55:36.250Z", "event": "http", "frontend": "web", "client": "192.0.2.7", "method": "GET",
        "host": "example.org", "target": "/a?b=c", "version": "1.1", "status": 200, "sent": 2326, "ms": 12.346,
        "id": "made", "cluster": "app", "backend": "a", "affinity": "kept",
    }  # fmt: skip


def test_json_and_formats_say_the_same() -> None:
    """What a placeholder stands for is what the key of that name says, and the page of logs tells its type."""
    tell, seen = line_of("json", mask_of(SECRETS)), set[str]()
    for one in ALL:
        told = json.loads(tell(one))
        seen |= told.keys()
        for name, column in COLUMNS.items():
            text = formatted(f'"{{{name}}}"', mask_of(SECRETS))(one)[1:-1]
            if name not in told:
                assert text == "-" or not column.type, name
            else:
                assert {str: "string", int: "number", float: "number"}[type(told[name])] == column.type
                assert text == (f"{told[name]:.3f}" if isinstance(told[name], float) else str(told[name]))
    assert seen == {name for name, column in COLUMNS.items() if column.type}


@given(st.binary(), st.binary(), st.text())
def test_whatever_is_told_in_json_is_one_object_a_line(target: bytes, agent: bytes, backend: str) -> None:
    """Whatever bytes a head holds, the line is ASCII, and its client is the client."""
    head = head_of()._replace(target=target, plain=[b"User-Agent", b": ", agent, b"\r\n"])
    line = line_of("json", mask_of(SECRETS))(HTTPEntry("192.0.2.7", head, 200, 0, WHEN, 0.0, "app", backend))
    assert line.isascii() and line.isprintable()
    assert json.loads(line)["client"] == "192.0.2.7"


# Formats


def test_a_format_of_ones_own() -> None:
    """I write the columns that I want in the order that I want, and any field of the request."""
    tell = formatted('{time} {status} 100% {{{client}}} "{field:Accept-Language}" {field:X-None}', mask_of(SECRETS))
    assert tell(entry(head_of("Accept-Language: de, en"))) == (
        '2000-10-10T13:55:36.250Z 200 100% {192.0.2.7} "de, en" -'
    )


@pytest.mark.parametrize("form", ["{client", "client}", "{client}\n", "{client} \u00e4"])
def test_a_format_that_is_none(form: str) -> None:
    """Braces without a partner are mistakes, and so is what would make two lines of one."""
    with pytest.raises(ValueError, match=r"partner|printable"):
        formatted(form, mask_of(()))


@pytest.mark.parametrize("name", ["Cookie", "authorization", "X-Api-Key", "Proxy-Authorization"])
def test_a_format_can_not_ask_for_secrets(name: str) -> None:
    """A format that asks for a field with credentials is refused."""
    with pytest.raises(ValueError, match="never logged"):
        formatted(f"{{field:{name}}}", mask_of(()))


@given(st.binary(max_size=40), st.binary(max_size=40))
@example(b'|"', b'a b|c" d')
def test_no_column_of_a_format_can_be_forged(target: bytes, agent: bytes) -> None:
    """Whatever a client sends: it can neither end its column nor its quotes."""
    head = head_of()._replace(target=target, plain=[b"User-Agent", b": ", agent, b"\r\n"])
    one = HTTPEntry("192.0.2.7", head, 200, 0, WHEN, 0.0)
    line = formatted('{client}|{target}|{agent} {status} "{agent}" {id}', mask_of(SECRETS))(one)
    assert line.isascii() and line.isprintable()
    assert re.fullmatch(r'192.0.2.7\|[^| ]*\|[^ ]+ 200 "(?:[^"\\]|\\.)*" -', line)
