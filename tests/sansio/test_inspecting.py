"""Stream inspectors: the byte layouts of the specifications, built by hand, in every way that a network cuts them."""

from __future__ import annotations

import ssl
import struct
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.interfaces import IStreamInspector
from stickyproxy.sansio.inspecting import (
    BoundedInspector,
    MQTTInspector,
    PostgreSQLInspector,
    RDPInspector,
    RedisInspector,
    TLSInspector,
)
from stickyproxy.testing import check_inspector

# What clients send.


def field(value: bytes, size: int = 2) -> bytes:
    """A value behind its length, as MQTT and TLS write them."""
    return len(value).to_bytes(size) + value


def variable(number: int) -> bytes:
    """MQTT's variable byte integer."""
    digits = bytearray()
    while True:
        number, digit = divmod(number, 128)
        digits.append(digit | (0x80 if number else 0))
        if not number:
            return bytes(digits)


def mqtt(
    client: bytes,
    *,
    level: int = 4,
    protocol: bytes = b"MQTT",
    properties: bytes | None = None,
    will: bytes = b"",
    user: bytes | None = None,
) -> bytes:
    """A CONNECT packet. ``will``: its properties, topic and message."""
    flags = 0x02 | (0x04 if will else 0) | (0xC0 if user is not None else 0)
    packet = field(protocol) + bytes((level, flags)) + b"\x00\x3c"
    packet += b"" if properties is None else variable(len(properties)) + properties
    packet += field(client) + will + (b"" if user is None else field(user) + field(b"password"))
    return b"\x10" + variable(len(packet)) + packet


def startup(*words: bytes, version: int = 3 << 16) -> bytes:
    """PostgreSQL's StartupMessage."""
    content = struct.pack("!I", version) + b"".join(word + b"\0" for word in words) + b"\0"
    return struct.pack("!I", 4 + len(content)) + content


def resp(*words: bytes) -> bytes:
    """A command of Redis."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


NEGOTIATION = bytes.fromhex("0100080003000000")


def rdp(line: bytes, *, kind: int = 0xE0) -> bytes:
    """A connection request: TPKT, X.224, cookie or token, negotiation."""
    content = bytes((kind, 0, 0, 0, 0, 0)) + line + NEGOTIATION
    return b"\x03\x00" + struct.pack("!H", 5 + len(content)) + bytes((len(content),)) + content


def extension(kind: int, content: bytes) -> bytes:
    return struct.pack("!H", kind) + field(content)


def sni(name: bytes, kind: int = 0) -> bytes:
    return extension(0, field(bytes((kind,)) + field(name)))


def alpn(*names: bytes) -> bytes:
    return extension(16, field(b"".join(field(name, 1) for name in names)))


GREASE = extension(0x0A0A, b"") + extension(0xFAFA, b"\0")


def hello(*extensions: bytes, session: bytes = bytes(32)) -> bytes:
    """A ClientHello without its record."""
    content = b"\x03\x03" + bytes(range(32)) + field(session, 1) + field(b"\x5a\x5a\x13\x01\x13\x02") + field(b"\0", 1)
    return b"\x01" + field(content + field(b"".join(extensions)), 3)


def records(message: bytes, size: int = 1 << 14, version: int = 0x0301) -> bytes:
    """A handshake message in records of ``size`` bytes."""
    pieces = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16" + struct.pack("!H", version) + field(piece) for piece in pieces)


def real_hello(name: str | None, *protocols: str) -> bytes:
    """What OpenSSL sends."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(list(protocols))
    out = ssl.MemoryBIO()
    context.check_hostname = False
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


