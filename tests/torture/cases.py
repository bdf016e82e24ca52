"""What a case of the corpus is: raw bytes of a client, and what may legally come of them.

Plain values without any of the proxy under test in them, so that the same bytes can be sent through any other. The
modules ``requests_*`` hold the tables, each a tuple ``CASES``; ``corpus`` puts them together.
"""

from __future__ import annotations

from typing import NamedTuple

HOST = b"Host: example.org"
#: A request that only a parser which was led astray sees: it stands in the content of another, or behind a refused one.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: example.org\r\n\r\n"


class Reached(NamedTuple):
    """A request as a backend may see it.

    ``fields`` are the client's that pass, names in lower case, in their order; Host, framing and what the proxy says of
    the client are not among them. ``body`` is the content without its framing.
    """

    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    host: bytes = b"example.org"


class Case(NamedTuple):
    """``raw`` is all that a client sends on a connection of its own.

    ``reaches`` are the requests that reach a backend, whole, in order; each is answered with 200. After them comes an
    answer of the proxy's own with ``refused``, if that is not 0, and the connection closes; nothing behind is ever read
    as a request. ``closes``: the connection closes in peace, after the answers. ``begins``: of the refused request a
    head, and content up to what is wrong, may have reached a backend, whose connection is then closed within it.
    """

    name: str
    raw: bytes
    reaches: tuple[Reached, ...] = ()
    refused: int = 0
    closes: bool = False
    begins: bool = False


def request(line: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    """A request of these lines, with the line ends that it should have."""
    return b"\r\n".join((line, *fields, b"", b"")) + body


def get(*fields: bytes, line: bytes = b"GET /case HTTP/1.1") -> bytes:
    """A GET with Host."""
    return request(line, HOST, *fields)


def post(*fields: bytes, body: bytes = b"", line: bytes = b"POST /case HTTP/1.1") -> bytes:
    """A POST with Host; nothing tells of ``body`` but ``fields``."""
    return request(line, HOST, *fields, body=body)


def chunked(body: bytes, *fields: bytes) -> bytes:
    """A POST whose chunked body is ``body`` to the byte, framing included."""
    return post(b"Transfer-Encoding: chunked", *fields, body=body)


def refused(name: str, raw: bytes, status: int = 400, *before: Reached, begins: bool = False) -> Case:
    """Refused with ``status`` and a close, after ``before`` was answered. A request behind it is never seen."""
    return Case(name, raw + SMUGGLED, before, status, closes=True, begins=begins)


def broken(name: str, raw: bytes) -> Case:
    """Refused within its content, which may have begun to reach a backend."""
    return refused(name, raw, begins=True)


def passes(name: str, raw: bytes, *reaches: Reached, closes: bool = False) -> Case:
    """Passed on as ``reaches``."""
    return Case(name, raw, reaches, closes=closes)


def seen(
    *fields: bytes, method: bytes = b"GET", target: bytes = b"/case", body: bytes = b"", **more: object
) -> Reached:
    """A GET of ``/case``; ``fields`` as ``b"x-name: value"``."""
    pairs = tuple((name, value) for name, _, value in (field.partition(b": ") for field in fields))
    return Reached(method, target, pairs, body)._replace(**more)  # type: ignore[arg-type]


def posted(body: bytes, *fields: bytes, **more: object) -> Reached:
    """A POST to ``/case`` with this content."""
    return seen(*fields, method=b"POST", body=body, **more)
