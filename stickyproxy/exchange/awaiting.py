"""An exchange that waits until it is known whether its client may come in. Floor 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from stickyproxy.errors import HTTPError
from stickyproxy.exchange.exchange import Exchange
from stickyproxy.model import Field


class AwaitingExchange(Exchange):
    """No backend is chosen before ``admitted`` has fired; if with an error, that is the client's answer.

    What of the request comes meanwhile is held, and no more is read. The other arguments are those of ``Exchange``.
    """

    __slots__ = ("_admitted", "_held")

    def __init__(self, admitted: Deferred[None], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._admitted = admitted
        self._held: list[tuple[bytes, bool, Sequence[Field]]] | None = []

    def start(self, content: bytes, ended: bool, trailers: Sequence[Field] = ()) -> None:
        self.send(content, ended, trailers)
        self._admitted.addCallbacks(self._go_on, self._refused)
        self._admitted.addErrback(self._broken)

    def send(self, content: bytes, ended: bool, trailers: Sequence[Field] = ()) -> None:
        if self._held is None:
            super().send(content, ended, trailers)
            return
        self._held.append((content, ended, trailers))
        if not ended:
            self._client.pause_request()

    def client_lost(self) -> None:
        self._held = None
        super().client_lost()

    def _go_on(self, _: None) -> None:
        held, self._held = self._held, None
        if held is None:  # the client has left
            return
        self._client.resume_request()  # before anything pauses it again
        super().start(*held[0])
        for piece in held[1:]:
            super().send(*piece)

    def _refused(self, failure: Failure) -> None:
        held, self._held = self._held, None
        if held is not None:
            failure.trap(HTTPError)
            self._fail(cast(HTTPError, failure.value))
