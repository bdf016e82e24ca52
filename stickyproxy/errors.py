"""What can go wrong, as values that know what to tell whom. Floor 0.

An ``HTTPError`` knows its status; ``detail`` is for the client and the log alike, so it never quotes input.
"""

from __future__ import annotations

from http import HTTPStatus


class StickyproxyError(Exception):
    """All errors of this package."""


class HTTPError(StickyproxyError):
    """A request that is answered by the proxy itself. ``fields`` are complete lines (``b"Retry-After: 5\\r\\n"``)."""

    status = 500

    def __init__(self, detail: str, *, status: int | None = None, fields: bytes = b"") -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields
        if status is not None:
            self.status = status

    @property
    def reason(self) -> str:
        return HTTPStatus(self.status).phrase


class BadRequest(HTTPError):
    """The client's fault: 400, or the nearer status given. The connection closes after the answer."""

    status = 400


class BadAnswer(HTTPError):
    """The backend answered with something that may not be passed on: 502. Its connection closes."""

    status = 502


class NoBackend(HTTPError):
    """No backend of the cluster may take the client: 503."""

    status = 503


class SessionLost(HTTPError):
    """The backend that the client is bound to is gone, and no other may serve it: 503, or as the affinity says."""

    status = 503


class NoPlace(HTTPError):
    """Every backend that may take the client serves as many as it may, and nobody was ready in time: 503."""

    status = 503


class BackendLost(HTTPError):
    """A backend could not be reached, or went away without an answer: 502."""

    status = 502


class BackendSilent(HTTPError):
    """A backend did not accept or did not answer in time: 504."""

    status = 504


class ProbeFailed(StickyproxyError):
    """A probe found that a backend is not well; the text says why, for the log."""