WILL = field(b"topic") + field(b"message")
SNI = hello(GREASE, sni(b"WWW.Example.org"), alpn(b"h2"))
PSQL = (b"user", b"alice", b"database", b"shop", b"application_name", b"psql", b"client_encoding", b"UTF8")
MQTT_STREAMS = {
    "3.1.1": (mqtt(b"sensor-1"), b"sensor-1", b""),
    "3.1.1, as the bytes are": (b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc", b"abc", b""),
    "3.1": (mqtt(b"old", level=3, protocol=b"MQIsdp", user=b"alice"), b"old", b"alice"),
    "5": (mqtt(b"sensor-1", level=5, properties=b"\x11\x00\x00\x00\x0a"), b"sensor-1", b""),
    "5 with long properties": (mqtt(b"x", level=5, properties=b"\x26" + field(b"a" * 300) + field(b"")), b"x", b""),
    "a user": (mqtt(b"sensor-1", user=b"alice"), b"sensor-1", b"alice"),
    "a user behind a will": (mqtt(b"s", user=b"alice", will=WILL), b"s", b"alice"),
    "5, a user behind a will": (
        mqtt(b"s", level=5, properties=b"", user=b"alice", will=b"\x05\x18\0\0\0\x09" + WILL),
        b"s",
        b"alice",
    ),
    "a bridge of mosquitto": (mqtt(b"bridge", level=0x84), b"bridge", b""),
    "asks for an identifier": (mqtt(b"", user=b"alice"), b"", b"alice"),
    "an empty user": (mqtt(b"s", user=b""), b"s", b""),
    "a large packet": (mqtt(b"s" * 200, user=b"alice", will=field(b"t") + field(b"m" * 3000)), b"s" * 200, b"alice"),
    "paho-mqtt": (
        b"\x10#\0\4MQTT\5\xc6\0<\0\0\4dev1\0\0\1t\0\1m\0\5alice\0\2pw",
        b"dev1",
        b"alice",
    ),
    "another packet": (b"\x30\x05\x00\x01ahi", b"", b""),
    "reserved flags": (b"\x11" + mqtt(b"x")[1:], b"", b""),
    "another protocol": (mqtt(b"x", protocol=b"MQTX"), b"", b""),
    "another level": (mqtt(b"x", level=6), b"", b""),
    "a length of five bytes": (b"\x10\xff\xff\xff\xff\x01", b"", b""),
    "an identifier beyond the packet": (b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc", b"", b""),
}
POSTGRESQL_STREAMS = {
    "psql": (startup(*PSQL), b"alice", b"shop"),
    "asyncpg": (
        b"\0\0\0:\0\3\0\0client_encoding\0'utf-8'\0user\0alice\0database\0shop\0\0",
        b"alice",
        b"shop",
    ),
    "no database": (startup(b"user", b"alice"), b"alice", b"alice"),
    "empty values": (startup(b"options", b"", b"user", b"alice", b"database", b""), b"alice", b"alice"),
    "3.2": (startup(*PSQL, version=3 << 16 | 2), b"alice", b"shop"),
    "a database alone": (startup(b"database", b"shop"), b"", b"shop"),
    "nothing": (startup(), b"", b""),
    "SSLRequest": (struct.pack("!II", 8, 80877103), b"", b""),
    "GSSENCRequest": (struct.pack("!II", 8, 80877104), b"", b""),
    "CancelRequest": (struct.pack("!IIII", 16, 80877102, 1234, 5678), b"", b""),
    "2.0": (startup(*PSQL, version=2 << 16), b"", b""),
    "too long": (struct.pack("!II", 10001, 3 << 16), b"", b""),
    "too short": (struct.pack("!II", 7, 3 << 16), b"", b""),
    "TLS at once": (records(hello()), b"", b""),
}
REDIS_STREAMS = {
    "AUTH user password": (resp(b"AUTH", b"alice", b"secret"), b"alice"),
    "lower case": (resp(b"auth", b"alice", b"secret"), b"alice"),
    "AUTH password": (resp(b"AUTH", b"secret"), b""),
    "the default user": (resp(b"AUTH", b"default", b"secret"), b""),
    "HELLO": (resp(b"HELLO", b"3"), b""),
    "HELLO AUTH": (resp(b"HELLO", b"3", b"AUTH", b"alice", b"secret"), b"alice"),
    "HELLO AUTH SETNAME": (resp(b"HELLO", b"3", b"AUTH", b"alice", b"secret", b"SETNAME", b"worker"), b"alice"),
    "HELLO AUTH default SETNAME": (
        resp(b"hello", b"3", b"auth", b"default", b"secret", b"setname", b"worker"),
        b"worker",
    ),
    "HELLO SETNAME": (resp(b"HELLO", b"3", b"SETNAME", b"worker"), b"worker"),
    "HELLO that means something else": (resp(b"HELLO", b"3", b"secret", b"AUTH", b"alice"), b""),
    "CLIENT SETNAME": (resp(b"CLIENT", b"SETNAME", b"worker-7"), b"worker-7"),
    "CLIENT SETINFO": (resp(b"CLIENT", b"SETINFO", b"LIB-NAME", b"redis-py"), b""),
    "another command": (resp(b"GET", b"AUTH"), b""),
    "a name of any bytes": (resp(b"CLIENT", b"SETNAME", b"\r\n\xff\0"), b"\r\n\xff\0"),
    "an empty user": (resp(b"AUTH", b"", b"secret"), b""),
    "a long name": (resp(b"CLIENT", b"SETNAME", b"n" * 3000), b"n" * 3000),
    "inline": (b"AUTH alice secret\r\n", b"alice"),
    "inline, lower case, line feed": (b"client  setname worker\n", b"worker"),
    "inline password": (b"AUTH secret\r\n", b""),
    "inline quotes": (b'AUTH "alice" secret\r\n', b""),
    "inline command": (b"PING\r\n", b""),
    "many inline words": (b"AUTH a b c d e f g h\r\n", b""),
    "many words": (resp(*[b"HELLO"] * 8), b""),
    "no words": (b"*0\r\n", b""),
    "less than none": (b"*-1\r\n", b""),
    "no number": (b"*x\r\n", b""),
    "a number without end": (b"*0000001", b""),
    "no string": (b"*2\r\n:4\r\n", b""),
    "a string that does not end": (b"*2\r\n$4\r\nAUTHxx", b""),
    "TLS": (records(hello()), b""),
    "an empty line": (b"\r\n", b""),
}
RDP_STREAMS = {
    "cookie": (rdp(b"Cookie: mstshash=alice\r\n"), b"alice"),
    "domain": (rdp(b"Cookie: mstshash=CORP\\alic\r\n"), b"CORP\\alic"),
    "token": (rdp(b"Cookie: msts=3640205228.15629.0000\r\n"), b"3640205228.15629.0000"),
    "another token": (rdp(b"tsv://MS Terminal Services Plugin.1.App\r\n"), b"tsv://MS Terminal Services Plugin.1.App"),
    "empty": (rdp(b"Cookie: mstshash=\r\n"), b""),
    "neither": (rdp(b""), b""),
    "neither, nor a negotiation": (b"\x03\x00\x00\x0b\x06\xe0\0\0\0\0\0", b""),
    "no end": (b"\x03\x00\x00\x0f\x0a\xe0\0\0\0\0\0Cook", b""),
    "another message": (rdp(b"Cookie: mstshash=alice\r\n", kind=0xD0), b""),
    "too short": (b"\x03\x00\x00\x0a", b""),
    "no TPKT": (b"\x03\x01", b""),
}
TLS_STREAMS = {
    "SNI and ALPN": (records(SNI), b"www.example.org", b"h2"),
    "records of one size": (records(SNI, 17), b"www.example.org", b"h2"),
    "version 1.2 on the record": (records(SNI, version=0x0303), b"www.example.org", b"h2"),
    "several protocols, GREASE": (records(hello(alpn(b"\x8a\x8a", b"h2", b"http/1.1"))), b"", b"h2,http/1.1"),
    "GREASE alone": (records(hello(GREASE, alpn(b"\x0a\x0a"))), b"", b""),
    "the outer name of ECH": (
        records(hello(extension(0xFE0D, bytes(200)), sni(b"public.example"))),
        b"public.example",
        b"",
    ),
    "a dot at the end": (records(hello(sni(b"a.example."))), b"a.example", b""),
    "no session": (records(hello(sni(b"a.example"), session=b"")), b"a.example", b""),
    "no extensions": (records(b"\x01" + field(hello()[4:-2], 3)), b"", b""),
    "a name of another type": (records(hello(sni(b"a.example", kind=1))), b"", b""),
    "an empty name": (records(hello(sni(b""))), b"", b""),
    "a name too long": (records(hello(sni(b"a" * 256))), b"", b""),
    "the first of two": (records(hello(sni(b"a.example"), sni(b"b.example"))), b"a.example", b""),
    "a large hello": (records(hello(extension(51, bytes(9000)), sni(b"a.example"))), b"a.example", b""),
    "an extension beyond the hello": (records(hello(struct.pack("!HH", 0, 50))), b"", b""),
    "a list beyond its extension": (records(hello(extension(0, b"\x00\x20\0"))), b"", b""),
    "a protocol beyond its list": (records(hello(extension(16, b"\x00\x02\x05h"))), b"", b""),
    "another message": (records(b"\x02\x00\x00\x02\x03\x03"), b"", b""),
    "an alert": (b"\x15\x03\x01\x00\x02\x02\x28", b"", b""),
    "an empty record": (b"\x16\x03\x01\x00\x00", b"", b""),
    "a record too long": (b"\x16\x03\x01\x40\x01", b"", b""),
    "too many records": (records(SNI, 1), b"", b""),
    "SSL 2": (bytes.fromhex("802e010301"), b"", b""),
    "HTTP": (b"GET / HTTP/1.1\r\n", b"", b""),
    "real": (real_hello("Sub.Example.org", "h2", "http/1.1"), b"sub.example.org", b"h2,http/1.1"),
    "real without a name": (real_hello(None), b"", b""),
}

Streams = dict[str, tuple[Any, ...]]
SUITES: dict[str, tuple[Callable[[], Any], Streams, int]] = {
    "mqtt client-id": (MQTTInspector, MQTT_STREAMS, 1),
    "mqtt user": (lambda: MQTTInspector("user"), MQTT_STREAMS, 2),
    "postgresql user": (PostgreSQLInspector, POSTGRESQL_STREAMS, 1),
    "postgresql database": (lambda: PostgreSQLInspector("database"), POSTGRESQL_STREAMS, 2),
    "redis": (RedisInspector, REDIS_STREAMS, 1),
    "rdp": (RDPInspector, RDP_STREAMS, 1),
    "tls sni": (TLSInspector, TLS_STREAMS, 1),
    "tls alpn": (lambda: TLSInspector("alpn"), TLS_STREAMS, 2),
}
CASES = [
    pytest.param(make, streams[name][0], streams[name][column], id=f"{suite}: {name}")
    for suite, (make, streams, column) in SUITES.items()
    for name in streams
]


@pytest.mark.parametrize(("make", "data", "key"), CASES)
def test_a_key_is_found_however_it_comes(make: Callable[[], Any], data: bytes, key: bytes) -> None:
    """Whole, with more behind it, or byte by byte: the same key, which is not known before it can be."""
    inspector = make()
    assert inspector.inspect(data) == key
    answers = [inspector.inspect(data[:size]) for size in range(len(data) + 1)]
    first = next(size for size, answer in enumerate(answers) if answer is not None)
    assert set(answers[:first]) <= {None}
    assert set(answers[first:]) == {key}
    if key:
        assert inspector.inspect(data + b"and what comes then") == key


@pytest.mark.parametrize("suite", SUITES)
def test_the_contract_is_kept(suite: str) -> None:
    """Each passes the check that is there for everybody's inspectors."""
    make, streams, column = SUITES[suite]
    check_inspector(make, {stream[0]: stream[column] for stream in streams.values()})


@given(st.sampled_from(sorted(SUITES)), st.data())
def test_no_bytes_raise(suite: str, data: st.DataObject) -> None:
    """Whatever is sent, or put into what a client would send: None or bytes, and no more of them than were sent."""
    make, streams, _ = SUITES[suite]
    stream = bytearray(data.draw(st.sampled_from([each[0] for each in streams.values()])))
    for at, what in data.draw(st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=6)), max_size=4)):
        stream[at : at + len(what)] = what
    sent = data.draw(st.just(bytes(stream)) | st.binary(max_size=600))
    answer = make().inspect(sent)
    assert answer is None or len(answer) <= len(sent)


