"""The backends of the demo: a page, a chat over WebSocket and a line echo, each saying who speaks. Floor 6.

They are ordinary applications: nothing in them knows of stickyproxy. Each keeps its sessions in its own memory, as
many applications do, and so can tell whether a visitor was brought back.
"""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from importlib import resources
from typing import Any, cast

from autobahn.twisted.resource import WebSocketResource
from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from autobahn.websocket.types import ConnectionRequest
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineOnlyReceiver
from twisted.web.http import Request
from twisted.web.resource import Resource

#: What a backend learns of its client from the proxy in front, as the page shows it.
IDENTITY = (
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Port",
    "X-Real-IP",
    "Forwarded",
    "Via",
    "X-Request-ID",
)
SESSION = b"demo_session"
_SESSIONS = 10_000
_MESSAGE = 2_000  # bytes of one chat message
_SECURITY = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self' ws: wss:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
}


class Sessions:
    """How often each visitor was here, in this backend's memory alone. The longest unseen goes first."""

    def __init__(self) -> None:
        self._visits: OrderedDict[bytes, int] = OrderedDict()

    def visit(self, token: bytes | None) -> tuple[str, int, bytes]:
        """Count a visit: ``"new"``, ``"kept"`` or ``"unknown"`` (a session of somewhere else), visits, the token."""
        reason = "new" if token is None else "kept" if token in self._visits else "unknown"
        if token is None or reason == "unknown":
            token = secrets.token_urlsafe(16).encode()
        visits = self._visits[token] = self._visits.pop(token, 0) + 1
        if len(self._visits) > _SESSIONS:
            self._visits.popitem(last=False)
        return reason, visits, token


class _Answers(Resource):
    """A leaf that knows its backend's name and what all pages of the demo say."""

    isLeaf = True

    def __init__(self, name: str, facts: dict[str, Any]) -> None:
        super().__init__()
        self.name = name
        self.facts = facts

    def described(self, request: Request) -> dict[str, Any]:
        """The backend, and the client as it appears from here."""
        headers = request.requestHeaders
        values = [(name, headers.getRawHeaders(name)) for name in ("Host", *IDENTITY)]
        identity = {name: ", ".join(value) for name, value in values if value is not None}
        cookies = sorted(name.decode("latin-1") for name in request.received_cookies)
        return {"backend": self.name, "identity": identity, "cookies": cookies, **self.facts}

    def respond(self, request: Request, content_type: str, body: str) -> bytes:
        for name, value in {"Content-Type": content_type, **_SECURITY}.items():
            request.setHeader(name, value)
        return body.encode()


class Page(_Answers):
    """``/``: the page, with what was found of this very request written into it."""

    def __init__(self, name: str, facts: dict[str, Any]) -> None:
        super().__init__(name, facts)
        self._sessions = Sessions()
        self._page = (resources.files("stickyproxy.demo") / "static" / "index.html").read_text("utf-8")

    def render_GET(self, request: Request) -> bytes:
        reason, visits, token = self._sessions.visit(request.getCookie(SESSION))
        if reason != "kept":
            request.addCookie(SESSION, token, path=b"/", httpOnly=True, sameSite=b"lax")
        described = self.described(request) | {"reason": reason, "visits": visits}
        written = json.dumps(described).replace("<", "\\u003c")
        return self.respond(request, "text/html; charset=utf-8", self._page.replace("{{described}}", written))


class WhoAmI(_Answers):
    """``/whoami``: the same as JSON."""

    def render_GET(self, request: Request) -> bytes:
        return self.respond(request, "application/json", json.dumps(self.described(request)))


class Forget(_Answers):
    """``/forget``: the browser drops both cookies, the proxy's and ours, and comes back as a stranger."""

    def render_POST(self, request: Request) -> bytes:
        for cookie in (self.facts["cookie"].encode(), SESSION):
            request.addCookie(cookie, b"", path=b"/", max_age=b"0")
        request.setResponseCode(303)
        request.setHeader("Location", "/")
        return self.respond(request, "text/plain; charset=utf-8", "Forgotten.\n")


class Chat(WebSocketServerProtocol):
    """One person in the room of one backend; messages are JSON with a ``kind``."""

    guest = ""

    def onConnect(self, request: ConnectionRequest) -> None:
        client = request.headers.get("x-forwarded-for", request.peer)
        self.guest = f"{client} #{cast('Room', self.factory).number()}"

    def onOpen(self) -> None:
        room = cast("Room", self.factory)
        room.people.append(self)
        self.tell(kind="welcome", backend=room.name, guest=self.guest)
        room.tell_all(kind="people", people=len(room.people))

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        text = payload.decode("utf-8", "replace")
        cast("Room", self.factory).tell_all(kind="said", guest=self.guest, text=text)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        room = cast("Room", self.factory)
        if self in room.people:
            room.people.remove(self)
            room.tell_all(kind="people", people=len(room.people))

    def tell(self, **message: Any) -> None:
        if self.state == self.STATE_OPEN:  # it may be closing, and not have left the room yet
            self.sendMessage(json.dumps(message).encode())


class Room(WebSocketServerFactory):
    """Everybody who is connected to this backend, and nobody who is connected to another."""

    protocol = Chat

    def __init__(self, name: str, reactor: Any) -> None:
        super().__init__(reactor=reactor)
        self.name = name
        self.people: list[Chat] = []
        self._guests = 0
        # A browser that went to sleep is noticed within 40 seconds, so the room does not fill with ghosts.
        self.setProtocolOptions(
            webStatus=False, maxMessagePayloadSize=_MESSAGE, autoPingInterval=30, autoPingTimeout=10
        )

    def number(self) -> int:
        self._guests += 1
        return self._guests

    def tell_all(self, **message: Any) -> None:
        for person in tuple(self.people):
            person.tell(**message)


def make_root(name: str, facts: dict[str, Any], reactor: Any) -> Resource:
    """The application of one backend. ``facts`` is shared by all and shown by the page (``service`` fills it)."""
    root = Resource()
    root.putChild(b"", Page(name, facts))
    root.putChild(b"whoami", WhoAmI(name, facts))
    root.putChild(b"forget", Forget(name, facts))
    root.putChild(b"ws", WebSocketResource(Room(name, reactor)))
    return root


class LineEcho(LineOnlyReceiver):
    """Says its name, and every line back."""

    delimiter = b"\n"
    MAX_LENGTH = 4096

    def connectionMade(self) -> None:
        self.sendLine(b"You are talking to %b. It repeats what you type." % self.own_name)

    def lineReceived(self, line: bytes) -> None:
        self.sendLine(b"%b: %b" % (self.own_name, line.rstrip(b"\r")))

    @property
    def own_name(self) -> bytes:
        return cast("LineEchoFactory", self.factory).name


class LineEchoFactory(Factory):
    """Line echoes of one name."""

    protocol = LineEcho
    noisy = False

    def __init__(self, name: str) -> None:
        self.name = name.encode()
