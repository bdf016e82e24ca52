"""Where HAProxy and nginx do otherwise than stickyproxy with the requests of the corpus, and who is right.

``python tests/torture/differences.py`` prints the table that stands in docs/security.md.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple

#: What a verdict of ``differential`` is called in the table.
ALLOWED = {
    "refuses": {"refused"},
    "passes": {"passed"},
    "lets through": {"let through", "broken"},
    "lets some through": {"let through", "broken", "refused"},
    "changes": {"changed", "broken"},
    "refuses some": {"refused", "passed"},
}


class Judgement(NamedTuple):
    """``cases`` are patterns of ``subject/name``; the first judgement that has one for a case is its own.

    ``ours``, ``haproxy`` and ``nginx`` say what each does.
    """

    what: str
    ours: str
    haproxy: str
    nginx: str
    rule: str
    cases: tuple[str, ...]

    def allows(self, ours: str, haproxy: str, nginx: str) -> bool:
        return ours in ALLOWED[self.ours] and haproxy in ALLOWED[self.haproxy] and nginx in ALLOWED[self.nginx]


_SOME = "lets some through"

JUDGEMENTS = (
    Judgement(
        "A bare LF for a line end: in the request line, fields, chunks, trailers; a chunk whose CR counts as content",
        "refuses", _SOME, _SOME,
        "RFC 9112, 2.2: a recipient may take it. We do not: who disagrees on a line's end disagrees on all behind it.",
        (
            "*bare line feed*", "chunks/SPILL.TERM*", "chunks/a chunk shorter than its size", "attacks/TERM.EXT*",
            "attacks/a field split by a line feed", "attacks/0.CL*Expect with a line feed",
        ),
    ),
    Judgement(
        "A bare CR, or one more before a line's end",
        "refuses", "refuses", "lets through",
        "RFC 9112, 2.2: invalid, or to be replaced by a space. nginx takes it as white space, and passes it on.",
        ("*bare carriage return*", "fields/* carriage return*", "fields/*two carriage returns*"),
    ),
    Judgement(
        "A folded line, white space before a field",
        "refuses", _SOME, _SOME,
        "RFC 9112, 5.2: refuse, or put a space in its place. HAProxy does the latter, nginx the former.",
        (
            "*fold*", "*value on the next line*", "*white space alone*", "*tab alone behind the fields",
            "fields/a name is only white space", "*the name of a *: a * before it", "host/a second behind white space",
            "attacks/0.CL: a length that is hidden by white space", "attacks/TE.TE: *",
        ),
    ),
    Judgement(
        "Control characters in a value, NUL among them",
        "refuses", "lets through", _SOME,
        "RFC 9110, 5.5: NUL must be refused or replaced, the others are invalid. HAProxy passes even NUL on.",
        ("fields/a value has the control byte *", "fields/a value has a NUL*"),
    ),
    Judgement(
        "A name of a field that is no token",
        "refuses", "refuses", "lets through",
        "RFC 9110, 5.1: malformed. nginx drops the field and goes on with the rest.",
        (
            "fields/a name is *", "coding/*the name of a coding: *", "length/the name of a length: *",
        ),
    ),
    Judgement(
        "The limits: more fields, longer lines and hosts than ours",
        "refuses", _SOME, _SOME,
        "A matter of configuration; `limits`.",
        ("fields/101 fields", "line/a target of 9000 bytes", "line/the method is of 4000 letters",
         "host/Host is 300 bytes"),
    ),
    Judgement(
        "Other white space than one space in the request line",
        "refuses", _SOME, _SOME,
        "RFC 9112, 3: one space each; taking more is allowed, and parted many a parser.",
        ("line/the line has *",),
    ),
    Judgement(
        "HTTP/0.9: a request line without a version",
        "refuses", "refuses", "lets through",
        "RFC 9112 has no such request. nginx makes one of HTTP/1.1 without Host of it.",
        ("attacks/HTTP/0.9*", "attacks/a response split by a target"),
    ),
    Judgement(
        "Versions other than 1.0 and 1.1",
        "refuses", _SOME, _SOME,
        "RFC 9110, 15.6.6: 505. A minor version that is not known may be taken as 1.1; major ones may not.",
        ("line/the version is *",),
    ),
    Judgement(
        "Methods that are unknown, in small letters, or of other protocols",
        "refuses", _SOME, _SOME,
        "RFC 9110, 9.1: 501 for what is not known. We know those of llhttp; the others pass any token.",
        (
            "line/the method is *", "attacks/a request hidden in a method",
            "length/a length that is too short: the rest is no request",
        ),
    ),
    Judgement(
        "TRACE",
        "passes", "passes", "refuses",
        "RFC 9110, 9.3.8: a proxy passes it, and counts Max-Forwards down. nginx answers 405. Let a backend refuse it.",
        ("hops/TRACE", "hops/TRACE is counted down"),
    ),
    Judgement(
        "TRACE and OPTIONS that are malformed: content, a Max-Forwards that is no number or there twice",
        "refuses", _SOME, _SOME,
        "RFC 9110, 9.3.8 and 7.6.2. nginx refuses every TRACE, HAProxy does not look.",
        ("hops/TRACE *", "hops/OPTIONS *"),
    ),
    Judgement(
        "CONNECT",
        "refuses", "lets through", "refuses",
        "RFC 9110, 9.3.6: a tunnel is for who is asked to make one; we are no forward proxy.",
        ("hops/CONNECT*",),
    ),
    Judgement(
        "`*` for another method than OPTIONS, a target that is a host, or `*` with more",
        "refuses", "lets through", "refuses",
        "RFC 9112, 3.2: no form of a target.",
        (
            "line/the target is a star*", "line/the target is a host", "line/OPTIONS of everything and more",
            "line/OPTIONS of everything with a query", "line/DELETE of everything",
        ),
    ),
    Judgement(
        "`OPTIONS *`; targets with bad or forbidden encoding, or `..` above the root",
        "passes", "passes", "refuses",
        "RFC 9112, 3.2: passed as they came; it is the backend that reads them. nginx judges as a web server does.",
        (
            "line/OPTIONS of everything", "line/the target has dots above the root",
            "line/the target has a NUL encoded", "line/the target has bad encoding",
        ),
    ),
    Judgement(
        "Characters that a target must not have: a fragment, control characters, bytes above 0x7f",
        "refuses", _SOME, _SOME,
        "RFC 9112, 3.2: refuse. nginx passes `#` and all above 0x7f, HAProxy a few.",
        ("line/the target is *",),
    ),
    Judgement(
        "No Host in HTTP/1.1; two of them",
        "refuses", "lets through", "refuses",
        "RFC 9112, 3.2: must be refused. HAProxy does not look, and passes both on.",
        ("host/no Host*", "host/two*"),
    ),
    Judgement(
        "A Host that is no host and perhaps a port",
        "refuses", _SOME, _SOME,
        "RFC 9112, 3.2: must be refused. Where a backend reads another host than a route, that protects nothing.",
        ("host/Host is *", "host/HTTP/1.0 with *", "attacks/two hosts by an at"),
    ),
    Judgement(
        "An absolute target that contradicts Host, or is no URL of http(s) with a host",
        "refuses", _SOME, _SOME,
        "RFC 9112, 3.2.2: Host is to be ignored then. We refuse the contradiction: nobody who means well sends it.",
        (
            "host/an absolute target with another *", "host/an absolute target with a host that ends alike",
            "host/an absolute target with a fragment", "host/an absolute target with a large port",
            "host/an absolute target with empty brackets", "host/an absolute target without its port",
            "host/an absolute target with an *", "host/an absolute target with the scheme*",
            "host/an absolute target with userinfo*", "host/an absolute target with no host",
            "host/an absolute target with three slashes", "host/an absolute target with a backslash*",
            "host/an absolute target with a file", "attacks/two hosts by an absolute target",
        ),
    ),
    Judgement(
        "An absolute target with a query and no path",
        "passes", "refuses", "passes",
        "RFC 3986, 3: well-formed; it becomes `/?query`.",
        ("host/an absolute target with a query alone", "host/OPTIONS of an absolute target with a query"),
    ),
    Judgement(
        "HTTP/1.0 without Host",
        "passes", "passes", "changes",
        "We send an empty Host, which RFC 9112, 3.2 wants; nginx, configured as here, none.",
        ("host/HTTP/1.0 without Host",),
    ),
    Judgement(
        "An absolute target in HTTP/1.0 without Host",
        "passes", "changes", "changes",
        "Its host becomes Host. HAProxy passes the target as it came; nginx, configured as here, loses the host.",
        ("host/an absolute target in HTTP/1.0 without Host",),
    ),
    Judgement(
        "OPTIONS of an absolute target without a path",
        "passes", "changes", "changes",
        "RFC 9112, 3.2.4: it becomes `*`. HAProxy passes it as it came, nginx asks for `/`.",
        ("host/OPTIONS of an absolute target without a path*",),
    ),
    Judgement(
        "Absolute targets",
        "passes", "changes", "passes",
        "RFC 9112, 3.2.1: a backend is asked with a path. HAProxy passes the target as it came.",
        ("host/*absolute target*",),
    ),
    Judgement(
        "A tab around a value",
        "passes", "passes", "refuses",
        "RFC 9110, 5.6.3: optional white space has tabs. nginx knows spaces only.",
        ("coding/chunked behind a tab", "host/Host between white space", "length/a length between tabs"),
    ),
    Judgement(
        "A tab behind `chunked`",
        "refuses", "lets through", "refuses",
        "It could be taken. llhttp does not, and who sends it is not in need of help.",
        ("coding/a tab behind chunked",),
    ),
    Judgement(
        "Content-Length twice, or as a list, with the same number",
        "refuses", "lets through", "refuses",
        "RFC 9112, 6.3: refuse, or take it once. HAProxy does the latter.",
        ("length/two*", "length/three", "length/a length with a list *"),
    ),
    Judgement(
        "A Content-Length of 2 to the 64th or more",
        "refuses", _SOME, "refuses",
        "RFC 9110, 8.6: guard against overflow. HAProxy 2.6 waits for so much.",
        ("length/a length with 2 to the *", "length/* nines"),
    ),
    Judgement(
        "A Content-Length of thirty digits that are zeros",
        "refuses", "lets through", "lets through",
        "Within the grammar; no client writes it. HAProxy passes it on as it came.",
        ("length/more zeros*",),
    ),
    Judgement(
        "Transfer-Encoding and Content-Length together",
        "refuses", "lets through", "refuses",
        "RFC 9112, 6.3: refuse, or drop the length and close. HAProxy does the latter.",
        ("coding/CL.TE*", "coding/TE.CL*", "attacks/CL.TE *", "attacks/TE.CL *"),
    ),
    Judgement(
        "Transfer-Encoding in HTTP/1.0",
        "refuses", "lets through", "refuses",
        "RFC 9112, 6.1: to be treated as faulty framing.",
        ("coding/chunked*in HTTP/1.0*",),
    ),
    Judgement(
        "A list of codings with empty elements",
        "refuses", "lets through", "refuses",
        "RFC 9110, 5.6.1 wants them ignored; HAProxy passes them on to backends, which may not.",
        ("coding/*comma behind", "coding/twice, the * empty"),
    ),
    Judgement(
        "Chunk sizes with white space, words, or more digits than sixteen",
        "refuses", _SOME, _SOME,
        "RFC 9112, 7.1: hexadecimal digits, and no more. Chunks are made anew by all three.",
        ("chunks/*size with *", "chunks/the last chunk of another size"),
    ),
    Judgement(
        "Chunk extensions with control characters, or longer than our limits",
        "refuses", _SOME, _SOME,
        "RFC 9112, 7.1.1: a recipient limits them. All three drop them.",
        ("chunks/an extension with *", "chunks/extensions of *"),
    ),
    Judgement(
        "Trailer fields that are malformed or too large; a request where the trailer should be",
        "refuses", _SOME, _SOME,
        "RFC 9112, 7.1.2. nginx throws trailers away unread, HAProxy passes control characters on.",
        ("chunks/a trailer with *", "attacks/TE.0*"),
    ),
    Judgement(
        "Expect with another value than 100-continue",
        "refuses", _SOME, _SOME,
        "RFC 9110, 10.1.1: 417 is allowed. An Expect that only one of two understands leads to 0.CL.",
        ("hops/Expect *", "attacks/0.CL: an early answer by an obscured Expect"),
    ),
    Judgement(
        "A WebSocket handshake that RFC 6455 forbids",
        "refuses", _SOME, "lets through",
        "A backend would refuse it, if it is careful. nginx, without `Upgrade` set by hand, passes a plain request.",
        ("hops/a WebSocket *",),
    ),
    Judgement(
        "A second request on a connection of HTTP/1.0 that is to be kept",
        "passes", "changes", "passes",
        "Keeping it is optional.",
        ("line/HTTP/1.0 that keeps alive",),
    ),
)  # fmt: skip


def judgement(key: str) -> Judgement | None:
    """The first that has ``key`` (``subject/name``)."""
    for one in JUDGEMENTS:
        if any(fnmatchcase(key, pattern) for pattern in one.cases):
            return one
    return None


def table() -> str:
    """The judgements as a table in Markdown."""
    lines = ["| request | stickyproxy | HAProxy | nginx | |", "|---|---|---|---|---|"]
    lines += [f"| {one.what} | {one.ours} | {one.haproxy} | {one.nginx} | {one.rule} |" for one in JUDGEMENTS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
