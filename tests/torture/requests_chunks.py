"""Chunked content: sizes, extensions, line ends, trailers: RFC 9112 section 7.1, RFC 9110 section 6.5."""

from __future__ import annotations

from cases import Case, broken, chunked, get, passes, posted, seen

_BAD_SIZES = (
    ("nothing", b""),
    ("no digit", b"g"),
    ("0x", b"0x5"),
    ("0X", b"0X5"),
    ("a plus sign", b"+5"),
    ("a minus sign", b"-5"),
    ("minus nothing", b"-0"),
    ("a space before", b" 5"),
    ("a tab before", b"\t5"),
    ("a space behind", b"5 "),
    ("a tab behind", b"5\t"),
    ("a space within", b"0 5"),
    ("an underscore", b"0_5"),
    ("a point", b"5.0"),
    ("an h behind", b"5h"),
    ("a quoted one", b'"5"'),
    ("a comma", b"5,5"),
    ("a colon", b"5:"),
    ("a NUL behind", b"5\x00"),
    ("a NUL before", b"\x005"),
    ("a vertical tab before", b"\x0b5"),
    ("a form feed behind", b"5\x0c"),
    ("a full-width digit", b"\xef\xbc\x95"),
    ("a no-break space", b"5\xa0"),
    ("a bare carriage return behind", b"5\r"),
    ("a bare carriage return before", b"\r5"),
    ("2 to the 64th and five", b"10000000000000005"),
    ("2 to the 32nd and five, written long", b"0000000100000005"),
    ("sixteen f", b"f" * 16),
    ("2 to the 63rd", b"8000000000000000"),
    ("seventeen zeros before", b"0" * 17 + b"5"),
    ("a thousand zeros before", b"0" * 1000 + b"5"),
    ("a size and a word", b"5 chunk"),
    ("a size in two lines", b"5\r\n 5"),
)

_BAD_EXTENSIONS = (
    ("a bare line feed", b"5;a\nb"),
    ("a bare carriage return", b"5;a\rb"),
    ("a bare carriage return before its end", b"5;a\r"),
    ("a NUL", b"5;a\x00b"),
    ("a vertical tab", b"5;a\x0bb"),
    ("an escape", b"5;a\x1b"),
    ("a delete", b"5;\x7f"),
    ("a line feed in quotes", b'5;a="b\nc"'),
    ("300 bytes", b"5;" + b"a" * 300),
    ("20 000 bytes", b"5;" + b"a" * 20_000),
    ("a line feed before the semicolon", b"5\n;a"),
    ("a vertical tab before the semicolon", b"5\x0b;a"),
)

#: Fields that may not come behind the content: they would change what was decided before it.
_FORBIDDEN_TRAILERS = (
    b"Content-Length: 5",
    b"Transfer-Encoding: chunked",
    b"Host: evil.example",
    b"Connection: close",
    b"Cookie: a=b",
    b"Authorization: Basic YTpi",
    b"Content-Type: text/html",
    b"Content-Encoding: gzip",
    b"Content-Range: bytes 0-1/2",
    b"Trailer: X",
    b"TE: trailers",
    b"Upgrade: websocket",
    b"Expect: 100-continue",
    b"Max-Forwards: 1",
    b"Cache-Control: no-store",
    b"Range: bytes=0-1",
    b"If-Match: *",
    b"X-Forwarded-For: 192.0.2.9",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: evil.example",
    b"X-Real-IP: 192.0.2.9",
    b"Forwarded: for=192.0.2.9",
    b"Via: 1.1 evil",
    b"X-Request-ID: evil",
    b"Proxy: http://evil.example",
    b"Keep-Alive: timeout=5",
    b"Proxy-Authorization: Basic YTpi",
    b"Content_Length: 5",
    b"Transfer_Encoding: chunked",
    b"X_Forwarded_For: 192.0.2.9",
    b"CONTENT-LENGTH: 5",
)

_BAD_TRAILERS = (
    ("a space before the colon", b"X : y"),
    ("no colon", b"X"),
    ("an empty name", b": y"),
    ("a name that is none", b"X Y: z"),
    ("a folded line", b"X: y\r\n z"),
    ("a bare line feed", b"X: y\nZ: z"),
    ("a bare carriage return", b"X: y\rZ: z"),
    ("a NUL", b"X: \x00"),
    ("a control byte", b"X: \x01"),
    ("a delete", b"X: \x7f"),
    ("a name of UTF-8", b"X\xc3\xa9: y"),
    ("a space before it", b" X: y"),
    ("10 000 bytes", b"X: " + b"y" * 10_000),
    ("1000 fields", b"\r\n".join([b"X-Long: " + b"y" * 8] * 1000)),
    ("a request line", b"GET /smuggled HTTP/1.1"),
)

