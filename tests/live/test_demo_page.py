"""The demo as somebody sees it who has just typed ``make run``: in a browser, and in a terminal."""

from __future__ import annotations

import json
import os
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser import Browser
from parts import ROOT, Proxy

BACKENDS = {"amber", "jade", "violet"}
SERVED = "document.readyState === 'complete' && document.getElementById('backend').textContent"
CONNECTED = "document.querySelector('#socket.chip[data-backend]:not(.plain)')?.dataset.backend"
REASON = "document.getElementById('reason').textContent"
TRIES = "[...document.querySelectorAll('#%s .dots i')].map((dot) => dot.dataset.backend).filter(Boolean)"
CELLS = "[...document.querySelectorAll('#identity tr')].map((row) => [...row.cells].map((cell) => cell.innerText))"
PULSES = "[...document.querySelectorAll('.pulse')].flatMap((dot) => dot.getAnimations())"

pytestmark = pytest.mark.needs("chromium")


class Demo:
    """A running demo, and where it said that it is."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.http = proxy.wait_for(r"^  HTTP +(http://\S+)")[0][1]
        self.https = proxy.wait_for(r"^  HTTPS +(https://\S+)")[0][1]
        self.tcp = int(proxy.wait_for(r"^  TCP +nc 127\.0\.0\.1 (\d+)")[0][1])


@pytest.fixture
def demo(proxy: Callable[..., Proxy]) -> Demo:
    return Demo(proxy(None, "--demo", listeners=3))


@pytest.fixture
def browser(needs: Callable[[str], str]) -> Iterator[Browser]:
    with Browser(needs("chromium")) as browser:
        yield browser
        assert browser.complaints == []


def send_twenty(browser: Browser, which: str) -> list[str]:
    browser.run(f"document.querySelector('#{which} button').click()")
    answered: list[str] = browser.until(f"({TRIES % which}).length === 20 && {TRIES % which}")
    return answered


def say(browser: Browser, text: str) -> None:
    browser.run(f"document.getElementById('text').value = {json.dumps(text)}; document.getElementById('send').click()")


def second_tab(browser: Browser, text: str) -> None:
    """Be another tab of the same browser that says ``text``."""
    browser.run(f"""
        window.other = new WebSocket(location.origin.replace("http", "ws") + "/ws");
        other.onopen = () => other.send({json.dumps(text)});
    """)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_page_and_websocket_share_a_backend(demo: Demo, browser: Browser, scheme: str) -> None:
    """I open the page: a backend serves it, the WebSocket is on the same, and so is every reload."""
    url = getattr(demo, scheme)
    served = browser.open(url, SERVED)
    assert served in BACKENDS
    assert browser.until(REASON) == "new here"
    assert browser.until(CONNECTED) == served
    for visit in (2, 3):
        assert browser.leave("location.reload()", f"{REASON} === 'kept by the cookie' && {SERVED}") == served
        assert browser.until(CONNECTED) == served
        times = "the second time" if visit == 2 else "visit number 3"
        assert times in browser.until("document.getElementById('why').textContent")
    assert {urlsplit(url).netloc} == {urlsplit(asked).netloc for asked in browser.requests}


def test_the_cookie_is_for_both_schemes(demo: Demo, browser: Browser) -> None:
    """I follow the link to HTTPS and back, and stay on my backend."""
    served = browser.open(demo.http, SERVED)
    browser.until(CONNECTED)
    for scheme in ("https", "http"):
        again = browser.leave(
            f"document.getElementById('to-{scheme}').click()", f"location.protocol === '{scheme}:' && {SERVED}"
        )
        assert again == served
        assert browser.until(CONNECTED) == served
        assert browser.until(REASON) == "kept by the cookie"


def test_chat(demo: Demo, browser: Browser) -> None:
    """What I say comes back, as text and not as markup, also after I reconnect."""
    browser.open(demo.http, CONNECTED)
    said = "Hello <b>there</b> ☃"
    for count in (1, 2):
        say(browser, said)
        browser.until(f"document.querySelectorAll('.mine').length === {count}")
        assert browser.until("document.querySelector('.mine:last-child').firstChild.data") == said
        browser.run("document.getElementById('reconnect').click()")
        assert browser.until(CONNECTED) in BACKENDS


def test_chat_between_two_tabs(demo: Demo, browser: Browser) -> None:
    """A second tab with my cookie is in the same room: each hears the other."""
    browser.open(demo.https, CONNECTED)
    second_tab(browser, "over TLS too")
    assert browser.until("document.querySelector('.said:not(.mine)')?.firstChild.data") == "over TLS too"
    assert browser.until("document.getElementById('room').textContent") == "2 people are in this room."
    browser.run("window.other.close()")
    assert browser.until("document.getElementById('room').textContent.startsWith('A chat room')")


def test_twenty_requests(demo: Demo, browser: Browser) -> None:
    """Twenty requests with my cookie are answered by my backend, twenty strangers are shared out evenly."""
    served = browser.open(demo.http, SERVED)
    assert send_twenty(browser, "with") == [served] * 20
    strangers = send_twenty(browser, "without")
    assert {strangers.count(name) for name in BACKENDS} <= {6, 7}


def test_forget(demo: Demo, browser: Browser) -> None:
    """I have the cookie forgotten, and am a stranger again: the balancer sends me to the next backend."""
    served = browser.open(demo.http, SERVED)
    browser.until(CONNECTED)
    again = browser.leave("document.getElementById('forget').click()", f"{REASON} === 'new here' && {SERVED}")
    assert again in BACKENDS - {served}
    assert browser.until(CONNECTED) == again


def test_identity(demo: Demo, browser: Browser) -> None:
    """The backend knows who I am and how I came, and does not see the proxy's cookie."""
    browser.open(demo.https, CONNECTED)
    browser.leave("location.reload()", SERVED)
    rows = dict(browser.until(CELLS))
    host = urlsplit(demo.https).netloc
    assert rows["Host"] == rows["X-Forwarded-Host"] == host
    assert rows["X-Forwarded-For"] == rows["X-Real-IP"] == "127.0.0.1"
    assert (rows["X-Forwarded-Proto"], rows["X-Forwarded-Port"]) == ("https", host.rpartition(":")[2])
    assert "proto=https" in rows["Forwarded"]
    assert rows["Via"] != "none"
    assert rows["X-Request-ID"] != "none"
    assert rows["Cookies seen"] == "demo_session"


