"""What a frontend does for its WebSockets: ``[frontend.NAME.websocket]``. Floor 2.

Durations are seconds (float), sizes are bytes (int), None is "unlimited" or absent.
"""

from __future__ import annotations

from typing import Literal

import attrs

from stickyproxy.config.units import CloseReason, Count, Duration, OwnDuration, Size, told


@attrs.frozen
class MessageRate:
    """How much a client may say: a bucket of tokens for each WebSocket.

    Pings and the like count as messages, and so do empty fragments.
    """

    messages: Count = attrs.field(metadata=told("How many in the time `per`; one more is answered with a Close, 1008."))
    per: Duration = attrs.field(default=1.0, metadata=told("The time in which the bucket fills up by that number."))
    burst: Count = attrs.field(
        default=attrs.Factory(lambda self: self.messages, takes_self=True),
        metadata=told("How many at once: what the bucket holds. Absent: as many as `messages`."),
    )


@attrs.frozen
class WebSocket:
    """What is done for WebSockets, beside passing them on. [More](websockets.md)."""

    ping: OwnDuration = attrs.field(
        default=None,
        metadata=told(
            "How often client and backend are each asked whether they are alive, by a ping of our own. Absent: never; "
            "pings of theirs pass.",
            "Envoy `connection_keepalive` (HTTP/2 only)",
        ),
    )
    pong: Duration = attrs.field(
        default=20.0,
        metadata=told("How long one may be silent after our ping; then the WebSocket ends. Needs `ping`."),
    )
    idle_by: Literal["frame", "message"] = attrs.field(
        default="frame",
        metadata=told(
            "What ends the silence that `timeouts.tunnel` allows: any `frame`, so that pings keep a WebSocket open, or "
            "only a `message`.",
        ),
    )
    frame: Size | None = attrs.field(
        default=None,
        metadata=told("A frame of a client, as on the wire: compressed if it is so. More is answered with Close 1009."),
    )
    message: Size | None = attrs.field(
        default=None, metadata=told("The same for a message, all its fragments together.")
    )
    rate: MessageRate | None = None
    close: Duration = attrs.field(
        default=5.0,
        metadata=told(
            "When we end a WebSocket: how long a message that has begun may take to its end, and client and backend to "
            "answer our Close.",
            "HAProxy `timeout client-fin`",
        ),
    )
    drain_code: Literal[1001, 1012] = attrs.field(
        default=1001,
        metadata=told("What a Close says when it is drained: 1001, going away, or 1012, service restart."),
    )
    drain_reason: CloseReason = attrs.field(
        default="", metadata=told("The words behind that code: up to 123 bytes in UTF-8.")
    )
