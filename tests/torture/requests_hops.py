"""What is for one connection only, or for the next hop: RFC 9110 sections 7.6, 7.8, 9.3.6, 9.3.8, 10.1.1."""

from __future__ import annotations

from cases import HOST, Case, get, passes, post, posted, refused, request, seen

_KEY = (
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)

#: Fields that Connection may not take away: routing, framing, identity, credentials, what the content is.
_NOT_REMOVED = (
    (b"Authorization: Basic YTpi", b"authorization: Basic YTpi"),
    (b"Cookie: a=b", b"cookie: a=b"),
    (b"Cache-Control: no-store", b"cache-control: no-store"),
    (b"Content-Type: text/plain", b"content-type: text/plain"),
    (b"Content-Encoding: gzip", b"content-encoding: gzip"),
    (b"Origin: http://example.org", b"origin: http://example.org"),
    (b"Date: Thu, 01 Jan 1970 00:00:00 GMT", b"date: Thu, 01 Jan 1970 00:00:00 GMT"),
    (b"Max-Forwards: 5", b"max-forwards: 5"),
)

#: Fields that never go further, named by Connection or not.
_DROPPED = (
    b"Keep-Alive: timeout=5, max=100",
    b"Proxy-Connection: keep-alive",
    b"Proxy-Connection: close",
    b"TE: trailers",
    b"TE: gzip, chunked",
    b"Upgrade: h2c",
    b"Upgrade: TLS/1.0",
    b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
    b"Proxy-Authorization: Basic YTpi",
    b"Proxy-Authenticate: Basic",
    b"Proxy: http://evil.example",
)