HOSTILE = {
    "tiny records": b"\x16\x03\x01\x00\x01\x01" + b"\x16\x03\x01\x00\x01\xff" * 3000,
    "empty extensions": records(hello(extension(1, b"") * 4000)),
    "digits": b"*" + b"1" * 16000,
    "one long line": b"AUTH " + b"a " * 8000,
    "large MQTT": mqtt(b"x" * 60000),
    "large startup": struct.pack("!II", 10000, 3 << 16) + b"\0" * 9992,
    "a cookie without end": b"\x03\x00\xff\xff\xff\xe0\0\0\0\0\0" + b"C" * 16000,
}


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("stream", HOSTILE)
def test_bytewise_is_not_quadratic(suite: str, stream: str) -> None:
    """Who sends byte by byte costs some lines of code for each: not more, the more he has sent."""
    inspector, lines = SUITES[suite][0](), 0

    def count(frame: Any, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += 1
        return count

    data, most = HOSTILE[stream], inspector.peek_bytes
    before = sys.gettrace()
    sys.settrace(count)
    try:
        for size in range(0, min(most, len(data)), 16):
            began = lines
            if inspector.inspect(data[:size]) is not None:
                break
            assert lines - began < 1500
        began = lines
        inspector.inspect(data[:most])
        assert lines - began < 50_000
    finally:
        sys.settrace(before)


def test_no_secret_is_a_key() -> None:
    """A password is not found in any answer, wherever a client puts it."""
    for words in ([b"AUTH", b"secret"], [b"AUTH", b"u", b"secret"], [b"HELLO", b"3", b"AUTH", b"default", b"secret"]):
        for data in (resp(*words), b" ".join(words) + b"\r\n"):
            assert b"secret" not in (RedisInspector().inspect(data) or b"")


def test_bounds_may_be_others() -> None:
    """The bounds of the configuration take the place of the inspector's own, each by itself."""
    own = MQTTInspector()
    assert IStreamInspector.providedBy(BoundedInspector(own, 10, None))
    assert (BoundedInspector(own, 10, None).peek_bytes, BoundedInspector(own, 10, None).peek_timeout) == (10, 5.0)
    assert (BoundedInspector(own, None, 0.5).peek_bytes, BoundedInspector(own, None, 0.5).peek_timeout) == (4096, 0.5)
    check_inspector(lambda: BoundedInspector(own, 100, 1), {mqtt(b"x"): b"x"})


@pytest.mark.parametrize(
    ("inspect", "keys", "message"),
    [
        (lambda data: data[:3] if data else None, {b"abcdef": b"abc"}, "a part of"),
        (lambda data: b"" if len(data) < 2 else b"ab", {b"ab": b"ab"}, "waits for the first byte"),
        (lambda data: data or None, {b"ab": b"ab"}, "change nothing"),
        (lambda data: b"x" if data else None, {b"ab": b"ab"}, "has the key"),
        (lambda data: b"k" if b"ok" in data else None if len(data) < 9 else "text", {b"ok": b"k"}, "bytes or None"),
        (lambda data: b"k" * 5000 if data else None, {b"ab": b"k" * 5000}, "no longer than"),
    ],
)
def test_a_broken_inspector_is_found_out(
    inspect: Callable[[bytes], Any], keys: dict[bytes, bytes], message: str
) -> None:
    """The check says what is wrong with one that guesses, goes on, or answers with something else."""

    class Broken(MQTTInspector):
        def inspect(self, data: bytes) -> bytes | None:
            return inspect(data)

    with pytest.raises(AssertionError, match=message):
        check_inspector(Broken, keys)


def test_an_inspector_that_keeps_something_is_found_out() -> None:
    """One that adds what it was given to what it had is for one connection, and there are many."""

    class Keeping(MQTTInspector):
        data = b""

        def inspect(self, data: bytes) -> bytes | None:
            self.data = max(self.data, data, key=len)
            return super().inspect(self.data)

    with pytest.raises(AssertionError):
        check_inspector(Keeping, {mqtt(b"x"): b"x", mqtt(b"longer"): b"longer"})
