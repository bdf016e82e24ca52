"""README.md and docs/: what they link to is there, what they show works, and nothing is left out."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from stickyproxy import api
from stickyproxy.config import load
from stickyproxy.extensions import find_extensions
from stickyproxy.testing import MemoryEndpoint, MemoryTransport

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shown(language: str) -> list[str]:
    """The blocks of README.md in a language."""
    return [text for name, text in CODE.findall(README) if name == language]


def links(page: Path) -> set[str]:
    """Where a page links to, without what is elsewhere in the world."""
    text = CODE.sub("", page.read_text())
    return {link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every file and every heading that a page links to is there."""
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_nothing_is_left_out() -> None:
    """From docs/README.md I find every page, sample and example; and README.md leads there."""
    index = {(ROOT / "docs" / link.partition("#")[0]).resolve() for link in links(ROOT / "docs" / "README.md")}
    for pattern in ("docs/*.md", "conf/*.toml", "docs/examples/*.*"):
        assert set(ROOT.glob(pattern)) - index <= {ROOT / "docs" / "README.md"}
    assert "docs/README.md" in links(ROOT / "README.md")


def test_the_configuration_of_the_readme_loads(tmp_path: Path) -> None:
    """The README's configuration has at most twelve lines and is right, with TLS added too."""
    plain, tls = shown("toml")
    assert len(plain.splitlines()) <= 12
    (tmp_path / "certs").mkdir()
    for text in (plain, plain + tls):
        (tmp_path / "proxy.toml").write_text(text)
        configuration = load(tmp_path / "proxy.toml", find_extensions())
        assert [backend.id for backend in configuration.clusters[0].backends] == ["a", "b", "c"]


class _Backend(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = str(self.server.server_port).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: Any) -> None: ...


@contextmanager
def serving() -> Iterator[int]:
    """A backend that answers with its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Backend) as server:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        yield server.server_port
        server.shutdown()


@contextmanager
def running(script: Path) -> Iterator[int]:
    """A Python program that logs where its site listens; gives the port."""
    process = subprocess.Popen([sys.executable, "-u", script], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield next(int(found[1]) for line in process.stdout if (found := re.search(r"Site starting on (\d+)", line)))
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_your_own_site(tmp_path: Path) -> None:
    """The README's site has at most twelve lines, and keeps each client at one of two backends."""
    text = shown("python")[0]
    assert len(text.splitlines()) <= 12
    with serving() as first, serving() as second:
        for said, meant in (("tcp:8080", "tcp:0:interface=127.0.0.1"), ("9001", str(first)), ("9002", str(second))):
            assert said in text
            text = text.replace(said, meant)
        script = tmp_path / "own_site.py"
        script.write_text(f"import sys\nfrom twisted.python.log import startLogging\nstartLogging(sys.stdout)\n{text}")
        with running(script) as port:
            homes = set()
            for _ in range(4):
                opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
                served_by = {opener.open(f"http://127.0.0.1:{port}/", timeout=10).read() for _ in range(3)}
                assert len(served_by) == 1
                homes |= served_by
        assert homes == {b"%d" % first, b"%d" % second}


def test_your_own_protocol() -> None:
    """The README's protocol has at most twelve lines; players of a table meet, whatever pieces its name comes in."""
    text = shown("python")[1]
    assert len(text.splitlines()) <= 12
    names: dict[str, Any] = {name: getattr(api, name) for name in api.__all__}
    names |= {"reactor": Clock(), "servers": {"red": "tcp:127.0.0.1:1", "blue": "tcp:127.0.0.1:2"}}
    exec(text, names)
    endpoints = {"red": MemoryEndpoint(), "blue": MemoryEndpoint()}
    for id, member in names["cluster"].members.items():
        member._endpoint = endpoints[id]
    for number in range(8):
        for pieces in ([b"%d\nhello" % number], [b"%d" % number, b"\n", b"hello"]):
            client = MemoryTransport(names["factory"].buildProtocol(IPv4Address("TCP", "203.0.113.9", 5)))
            for piece in pieces:
                client.deliver(piece)
    seen = {id: [transport.written for transport in endpoint.transports] for id, endpoint in endpoints.items()}
    assert all(seen.values())
    for number in range(8):
        homes = [id for id, written in seen.items() for line in written if line == b"%d\nhello" % number]
        assert len(homes) == 2 and len(set(homes)) == 1


def test_the_architecture_names_every_part() -> None:
    """Each module and package has its floor in docs/architecture.md, and nothing has one that is not there."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    house = next(block for _, block in CODE.findall(text) if "tap" in block)
    package = ROOT / "stickyproxy"
    parts = {path.stem if path.suffix else f"{path.name}/" for path in package.iterdir() if path.name[0] not in "_."}
    parts -= {"py.typed", "py", "testing", "conformance", "dropin"}
    named = set(re.findall(r"^(?:\d )? *([a-z]+/?)  ", house, re.MULTILINE)) | {"errors", "plugins/"}
    assert parts - named == set()
    assert {name for name in named if not (package / name).is_dir() and not (package / f"{name}.py").exists()} == set()


def test_commands_are_there() -> None:
    """Every ``make`` target that a page names is in the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"(?:^    |`)make ([a-z]+)", page.read_text(), re.MULTILINE)) <= targets, page.name


def test_imports_that_are_shown_work() -> None:
    """What a page imports of stickyproxy is there under that name."""
    code = "".join(text for page in PAGES for name, text in CODE.findall(page.read_text()) if name == "python")
    imports = set(re.findall(r"^from (stickyproxy[\w.]*) import (.+)$", code, re.MULTILINE))
    assert {"stickyproxy.api", "stickyproxy.tls", "stickyproxy.testing"} <= {module for module, _ in imports}
    for module, names in imports:
        if module == "stickyproxy.reactor.uv":
            pytest.importorskip("uvloop", reason="without uvloop there is no reactor of ours")
        assert set(names.split(", ")) <= set(vars(importlib.import_module(module))), module
