"""What a backend saw, judged: is every byte of it canonical, and which requests were they? Twice, and the two agree.

``read_requests`` knows one spelling of everything and raises for any other; h11 is an independent reader of the same.
"""

from __future__ import annotations

import re

import h11
from cases import Case, Reached

_HEAD = re.compile(
    rb"([A-Z][A-Z-]*) (/[!-~]*|\*) HTTP/1\.1\r\n((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t -~\x80-\xff]*\r\n)*)\r\n"
)
_LENGTH = re.compile(rb"0|[1-9][0-9]{0,18}")
_SIZE = re.compile(rb"([1-9a-f][0-9a-f]*|0)\r\n")
_TRAILERS = re.compile(rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t -~\x80-\xff]*\r\n)*)\r\n")
_OWN_ID = re.compile(rb"[0-9a-f]{16}-[0-9a-f]+|[0-9a-f]{32}")
_CONNECTION = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"upgrade", b"http2-settings", b"proxy-authorization")
)
_ANSWER = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r\n]*\r\n(?:[!-9;-~]+: [^\r\n]*\r\n)*\r\n")
_ANSWER_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]+)\r\n")
_WRITTEN = frozenset(
    b"host content-length transfer-encoding forwarded x-real-ip "
    b"x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port".split()
)
_UPGRADE = {b"connection": [b"Upgrade"], b"upgrade": [b"websocket"]}

Fields = tuple[tuple[bytes, bytes], ...]


class NotCanonical(Exception):
    """A backend saw something that can be read in another way, or that is not for it."""


def read_requests(data: bytes, client: bytes) -> tuple[list[Reached], bytes]:
    """The whole requests in ``data``, and the rest: the beginning of another. ``client``: the address that came."""
    found = []
    while data and (match := _HEAD.match(data)):
        fields = _fields(match[3])
        own = _own(fields, client)
        ended = _content(own, data[match.end() :])
        if ended is None:
            return found, data
        body, trailers, data = ended
        found.append(Reached(match[1], match[2], _theirs(fields), body, trailers, own[b"host"][0]))
    if b"\r\n\r\n" in data or not re.match(rb"[\t\r\n -~\x80-\xff]*\Z", data[:16]):
        raise NotCanonical(f"no head that we write begins with {data[:200]!r}")
    return found, data


def read_by_h11(data: bytes) -> list[Reached]:
    """The whole requests in ``data``, read by h11: without the names that tell of us, and with no opinion of those."""
    found = []
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=200_000)
    connection.receive_data(data)
    head, body = None, b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            assert event.http_version == b"1.1", event
            head, body = event, b""
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            fields = tuple((bytes(name), bytes(value)) for name, value in head.headers)
            host = next(value for name, value in fields if name == b"host")
            trailers = tuple((bytes(name), bytes(value)) for name, value in event.headers)
            found.append(Reached(head.method, head.target, _theirs(fields), body, trailers, host))
            connection.send(h11.Response(status_code=200, headers=[(b"Content-Length", b"0")]))
            connection.send(h11.EndOfMessage())
            connection.start_next_cycle()
        else:
            return found


def judge(data: bytes, client: bytes) -> tuple[list[Reached], bytes]:
    """``read_requests``, where h11 agrees."""
    found, rest = read_requests(data, client)
    assert read_by_h11(data) == found
    return found, rest


def statuses(data: bytes, methods: list[bytes]) -> list[int]:
    """The statuses of the answers that a client has read, each with its Content-Length, to requests of ``methods``."""
    found: list[int] = []
    for method in [*methods, b"GET"]:
        if not data:
            break
        match = _ANSWER.match(data)
        assert match, data[:200]
        found.append(int(match[1]))
        length = _ANSWER_LENGTH.search(match[0])
        data = data[match.end() + (int(length[1]) if length and method != b"HEAD" else 0) :]
    assert not data, data[:200]
    return found


