"""Questions and answers between a parent and its workers: Twisted's AMP on a Unix socket. Floor 5.

One command serves for all: a method's name and its arguments as JSON there, an answer or a refusal as JSON back, in
pieces where they are longer than a value of AMP may be (64 KiB). Listening sockets go beside it as descriptors.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols import amp
from twisted.python.failure import Failure

from stickyproxy.control.refusal import Refusal
from stickyproxy.errors import StickyproxyError

#: Bytes of a piece.
PIECE = 60_000


class Gone(StickyproxyError):
    """The other side is not there any more."""


class Ask(amp.Command):
    """A piece of a question; the answer to the last of them is the first piece of the answer."""

    arguments = [(b"number", amp.Integer()), (b"piece", amp.String()), (b"more", amp.Boolean())]
    response = [(b"piece", amp.String()), (b"more", amp.Boolean())]


class Rest(amp.Command):
    """The next piece of an answer."""

    arguments = [(b"number", amp.Integer())]
    response = [(b"piece", amp.String()), (b"more", amp.Boolean())]


class Give(amp.Command):
    """A listening socket, and its endpoint string."""

    arguments = [(b"description", amp.Unicode()), (b"socket", amp.Descriptor())]
    response = []


#: What answers: called with a method's name and its arguments. Raises ``Refusal``.
Answers = Callable[[str, list[Any]], Awaitable[Any]]


class Asking(amp.AMP):
    """One end. ``answers``: what the other side may ask; ``given``: takes a socket that it gives; ``lost``: is told
    that it is gone.
    """

    _log = Logger()

    def __init__(
        self,
        answers: Answers,
        lost: Callable[[], object],
        given: Callable[[str, socket.socket], object] | None = None,
    ) -> None:
        super().__init__()
        self._answers = answers
        self._lost = lost
        self._given = given
        self._count = 0
        self._questions: dict[int, bytes] = {}
        self._left: dict[int, bytes] = {}

    async def ask(self, method: str, *arguments: Any) -> Any:
        """What the other side answers. Raises ``Refusal``, and ``Gone`` where it is not there any more."""
        self._count += 1
        number, question = self._count, json.dumps([method, *arguments]).encode()
        try:
            while len(question) > PIECE:
                await self.callRemote(Ask, number=number, piece=question[:PIECE], more=True)
                question = question[PIECE:]
            answer = await self.callRemote(Ask, number=number, piece=question, more=False)
            pieces = [answer["piece"]]
            while answer["more"]:
                answer = await self.callRemote(Rest, number=number)
                pieces.append(answer["piece"])
        except Exception as error:  # AMP fails with the connection's reason, or with ConnectionDone itself
            raise Gone(f"{method}: {str(error) or type(error).__name__}") from error
        told = json.loads(b"".join(pieces))
        if "refused" in told:
            raise Refusal(**told["refused"])
        return told["answer"]

    async def send(self, description: str, sock: socket.socket) -> None:
        """Give a duplicate of ``sock`` to the other side."""
        try:
            await self.callRemote(Give, description=description, socket=sock.fileno())
        except Exception as error:
            raise Gone(f"{description}: {str(error) or type(error).__name__}") from error

    @Ask.responder
    def _asked(self, number: int, piece: bytes, more: bool) -> Any:
        question = self._questions.pop(number, b"") + piece
        if more:
            self._questions[number] = question
            return {"piece": b"", "more": False}
        return Deferred.fromCoroutine(self._answer(number, question))

    async def _answer(self, number: int, question: bytes) -> dict[str, Any]:
        method, *arguments = json.loads(question)
        try:
            told: dict[str, Any] = {"answer": await self._answers(method, arguments)}
        except Refusal as refusal:
            told = {"refused": refusal.to_json()}
        except Exception:
            failure = Failure()
            self._log.failure("{method} has failed", failure, method=method)
            failed = Refusal("unavailable", f"{method}: {failure.getErrorMessage()}")
            told = {"refused": failed.to_json()}
        self._left[number] = json.dumps(told).encode()
        return self._rest(number)

    @Rest.responder
    def _rest(self, number: int) -> dict[str, Any]:
        answer = self._left.pop(number, b"")
        if len(answer) > PIECE:
            self._left[number] = answer[PIECE:]
        return {"piece": answer[:PIECE], "more": len(answer) > PIECE}

    @Give.responder
    def _take(self, description: str, socket: int) -> dict[str, Any]:
        if self._given is None:
            os.close(socket)
        else:
            self._given(description, _socket(socket))
        return {}

    def makeConnection(self, transport: Any) -> None:
        """As ``AMP`` does, which logs it, too: that a process begins and ends is told elsewhere."""
        amp.BinaryBoxProtocol.makeConnection(self, transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        amp.BinaryBoxProtocol.connectionLost(self, reason)
        self.transport = None
        self._lost()


def _socket(descriptor: int) -> socket.socket:
    return socket.socket(fileno=descriptor)
