r"""Entries as lines of an access log: Combined and more, JSON, or a format of the user's. Floor 2, pure.

The Combined log format of Apache (httpd's mod_log_config), in UTC, and behind it what a balancer has to tell, as
``key=value``; JSON as RFC 8259 has it. What came over the wire is escaped as Apache does it, so that nobody can forge a
line: ``\"``, ``\\`` and ``\xhh`` for all that is not printable ASCII. Nor can anyone forge a column: outside of double
quotes, a space and the character that a format has behind the value are escaped, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from json import JSONEncoder
from typing import Any, NamedTuple

from stickyproxy.model import Entry, HTTPEntry, OpenEntry, RelayEntry, RequestHead
from stickyproxy.sansio.fields import FieldNames
from stickyproxy.sansio.masking import SECRET_FIELDS, Mask

Line = Callable[[Entry], str]
#: What a column holds; None where the entry has none.
Value = bytes | str | int | float | None


class Column(NamedTuple):
    """What a placeholder stands for."""

    type: str  #: in JSON; empty: not there
    meaning: str
    read: Callable[[Any, Mask], Value]


_LOGGED = FieldNames((b"referer", b"user-agent"))
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SAFE = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
#: Makes another byte of each that is to be escaped, but of the one between values.
_SPOIL = bytes(byte if byte in _SAFE or byte == 0x0A else byte ^ 1 for byte in range(256))
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_DECIMALS = [f".{number:03}" for number in range(1000)]  # a float written with three takes three times as long
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@lru_cache(maxsize=16)
def _stamp(second: int) -> str:
    """``10/Oct/2000:13:55:36 +0000``, whatever the locale."""
    at = datetime.fromtimestamp(second, UTC)
    return f"{at.day:02}/{_MONTHS[at.month - 1]}/{at:%Y:%H:%M:%S} +0000"


@lru_cache(maxsize=16)
def _day_and_second(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"


def _time(entry: Entry, _: Mask) -> str:
    second, rest = divmod(int(entry.ended * 1000), 1000)
    return f"{_day_and_second(second)}.{rest:03}Z"


def _apache_time(entry: Entry, _: Mask) -> str:
    return _stamp(int(entry.ended))


def _path(head: RequestHead, mask: Mask) -> bytes:
    return mask(head.target.partition(b"?")[0])


def _event(entry: Entry, _: Mask) -> str:
    if isinstance(entry, RelayEntry):
        return entry.protocol
    return "http" if isinstance(entry, HTTPEntry) else "tcp-open"


def _request(entry: Entry, mask: Mask) -> bytes | None:
    if isinstance(entry, HTTPEntry):
        head = entry.head
        return b"%b %b HTTP/1.%d" % (head.method, mask(head.target), head.minor) if head is not None else None
    if isinstance(entry, OpenEntry) or entry.head is None:
        return b"TCP"
    return b"WEBSOCKET " + mask(entry.head.target)


def _closed(entry: Any, _: Mask) -> str | None:
    if not isinstance(entry, RelayEntry):
        return None
    return entry.closed_by.value if entry.closed_by is not None else "proxy"


def _of(name: str) -> Callable[[Any, Mask], Value]:
    """An attribute of those entries that have it; an empty one is as good as none."""

    def read(entry: Any, _: Mask) -> Value:
        value: Value = getattr(entry, name, None)
        return value or (None if isinstance(value, str | bytes) else value)

    return read


def _of_head(read: Callable[[Any, Mask], Value]) -> Callable[[Any, Mask], Value]:
    def from_entry(entry: Any, mask: Mask) -> Value:
        head = getattr(entry, "head", None)
        return (read(head, mask) or None) if head is not None else None

    return from_entry


def _of_trace(name: str) -> Callable[[Any, Mask], Value]:
    def read(entry: Any, _: Mask) -> Value:
        trace = getattr(entry, "trace", None)
        return (getattr(trace, name) or None) if trace is not None else None

    return read


def field(name: str) -> Callable[[Any, Mask], Value]:
    """What reads the request field ``name``, as a column. Raises ``ValueError`` for a secret, and for no name."""
    lower = name.lower()
    if not _TOKEN(lower):
        raise ValueError(f'"{name}" is not the name of a field')
    wanted = lower.encode()
    if wanted in SECRET_FIELDS:
        raise ValueError(f"{name} holds secrets: it is never logged")
    return _of_head(lambda head, mask: mask(b", ".join(head.values(wanted))))


def _milliseconds(entry: Any, _: Mask) -> float | None:
    return None if isinstance(entry, OpenEntry) else round(entry.duration * 1000, 3)


#: By their names: what a line may hold.
COLUMNS: Mapping[str, Column] = {
    "time": Column("string", "when it was over, UTC: `2000-10-10T13:55:36.250Z` (RFC 3339)", _time),
    "stamp": Column("", "the same as Apache writes it: `10/Oct/2000:13:55:36 +0000`", _apache_time),
    "epoch": Column("", "the same in seconds since 1970", _of("ended")),
    "event": Column("string", "`http`; `websocket`, `tcp`: one that has ended; `tcp-open`: one that begins", _event),
    "frontend": Column("string", "where it came in", _of("frontend")),
    "client": Column("string", "the client's address, as far as it is believed", _of("client")),
    "request": Column("", "method, target and version; `WEBSOCKET` and the target; `TCP`", _request),
    "method": Column("string", "of the request", _of_head(lambda head, _: head.method)),
    "host": Column("string", "that was asked for, and its port if one was named", _of_head(lambda h, _: h.authority)),
    "target": Column("string", "path and query, secrets masked", _of_head(lambda head, mask: mask(head.target))),
    "path": Column("", "the target without its query", _of_head(_path)),
    "version": Column("string", "`1.1` or `1.0`", _of_head(lambda head, _: f"1.{head.minor}")),
    "status": Column("number", "of the answer; 499: the client left before it began", _of("status")),
    "sent": Column("number", "bytes to the client: content of an answer, or all of a tunnel", _of("sent")),
    "received": Column("number", "bytes from the client in a tunnel", _of("received")),
    "ms": Column("number", "milliseconds, from the request's head to the end of answer or tunnel", _milliseconds),
    "referer": Column("string", "the page that the request came from, secrets masked", field("referer")),
    "agent": Column("string", "the client's program (`User-Agent`)", field("user-agent")),
    "cluster": Column("string", "that served it", _of("cluster")),
    "backend": Column("string", "that served it", _of("backend")),
    "affinity": Column("string", "`none`, `new`, `kept`, `rebound` or `away`", lambda entry, _: entry.outcome.value),
    "id": Column("string", "the `X-Request-ID` that the backend was told", _of("request_id")),
    "trace": Column("string", "the trace (32 hexadecimal digits), where `trace` is on", _of_trace("trace")),
    "span": Column("string", "our span in it (16 digits)", _of_trace("span")),
    "parent": Column("string", "the span that it belongs to, where the trace was begun elsewhere", _of_trace("parent")),
    "closed": Column("string", "who ended a tunnel: `client`, `backend` or `proxy`", _closed),
    "reason": Column("string", "why: `closed`, `lost`, `idle`, `stopped` or `drained`", _of("reason")),
    "code": Column("number", "of the Close frame that ended a WebSocket", _of("code")),
    "messages_received": Column("number", "messages of a WebSocket from the client", _of("messages_received")),
    "messages_sent": Column("number", "and to it", _of("messages_sent")),
}  # fmt: skip

#: Columns of which every value is a word of ours.
_OURS = frozenset(("time", "stamp", "event", "affinity", "closed"))


def line_of(form: str, mask: Mask) -> Line:
    """What makes lines in ``form``: ``"combined"``, ``"json"``, or a format. Raises ``ValueError`` as ``pieces``."""
    if form == "json":
        return _json(mask)
    return _combined(mask) if form == "combined" else formatted(form, mask)


def pieces(form: str) -> Iterator[tuple[str, str]]:
    """The parts of a format: literal text, and the placeholder behind it, empty at the end.

    Raises ``ValueError`` for braces without a partner, and for text that is not printable ASCII or a tab.
    """
    literal, position = "", 0
    if not re.fullmatch(r"[ -~\t]*", form):
        raise ValueError("a format is printable ASCII and tabs: a line is one line")
    for found in _PLACEHOLDER.finditer(form):
        literal += form[position : found.start()]
        position = found.end()
        if found[0] in ("{{", "}}"):
            literal += found[0][0]
        elif found[1] is None:
            raise ValueError(f'"{found[0]}" at {found.start() + 1} has no partner: write "{found[0] * 2}" for itself')
        else:
            yield literal, found[1]
            literal = ""
    yield literal + form[position:], ""


def reader_of(name: str) -> Callable[[Any, Mask], Value]:
    """What reads the column ``name``. Raises ``KeyError`` for one that there is not, and as ``field``."""
    kind, colon, rest = name.partition(":")
    return field(rest) if colon and kind == "field" else COLUMNS[name].read


def formatted(form: str, mask: Mask) -> Line:
    """What makes lines of a format. Raises as ``pieces`` and ``reader_of``."""
    parts = list(pieces(form))
    template, columns, quoted = "", [], False
    for (literal, name), (behind, _) in zip(parts, [*parts[1:], ("", "")], strict=True):
        template += literal.replace("%", "%%") + ("%s" if name else "")
        quoted ^= literal.count('"') % 2 == 1
        if name:
            columns.append(_texts(reader_of(name), mask, "" if quoted else " " + behind[:1], trusted=name in _OURS))

    def line(entry: Entry) -> str:
        return template % tuple([column(entry) for column in columns])

    return line


def _texts(read: Callable[[Any, Mask], Value], mask: Mask, also: str, *, trusted: bool) -> Callable[[Entry], str]:
    """What writes a column as text, escaping ``also`` beside all that is always escaped."""
    safe = bytes(set(_SAFE) - set(also.encode()))
    escapes = [_ESCAPES[byte] if byte in safe or chr(byte) in '"\\' else f"\\x{byte:02x}" for byte in range(256)]

    def escaped(value: bytes) -> str:
        if value.translate(None, safe):
            return "".join([escapes[byte] for byte in value])
        return value.decode("ascii")

    def text(entry: Entry) -> str:
        value = read(entry, mask)
        if value is None:
            return "-"
        if isinstance(value, bytes):
            return escaped(value)
        if isinstance(value, str):
            return value if trusted else escaped(value.encode())
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    return text


def _combined(mask: Mask) -> Line:
    """Written out, since it is what almost everyone has: eight times as fast as a format."""

    def line(entry: Entry) -> str:
        status: int | str
        status, sent, referer, agent, duration, request_id, rest = "-", 0, "", "", 0.0, "", ""
        if isinstance(entry, HTTPEntry):
            client, head, status, sent, ended, duration, cluster, backend, outcome, told, _, trace = entry
            if head is None:
                request, request_id = "-", _escaped(told)
            else:
                page, program = _referer_and_agent(head)
                texts = _all_escaped(head.method, mask(head.target), mask(page) if page else page, program, told)
                method, target, referer, agent, request_id = texts
                request = f"{method} {target} HTTP/1.{head.minor}"
        else:
            client, ended, trace, request = entry.client, entry.ended, None, "TCP"
            cluster, backend, outcome = entry.cluster, entry.backend, entry.outcome
            if isinstance(entry, RelayEntry):
                sent, duration, trace, request_id = entry.sent, entry.duration, entry.trace, _escaped(entry.request_id)
                if entry.head is not None:
                    request = f"WEBSOCKET {_escaped(mask(entry.head.target))}"
                rest = _ended(entry)
        if trace is not None:
            rest += f" trace={trace.trace}"
        microseconds = round(duration * 1e6) if duration > 0 else 0  # clocks may be set back
        ms = f"{microseconds // 1000}{_DECIMALS[microseconds % 1000]}"
        return (
            f'{client} - - [{_stamp(int(ended))}] "{request}" {status} {sent} "{referer or "-"}" "{agent or "-"}" '
            f"cluster={_word(cluster)} backend={_word(backend)} ms={ms} "
            f"affinity={outcome._value_} id={request_id or '-'}{rest}"
        )

    return line


def _referer_and_agent(head: RequestHead) -> tuple[bytes, bytes]:
    """Both in one pass over the fields."""
    page = program = b""
    plain = head.plain
    for position in range(0, len(plain), 4):
        name = _LOGGED[plain[position]]
        if name is not None:
            value = plain[position + 2]
            if name == b"referer":
                page = page + b", " + value if page else value
            else:
                program = program + b", " + value if program else value
    return page, program


def _ended(relay: RelayEntry) -> str:
    """What the line of a tunnel has more."""
    closed = relay.closed_by.value if relay.closed_by is not None else "proxy"
    text = f" received={relay.received} sent={relay.sent} closed={closed}"
    if relay.protocol != "websocket":
        return text
    code, received, sent = (
        "-" if value is None else value for value in (relay.code, relay.messages_received, relay.messages_sent)
    )
    return f"{text} code={code} messages={received}/{sent}"


def _json(mask: Mask) -> Line:
    encode = JSONEncoder(separators=(",", ":")).encode

    def line(entry: Entry) -> str:
        told: dict[str, Any] = {"time": _time(entry, mask), "event": _event(entry, mask)}
        told |= {"frontend": entry.frontend, "client": entry.client}
        if not isinstance(entry, OpenEntry):
            if entry.head is not None:
                _tell_head(told, entry.head, mask)
            if isinstance(entry, HTTPEntry):
                told["status"] = entry.status
            told |= {
                "sent": entry.sent,
                "ms": round(entry.duration * 1000, 3),
                "id": entry.request_id.decode("latin-1"),
            }
            if entry.trace is not None:
                told["trace"], told["span"], told["parent"], _ = entry.trace
            if isinstance(entry, RelayEntry):
                told |= {
                    "received": entry.received,
                    "closed": _closed(entry, mask),
                    "reason": entry.reason,
                    "code": entry.code,
                }
                told |= {"messages_received": entry.messages_received, "messages_sent": entry.messages_sent}
        told |= {"cluster": entry.cluster, "backend": entry.backend, "affinity": entry.outcome.value}
        return encode({key: value for key, value in told.items() if value is not None and value != ""})

    return line


def _tell_head(told: dict[str, Any], head: RequestHead, mask: Mask) -> None:
    told["method"] = head.method.decode("ascii")
    told["host"] = head.authority.decode("ascii", "backslashreplace")
    told["target"] = mask(head.target).decode("utf-8", "backslashreplace")
    told["version"] = f"1.{head.minor}"
    page, program = _referer_and_agent(head)
    told["referer"] = mask(page).decode("utf-8", "backslashreplace")
    told["agent"] = program.decode("utf-8", "backslashreplace")


_ESCAPES = [chr(byte) if byte in _SAFE else f"\\x{byte:02x}" for byte in range(256)]
_ESCAPES[0x22], _ESCAPES[0x5C] = '\\"', "\\\\"


def _escaped(value: bytes) -> str:
    if value.translate(None, _SAFE):
        return "".join([_ESCAPES[byte] for byte in value])
    return value.decode("ascii")


def _all_escaped(*values: bytes) -> list[str]:
    """Each of them escaped; those in which there is nothing to be, which are almost all, cost one look together."""
    joined = b"\n".join(values)
    if joined.translate(_SPOIL) == joined:
        texts = joined.decode().split("\n")
        if len(texts) == len(values):
            return texts
    return [_escaped(value) for value in values]


@lru_cache(maxsize=4096)
def _word(text: str) -> str:
    """A name from the configuration as one word."""
    return _escaped(text.encode()).replace(" ", "\\x20") or "-"
