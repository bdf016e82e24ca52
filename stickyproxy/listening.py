"""Listening endpoints that may outlive what they listen for. Floor 3.

A reload changes what the next connection gets, and lets the socket be: in between nobody is refused.
"""

from __future__ import annotations

import socket
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import UNIXServerEndpoint, serverFromString
from twisted.internet.interfaces import IAddress, IListeningPort, IProtocol, IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.errors import StickyproxyError

#: Connections that may wait for being accepted, where the endpoint does not say otherwise; the system may allow fewer.
BACKLOG = 1024
#: ``listen(place, factory)``: makes ``factory`` serve an endpoint string, or another of the ``places_of`` frontends.
Listen = Callable[[str, IProtocolFactory], Deferred[IListeningPort]]


class CannotListen(StickyproxyError):
    """An endpoint is taken, or not for us to take."""


def listen_on(reactor: Any) -> Listen:
    """Listens on the endpoints of ``reactor``."""

    def listen(description: str, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        endpoint = server_endpoint(reactor, description)
        if isinstance(endpoint, UNIXServerEndpoint):
            clear_left(endpoint._address)
        return endpoint.listen(factory)

    return listen


def clear_left(address: str) -> None:
    """Remove the file of a Unix socket that a crash has left, and that nobody listens on any more.

    Twisted goes by the lock beside it. There is none where the process had taken the socket over, and it seems to be
    held where another one has the same number now, as the first one of a container always has.
    """
    path = Path(address)
    with suppress(OSError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            try:
                client.connect(address)
            except ConnectionRefusedError:
                path.unlink()
                path.with_name(f"{path.name}.lock").unlink()


def places_of(wanted: Iterable[tuple[str, Iterable[str]]]) -> dict[str, str]:
    """Which frontend listens where, from the names of frontends and their endpoint strings.

    A place is an endpoint string; but several may be written alike, and be different ones (port 0). Those after the
    first have the frontend's name after a line feed.
    """
    found: dict[str, str] = {}
    for name, endpoints in wanted:
        for endpoint in endpoints:
            place = endpoint
            while place in found:
                place = f"{endpoint}\n{name}" if place == endpoint else f"{place} "
            found[place] = name
    return found


def server_endpoint(reactor: Any, place: str) -> IStreamServerEndpoint:
    """Twisted lets 50 connections wait for being accepted; the rest of a crowd would try again a second later."""
    description = place.partition("\n")[0]
    endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    if description.startswith(("tcp:", "tcp6:", "unix:")) and ":backlog=" not in description:
        with suppress(TypeError):  # it is given already, by its place
            endpoint = serverFromString(reactor, f"{description}:backlog={BACKLOG}")
    return endpoint


@implementer(IProtocolFactory)
class Switch:
    """A factory in front of another, ``wrapped``, which may be changed: connections that are open keep theirs."""

    def __init__(self, wrapped: IProtocolFactory) -> None:
        self._wrapped = wrapped
        self._ports = 0

    @property
    def wrapped(self) -> IProtocolFactory:
        return self._wrapped

    @wrapped.setter
    def wrapped(self, factory: IProtocolFactory) -> None:
        before, self._wrapped = self._wrapped, factory
        if before is not factory:
            for _ in range(self._ports):
                factory.doStart()
                before.doStop()

    def buildProtocol(self, addr: IAddress) -> IProtocol | None:
        return self._wrapped.buildProtocol(addr)

    def doStart(self) -> None:
        self._ports += 1
        self._wrapped.doStart()

    def doStop(self) -> None:
        self._ports -= 1
        self._wrapped.doStop()


class Listener(Service):
    """Listens at ``place`` (an endpoint string, or ``places_of``) for ``frontend`` (a name).

    ``listening`` fires with the address.

    ``switch.wrapped`` is what serves; both may be changed while it listens. Port 0 is resolved in the address.
    """

    _log = Logger()

    def __init__(self, frontend: str, place: str, listen: Listen, factory: IProtocolFactory, reactor: Any) -> None:
        self.listening: Deferred[IAddress] = Deferred()
        self.address: IAddress | None = None  #: where it listens, None: it does not
        self.closed = False  #: it does not listen, though it is started
        self.frontend = frontend
        self.place = place
        self.description = place.partition("\n")[0]  #: the endpoint string
        self.switch = Switch(factory)
        self._listen = listen
        self._reactor = reactor
        self._port: Deferred[IListeningPort] | None = None

    def privilegedStartService(self) -> None:
        """Listen, if it does not yet, while we may still have the privileges for it. Raises ``CannotListen``."""
        if self._port is not None or self.closed:
            return
        refusals: list[Failure] = []
        self._begin().addErrback(refusals.append)
        for refusal in refusals:
            refusal.raiseException()

    def startService(self) -> None:
        super().startService()
        self.privilegedStartService()

    async def open(self) -> None:
        """Listen before it is started, or after ``close``, and wait until it does. Raises ``CannotListen``."""
        await self._begin()
        self.closed = False

    def close(self) -> Deferred[Any]:
        """Listen no more until ``open``, started or not."""
        self.closed = True
        return self._end()

    def stopService(self) -> Deferred[Any]:
        """Listen no more; the connections that it has given away are none of its business."""
        super().stopService()
        return self._end()

    def _end(self) -> Deferred[Any]:
        port, self._port, self.address = self._port, None, None
        if self.listening.called:
            self.listening = Deferred()
        return Deferred.fromCoroutine(_stop(port)) if port is not None else succeed(None)

    def _begin(self) -> Deferred[None]:
        begun: Deferred[None] = Deferred()
        port = self._port = self._listen(self.place, self.switch)
        port.addCallbacks(self._listens, self._refused)
        port.addCallbacks(partial(_pass, begun), begun.errback)
        return begun

    def _refused(self, refusal: Failure) -> Failure:
        self._port = None
        reason = getattr(refusal.value, "socketError", None) or refusal.value
        reason = getattr(reason, "strerror", None) or reason
        error = CannotListen(f"frontend {self.frontend} cannot listen on {self.description}: {reason}")
        error.__cause__ = refusal.value
        return Failure(error)

    def _listens(self, port: IListeningPort) -> IListeningPort:
        self.address = port.getHost()
        self.listening.callback(self.address)
        self._reactor.callWhenRunning(self._tell, self.address)
        return port

    def _tell(self, address: IAddress) -> None:
        """Nobody is served, and no signal obeyed, before the reactor runs."""
        self._log.info(
            "Frontend {frontend} listens on {endpoint}: {address}",
            frontend=self.frontend,
            endpoint=self.description,
            address=address,
        )


def _pass(begun: Deferred[None], port: IListeningPort) -> IListeningPort:
    begun.callback(None)
    return port


async def _stop(listening: Deferred[IListeningPort]) -> None:
    port = await listening
    if port is not None:
        await maybeDeferred(port.stopListening)