CASES: tuple[Case, ...] = (
    passes("no content", chunked(b"0\r\n\r\n"), posted(b"")),
    passes("one chunk", chunked(b"5\r\n12345\r\n0\r\n\r\n"), posted(b"12345")),
    passes("many chunks", chunked(b"1\r\n1\r\n" * 50 + b"0\r\n\r\n"), posted(b"1" * 50)),
    passes(
        "sizes in both cases", chunked(b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"), posted(b"0123456789" * 2)
    ),
    passes("leading zeros are written anew", chunked(b"005\r\n12345\r\n000\r\n\r\n"), posted(b"12345")),
    passes("line ends within", chunked(b"4\r\n\r\n\r\n\r\n0\r\n\r\n"), posted(b"\r\n\r\n")),
    passes("content that looks like the last chunk", chunked(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"), posted(b"0\r\n\r\n")),
    passes("an extension goes no further", chunked(b"5;a=b\r\n12345\r\n0\r\n\r\n"), posted(b"12345")),
    passes("a quoted extension goes no further", chunked(b'5;a="b;c"\r\n12345\r\n0;last\r\n\r\n'), posted(b"12345")),
    passes(
        "an extension behind white space goes no further", chunked(b"5 \t; a=b\r\n12345\r\n0\r\n\r\n"), posted(b"12345")
    ),
    passes("an empty extension goes no further", chunked(b"5;\r\n12345\r\n0;;\r\n\r\n"), posted(b"12345")),
    passes("an extension that looks like a size", chunked(b"5;5\r\n12345\r\n0;1\r\n\r\n"), posted(b"12345")),
    passes(
        "another request behind",
        chunked(b"0\r\n\r\n") + get(line=b"GET /second HTTP/1.1"),
        posted(b""),
        seen(target=b"/second"),
    ),
    passes(
        "a trailer", chunked(b"5\r\n12345\r\n0\r\nX-Sum: 15\r\n\r\n"), posted(b"12345", trailers=((b"x-sum", b"15"),))
    ),
    passes(
        "two trailers, and another request",
        chunked(b"0\r\nX-A: 1\r\nX-B:\t2 \r\n\r\n") + get(line=b"GET /second HTTP/1.1"),
        posted(b"", trailers=((b"x-a", b"1"), (b"x-b", b"2"))),
        seen(target=b"/second"),
    ),
    passes("an empty trailer", chunked(b"0\r\nX-Sum:\r\n\r\n"), posted(b"", trailers=((b"x-sum", b""),))),
    passes(
        "a trailer that Connection names goes no further",
        chunked(b"0\r\nX-Sum: 15\r\nX-Other: 1\r\n\r\n", b"Connection: X-Sum"),
        posted(b"", trailers=((b"x-other", b"1"),)),
    ),
    *(
        passes(
            f"a trailer that may be none goes no further: {field.decode()}",
            chunked(b"0\r\n" + field + b"\r\nX-Sum: 15\r\n\r\n"),
            posted(b"", trailers=((b"x-sum", b"15"),)),
        )
        for field in _FORBIDDEN_TRAILERS
    ),
    *(
        broken(
            f"a size with {what}" if what != "nothing" else "an empty size", chunked(size + b"\r\n12345\r\n0\r\n\r\n")
        )
        for what, size in _BAD_SIZES
    ),
    *(
        broken(
            f"the second size with {what}" if what != "nothing" else "the second size is empty",
            chunked(b"1\r\na\r\n" + size + b"\r\n12345\r\n0\r\n\r\n"),
        )
        for what, size in _BAD_SIZES
    ),
    *(broken(f"an extension with {what}", chunked(size + b"\r\n12345\r\n0\r\n\r\n")) for what, size in _BAD_EXTENSIONS),
    broken(
        "extensions of more than 16 KiB together",
        chunked(b"".join(b"1;" + b"a" * 200 + b"\r\n1\r\n" for _ in range(100)) + b"0\r\n\r\n"),
    ),
    broken("a bare line feed behind the size", chunked(b"5\n12345\r\n0\r\n\r\n")),
    broken("a bare carriage return behind the size", chunked(b"5\r12345\r\n0\r\n\r\n")),
    broken("two carriage returns behind the size", chunked(b"5\r\r\n12345\r\n0\r\n\r\n")),
    broken("a bare line feed behind the content", chunked(b"5\r\n12345\n0\r\n\r\n")),
    broken("a bare carriage return behind the content", chunked(b"5\r\n12345\r0\r\n\r\n")),
    broken("nothing behind the content", chunked(b"5\r\n123450\r\n\r\n")),
    broken("any two bytes behind the content", chunked(b"5\r\n12345XX0\r\n\r\n")),
    broken("two line ends behind the content", chunked(b"5\r\n12345\r\n\r\n0\r\n\r\n")),
    broken("a chunk longer than its size", chunked(b"4\r\n12345\r\n0\r\n\r\n")),
    broken("a chunk shorter than its size", chunked(b"6\r\n12345\r\n0\r\n\r\n")),
    broken("a bare line feed behind the last chunk", chunked(b"0\n\r\n")),
    broken("bare line feeds at the end", chunked(b"0\n\n")),
    broken("a bare line feed at the end", chunked(b"0\r\n\n")),
    broken("a bare carriage return at the end", chunked(b"0\r\n\rX")),
    broken("only bare line feeds", chunked(b"5\n12345\n0\n\n")),
    broken("an empty line before the size", chunked(b"\r\n5\r\n12345\r\n0\r\n\r\n")),
    broken("the last chunk of another size", chunked(b"5\r\n12345\r\n0 0\r\n\r\n")),
    broken("a request where a size is due", chunked(b"5\r\n12345\r\nGET /smuggled HTTP/1.1\r\n\r\n")),
    broken("TERM.EXT: a line feed within an extension hides a chunk", chunked(b"2;\nxx\r\n5e\r\n0\r\n\r\n")),
    broken("EXT.TERM: a carriage return within an extension hides a chunk", chunked(b"2;\rxx\r\n5e\r\n0\r\n\r\n")),
    broken("TERM.SPILL: a chunk spills over", chunked(b"5\r\nAAAAAXX2\r\n45\r\n0\r\n\r\n")),
    broken("SPILL.TERM: the size ends with a line feed", chunked(b"5\r\nAAAAA\n2\r\n45\r\n0\r\n\r\n")),
    *(broken(f"a trailer with {what}", chunked(b"0\r\n" + trailer + b"\r\n\r\n")) for what, trailer in _BAD_TRAILERS),
)
