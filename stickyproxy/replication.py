"""Sessions of several processes, on Unix sockets between the parent and each child. Floor 3.

``sansio.replicas`` decides; this brings what is said from one to the other, and knows when. Each child has a socket
pair with the parent for this alone: much that is told to a child that starts keeps no heartbeat waiting.

In the parent: one ``ParentSessions``; ``connect`` its end of every child's pair; ``table`` makes the tables of its
configuration, at the start and at a reload, before the children make theirs. In a child: one ``ChildSessions``,
``connect`` the other end, then ``table``. Both ``table``s are what ``service.build`` wants as ``sessions``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Factory, connectionDone
from twisted.internet.task import Cooperator, LoopingCall
from twisted.logger import Logger
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from stickyproxy.reactor.turn import Turn
from stickyproxy.sansio.records import Answered, Ask, encode, message, records_of, table_of
from stickyproxy.sansio.replicas import Authority, Replica

#: Seconds that a client waits for the parent, who may be stuck; then it is a new one.
PATIENCE = 1.0
#: Seconds between two looks at who waits, and at what is to be told.
_LOOK = 0.5


class ParentSessions:
    """The tables of a parent. ``clock()`` gives seconds since the epoch."""

    _log = Logger()

    def __init__(self, reactor: Any, clock: Callable[[], float]) -> None:
        self.tables: WeakValueDictionary[str, Authority] = WeakValueDictionary()  #: as long as a cluster has them
        self._reactor = reactor
        self._clock = clock
        self._turn = Turn.of(reactor)

    def table(self, name: str, **kept: Any) -> Authority:
        """The table ``name``; ``kept`` are the options of ``SessionTable``."""
        table = Authority(name, self._clock, _Line.say, lambda: self._turn.at_end(table.flush), **kept)
        self.tables[name] = table
        return table

    def connect(self, end: socket.socket) -> None:
        """A child is at the other end. When that is closed, it is gone."""
        _adopt(self._reactor, end, _Line(self._heard, self._lost))

    def _heard(self, line: _Line, data: bytes) -> None:
        name = table_of(data)
        table = self.tables.get(name)
        if table is None:  # of a configuration that is not ours any more, or not yet
            asked = (encode(Answered(record.key)) for record in records_of(data) if isinstance(record, Ask))
            if unknown := b"".join(asked):
                line.say(message(name, unknown))
            return
        entering = table.received(line, records_of(data))
        if entering is not None:
            line.tell(entering)

    def _lost(self, line: _Line) -> None:
        for table in list(self.tables.values()):
            table.leave(line)


class ChildSessions:
    """The tables of a child. ``clock()`` gives seconds since the epoch, as the parent's does."""

    def __init__(self, reactor: Any, clock: Callable[[], float]) -> None:
        self.tables: WeakValueDictionary[str, Replica] = WeakValueDictionary()  #: as long as a cluster has them
        self._reactor = reactor
        self._clock = clock
        self._line: _Line | None = None
        self._cooperator = Cooperator(scheduler=lambda step: reactor.callLater(0.01, step))
        self._looks = LoopingCall(self._look)
        self._looks.clock = reactor

    def connect(self, end: socket.socket) -> None:
        """The parent is at the other end."""
        self._line = _Line(self._heard, self._lost)
        _adopt(self._reactor, end, self._line)
        self._looks.start(_LOOK, now=False)

    def table(self, name: str, **kept: Any) -> Replica:
        """The table ``name``; ``kept`` are the options of ``SessionTable``."""
        table = Replica(name, self._clock, self._say, Deferred, **kept)
        table.alone = self._line is None
        self.tables[name] = table
        table.enter()
        return table

    def stop(self) -> None:
        """Tell who was seen, and no more."""
        for table in list(self.tables.values()):
            for _ in table.tell_seen():
                """All of it at once: there is no later."""
        if self._line is not None:
            self._line.transport.loseConnection()

    def _say(self, data: bytes) -> None:
        if self._line is not None:
            self._line.say_at_once(data)

    def _heard(self, line: _Line, data: bytes) -> None:
        table = self.tables.get(table_of(data))
        if table is not None:
            table.received(records_of(data))

    def _lost(self, line: _Line) -> None:
        self._line = None
        if self._looks.running:
            self._looks.stop()
        self._cooperator.stop()
        for table in list(self.tables.values()):
            table.leave()

    def _look(self) -> None:
        now = self._clock()
        for table in list(self.tables.values()):
            table.give_up(PATIENCE)
            if not 0 <= now - table.told_at < table.told_every:
                table.told_at = now
                self._cooperator.coiterate(table.tell_seen())


@implementer(IPullProducer)
class _Line(Int32StringReceiver):
    """One end of a socket pair: messages in both directions, in order."""

    MAX_LENGTH = 1 << 20
    transport: Any
    _log = Logger()

    def __init__(self, heard: Callable[[_Line, bytes], object], lost: Callable[[_Line], object]) -> None:
        self.entering: Iterator[None] = iter(())
        self._heard = heard
        self._lost = lost
        self._telling = False

    def stringReceived(self, string: bytes) -> None:  # noqa: N802 - Twisted's name
        try:
            self._heard(self, string)
        except ValueError as error:
            self._log.error("What another process says of sessions cannot be understood: {reason}", reason=str(error))
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost(self)

    def say(self, data: bytes) -> None:
        """Send, when the reactor comes to it."""
        self.sendString(data)

    def say_at_once(self, data: bytes) -> None:
        """Send before this returns, as far as the socket takes it."""
        self.sendString(data)
        if self.transport.connected:
            self.transport.doWrite()

    def tell(self, entering: Iterator[None]) -> None:
        """Say what ``entering`` does, a step whenever all before has left."""
        self.entering = chain(self.entering, entering)
        if not self._telling:
            self._telling = True
            self.transport.registerProducer(self, False)

    def resumeProducing(self) -> None:
        if next(self.entering, self) is self:
            self._telling = False
            self.transport.unregisterProducer()

    def stopProducing(self) -> None:
        self.entering = iter(())


def _adopt(reactor: Any, end: socket.socket, line: _Line) -> None:
    with end:
        end.setblocking(False)
        reactor.adoptStreamConnection(end.fileno(), socket.AF_UNIX, Factory.forProtocol(lambda: line))