def check(case: Case, requests: list[Reached], begun: int, answers: bytes, *, pieces: bool) -> None:
    """Is that what was to come of ``case``, with a GET of ``/probe`` behind it?

    ``requests`` reached the backend, ``begun`` others were cut off there; the client has read ``answers``. ``pieces``:
    it was not sent as a whole.
    """
    expected = [*case.reaches] if case.closes else [*case.reaches, Reached(b"GET", b"/probe")]
    # Where the client sends no Host, it is for the proxy to say.
    hosts = [each.host for each in expected]
    assert [request._replace(host=b"") if b"" in hosts else request for request in requests] == [
        each._replace(host=b"") if b"" in hosts else each for each in expected
    ]
    assert begun <= case.begins
    told = statuses(answers, [each.method for each in expected])
    assert told[: len(expected)] == [200] * len(expected)
    # In pieces a line may be refused before it is whole: then nobody knows yet what else is wrong with it.
    own = {(case.refused,), (400,) if pieces else (case.refused,)} if case.refused else {()}
    assert tuple(told[len(expected) :]) in own


def _fields(lines: bytes) -> Fields:
    pairs = (line.split(b": ", 1) for line in lines.split(b"\r\n")[:-1])
    return tuple((name.lower(), value.strip(b" \t")) for name, value in pairs)


def _own(fields: Fields, client: bytes) -> dict[bytes, list[bytes]]:
    """The values by name, where all that is ours to write is there, once, and true."""
    values: dict[bytes, list[bytes]] = {}
    for name, value in fields:
        values.setdefault(name, []).append(value)
    upgrade = {name: values[name] for name in _CONNECTION & values.keys()}
    if upgrade not in ({}, _UPGRADE):
        raise NotCanonical(f"for one connection only: {upgrade}")
    host = values.get(b"host", [])
    expected = {
        b"x-forwarded-for": [client],
        b"x-real-ip": [client],
        b"x-forwarded-proto": [b"http"],
        b"x-forwarded-host": host,
    }
    told = {name: values.get(name) for name in expected}
    if len(host) != 1 or (host[0] and told != expected) or len(values[b"x-request-id"]) != 1:
        raise NotCanonical(f"not what we say of a client: {told}, {host}")
    if len(values[b"forwarded"]) != 1 or not values[b"forwarded"][0].startswith(b"for=" + client):
        raise NotCanonical(f"not what we say of a client: {values[b'forwarded']}")
    return values


def _theirs(fields: Fields) -> Fields:
    """The fields of the client: without those that every request has from us."""
    return tuple(
        (name, value)
        for name, value in fields
        if name not in _WRITTEN
        and not (name == b"via" and value in (b"1.0 stickyproxy", b"1.1 stickyproxy"))
        and not (name == b"x-request-id" and _OWN_ID.fullmatch(value))
    )


def _content(values: dict[bytes, list[bytes]], data: bytes) -> tuple[bytes, Fields, bytes] | None:
    """Content, trailers, and what is behind them; None while it is incomplete."""
    coding, length = values.get(b"transfer-encoding", []), values.get(b"content-length", [])
    if not coding:
        if len(length) > 1 or (length and not _LENGTH.fullmatch(length[0])):
            raise NotCanonical(f"Content-Length: {length}")
        size = int(length[0]) if length else 0
        return (data[:size], (), data[size:]) if len(data) >= size else None
    if coding != [b"chunked"] or length:
        raise NotCanonical(f"Transfer-Encoding: {coding}, Content-Length: {length}")
    body = b""
    while match := _SIZE.match(data):
        size = int(match[1], 16)
        data = data[match.end() :]
        if size == 0:
            trailers = _TRAILERS.match(data)
            if trailers is None and b"\r\n\r\n" in b"\r\n" + data:
                raise NotCanonical(f"trailers {data[:200]!r}")
            return None if trailers is None else (body, _fields(trailers[1]), data[trailers.end() :])
        if data[size : size + 2] not in (b"\r\n", b"\r", b""):
            raise NotCanonical("a chunk longer than its size")
        body, data = body + data[:size], data[size + 2 :]
    if b"\r\n" in data:
        raise NotCanonical(f"a size line {data[:200]!r}")
    return None
