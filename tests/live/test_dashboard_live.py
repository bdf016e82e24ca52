"""The dashboard in a real Chromium, before a real ``twistd`` with clients on it."""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser import Browser
from clients import port_of
from parts import ROOT, Backend, Proxy
from websockets.sync.client import connect

TOKEN = "dash" * 8
TOML = """
[frontend.web]
listen = "tcp:0:interface=127.0.0.1"
cluster = "shop"
trusted_proxies = ["127.0.0.1"]
routes = [{{ path = "/live/", cluster = "api" }}]
[frontend.secure]
listen = "tcp:0:interface=127.0.0.1:backlog=64"
cluster = "shop"
[frontend.secure.tls]
certificates = ["{certificate}"]
[cluster.shop]
affinity = {{ by = "cookie", name = "SRV" }}
backends = {{ a = "{a}", b = {{ endpoint = "{b}", weight = 2 }}, c = {{ endpoint = "{c}", state = "maintenance" }} }}
[cluster.api]
affinity = "source"
backends = {{ x = "{a}", y = "{b}", gone = "tcp:127.0.0.1:1" }}
[cluster.api.probe]
by = "tcp"
interval = "200ms"
[admin]
listen = "tcp:0:interface=127.0.0.1"
token_file = "{token}"
"""
TILES = "[...document.querySelectorAll('#tiles dl > div')]"
TILE = TILES + ".find((tile) => tile.innerText.includes('%s')).querySelector('dd span').innerText"
ROW = "document.querySelector('#cluster-%s tr[data-backend=%s]')"
FOCUS = """(({id, name, innerText, tagName}, {outlineStyle}) => [
  tagName === "BODY" ? tagName : id || name || innerText.trim() || tagName, outlineStyle
])(document.activeElement, getComputedStyle(document.activeElement))"""
PROBLEM = "document.querySelector('#change .problem').innerText"
CONTRAST = """(() => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return text.startsWith("color(srgb") ? [r * 255, g * 255, b * 255, a] : [r, g, b, a];
  };
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255, 1];
  };
  const faint = [];
  for (const node of document.querySelectorAll("body *:not(script, svg, svg *, i, u, option)")) {
    const texts = [...node.childNodes].filter((child) => child.nodeType === 3 && child.data.trim());
    if (!texts.length || !node.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) faint.push(`${node.tagName}.${node.className} ${ratio}: ${node.textContent.slice(0, 40)}`);
  }
  return faint;
})()"""

pytestmark = pytest.mark.needs("chromium")


class Scene:
    """A proxy, three backends and a browser that has the dashboard open."""

    def __init__(self, proxy: Proxy, browser: Browser) -> None:
        self.proxy = proxy
        self.browser = browser
        self.web = f"http://127.0.0.1:{port_of(proxy, 'web')}"
        port = int(proxy.wait_for(r"Admin API listens on \S+ 127\.0\.0\.1:(\d+)")[0][1])
        self.url = f"http://127.0.0.1:{port}/"

    def ask(self, path: str, address: str = "127.0.0.1", cookie: str = "") -> tuple[str, str]:
        """The backend that answers a client, and the cookie that it sets."""
        fields = {"X-Forwarded-For": address, **({"Cookie": cookie} if cookie else {})}
        with urllib.request.urlopen(urllib.request.Request(self.web + path, headers=fields), timeout=20) as answer:
            return json.load(answer)["backend"], (answer.headers["Set-Cookie"] or "").partition(";")[0]

    def open(self) -> None:
        self.browser.open(
            self.url, "document.querySelector('#live').dataset.state === 'live' && " + ROW % ("shop", "a")
        )

    def press(self, cluster: str, backend: str, button: str) -> None:
        """One of a backend's buttons."""
        row = ROW % (cluster, backend)
        self.browser.until(f"[...{row}.querySelectorAll('button')].some((each) => each.innerText === '{button}')")
        self.browser.run(f"[...{row}.querySelectorAll('button')].find((each) => each.innerText === '{button}').click()")
        self.browser.until("document.querySelector('#change').open")

    def confirm(self, token: str = "", *, closes: bool = True) -> None:
        self.browser.run(f"document.querySelector('#change form').token.value = '{token}'")
        self.browser.run("document.querySelector('#change .first').click()")
        if closes:
            self.browser.until("!document.querySelector('#change').open")

    def find_out(self, address: str = "", url: str = "", headers: str = "") -> str:
        """What the form answers."""
        values = {"address": address, "url": url, "headers": headers}
        script = (
            "document.querySelector('#answer').replaceChildren(); const form = document.querySelector('#who-form');"
        )
        script += "".join(f"form.{name}.value = {json.dumps(value)};" for name, value in values.items())
        self.browser.run("{" + script + "form.requestSubmit(); }")
        answer: str = self.browser.until("document.querySelector('#answer').innerText")
        return answer


