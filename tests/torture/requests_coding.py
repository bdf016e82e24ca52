"""Transfer-Encoding, alone and beside Content-Length: RFC 9112 sections 6.1 and 6.3. CL.TE, TE.CL, TE.TE, TE.0."""

from __future__ import annotations

from cases import SMUGGLED, Case, chunked, get, passes, post, posted, refused, seen

CODING = b"Transfer-Encoding: "
BODY = b"5\r\n12345\r\n0\r\n\r\n"

#: Values that some read as chunked and some do not: all but that one word is refused.
_BAD = (
    ("nothing", b""),
    ("identity", b"identity"),
    ("chunked, identity", b"chunked, identity"),
    ("identity, chunked", b"identity, chunked"),
    ("chunked twice", b"chunked, chunked"),
    ("chunked twice without a space", b"chunked,chunked"),
    ("gzip", b"gzip"),
    ("gzip, chunked", b"gzip, chunked"),
    ("chunked, gzip", b"chunked, gzip"),
    ("deflate, chunked", b"deflate, chunked"),
    ("compress, chunked", b"compress, chunked"),
    ("a comma behind", b"chunked,"),
    ("a comma before", b",chunked"),
    ("a comma alone", b","),
    ("empty elements", b" , ,chunked"),
    ("double quotes", b'"chunked"'),
    ("single quotes", b"'chunked'"),
    ("a backslash", b"\\chunked"),
    ("a parameter", b"chunked;q=1"),
    ("a parameter with a space", b"chunked; foo=bar"),
    ("a semicolon", b"chunked;"),
    ("a letter before", b"xchunked"),
    ("a letter behind", b"chunkedx"),
    ("a word before", b"x chunked"),
    ("a word behind", b"chunked x"),
    ("a letter missing", b"chunke"),
    ("a space within", b"chun ked"),
    ("a tab within", b"chun\tked"),
    ("a vertical tab before", b"\x0bchunked"),
    ("a vertical tab behind", b"chunked\x0b"),
    ("a form feed before", b"\x0cchunked"),
    ("a NUL before", b"\x00chunked"),
    ("a NUL behind", b"chunked\x00"),
    ("a no-break space before", b"\xa0chunked"),
    ("a next-line of Latin-1 behind", b"chunked\x85"),
    ("a letter of UTF-8", b"chunk\xc3\xa8d"),
    ("a Kelvin sign", b"chun\xe2\x84\xaaed"),
    ("a backspace", b"chunked\x08"),
    ("a bare carriage return before", b"\rchunked"),
    ("a bare carriage return behind", b"chunked\r"),
    ("a bare line feed before", b"\nchunked"),
    ("a bare line feed behind", b"chunked\n"),
    ("a value on the next line", b"\r\n chunked"),
    ("a value on the next line, by a tab", b"\r\n\tchunked"),
    ("a value in two lines", b"chu\r\n nked"),
    ("a folded end", b"chunked\r\n "),
    ("a colon before", b": chunked"),
    ("brackets", b"[chunked]"),
    ("a comment", b"chunked (really)"),
    ("an encoded word", b"=?utf-8?q?chunked?="),
    ("percent-encoding", b"%63hunked"),
    ("a weight of nothing", b"chunked;q=0"),
    ("an unknown coding", b"cow"),
    ("an unknown coding, chunked", b"cow, chunked"),
    ("trailers", b"trailers"),
)

_BAD_NAMES = (
    ("a space before the colon", b"Transfer-Encoding : chunked"),
    ("a tab before the colon", b"Transfer-Encoding\t: chunked"),
    ("a vertical tab before the colon", b"Transfer-Encoding\x0b: chunked"),
    ("a NUL before the colon", b"Transfer-Encoding\x00: chunked"),
    ("a space before it", b" Transfer-Encoding: chunked"),
    ("a tab before it", b"\tTransfer-Encoding: chunked"),
    ("a vertical tab before it", b"\x0bTransfer-Encoding: chunked"),
    ("a bare line feed before it", b"X: y\nTransfer-Encoding: chunked"),
    ("a bare carriage return before it", b"X: y\rTransfer-Encoding: chunked"),
    ("a bare line feed in a name before it", b"X\nTransfer-Encoding: chunked"),
    ("its colon on the next line", b"Transfer-Encoding\r\n : chunked"),
    ("a no-break space behind", b"Transfer-Encoding\xa0: chunked"),
    ("a letter of UTF-8", b"Transfer-Encod\xc3\xacng: chunked"),
    ("a semicolon for the colon", b"Transfer-Encoding; chunked"),
    ("an equals sign for the colon", b"Transfer-Encoding= chunked"),
    ("no colon", b"Transfer-Encoding chunked"),
    ("a space within", b"Transfer Encoding: chunked"),
    ("two colons, a name between", b"Transfer-Encoding, X: chunked"),
)

_LENGTH = b"Content-Length: %d" % len(BODY)


def _beside_a_length(name: str, *fields: bytes) -> Case:
    """What CL.TE and TE.CL are made of: two lengths of which two servers choose another each."""
    return refused(name, post(*fields, body=b"0\r\n\r\n"))


