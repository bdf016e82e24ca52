"""Requests that are to be looked at before they are passed on, and that few clients send. Floor 4."""

from __future__ import annotations

from stickyproxy.model import RequestHead
from stickyproxy.sansio.forwarding import check_hops
from stickyproxy.sansio.upgrade import Offer, check_request, is_upgrade

#: Fields that make a request one of these.
RARE = frozenset((b"upgrade", b"sec-websocket-key", b"max-forwards"))


def look_at(head: RequestHead) -> Offer | None:
    """What a WebSocket handshake offers, None for any other request. Raises ``HTTPError``."""
    check_hops(head)
    return check_request(head) if is_upgrade(head) else None