@pytest.fixture
def scene(
    proxy: Callable[..., Proxy],
    backends: Callable[..., list[Backend]],
    certificate: Callable[..., Path],
    needs: Callable[[str], str],
    tmp_path: Path,
) -> Iterator[Scene]:
    a, b, c = (each.endpoint for each in backends("a", "b", "c"))
    token = tmp_path / "admin.token"
    token.write_text(f"alice {TOKEN}\n")
    token.chmod(0o600)
    running = proxy(TOML.format(a=a, b=b, c=c, token=token, certificate=certificate("shop.example")))
    with Browser(needs("chromium")) as browser:
        browser.look(width=1400, height=1000)
        yield Scene(running, browser)
        there = {urlsplit(asked).netloc for asked in browser.requests}
        assert len(there) == 1, "a request has left the host"


#: What the page reckons with: an expression of its modules, and its value.
RECKONED = [
    ("history.js", "quantile([0, 10, 0, 0], [1, 2, 4], 0.5)", 1.5),
    ("history.js", "quantile([5, 0, 4, 1], [1, 2, 4], 0.9)", 4),
    ("history.js", "String(quantile([0, 0, 0, 0], [1, 2, 4], 0.5))", "null"),
    ("dom.js", "duration(7500) + short(12345) + latency(0.0008)", "2 h 5 min12.3 k0.8 ms"),
    ("balance.js", "spread(CLUSTER, {of: 'sessions', by: {a: 10, b: 20}}).text", "even"),
    ("balance.js", "spread(CLUSTER, {of: 'sessions', by: {a: 15, b: 5}}).text", "a has 2.3 × its share"),
    ("balance.js", "spread(CLUSTER, {of: 'sessions', by: {a: 1, b: 2}}).text", "too few to tell"),
    ("balance.js", "String(shares(CLUSTER, {a: 1, b: 3, c: 0}).c.should)", "null"),
    (
        "who.js",
        "headerLines('X-User: al\\n  a=1; b=2\\nvalue', ['SRV']).join()",
        "X-User: al,Cookie: a=1; b=2,Cookie: SRV=value",
    ),
    ("who.js", "headerLines('abc==', ['SRV']).join() + wholeURL('x.org/a')", "Cookie: SRV=abc==http://x.org/a"),
    ("who.js", "headerLines('abc', ['SRV', 'ID']).join()", "Cookie: SRV=abc; ID=abc"),
]
CLUSTER = (
    """{backends: {a: {status: "up", weight: 1}, b: {status: "up", weight: 2}, c: {status: "drain", weight: 1}}}"""
)