CASES: tuple[Case, ...] = (
    passes("chunked", chunked(BODY), posted(b"12345")),
    passes("chunked without a space", post(b"Transfer-Encoding:chunked", body=BODY), posted(b"12345")),
    passes("chunked behind a tab", post(b"Transfer-Encoding:\tchunked", body=BODY), posted(b"12345")),
    passes("chunked before a space", post(CODING + b"chunked ", body=BODY), posted(b"12345")),
    passes("chunked in capitals", post(b"TRANSFER-ENCODING: CHUNKED", body=BODY), posted(b"12345")),
    passes("chunked in mixed case", post(b"tRANSFER-eNCODING: cHuNkEd", body=BODY), posted(b"12345")),
    passes("a chunked GET", get(CODING + b"chunked") + BODY, seen(body=b"12345")),
    passes(
        "chunked, and then another",
        chunked(BODY) + get(line=b"GET /second HTTP/1.1"),
        posted(b"12345"),
        seen(target=b"/second"),
    ),
    passes(
        "a request in a chunk is content",
        chunked(b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)),
        posted(SMUGGLED),
    ),
    passes("an underscore for the hyphen goes no further", post(b"Transfer_Encoding: chunked"), posted(b"")),
    passes("a point for the hyphen goes no further", post(b"Transfer.Encoding: chunked"), posted(b"")),
    passes(
        "an underscore beside a length goes no further",
        post(b"Transfer_Encoding: chunked", _LENGTH, body=BODY),
        posted(BODY),
    ),
    passes(
        "no hyphen: another field",
        post(b"TransferEncoding: chunked", _LENGTH, body=BODY),
        posted(BODY, b"transferencoding: chunked"),
    ),
    passes(
        "another name that ends in it",
        post(b"X-Transfer-Encoding: chunked", _LENGTH, body=BODY),
        posted(BODY, b"x-transfer-encoding: chunked"),
    ),
    passes(
        "another name that begins with it",
        post(b"Transfer-Encoding-X: chunked", _LENGTH, body=BODY),
        posted(BODY, b"transfer-encoding-x: chunked"),
    ),
    passes("TE is not Transfer-Encoding", post(b"TE: chunked", _LENGTH, body=BODY), posted(BODY)),
    passes("TE of trailers goes no further", get(b"TE: trailers", b"Connection: TE"), seen()),
    *(
        refused(
            f"the coding is {what}" if what != "nothing" else "the coding is empty", post(CODING + value, body=BODY)
        )
        for what, value in _BAD
    ),
    *(
        refused(
            f"beside a length, the coding is {what}" if what != "nothing" else "beside a length, an empty coding",
            post(_LENGTH, CODING + value, body=BODY),
        )
        for what, value in _BAD
    ),
    *(refused(f"the name of a coding: {what}", post(field, body=BODY)) for what, field in _BAD_NAMES),
    *(
        refused(f"beside a length, the name of a coding: {what}", post(_LENGTH, field, body=BODY))
        for what, field in _BAD_NAMES
    ),
    refused("a tab behind chunked", post(CODING + b"chunked\t", body=BODY)),
    refused("twice", post(CODING + b"chunked", CODING + b"chunked", body=BODY)),
    refused("twice, identity first", post(CODING + b"identity", CODING + b"chunked", body=BODY)),
    refused("twice, identity last", post(CODING + b"chunked", CODING + b"identity", body=BODY)),
    refused("twice, an unknown one first", post(CODING + b"x", CODING + b"chunked", body=BODY)),
    refused("twice, an unknown one last", post(CODING + b"chunked", CODING + b"x", body=BODY)),
    refused("twice, the first empty", post(b"Transfer-Encoding:", CODING + b"chunked", body=BODY)),
    refused("twice, the last empty", post(CODING + b"chunked", b"Transfer-Encoding:", body=BODY)),
    refused("twice, the last in small letters", post(CODING + b"chunked", b"transfer-encoding: identity", body=BODY)),
    _beside_a_length("CL.TE", b"Content-Length: 6", CODING + b"chunked"),
    _beside_a_length("TE.CL", CODING + b"chunked", b"Content-Length: 6"),
    _beside_a_length("CL.TE with a length of nothing", b"Content-Length: 0", CODING + b"chunked"),
    _beside_a_length("TE.CL with a length of nothing", CODING + b"chunked", b"Content-Length: 0"),
    _beside_a_length("CL.TE with the right length", b"Content-Length: 5", CODING + b"chunked"),
    _beside_a_length("CL.TE with a bad length", b"Content-Length: x", CODING + b"chunked"),
    _beside_a_length("TE.CL with a bad length", CODING + b"chunked", b"Content-Length: x"),
    _beside_a_length("CL.TE.CL", b"Content-Length: 5", CODING + b"chunked", b"Content-Length: 5"),
    _beside_a_length(
        "CL.TE named by Connection", b"Content-Length: 6", CODING + b"chunked", b"Connection: Transfer-Encoding"
    ),
    _beside_a_length(
        "TE.CL named by Connection", CODING + b"chunked", b"Content-Length: 6", b"Connection: Content-Length"
    ),
    refused("CL.TE of a GET", get(b"Content-Length: 6", CODING + b"chunked") + b"0\r\n\r\nG"),
    refused(
        "CL.TE, another request in its content",
        post(b"Content-Length: 4", CODING + b"chunked", body=b"5c\r\nPOST /smuggled HTTP/1.1\r\n\r\n0\r\n\r\n"),
    ),
    refused("chunked in HTTP/1.0", post(CODING + b"chunked", body=BODY, line=b"POST /case HTTP/1.0")),
    refused(
        "chunked in HTTP/1.0 that keeps alive",
        post(CODING + b"chunked", b"Connection: keep-alive", body=BODY, line=b"POST /case HTTP/1.0"),
    ),
    refused(
        "identity in HTTP/1.0",
        post(CODING + b"identity", b"Content-Length: 5", body=b"12345", line=b"POST /case HTTP/1.0"),
    ),
    refused(
        "chunked and a length in HTTP/1.0", post(CODING + b"chunked", _LENGTH, body=BODY, line=b"POST /case HTTP/1.0")
    ),
)
