"""The public classes of request smuggling, cache poisoning and host confusion, each as it was published, or nearly.

CL.TE, TE.CL, TE.TE (Linhart et al. 2005, Kettle 2019), CL.0 and 0.CL (Kettle 2022, 2025), TE.0 (2024), H2C smuggling
(2020), hop-by-hop abuse (2019), Host confusion and cache poisoning by unkeyed fields (2018), HTTPoxy (2016), and the
chunk extensions TERM.EXT, EXT.TERM, TERM.SPILL, SPILL.TERM (2025), of which ``requests_chunks`` has more.
"""

from __future__ import annotations

from cases import HOST, SMUGGLED, Case, broken, chunked, get, passes, post, posted, refused, request, seen

_HIDDEN = b"X: " + SMUGGLED[:-2]

#: What a client says of itself, of its way, or of what it asked for; a cache in front does not key on it.
_UNKEYED = (
    b"X-Forwarded-Host: evil.example",
    b"X-Forwarded-For: 127.0.0.1",
    b"X-Forwarded-Proto: evil",
    b"X-Forwarded-Scheme: nothttps",
    b"X-Forwarded-Port: 1",
    b"X-Forwarded-Server: evil.example",
    b"X-Forwarded-Prefix: /evil",
    b"X-Forwarded-Ssl: on",
    b"X-Forwarded: for=127.0.0.1",
    b"X-Forwarded-Protocol: https",
    b"X-Forwarded-By: evil",
    b"X-Real-IP: 127.0.0.1",
    b"Forwarded: for=127.0.0.1;host=evil.example",
    b"Forwarded-For: 127.0.0.1",
    b"Client-IP: 127.0.0.1",
    b"X-Client-IP: 127.0.0.1",
    b"True-Client-IP: 127.0.0.1",
    b"X-Cluster-Client-IP: 127.0.0.1",
    b"CF-Connecting-IP: 127.0.0.1",
    b"Fastly-Client-IP: 127.0.0.1",
    b"X-Original-Host: evil.example",
    b"X-Original-Forwarded-For: 127.0.0.1",
    b"X-Scheme: https",
    b"X-Url-Scheme: https",
    b"Front-End-Https: on",
    b"X-Original-URL: /admin",
    b"X-Rewrite-URL: /admin",
    b"X_Forwarded_For: 127.0.0.1",
    b"X_Forwarded-For: 127.0.0.1",
    b"X-FORWARDED-HOST: evil.example",
    b"x.forwarded.for: 127.0.0.1",
    b"X_Real_IP: 127.0.0.1",
    b"X_Request_ID: evil",
    b"X-Original_URL: /admin",
)