def draw(scene: Scene, directory: Path) -> None:
    """The page, after a minute and a half with clients on it, some of whom lose their backend."""
    browser, chance, begun = scene.browser, random.Random(5), time.monotonic()
    cookies = [scene.ask("/")[1] for _ in range(40)]

    def visit() -> None:
        while (seconds := time.monotonic() - begun) < 90:
            path = f"/?seconds={chance.choice([0, 0, 0.01, 0.03, 0.2])}&code={chance.choice([200] * 80 + [500])}"
            with contextlib.suppress(urllib.error.HTTPError):
                whose = chance.randrange(len(cookies))
                cookies[whose] = scene.ask(path, f"198.51.100.{whose}", cookies[whose])[1] or cookies[whose]
            scene.ask("/live/", f"192.0.2.{chance.randrange(120)}")
            time.sleep(chance.random() * (0.15 + 0.1 * math.sin(seconds / 9)))

    with ThreadPoolExecutor(8) as clients, contextlib.ExitStack() as sockets:
        for client in range(14):
            url = scene.web.replace("http", "ws") + "/live/"
            fields = {"X-Forwarded-For": f"192.0.2.{client}"}
            sockets.enter_context(connect(url, additional_headers=fields))
        visits = [clients.submit(visit) for _ in range(8)]
        scene.press("shop", "a", "Maintenance")
        scene.confirm(TOKEN)
        for second in (15, 30, 45):
            browser.until(f"performance.now() > {second}e3")
        for backend, button in (("a", "Up"), ("b", "Drain")):
            scene.press("shop", backend, button)
            scene.confirm()
        for second in (60, 75, 90):
            browser.until(f"performance.now() > {second}e3")
        browser.run("scrollTo(0, 0); document.activeElement.blur()")
        scene.find_out("192.0.2.7", "/live/")
        browser.look(width=1400, height=1000)
        height = browser.until("document.documentElement.scrollHeight")
        for name, dark in (("light", False), ("dark", True)):
            browser.look(width=1400, height=height, dark=dark)
            browser.until("new Promise((resolve) => setTimeout(resolve, 2000, true))")
            browser.screenshot(directory / f"dashboard-{name}.png", width=1400, height=height, dark=dark)
        assert [visited.result() for visited in visits]


def test_who_serves_a_client(scene: Scene) -> None:
    """From the page alone I find out which backend serves a client, and why; its numbers move under load."""
    scene.open()
    browser = scene.browser
    assert "gone" in browser.until("document.querySelector('#trouble').innerText")
    for module, expression, value in RECKONED:
        call = re.sub(r"(?<![.\w])([a-z]+(?:[A-Z]\w+)?)\(", r"m.\1(", expression)
        told = f"import('/{module}').then((m) => {call.replace('CLUSTER', CLUSTER)})"
        assert browser.until(told) == value, expression
    bound, _ = scene.ask("/live/", "192.0.2.7")
    name = {"a": "x", "b": "y"}[bound]
    answer = scene.find_out("192.0.2.7", "/live/")
    assert answer.startswith(f"{name} of cluster api serves it: the client is bound to it.")
    assert f"affinity source: bound to {name}" in answer
    assert "What is remembered of 192.0.2.7" in answer
    served, cookie = scene.ask("/")
    assert "the cookie SRV, which was not given" in scene.find_out(url="/")
    for typed in (cookie, f"Cookie: {cookie}", cookie.partition("=")[2]):
        assert scene.find_out(url="/", headers=typed).startswith(
            f"{served} of cluster shop serves it: the client is bound"
        )
    assert "taken for a new client: its cookie does not count: cut" in scene.find_out(url="/", headers=cookie[:-1])
    assert "That cannot be answered" not in scene.find_out("10.0.0.1", "/live/")
    with ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(scene.ask, "/") for _ in range(300)]
        browser.until(f"parseInt({TILE % 'Requests'}) > 5")
        assert {each.result()[0] for each in asked} == {"a", "b"}
    browser.until(f"/[1-9]\\d* requests a min/.test({ROW % ('shop', 'b')}.innerText)")
    browser.until(f"parseInt({TILE % 'Sessions kept here'}) === 1")
    assert browser.complaints == []


