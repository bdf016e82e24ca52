"""A twisted.web request that is served before its content has come. Floor 4.

twisted.web keeps the content of a request, on disk if it is large, and asks the resource when it has all of it.
``AffinityRequest``, as the ``requestFactory`` of a ``Site``, asks a resource that provides ``IStreamingResource`` as
soon as content comes, and gives it the bytes from then on. Every other resource is served as ever. So is HTTP/2, whose
streams have no back-pressure in Twisted.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request
from zope.interface import implementer

from stickyproxy.relay import half_close

#: Seconds that a client has to read an answer that came before its request was whole; what it sends is thrown away.
LINGER = 30.0


class IStreamingResource(IResource):
    """A resource that takes the content of a request as it comes.

    Its ``render`` is called with an ``AffinityRequest`` whose ``content`` is empty yet, and calls ``stream_to``. What
    it makes dynamically (``getChild``) is such a resource too.
    """


class _Content(enum.Enum):
    """Where the content of a request is."""

    KEPT = "kept"  # twisted.web's: on disk or in memory, as a whole
    AWAITED = "awaited"  # it is to be streamed, and nothing of it has come
    COMING = "coming"
    PAUSED = "paused"  # coming, but whoever takes it can take no more
    UNWANTED = "unwanted"  # the answer is written already: thrown away
    WHOLE = "whole"


def close_afterwards(request: Any) -> None:
    """The connection of ``request``, the answer to which has not begun, ends with that answer."""
    if isinstance(request.channel, HTTPChannel):
        request.channel.persistent = False
        request.responseHeaders.setRawHeaders(b"connection", [b"close"])


def abort(request: Any) -> None:
    """End the connection of ``request`` now (in HTTP/2 its stream): an answer in progress does not look complete."""
    channel = request.channel
    if channel is not None:
        request.unregisterProducer()
        (channel.transport or channel).abortConnection()


@implementer(IRequest)
class AffinityRequest(Request):
    """``Site(root, requestFactory=AffinityRequest)``, or a subclass of your own."""

    channel: Any
    _content = _Content.KEPT
    _take: Callable[[bytes, bool], object] | None = None
    _silence: float | None = None  # how long the channel lets a client be silent, while it is us who do not listen
    _linger: IDelayedCall | None = None

    # For the resource.

    @property
    def streams(self) -> bool:
        """The content is to come: ``render`` calls ``stream_to``."""
        return self._content is _Content.COMING

    def stream_to(self, take: Callable[[bytes, bool], object]) -> None:
        """Have ``take(data, ended)`` called with the content as it comes, at last once with ``ended``."""
        self._take = take

    def pause_content(self) -> None:
        """Take no more of the client. A piece that was read already may still come."""
        if self._content is _Content.COMING:
            self._content = _Content.PAUSED
            self._silence = self.channel.setTimeout(None)
            self.channel.transport.pauseProducing()

    def resume_content(self) -> None:
        """Go on."""
        if self._content is _Content.PAUSED:
            self._content = _Content.COMING
            self._listen()
            self.channel.transport.resumeProducing()

    # What the channel tells.

    def gotLength(self, length: int | None) -> None:
        if length == 0 or not self._is_streamed():
            super().gotLength(length)
        else:
            self._content = _Content.AWAITED
            self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        if self._content is _Content.KEPT:
            super().handleContentChunk(data)
            return
        if self._content is _Content.AWAITED:
            channel = self.channel
            self._content = _Content.COMING
            super().requestReceived(channel._command, channel._path, channel._version)
        if self._content is not _Content.UNWANTED and self._take is not None:
            self._take(data, False)
            if self._content is _Content.PAUSED:  # the channel may have resumed the transport, with its own reasons
                self.channel.transport.pauseProducing()

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        content, self._content = self._content, _Content.WHOLE
        if content is _Content.KEPT or content is _Content.AWAITED:
            super().requestReceived(command, path, version)
        elif content is _Content.UNWANTED:
            self._stop_lingering()
            super().finish()
        else:
            if content is _Content.PAUSED:
                self.channel.transport.resumeProducing()
            if self._take is not None:
                self._take(b"", True)

    def connectionLost(self, reason: Failure) -> None:
        self._take = None
        self._content = _Content.UNWANTED  # whoever answers all the same hears so from twisted.web
        self._stop_lingering()
        super().connectionLost(reason)

    # The answer.

    def write(self, data: bytes) -> None:
        if not self.startedWriting and (self._content is _Content.COMING or self._content is _Content.PAUSED):
            close_afterwards(self)
        super().write(data)

    def finish(self) -> None:
        self._take = None
        self.resume_content()
        if self._content is not _Content.COMING:
            self._listen()
            super().finish()
            return
        # The channel takes what follows ``Request.finish`` for the next request: not before the content is whole.
        if not self.startedWriting:
            self.write(b"")
        if self.chunked:
            self.channel.write(b"0\r\n\r\n")
            self.chunked = 0
        self._content = _Content.UNWANTED
        self._linger = self.channel.callLater(LINGER, abort, self)
        self.channel.transport.unregisterProducer()
        half_close(self.channel.transport)

    def _stop_lingering(self) -> None:
        if self._linger is not None and self._linger.active():
            self._linger.cancel()

    def _listen(self) -> None:
        """The client's silence counts again."""
        if self._silence is not None:
            self.channel.setTimeout(self._silence)
            self._silence = None

    def _is_streamed(self) -> bool:
        """Whether the resource, as far as it can be told without asking for dynamic ones, takes the content so."""
        channel: Any = self.channel
        if not isinstance(channel, HTTPChannel):
            return False
        path, resource = channel._path, self.channel.site.resource
        for segment in path.partition(b"?")[0][1:].split(b"/"):
            if resource.isLeaf:
                break
            if getattr(type(resource), "getChildWithDefault", None) is not Resource.getChildWithDefault:
                return False
            child = resource.children.get(unquote_to_bytes(segment))
            if child is None:
                break
            resource = child
        return IStreamingResource.providedBy(resource)