@pytest.mark.parametrize("dark", [False, True])
def test_phone(demo: Demo, browser: Browser, dark: bool) -> None:
    """On a phone nothing is wider than the screen, by day and by night."""
    browser.look(width=360, height=740, dark=dark)
    browser.open(demo.http, CONNECTED)
    send_twenty(browser, "without")
    assert browser.until("document.documentElement.scrollWidth") <= 360
    ground = browser.until("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(17, 18, 20)" if dark else "rgb(245, 244, 241)")


def test_dashboard(demo: Demo) -> None:
    """The demo has a dashboard where it says; the token is in a file that only I can read, and drains a backend."""
    url, token = demo.proxy.wait_for(r"^  Admin +(http://\S+) .* the token in (\S+)\)")[0].groups()
    with urllib.request.urlopen(url, timeout=20) as page:
        assert b"Who serves this client?" in page.read()
    assert Path(token).stat().st_mode & 0o777 == 0o600
    fields = {"Authorization": f"Bearer {Path(token).read_text().strip()}", "Content-Type": "application/json"}
    call = urllib.request.Request(url + "api/clusters/app/backends/jade", b'{"state": "drain"}', fields, method="PUT")
    with urllib.request.urlopen(call, timeout=20) as answer:
        assert json.load(answer)["state"] == "drain"


def test_tcp_echo(demo: Demo) -> None:
    """In a terminal ``nc`` finds a backend that says its name, and finds the same one again."""
    greeted = set()
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", demo.tcp), 10) as connection, connection.makefile("rw") as lines:
            greeted.add(name := lines.readline().split()[4].rstrip("."))
            lines.write("hello\n")
            lines.flush()
            assert lines.readline() == f"{name}: hello\n"
    assert len(greeted & BACKENDS) == len(greeted) == 1


def test_two_demos(demo: Demo, proxy: Callable[..., Proxy]) -> None:
    """A second demo beside the first finds other ports."""
    other = Demo(proxy(None, "--demo", listeners=3))
    assert not {demo.http, demo.https, demo.tcp} & {other.http, other.https, other.tcp}


def test_picture(demo: Demo, browser: Browser, tmp_path: Path) -> None:
    """The picture of the README is the page itself, in use; with STICKYPROXY_PICTURE=1 it is drawn anew."""
    browser.look(width=1200, height=800)
    browser.open(demo.http, CONNECTED)
    browser.leave("location.reload()", CONNECTED)
    said = ("Hello! Which backend are you on?", "The same as you, we share a cookie.", "So we share a room.")
    say(browser, said[0])
    browser.until("document.querySelector('.mine')")
    second_tab(browser, said[1])
    browser.until("document.querySelector('.said:not(.mine)')")
    say(browser, said[2])
    browser.until("document.querySelectorAll('.mine').length === 2")
    send_twenty(browser, "with")
    browser.until("!document.querySelector('.pulse')")
    send_twenty(browser, "without")
    # The requests have been drawn on their way: stop them where they can be seen.
    browser.until(f"{PULSES}[0].effect.getComputedTiming().progress > 0.85")
    browser.run(f"{PULSES}.forEach((pulse) => pulse.pause())")
    height = browser.until("document.documentElement.scrollHeight")
    directory = ROOT / "docs" / "images" if "STICKYPROXY_PICTURE" in os.environ else tmp_path
    picture = directory / "demo.png"
    browser.screenshot(picture, width=1200, height=height, scale=1.5)
    assert picture.stat().st_size > 20_000