def test_changes_need_the_token(scene: Scene) -> None:
    """I drain a backend by its button: not without the token, which is entered once; a broken file is told."""
    scene.open()
    browser = scene.browser
    scene.press("shop", "a", "Drain")
    scene.confirm(closes=False)
    assert browser.until(PROBLEM) == "A token is needed."
    scene.confirm("wrong" * 8, closes=False)
    assert browser.until(f"{PROBLEM} !== 'A token is needed.' && {PROBLEM}") == "this token is nobody's"
    assert browser.until(ROW % ("shop", "a") + ".innerText.includes('up')")
    scene.confirm(TOKEN)
    assert "nothing is open" in browser.until(
        f"/drain/.test({ROW % ('shop', 'a')}.innerText) && {ROW % ('shop', 'a')}.innerText"
    )
    browser.until("document.querySelector('#said').innerText.includes('shop a is drain')")
    assert {scene.ask("/")[0] for _ in range(4)} == {"b"}
    browser.until(ROW % ("shop", "a") + ".querySelector('.differs').innerText === 'the file says: state up'")
    scene.press("shop", "a", "Up")
    assert not browser.until("[document.querySelector('#change .token').checkVisibility()]")[0]
    scene.confirm()
    scene.press("shop", "b", "Weight")
    browser.run("document.querySelector('#change input[type=number]').value = 5")
    scene.confirm()
    browser.until(ROW % ("shop", "b") + ".querySelector('.differs').innerText === 'the file says: weight 2'")
    bound = {"a": "x", "b": "y"}[scene.ask("/live/", "192.0.2.9")[0]]
    scene.press("api", bound, "Maintenance")
    scene.confirm()
    scene.ask("/live/", "192.0.2.9")
    lost = "document.querySelector('#broken ul').innerText"
    assert f"api: {bound} is in maintenance" in browser.until(f"{lost}.includes('192.0.2.9') && {lost}")
    file = next(scene.proxy.directory.glob("*.toml"))
    good = file.read_text()
    file.write_text(good.replace('by = "tcp"', 'by = "pigeon"'))
    for text, told in (("pigeon", PROBLEM), ("It serves", "document.querySelector('#change .what').innerText")):
        browser.run("document.querySelector('#reload').click()")
        scene.confirm(closes=False)
        assert text in browser.until(f"{told}.includes({json.dumps(text)}) && {told}")
        file.write_text(good)
    browser.run("document.querySelector('#change .cancel').click()")
    scene.proxy.wait_for(r"Backend a of shop is changed by alice at 127\.0\.0\.1: state drain")
    assert browser.until("JSON.stringify([localStorage, sessionStorage, document.cookie])").count(TOKEN) == 0
    told = [event["params"]["entry"]["text"] for event in browser.complaints]
    assert [text for text in told if "status of 401" not in text and "status of 422" not in text] == []


def test_looks(scene: Scene) -> None:
    """By day and by night everything can be read, reached by keys, and fits a phone (STICKYPROXY_PICTURE=1: drawn)."""
    browser = scene.browser
    browser.look(width=1400, height=1000)
    for client in range(60):
        scene.ask("/live/", f"192.0.2.{client}")
        scene.ask("/")
    scene.open()
    scene.find_out("192.0.2.7", "/live/")
    for dark, ground in ((True, "rgb(17, 18, 20)"), (False, "rgb(244, 244, 241)")):
        browser.look(width=1400, height=1000, dark=dark)
        browser.until(f"getComputedStyle(document.body).backgroundColor === '{ground}'")
        assert browser.until(f"[{CONTRAST}]")[0] == []
    reached = []
    for _ in range(40):
        for kind in ("rawKeyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        name, outline = browser.until(FOCUS)
        if name == "BODY":  # round once
            break
        assert outline != "none", name
        reached.append(name)
    assert {"reload", "unlock", "theme", "address", "headers", "Find out", "charted", "filter", "Drain"} <= set(reached)
    browser.look(width=360, height=740)
    browser.until("document.documentElement.scrollWidth <= 360")
    browser.run("for (const _ of [1, 2]) document.querySelector('#theme').click()")
    assert browser.until("document.documentElement.hasAttribute('data-dark')")
    browser.run("document.querySelector('#theme').click()")
    assert browser.complaints == []
    if "STICKYPROXY_PICTURE" in os.environ:
        draw(scene, ROOT / "docs" / "images")
