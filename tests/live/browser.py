"""A real Chromium, told what to do over its DevTools protocol: ``with Browser(path) as browser: browser.open(url)``."""

from __future__ import annotations

import base64
import itertools
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from parts import Program
from websockets.sync.client import connect

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --hide-scrollbars --ignore-certificate-errors --remote-debugging-port=0"""
# "until" waits in the page, in the browser's own time; what was awaited is its value.
UNTIL = """new Promise((resolve, reject) => {
  const deadline = performance.now() + %d;
  (function look() {
    let value = null;
    try { value = %s; } catch (error) {}
    if (value) resolve(value);
    else if (performance.now() > deadline) reject(new Error("in vain; the page says: " + document.body.innerText));
    else setTimeout(look, 20);
  })();
})"""


class GoneError(Exception):
    """The page that was to answer has been left."""


class Browser:
    """One tab of a fresh profile. ``events`` are all that it has reported, ``requests`` the URLs that it asked for."""

    def __init__(self, chromium: str) -> None:
        self._open = ExitStack()
        profile = tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True)
        self._open.enter_context(profile)
        program = self._open.enter_context(
            Program(chromium, f"--user-data-dir={profile.name}", *FLAGS.split(), "about:blank")
        )
        address = program.wait_for(r"ws://\S+", timeout=60)[0][0]
        self._socket = self._open.enter_context(connect(address, max_size=None))
        self._numbers = itertools.count(1)
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        self._socket.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        while True:
            received = json.loads(self._socket.recv(timeout=60))
            if received.get("id") == number:
                if "navigated" in received.get("error", {}).get("message", ""):
                    raise GoneError
                assert "error" not in received, f"{method}: {received['error']}"
                result: dict[str, Any] = received["result"]
                return result
            self.events.append(received)

    def open(self, url: str, until: str) -> Any:
        """Load ``url``, wait until the JavaScript expression ``until`` is true, and return its value."""
        failed = self.call("Page.navigate", url=url).get("errorText")
        assert not failed, f"{url}: {failed}"
        return self.until(until)

    def until(self, expression: str, *, timeout: float = 20) -> Any:
        """Wait until ``expression`` is true, page loads in between included, and return its value."""
        script = UNTIL % (timeout * 1000, expression)
        for _ in range(5):
            try:
                found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
            except GoneError:
                continue
            assert "exceptionDetails" not in found, f"{expression}: {found['exceptionDetails']}"
            return found["result"].get("value")
        raise AssertionError(f"{expression}: the browser loads one page after another")

    def run(self, script: str) -> None:
        """Run ``script`` in the page."""
        self.call("Runtime.evaluate", expression=script)

    def leave(self, action: str, until: str) -> Any:
        """Run ``action``, which makes the browser load another page, and wait there."""
        self.run("window.left_behind = true")
        self.run(action)
        return self.until(f"!window.left_behind && ({until})")

    def screenshot(self, path: Path, *, width: int, height: int, scale: float = 1, dark: bool = False) -> None:
        self.look(width=width, height=height, scale=scale, dark=dark)
        picture = self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(picture["data"]))

    def look(self, *, width: int, height: int, scale: float = 1, dark: bool = False) -> None:
        """Be a screen of so many CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)

    @property
    def complaints(self) -> list[dict[str, Any]]:
        """Errors and warnings of the console, uncaught exceptions included."""
        found = [event for event in self.events if event["method"] == "Runtime.exceptionThrown"]
        for event in self.events:
            if event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"):
                found.append(event)
            if event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in (
                "error",
                "warning",
                "assert",
            ):
                found.append(event)
        return found

    @property
    def requests(self) -> list[str]:
        """Whatever it asked for, WebSockets included."""
        asked = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return asked + [e["params"]["url"] for e in self.events if e["method"] == "Network.webSocketCreated"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, traceback)
