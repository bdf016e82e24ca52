"""Questions and answers between two processes, over a real Unix socket."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from stickyproxy.control.asking import PIECE, Asking, Gone
from stickyproxy.control.refusal import Refusal


class Ends:
    """Two ends: ``asking`` asks ``answers``. ``given`` are the sockets that went over, ``lost`` fires at the end."""

    def __init__(self, answers: Callable[[str, list[Any]], Awaitable[Any]]) -> None:
        self.given: list[tuple[str, socket.socket]] = []
        self.lost: Deferred[None] = Deferred()
        gone: Deferred[None] = Deferred()
        self.asking = Asking(answers, lambda: self.lost.callback(None))
        self.answering = Asking(answers, lambda: gone.callback(None), lambda *given: self.given.append(given))
        for end, protocol in zip(socket.socketpair(), (self.asking, self.answering), strict=True):
            with end:
                end.setblocking(False)
                factory = Factory.forProtocol(lambda protocol=protocol: protocol)
                reactor.adoptStreamConnection(end.fileno(), socket.AF_UNIX, factory)  # type: ignore[attr-defined]

    async def close(self) -> None:
        self.asking.transport.loseConnection()
        await self.lost


async def echo(method: str, arguments: list[Any]) -> Any:
    if method == "no":
        raise Refusal("conflict", "not now", [{"key": "x"}])
    if method == "fail":
        raise ZeroDivisionError("broken")
    return [method, *arguments]


@ensureDeferred
async def test_any_length_goes_there_and_back() -> None:
    """Values of AMP end at 64 KiB; what is longer goes in pieces, several at a time without mixing."""
    ends = Ends(echo)
    long, longer = "ü" * PIECE, ["x" * 1000] * 500
    asked = [Deferred.fromCoroutine(ends.asking.ask("say", value)) for value in (long, longer, None, {"a": 1.5})]
    assert [await each for each in asked] == [["say", value] for value in (long, longer, None, {"a": 1.5})]
    await ends.close()


@ensureDeferred
async def test_a_refusal_is_the_same_on_the_other_side() -> None:
    """Its kind, its text and its parts."""
    ends = Ends(echo)
    with pytest.raises(Refusal) as refused:
        await ends.asking.ask("no")
    assert refused.value.to_json() == Refusal("conflict", "not now", [{"key": "x"}]).to_json()
    await ends.close()


@ensureDeferred
async def test_what_fails_is_refused_and_logged_there(capfd: pytest.CaptureFixture[str]) -> None:
    """A mistake of the other side is no end of the connection, and has its traceback in its log."""
    ends = Ends(echo)
    with pytest.raises(Refusal, match="fail: broken"):
        await ends.asking.ask("fail")
    assert await ends.asking.ask("still") == ["still"]
    assert "ZeroDivisionError: broken" in capfd.readouterr().err
    await ends.close()


@ensureDeferred
async def test_sockets_go_over() -> None:
    """A listening socket is usable by the other process, under its endpoint string."""
    ends = Ends(echo)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        await ends.asking.send("tcp:80", listening)
        ((description, got),) = ends.given
        with got:
            assert description == "tcp:80"
            assert (got.family, got.getsockname()) == (listening.family, listening.getsockname())
            assert got.fileno() != listening.fileno()
    await ends.close()


@ensureDeferred
async def test_who_is_gone_does_not_answer() -> None:
    """A question that is open when the other side goes, and one that is asked afterwards, fail alike."""
    waiting: Deferred[None] = Deferred()

    async def wait(method: str, arguments: list[Any]) -> Any:
        await waiting

    ends = Ends(wait)
    asked = Deferred.fromCoroutine(ends.asking.ask("wait"))
    await ends.close()
    with pytest.raises(Gone):
        await asked
    with pytest.raises(Gone):
        await ends.asking.ask("more")
    waiting.callback(None)