CASES: tuple[Case, ...] = (
    *(passes(f"goes no further: {field.decode()}", get(field, b"X: y"), seen(b"x: y")) for field in _DROPPED),
    passes("Connection takes away what it names", get(b"X-Hop: 1", b"Connection: X-Hop"), seen()),
    passes("Connection takes away what comes behind it", get(b"Connection: X-Hop", b"X-Hop: 1"), seen()),
    passes("Connection takes away in any case", get(b"Connection: x-HOP", b"X-Hop: 1", b"x-hop: 2"), seen()),
    passes(
        "Connection takes away what a list names",
        get(b"Connection: a,,\tb , c", b"A: 1", b"B: 2", b"C: 3", b"D: 4"),
        seen(b"d: 4"),
    ),
    passes("two of Connection take away", get(b"Connection: a", b"Connection: b", b"A: 1", b"B: 2"), seen()),
    passes("Connection of nothing", get(b"Connection:", b"A: 1"), seen(b"a: 1")),
    passes("Connection of commas", get(b"Connection: , ,", b"A: 1"), seen(b"a: 1")),
    passes("Connection of no tokens", get(b'Connection: "a", (b), c d', b"A: 1"), seen(b"a: 1")),
    passes("Connection names itself", get(b"Connection: Connection", b"A: 1"), seen(b"a: 1")),
    passes(
        "Connection names 1000 fields",
        get(b"Connection: " + b",".join(b"x%d" % n for n in range(1000)), b"X5: 1", b"A: 1"),
        seen(b"a: 1"),
    ),
    *(
        passes(
            f"Connection may not take away {sent.partition(b':')[0].decode()}",
            get(sent, b"Connection: " + sent.partition(b":")[0]),
            seen(expected),
        )
        for sent, expected in _NOT_REMOVED
    ),
    passes("Connection may not take away Host", get(b"Connection: Host"), seen()),
    passes(
        "Connection may not take away Content-Length",
        post(b"Content-Length: 5", b"Connection: Content-Length", body=b"12345"),
        posted(b"12345"),
    ),
    passes(
        "Connection may not take away Transfer-Encoding",
        post(b"Transfer-Encoding: chunked", b"Connection: Transfer-Encoding", body=b"5\r\n12345\r\n0\r\n\r\n"),
        posted(b"12345"),
    ),
    passes(
        "Connection may not take away who the client is",
        get(
            b"Connection: X-Forwarded-For, X-Real-IP, Forwarded, X-Forwarded-Host, X-Forwarded-Proto, Via, X-Request-ID"
        ),
        seen(),
    ),
    passes(
        "Connection: close and X-Forwarded-For",
        get(b"Connection: close, X-Forwarded-For", b"X-Forwarded-For: 192.0.2.9"),
        seen(),
        closes=True,
    ),
    passes(
        "a change to HTTP/2 is not asked for",
        get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
        seen(),
    ),
    passes(
        "a change to HTTP/2 that hides its settings",
        get(b"Connection: Upgrade", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
        seen(),
    ),
    passes(
        "a change to HTTP/2 with content",
        post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 5", body=b"12345"),
        posted(b"12345"),
    ),
    passes("a change to HTTP/2 over TLS", get(b"Connection: Upgrade", b"Upgrade: h2"), seen()),
    passes("a change to TLS", get(b"Connection: Upgrade", b"Upgrade: TLS/1.3"), seen()),
    passes("a change to something", get(b"Connection: Upgrade", b"Upgrade: x, y/2"), seen()),
    refused("a WebSocket that Connection does not name", get(b"Upgrade: websocket", b"Connection: close")),
    passes("a change that has no protocol", get(b"Connection: Upgrade"), seen()),
    passes(
        "a change to HTTP/2 in HTTP/1.0",
        get(b"Connection: Upgrade, keep-alive", b"Upgrade: h2c", line=b"GET /case HTTP/1.0"),
        seen(),
    ),
    passes(
        "a request behind a change that is refused",
        get(b"Connection: Upgrade", b"Upgrade: h2c") + get(line=b"GET /second HTTP/1.1"),
        seen(),
        seen(target=b"/second"),
    ),
    passes(
        "a WebSocket",
        get(*_KEY),
        seen(
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            b"sec-websocket-version: 13",
            b"connection: Upgrade",
            b"upgrade: websocket",
        ),
    ),
    refused("a WebSocket of another version", get(*_KEY[:2], b"Sec-WebSocket-Version: 8", _KEY[3]), 426),
    refused("a WebSocket without a key", get(*_KEY[:3])),
    refused("a WebSocket with two keys", get(*_KEY, _KEY[3])),
    refused("a WebSocket by POST", post(*_KEY)),
    refused("a WebSocket with content", get(*_KEY, b"Content-Length: 5") + b"12345"),
    refused("a WebSocket with chunked content", get(*_KEY, b"Transfer-Encoding: chunked") + b"0\r\n\r\n"),
    refused(
        "a WebSocket or HTTP/2", get(b"Upgrade: h2c, websocket", b"Connection: Upgrade", b"Sec-WebSocket-Version: 13")
    ),
    refused("CONNECT", request(b"CONNECT example.org:443 HTTP/1.1", HOST), 501),
    refused("CONNECT to a backend", request(b"CONNECT 127.0.0.1:22 HTTP/1.1", HOST), 501),
    refused("CONNECT of a path", request(b"CONNECT /case HTTP/1.1", HOST), 501),
    refused("CONNECT of a URL", request(b"CONNECT http://example.org/ HTTP/1.1", HOST), 501),
    refused(
        "CONNECT with a length",
        request(b"CONNECT example.org:443 HTTP/1.1", HOST, b"Content-Length: 5", body=b"12345"),
        501,
    ),
    refused("CONNECT in HTTP/1.0", request(b"CONNECT example.org:443 HTTP/1.0"), 501),
    refused("CONNECT behind an empty line", b"\r\n" + request(b"CONNECT example.org:443 HTTP/1.1", HOST), 501),
    refused("CONNECT behind a request", get() + request(b"CONNECT example.org:443 HTTP/1.1", HOST), 501, seen()),
    refused("CONNECT with an upgrade", request(b"CONNECT example.org:443 HTTP/1.1", HOST, *_KEY), 501),
    passes("TRACE", get(line=b"TRACE /case HTTP/1.1"), seen(method=b"TRACE")),
    passes(
        "TRACE is counted down",
        get(b"Max-Forwards: 5", line=b"TRACE /case HTTP/1.1"),
        seen(b"max-forwards: 4", method=b"TRACE"),
    ),
    passes(
        "OPTIONS is counted down",
        get(b"Max-Forwards: 10", line=b"OPTIONS /case HTTP/1.1"),
        seen(b"max-forwards: 9", method=b"OPTIONS"),
    ),
    passes("GET is not counted", get(b"Max-Forwards: 0"), seen(b"max-forwards: 0")),
    refused("TRACE ends here", get(b"Max-Forwards: 0", line=b"TRACE /case HTTP/1.1"), 501),
    refused("TRACE ends here, written long", get(b"Max-Forwards: 000", line=b"TRACE /case HTTP/1.1"), 501),
    refused("OPTIONS ends here", get(b"Max-Forwards: 0", line=b"OPTIONS /case HTTP/1.1"), 200),
    refused("OPTIONS of everything ends here", get(b"Max-Forwards: 0", line=b"OPTIONS * HTTP/1.1"), 200),
    refused("TRACE with content", get(b"Content-Length: 5", line=b"TRACE /case HTTP/1.1") + b"12345"),
    refused(
        "TRACE with chunked content", get(b"Transfer-Encoding: chunked", line=b"TRACE /case HTTP/1.1") + b"0\r\n\r\n"
    ),
    *(
        refused(
            f"{method.decode()} with Max-Forwards that is {what}",
            get(b"Max-Forwards: " + value, line=method + b" /case HTTP/1.1"),
        )
        for method in (b"TRACE", b"OPTIONS")
        for what, value in (
            ("negative", b"-1"),
            ("empty", b""),
            ("a word", b"x"),
            ("signed", b"+1"),
            ("a list", b"1, 2"),
            ("a fraction", b"1.0"),
        )
    ),
    refused(
        "TRACE with two of Max-Forwards", get(b"Max-Forwards: 1", b"Max-Forwards: 0", line=b"TRACE /case HTTP/1.1")
    ),
    passes(
        "Expect 100-continue",
        post(b"Expect: 100-continue", b"Content-Length: 5", body=b"12345"),
        posted(b"12345", b"expect: 100-continue"),
    ),
    passes(
        "Expect 100-Continue in mixed case",
        post(b"Expect: 100-Continue", b"Content-Length: 5", body=b"12345"),
        posted(b"12345", b"expect: 100-continue"),
    ),
    passes("Expect 100-continue without content", get(b"Expect: 100-continue"), seen()),
    passes(
        "Expect 100-continue in HTTP/1.0",
        post(b"Expect: 100-continue", b"Content-Length: 5", body=b"12345", line=b"POST /case HTTP/1.0"),
        posted(b"12345"),
        closes=True,
    ),
    *(
        refused(f"Expect {what}", post(b"Expect: " + value, b"Content-Length: 5", body=b"12345"), 417)
        for what, value in (
            ("something else", b"cake"),
            ("nothing", b""),
            ("a list", b"100-continue, 100-continue"),
            ("a list with something else", b"100-continue, cake"),
            ("a word before", b"y 100-continue"),
            ("a word behind", b"100-continue y"),
            ("a comma behind", b"100-continue,"),
            ("a parameter", b"100-continue;x=y"),
            ("quotes", b'"100-continue"'),
            ("200-ok", b"200-ok"),
            ("a no-break space behind", b"100-continue\xa0"),
        )
    ),
    refused(
        "Expect twice", post(b"Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 5", body=b"12345"), 417
    ),
    refused(
        "Expect with a space before its colon", post(b"Expect : 100-continue", b"Content-Length: 5", body=b"12345")
    ),
    refused("a folded Expect", post(b"Expect:\r\n 100-continue", b"Content-Length: 5", body=b"12345")),
)