CASES: tuple[Case, ...] = (
    refused(
        "CL.TE as published", post(b"Content-Length: 13", b"Transfer-Encoding: chunked", body=b"0\r\n\r\nSMUGGLED")
    ),
    refused(
        "TE.CL as published",
        post(b"Content-Length: 3", b"Transfer-Encoding: chunked", body=b"8\r\nSMUGGLED\r\n0\r\n\r\n"),
    ),
    refused(
        "TE.TE: xchunked",
        post(b"Content-Length: 4", b"Transfer-Encoding: chunked", b"Transfer-Encoding: xchunked", body=b"5c\r\n"),
    ),
    refused(
        "TE.TE: a space before the colon", post(b"Content-Length: 4", b"Transfer-Encoding : chunked", body=b"5c\r\n")
    ),
    refused(
        "TE.TE: a tab before the value", post(b"Content-Length: 4", b"Transfer-Encoding:\tchunked", body=b"5c\r\n")
    ),
    refused(
        "TE.TE: a line feed in a value before",
        post(b"Content-Length: 4", b"X: X\nTransfer-Encoding: chunked", body=b"5c\r\n"),
    ),
    refused(
        "TE.TE: a name in two lines", post(b"Content-Length: 4", b"Transfer-Encoding\r\n: chunked", body=b"5c\r\n")
    ),
    refused(
        "TE.TE: nothing but a name before",
        post(b"Content-Length: 4", b"X:\r\n Transfer-Encoding: chunked", body=b"5c\r\n"),
    ),
    refused(
        "TE.TE: an identity beside",
        post(b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    ),
    refused(
        "TE.TE: a hidden name", post(b"Content-Length: 4", b"Foo: bar\r\n\tTransfer-Encoding: chunked", body=b"5c\r\n")
    ),
    passes(
        "CL.0: a request in the content of a path that has none",
        post(b"Content-Length: %d" % len(_HIDDEN), body=_HIDDEN),
        posted(_HIDDEN),
    ),
    passes(
        "CL.0 by GET, and another request",
        get(b"Content-Length: %d" % len(SMUGGLED)) + SMUGGLED + get(line=b"GET /second HTTP/1.1"),
        seen(body=SMUGGLED),
        seen(target=b"/second"),
    ),
    refused("CL.0: a space before the colon", post(b"Content-Length : %d" % len(SMUGGLED), body=SMUGGLED)),
    refused("0.CL: a length that is hidden by white space", get(b" Content-Length: 50")),
    refused("0.CL: a length behind a line feed", get(b"X: y\nContent-Length: 50")),
    refused("0.CL: a length behind a bare carriage return", get(b"X: y\rContent-Length: 50")),
    refused(
        "0.CL: an early answer by an obscured Expect",
        post(b"Expect: y 100-continue", b"Content-Length: 50", body=b"x" * 50),
        417,
    ),
    refused(
        "0.CL: an early answer by an Expect with a line feed",
        post(b"Expect:\n 100-continue", b"Content-Length: 50", body=b"x" * 50),
    ),
    passes(
        "TE.0: a chunked OPTIONS",
        post(
            b"Transfer-Encoding: chunked",
            line=b"OPTIONS /case HTTP/1.1",
            body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
        ),
        seen(method=b"OPTIONS", body=SMUGGLED),
    ),
    broken("TE.0: the last chunk is a request", chunked(b"0\r\nGET /smuggled HTTP/1.1\r\nHost: example.org\r\n\r\n")),
    broken("a chunk size whose upper bits are lost", chunked(b"100000000000000005\r\n12345\r\n0\r\n\r\n")),
    broken("a chunk size cut at 32 bits", chunked(b"10000000000000000\r\n\r\n")),
    broken("TERM.EXT: a line feed ends an extension for one of two", chunked(b"2;\n12\r\n0\r\n\r\n")),
    broken("two bytes behind a chunk that one of two skips", chunked(b"5\r\n12345AB0\r\n\r\n")),
    refused(
        "a content that ends with half a request",
        post(b"Content-Length: 1", body=b"xGPOST / HTTP/1.1\r\n"),
        501,
        posted(b"x"),
    ),
    refused("HTTP/0.9 behind a request", get() + b"GET /smuggled\r\n\r\n", 400, seen()),
    refused("HTTP/0.9 with fields", b"GET /smuggled\r\nHost: example.org\r\n\r\n"),
    refused("a line end in a method", b"GET\r\n /case HTTP/1.1\r\nHost: example.org\r\n\r\n"),
    refused("a request hidden in a method", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".replace(b"\r\n", b"\n") + get()),
    refused("a response split by a target", get(line=b"GET /\r\nSet-Cookie: a=b HTTP/1.1")),
    passes(
        "a response split by an encoded target",
        get(line=b"GET /%0d%0aSet-Cookie:a=b HTTP/1.1"),
        seen(target=b"/%0d%0aSet-Cookie:a=b"),
    ),
    refused("a field split by a line feed", get(b"X: a\nSet-Cookie: a=b")),
    refused("a field split by a carriage return", get(b"X: a\rSet-Cookie: a=b")),
    refused("Host split", request(b"GET /case HTTP/1.1", b"Host: example.org\rX: y")),
    refused("two hosts by an absolute target", request(b"GET http://evil.example/case HTTP/1.1", HOST)),
    refused("two hosts by Host", request(b"GET /case HTTP/1.1", HOST, b"Host: evil.example")),
    refused("two hosts by a hidden Host", request(b"GET /case HTTP/1.1", b" Host: evil.example", HOST)),
    refused("two hosts by a fold", request(b"GET /case HTTP/1.1", b"X: y\r\n Host: evil.example", HOST)),
    refused("two hosts by an at", request(b"GET /case HTTP/1.1", b"Host: example.org:80@evil.example")),
    refused("a private host by a target without a slash", get(line=b"GET @evil.example/ HTTP/1.1")),
    refused("a private host by a port", get(line=b"GET :80/ HTTP/1.1")),
    passes(
        "H2C smuggling",
        get(b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA", b"Connection: Upgrade, HTTP2-Settings"),
        seen(),
    ),
    passes("HTTPoxy", get(b"Proxy: http://evil.example"), seen()),
    passes(
        "hop-by-hop abuse: X-Forwarded-For is taken away",
        get(b"Connection: close, X-Forwarded-For"),
        seen(),
        closes=True,
    ),
    passes("hop-by-hop abuse: Cookie is taken away", get(b"Connection: Cookie", b"Cookie: a=b"), seen(b"cookie: a=b")),
    *(passes(f"an untrusted field goes no further: {field.decode()}", get(field), seen()) for field in _UNKEYED),
    passes("a client's X-Request-ID is replaced", get(b"X-Request-ID: abc-123"), seen()),
    passes("a client's X-Request-ID that is none is replaced", get(b"X-Request-ID: <script>"), seen()),
    passes("two of X-Request-ID are replaced", get(b"X-Request-ID: a", b"X-Request-ID: b"), seen()),
    passes(
        "Via of the client stays, ours behind it",
        get(b"Via: 1.1 somebody"),
        seen(b"via: 1.1 somebody, 1.1 stickyproxy"),
    ),
    passes(
        "X-HTTP-Method-Override is the backend's affair",
        get(b"X-HTTP-Method-Override: DELETE"),
        seen(b"x-http-method-override: DELETE"),
    ),
    refused(
        "a response queue poisoned: a request and a half",
        get() + b"GET /smuggled HTTP/1.1\r\nHost: example.org\r\nX",
        400,
        seen(),
    ),
    refused("a request line in the place of fields", b"GET /case HTTP/1.1\r\n" + SMUGGLED),
    refused("a body of a GET in HTTP/0.9 style", get() + b"12345\r\n\r\n", 400, seen()),
)
