"""The content of a request as it comes. Floor 4. RFC 9112 section 6."""

from __future__ import annotations

from stickyproxy.config.limits import Limits
from stickyproxy.errors import BadRequest
from stickyproxy.sansio.body import MalformedBody, read_body

TOO_LARGE = "the content is larger than allowed"


class Content:
    """What a head's ``body``, which is not 0, announced.

    ``reader`` (``sansio.body``) tells whether it has ended, and what is behind it.
    """

    __slots__ = ("_limit", "_received", "reader")

    def __init__(self, body: int, limits: Limits) -> None:
        self.reader = read_body(body, limits.chunk_extensions, limits.trailers)
        self._limit = limits.body
        self._received = 0

    def feed(self, data: bytes) -> bytes:
        """The content in ``data``. Raises ``BadRequest`` (400, 413)."""
        try:
            content = self.reader.feed(data)
        except MalformedBody as error:
            raise BadRequest(f"the request is malformed: {error}") from None
        self._received += len(content)
        if self._limit is not None and self._received > self._limit:
            raise BadRequest(TOO_LARGE, status=413)
        return content
