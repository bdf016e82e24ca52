"""A client whose answer an affinity reads on its way (``IReadingAffinity``). Floor 3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from stickyproxy.model import Field, ResponseHead

if TYPE_CHECKING:
    from stickyproxy.exchange.exchange import ClientSide

#: Bytes of content that a reader sees at most.
READ = 4096


class ReadClient:
    """``inner``, a ``ClientSide``; the first bytes of the content of its answer are shown to ``read`` before."""

    def __init__(self, inner: ClientSide, read: Callable[[bytes, bool], bool]) -> None:
        self._inner = inner
        self._read: Callable[[bytes, bool], bool] | None = read
        self._seen = b""
        self.interim = inner.interim
        self.failed = inner.failed
        self.switched = inner.switched
        self.pause_request = inner.pause_request
        self.resume_request = inner.resume_request

    def answer(
        self, head: ResponseHead, content: bytes, ended: bool, trailers: Sequence[Field], set_cookie: bytes | None
    ) -> None:
        self._look(content, ended)
        self._inner.answer(head, content, ended, trailers, set_cookie)

    def answer_more(self, content: bytes, ended: bool, trailers: Sequence[Field]) -> None:
        if self._read is not None:
            self._look(content, ended)
        self._inner.answer_more(content, ended, trailers)

    def _look(self, content: bytes, ended: bool) -> None:
        if self._read is None or not (content or ended):
            return
        seen = self._seen = self._seen + content[: READ - len(self._seen)]
        last = ended or len(seen) >= READ
        if self._read(seen, last) or last:
            self._read = None
            self._seen = b""
