"""Where answers end: RFC 9112 sections 6, 7 and 8, RFC 9110 sections 6.4, 6.5 and 15.2 to 15.4."""

from __future__ import annotations

from answers_judge import EVIL, OK, REFUSED, SILENT, Case, Sees, Then, ok

_LINE = b"HTTP/1.1 200 OK\r\n"
_LENGTH = _LINE + b"Content-Length: 5\r\n\r\n"
_CHUNKED = _LINE + b"Transfer-Encoding: chunked\r\n\r\n"
_CLOSE = _LINE + b"\r\n"
_EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + EVIL
_SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n" + EVIL
_CUT = Sees(200, b"ok", whole=False)

_BAD_FRAMINGS = {
    "a list": b"Content-Length: 2, 2",
    "a list of two": b"Content-Length: 2, 40",
    "a sign": b"Content-Length: +2",
    "a minus": b"Content-Length: -2",
    "hex": b"Content-Length: 0x2",
    "a letter": b"Content-Length: 2a",
    "a space within": b"Content-Length: 2 2",
    "a point": b"Content-Length: 2.0",
    "a semicolon": b"Content-Length: 2;",
    "a quote": b'Content-Length: "2"',
    "an underscore": b"Content-Length: 2_0",
    "empty": b"Content-Length:",
    "spaces": b"Content-Length:   ",
    "other digits": "Content-Length: ٢".encode(),
    "a vertical tab": b"Content-Length: 2\x0b",
    "more than 2 to the 64": b"Content-Length: 18446744073709551618",
    "2 to the 64 less 1": b"Content-Length: 18446744073709551615",
    "2 to the 63": b"Content-Length: 9223372036854775808",
    "a hundred digits": b"Content-Length: " + b"9" * 100,
    "twice": b"Content-Length: 2\r\nContent-Length: 2",
    "two": b"Content-Length: 2\r\nContent-Length: 40",
    "a coding beside it": b"Content-Length: 2\r\nTransfer-Encoding: chunked",
    "a coding before it": b"Transfer-Encoding: chunked\r\nContent-Length: 2",
    "gzip": b"Transfer-Encoding: gzip",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked",
    "chunked, gzip": b"Transfer-Encoding: chunked, gzip",
    "chunked, identity": b"Transfer-Encoding: chunked, identity",
    "identity": b"Transfer-Encoding: identity",
    "chunked, chunked": b"Transfer-Encoding: chunked, chunked",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "chunked and then identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "xchunked": b"Transfer-Encoding: xchunked",
    "chunkedx": b"Transfer-Encoding: chunkedx",
    "a quoted chunked": b'Transfer-Encoding: "chunked"',
    "chunked with a parameter": b"Transfer-Encoding: chunked;a=b",
    "chunked behind a comma": b"Transfer-Encoding: ,chunked",
    "chunked before a comma": b"Transfer-Encoding: chunked,",
    "chunked with a vertical tab": b"Transfer-Encoding: \x0bchunked",
    "chunked with a NUL": b"Transfer-Encoding: chunked\x00",
    "chunked with a tab within": b"Transfer-Encoding: chun\tked",
    "a long s": "Transfer-Encoding: chunſed".encode(),
    "no coding at all": b"Transfer-Encoding:",
}
#: What follows ``3\r\nabc\r\n`` where a chunk, or the end, ought to.
_BAD_CHUNKS = {
    "a size of letters": b"xyz\r\n",
    "a size with 0x": b"0x2\r\nok\r\n",
    "a size with a sign": b"+2\r\nok\r\n",
    "a negative size": b"-2\r\nok\r\n",
    "a size with a space before it": b" 2\r\nok\r\n",
    "a size with a space behind it": b"2 \r\nok\r\n",
    "a size with an underscore": b"0_2\r\nok\r\n",
    "an empty size": b"\r\nok\r\n",
    "an extension alone": b";a\r\nok\r\n",
    "a size of 16 digits": b"8000000000000002\r\nok\r\n",
    "a size of 17 digits": b"10000000000000002\r\nok\r\n",
    "a size of a hundred zeros": b"0" * 100 + b"2\r\nok\r\n",
    "a NUL behind the size": b"2\x00\r\nok\r\n",
    "a bare LF behind the size": b"2\nok\r\n",
    "a bare CR behind the size": b"2\rok\r\n",
    "CR CR LF behind the size": b"2\r\r\nok\r\n",
    "a bare LF in an extension": b"2;a\nok\r\n",
    "a bare CR in an extension": b"2;a\rb\r\nok\r\n",
    "a NUL in an extension": b"2;a\x00\r\nok\r\n",
    "an extension of 300 bytes": b"2;" + b"a" * 300 + b"\r\nok\r\n",
    "more extensions than 16 KiB": (b"1;" + b"a" * 200 + b"\r\nd\r\n") * 100,
    "more content than its size": b"2\r\ndd" + EVIL + b"\r\n",
    "more content than its size, and an end": b"2\r\ndd" + EVIL + b"\r\n\r\n0\r\n\r\n",
    "a bare LF behind the content": b"1\r\nd\n0\r\n\r\n",
    "a bare CR behind the content": b"1\r\nd\r0\r\n\r\n",
    "nothing behind the content": b"1\r\nd0\r\n\r\n",
    "two line ends behind the content": b"1\r\nd\r\n\r\n0\r\n\r\n",
    "a trailer without a colon": b"0\r\nabc\r\n\r\n",
    "a trailer that is folded": b"0\r\nX: a\r\n b\r\n\r\n",
    "a trailer with a bare LF": b"0\r\nX: a\nY: b\r\n\r\n",
    "a trailer with a bare CR": b"0\r\nX: a\rY: b\r\n\r\n",
    "a trailer with a NUL": b"0\r\nX: a\x00\r\n\r\n",
    "a trailer with a space before its colon": b"0\r\nX : a\r\n\r\n",
    "a trailer without a name": b"0\r\n: a\r\n\r\n",
    "trailers of more than 8 KiB": b"0\r\n" + b"X: aaaaaaaaaaaaa\r\n" * 600 + b"\r\n",
    "a trailer of more than 8 KiB": b"0\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
    "a bare LF at the end": b"0\r\n\n",
    "a size that is no number at the end": b"00x\r\n\r\n",
}
#: Fields that are no trailers.
_NO_TRAILERS = (
    b"Content-Length",
    b"Transfer-Encoding",
    b"Trailer",
    b"Host",
    b"Set-Cookie",
    b"Connection",
    b"Content-Type",
    b"Content-Encoding",
    b"Content-Range",
    b"Cache-Control",
    b"Location",
    b"Authorization",
    b"WWW-Authenticate",
    b"Vary",
    b"Expires",
    b"Date",
    b"Age",
    b"Upgrade",
    b"Keep-Alive",
    b"TE",
    b"Via",
    b"X-Request-ID",
    b"X-Forwarded-For",
    b"content_length",
    b"Sec-WebSocket-Accept",
    b"Retry-After",
)
_WITHOUT = {b"204": b"HTTP/1.1 204 X\r\n", b"304": b"HTTP/1.1 304 X\r\n", b"HEAD": _LINE}


def _without(name: str, kind: bytes, fields: bytes, behind: bytes = b"", *, later: bytes = b"", kept: bool) -> Case:
    """An answer that has no content, whatever it says (RFC 9112 section 6.3, rule 1)."""
    status = 200 if kind == b"HEAD" else int(kind)
    method = b"HEAD" if kind == b"HEAD" else b"GET"
    said = _WITHOUT[kind] + fields + b"\r\n" + behind
    return Case(f"{kind.decode()}: {name}", (said,), Sees(status, b""), method, later=later, kept=kept)


def _contentless() -> list[Case]:
    cases = []
    for kind in _WITHOUT:
        cases += [
            _without("plain", kind, b"", kept=True),
            _without("content", kind, b"", EVIL, kept=False),
            _without("content that comes later", kind, b"", later=EVIL, kept=False),
            _without("another answer", kind, b"", _EVIL, kept=False),
            _without("another answer that comes later", kind, b"", later=_EVIL, kept=False),
            _without("a length and content", kind, b"Content-Length: 4\r\n", EVIL, kept=False),
            _without("a length and content that comes later", kind, b"Content-Length: 4\r\n", later=EVIL, kept=False),
            _without("chunks", kind, b"Transfer-Encoding: chunked\r\n", b"4\r\nEVIL\r\n0\r\n\r\n", kept=False),
            _without("the last chunk", kind, b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", kept=False),
            _without("a length of 0", kind, b"Content-Length: 0\r\n", kept=True),
            # A 204 has no Content-Length (RFC 9110 section 8.6): what such a backend sends next is not known.
            _without("a length", kind, b"Content-Length: 4\r\n", kept=kind != b"204"),
            _without("chunked", kind, b"Transfer-Encoding: chunked\r\n", kept=kind != b"204"),
        ]
    return cases


CASES = [
    *(Case(f"framing: {name}", (_LINE + fields + b"\r\n\r\nok",), REFUSED) for name, fields in _BAD_FRAMINGS.items()),
    *(
        Case(f"framing of HEAD: {name}", (_LINE + _BAD_FRAMINGS[name] + b"\r\n\r\n",), REFUSED, b"HEAD")
        for name in ("a list", "two", "a coding beside it", "gzip, chunked", "more than 2 to the 64")
    ),
    *(
        Case(f"chunks: {name}", (_CHUNKED + b"3\r\nabc\r\n", data), Sees(200, b"abc" + b"d" * 100, whole=False))
        for name, data in _BAD_CHUNKS.items()
    ),
    *(
        Case(
            f"trailer: {name.decode()}",
            (_CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 1\r\n" + name + b": " + EVIL + b"\r\n\r\n",),
            OK,
            kept=True,
        )
        for name in _NO_TRAILERS
    ),
    *_contentless(),
    # Lengths
    Case("length: leading zeros", (_LINE + b"Content-Length: 0002\r\n\r\nok",), OK, kept=True),
    Case("length: tabs around it", (_LINE + b"Content-Length:\t 2\t \r\n\r\nok",), OK, kept=True),
    Case("length: 0", (_LINE + b"Content-Length: 0\r\n\r\n",), Sees(200, b""), kept=True),
    Case("length: 0 and content", (_LINE + b"Content-Length: 0\r\n\r\n" + EVIL,), Sees(200, b"")),
    Case("length: too short, then closed", (_LENGTH + b"ok",), _CUT, then=Then.CLOSES),
    Case("length: too short, then reset", (_LENGTH + b"ok",), _CUT, then=Then.RESETS),
    Case("length: too short, then silence", (_LENGTH + b"ok",), _CUT),
    Case("length: none of it, then closed", (_LENGTH,), Sees(200, b"", whole=False), then=Then.CLOSES),
    Case("length: one byte too short", (_LENGTH + b"okok",), Sees(200, b"okok", whole=False), then=Then.CLOSES),
    Case("length: too short for HTTP 1.0", (_LENGTH + b"ok",), _CUT, minor=0, then=Then.CLOSES),
    Case("length: too short for a POST", (_LENGTH + b"ok",), _CUT, b"POST", then=Then.CLOSES),
    Case("length: enormous", (_LINE + b"Content-Length: 999999999999999999\r\n\r\nok",), _CUT, then=Then.CLOSES),
    Case("length: whole, then closed", (_LENGTH + b"whole",), Sees(200, b"whole"), then=Then.CLOSES),
    Case("length: whole, then reset", (_LENGTH + b"whole",), Sees(200, b"whole"), then=Then.RESETS),
    Case("length: in pieces", (_LENGTH, b"w", b"ho", b"le"), Sees(200, b"whole"), kept=True),
    # More than an answer
    Case("more: bytes", (_LENGTH + b"whole" + EVIL,), Sees(200, b"whole")),
    Case("more: a line end", (_LENGTH + b"whole\r\n",), Sees(200, b"whole")),
    Case("more: another answer", (_LENGTH + b"whole" + _EVIL,), Sees(200, b"whole")),
    Case("more: an interim answer", (_LENGTH + b"wholeHTTP/1.1 100 EVIL\r\n\r\n",), Sees(200, b"whole")),
    Case("more: the same answer again", ((_LENGTH + b"whole") * 2,), Sees(200, b"whole")),
    Case("more: begun with the end of the answer", (_LENGTH + b"who", b"le" + EVIL), Sees(200, b"whole")),
    Case("more: bytes later", (_LENGTH + b"whole",), Sees(200, b"whole"), later=EVIL),
    Case("more: a line end later", (_LENGTH + b"whole",), Sees(200, b"whole"), later=b"\r\n"),
    Case("more: another answer later", (_LENGTH + b"whole",), Sees(200, b"whole"), later=_EVIL),
    Case(
        "more: a timeout's answer later", (_LENGTH + b"whole",), Sees(200, b"whole"), later=b"HTTP/1.1 408 EVIL\r\n\r\n"
    ),
    Case("more: bytes behind chunks", (_CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + EVIL,), OK),
    Case("more: another answer behind chunks", (_CHUNKED + b"2\r\nok\r\n0\r\n\r\n" + _EVIL,), OK),
    Case("more: a second end behind chunks", (_CHUNKED + b"2\r\nok\r\n0\r\n\r\n0\r\n\r\n",), OK),
    Case("more: bytes behind chunks later", (_CHUNKED + b"2\r\nok\r\n0\r\n\r\n",), OK, later=EVIL),
    Case("more: bytes behind trailers", (_CHUNKED + b"2\r\nok\r\n0\r\nX: a\r\n\r\n" + EVIL,), OK),
    Case(
        "more: an answer after Connection: close",
        (_LENGTH[:-2] + b"Connection: close\r\n\r\nwhole" + _EVIL,),
        Sees(200, b"whole"),
    ),
    # Chunks
    Case("chunks: plain", (_CHUNKED + b"2\r\nok\r\n0\r\n\r\n",), OK, kept=True),
    Case("chunks: leading zeros", (_CHUNKED + b"0002\r\nok\r\n000\r\n\r\n",), OK, kept=True),
    Case(
        "chunks: of letters",
        (_CHUNKED + b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",),
        Sees(200, b"0123456789" * 2),
        kept=True,
    ),
    Case("chunks: extensions", (_CHUNKED + b'2 ; a="b;c" ;d\r\nok\r\n0;EVIL\r\n\r\n',), OK, kept=True),
    Case("chunks: trailers", (_CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n",), OK, kept=True),
    Case("chunks: for HTTP 1.0", (_CHUNKED + b"2\r\nok\r\n0\r\nX: EVIL\r\n\r\n",), OK, minor=0, kept=True),
    Case(
        "chunks: in other letters", (_LINE + b"transfer-ENCODING: ChunKED\r\n\r\n2\r\nok\r\n0\r\n\r\n",), OK, kept=True
    ),
    Case(
        "chunks: content that looks like the end",
        (_CHUNKED + b"7\r\nok0\r\n\r\n\r\n0\r\n\r\n",),
        Sees(200, b"ok0\r\n\r\n"),
        kept=True,
    ),
    Case("chunks: a thousand", (_CHUNKED + b"1\r\na\r\n" * 1000 + b"0\r\n\r\n",), Sees(200, b"a" * 1000), kept=True),
    Case("chunks: none", (_CHUNKED + b"0\r\n\r\n",), Sees(200, b""), kept=True),
    Case("chunks: in HTTP 1.0", (_CHUNKED.replace(b"1.1", b"1.0", 1) + b"2\r\nok\r\n0\r\n\r\n",), REFUSED),
    Case("chunks: cut off in a size", (_CHUNKED + b"2\r\nok\r\n1",), _CUT, then=Then.CLOSES),
    Case("chunks: cut off in a chunk", (_CHUNKED + b"5\r\nok",), _CUT, then=Then.CLOSES),
    Case("chunks: cut off in a chunk by a reset", (_CHUNKED + b"5\r\nok",), _CUT, then=Then.RESETS),
    Case("chunks: cut off behind a chunk", (_CHUNKED + b"2\r\nok\r\n",), _CUT, then=Then.CLOSES),
    Case("chunks: cut off before the last line end", (_CHUNKED + b"2\r\nok\r\n0\r\n",), _CUT, then=Then.CLOSES),
    Case("chunks: cut off in the last line end", (_CHUNKED + b"2\r\nok\r\n0\r\n\r",), _CUT, then=Then.CLOSES),
    Case("chunks: cut off in the trailers", (_CHUNKED + b"2\r\nok\r\n0\r\nX: a\r\n",), _CUT, then=Then.CLOSES),
    Case("chunks: cut off for HTTP 1.0", (_CHUNKED + b"5\r\nok",), _CUT, minor=0, then=Then.CLOSES),
    Case("chunks: silence within", (_CHUNKED + b"5\r\nok",), _CUT),
    Case("chunks: bad at once", (_CHUNKED + b"zz\r\n",), Sees(200, b"", whole=False)),
    Case("chunks: bad for HTTP 1.0", (_CHUNKED + b"2\r\nok\r\n", b"zz\r\n"), _CUT, minor=0),
    # Until the close
    Case("close: plain", (_CLOSE + b"ok",), OK, then=Then.CLOSES),
    Case("close: for HTTP 1.0", (_CLOSE + b"ok",), OK, minor=0, then=Then.CLOSES),
    Case("close: in HTTP 1.0", (b"HTTP/1.0 200 OK\r\n\r\nok",), OK, then=Then.CLOSES),
    Case("close: nothing", (_CLOSE,), Sees(200, b""), then=Then.CLOSES),
    Case("close: another answer is content", (_CLOSE + ok(0),), Sees(200, ok(0)), then=Then.CLOSES),
    Case("close: with keep-alive", (_LINE + b"Connection: keep-alive\r\n\r\nok",), OK, then=Then.CLOSES),
    Case("close: an imitation of a length", (_LINE + b"Content_Length: 1\r\n\r\nok",), OK, then=Then.CLOSES),
    Case("close: by a reset", (_CLOSE + b"ok",), _CUT, then=Then.RESETS),
    Case("close: by a reset for HTTP 1.0", (_CLOSE + b"ok",), _CUT, minor=0, then=Then.RESETS),
    Case("close: silence", (_CLOSE + b"ok",), _CUT),
    Case("close: silence for HTTP 1.0", (_CLOSE + b"ok",), _CUT, minor=0),
    # Without content
    Case("204: a length that is none", (b"HTTP/1.1 204 X\r\nContent-Length: x\r\n\r\n",), REFUSED),
    Case("204: two lengths", (b"HTTP/1.1 204 X\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n",), REFUSED),
    Case("204: for HTTP 1.0", (b"HTTP/1.1 204 X\r\n\r\n",), Sees(204, b""), minor=0, kept=True),
    Case("205: with content", (b"HTTP/1.1 205 X\r\nContent-Length: 2\r\n\r\nok",), Sees(205, b"ok"), kept=True),
    Case("HEAD: a length with zeros", (_LINE + b"Content-Length: 007\r\n\r\n",), Sees(200, b""), b"HEAD", kept=True),
    Case("HEAD: closed", (_LINE + b"\r\n",), Sees(200, b""), b"HEAD", then=Then.CLOSES),
    # Interim answers
    Case(
        "1xx: 100",
        (b"HTTP/1.1 100 Continue\r\n\r\n" + _LENGTH + b"whole",),
        Sees(200, b"whole", interim=(100,)),
        kept=True,
    ),
    Case(
        "1xx: 103 in pieces",
        (b"HTTP/1.1 103 X\r\nLink", b": a\r\n\r\nHTTP/1.1 2", b"00 OK\r\nContent-Length: 2\r\n\r\nok"),
        Sees(200, b"ok", interim=(103,)),
        kept=True,
    ),
    Case("1xx: 199", (b"HTTP/1.1 199 X\r\n\r\n" + _LENGTH + b"whole",), Sees(200, b"whole", interim=(199,)), kept=True),
    Case(
        "1xx: for HTTP 1.0",
        (b"HTTP/1.1 103 EVIL\r\n\r\n" + _LENGTH + b"whole",),
        Sees(200, b"whole"),
        minor=0,
        kept=True,
    ),
    Case(
        "1xx: before a 204",
        (b"HTTP/1.1 103 X\r\n\r\nHTTP/1.1 204 X\r\n\r\n",),
        Sees(204, b"", interim=(103,)),
        kept=True,
    ),
    Case(
        "1xx: as many as may be",
        (b"HTTP/1.1 102 X\r\n\r\n" * 32 + _LENGTH + b"whole",),
        Sees(200, b"whole", interim=(102,) * 32),
        kept=True,
    ),
    Case("1xx: one too many", (b"HTTP/1.1 102 X\r\n\r\n" * 33 + _LENGTH + b"whole",), Sees(502, interim=(102,) * 32)),
    Case("1xx: a flood", tuple([b"HTTP/1.1 102 X\r\n\r\n" * 50] * 50), Sees(502, interim=(102,) * 32)),
    Case(
        "1xx: a length of 0",
        (b"HTTP/1.1 100 X\r\nContent-Length: 0\r\n\r\n" + _LENGTH + b"whole",),
        Sees(200, b"whole", interim=(100,)),
        kept=True,
    ),
    Case("1xx: a length", (b"HTTP/1.1 100 X\r\nContent-Length: 43\r\n\r\n" + _EVIL,), REFUSED),
    Case("1xx: chunks", (b"HTTP/1.1 103 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nEVIL\r\n0\r\n\r\n",), REFUSED),
    Case("1xx: chunked without chunks", (b"HTTP/1.1 103 X\r\nTransfer-Encoding: chunked\r\n\r\n" + _EVIL,), REFUSED),
    Case("1xx: content", (b"HTTP/1.1 103 X\r\n\r\nEVIL",), Sees(502, interim=(103,)), then=Then.CLOSES),
    Case("1xx: two lengths", (b"HTTP/1.1 103 X\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",), REFUSED),
    Case("1xx: malformed", (b"HTTP/1.1 103 X\r\nX: a\nSet-Cookie: EVIL\r\n\r\n" + _LENGTH + b"whole",), REFUSED),
    Case("1xx: and then closed", (b"HTTP/1.1 100 X\r\n\r\n",), Sees(502, interim=(100,)), then=Then.CLOSES),
    Case(
        "1xx: and then closed for a POST",
        (b"HTTP/1.1 100 X\r\n\r\n",),
        Sees(502, interim=(100,)),
        b"POST",
        then=Then.CLOSES,
    ),
    Case("1xx: and then silence", (b"HTTP/1.1 100 X\r\n\r\n",), Sees(504, interim=(100,))),
    Case(
        "1xx: and then a malformed answer",
        (b"HTTP/1.1 100 X\r\n\r\nHTTP/1.1 2000 OK\r\n\r\n",),
        Sees(502, interim=(100,)),
    ),
    Case("1xx: after the answer", (_LENGTH + b"whole",), Sees(200, b"whole"), later=b"HTTP/1.1 103 EVIL\r\n\r\n"),
    Case("101: of a WebSocket", (_SWITCHED % b"websocket",), REFUSED),
    Case("101: of h2c", (_SWITCHED % b"h2c",), REFUSED),
    Case("101: without Upgrade", (b"HTTP/1.1 101 X\r\n\r\n" + _EVIL,), REFUSED),
    Case("101: for HTTP 1.0", (_SWITCHED % b"websocket",), REFUSED, minor=0),
    Case("101: after a 100", (b"HTTP/1.1 100 X\r\n\r\n" + _SWITCHED % b"websocket",), Sees(502, interim=(100,))),
    Case("101: for a POST", (_SWITCHED % b"websocket",), REFUSED, b"POST"),
    # Silence
    Case("silence: nothing at all", (), SILENT),
    Case("silence: for a POST", (), SILENT, b"POST"),
    Case("silence: within the head", (_LINE + b"X: ",), SILENT),
    Case("silence: behind the head", (_LENGTH,), Sees(200, b"", whole=False)),
]
