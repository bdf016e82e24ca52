"""docs/command.md against a running proxy: every command that it shows answers what it shows; and what goes wrong."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path

import pytest
from parts import ROOT, Backend, Program, Proxy, free_port

from stickyproxy.command import main
from stickyproxy.command.words import each_command, make_parser

PAGE = (ROOT / "docs" / "command.md").read_text()
BLOCKS = re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
#: Each command that the page shows, and what it answers there.
EXAMPLES = [
    (command, answer)
    for block in BLOCKS
    for command, answer in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M)
]
TOKEN = "commands" * 4
Capture = pytest.CaptureFixture[str]


class Scene:
    """A proxy with the configuration of the page, in which ports are others. ``ports``: those of the page to ours."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        toml = next(text for text in re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
        names = {"9001": "a", "9002": "b", "9003": "c"}
        backends = {port: stack.enter_context(Backend(name)) for port, name in names.items()}
        self.ports = {port: str(backend.port) for port, backend in backends.items()}
        self.ports |= {port: str(free_port()) for port in ("8080", "9900")}
        token = directory / "admin.token"
        token.write_text(f"alice {TOKEN}\n")
        token.chmod(0o600)
        (directory / "new.toml").write_text(self.ours(toml.replace('b = "tcp:127.0.0.1:9002"\n', "")))
        self.proxy = stack.enter_context(Proxy(directory, self.ours(toml)))
        self.proxy.wait_for("Admin API listens")
        self.directory = directory
        self.config = self.proxy.config

    def ours(self, text: str) -> str:
        return re.sub(r":(\d{4})\b", lambda found: ":" + self.ports.get(found[1], found[1]), text)

    def normal(self, text: str) -> str:
        """What a command answered, as the page would have it."""
        for port, real in self.ports.items():
            text = text.replace(f":{real}", f":{port}")
        text = text.replace(str(self.directory), "/etc/stickyproxy")
        text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", "TIME", text)
        text = re.sub(r"\b\d+s\b", "Ns", text)
        return "\n".join(" ".join(line.split()) for line in text.splitlines())

    def get(self, path: str = "/") -> None:
        urllib.request.urlopen(f"http://127.0.0.1:{self.ports['8080']}{path}", timeout=20).read()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack, tmp_path_factory.mktemp("scene"))


@pytest.fixture
def ask(scene: Scene, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """``status, out, err = ask("status", "-c", …)``, in the folder of the configuration."""
    monkeypatch.chdir(scene.directory)

    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(words)
        return int(status), *capsys.readouterr()

    return run


def test_what_the_page_shows(scene: Scene, ask: Callable[..., tuple[int, str, str]]) -> None:
    """Each command of docs/command.md, one after another, answers what stands there."""
    assert len(EXAMPLES) >= 15
    scene.get()
    for command, shown in EXAMPLES:
        program, *words = shlex.split(scene.ours(command))
        if program == "twistd" or words[0] == "run":
            continue
        status, out, err = ask(*words)
        assert (status, scene.normal(out + err)) == (0, scene.normal(shown)), command


def test_every_command_is_on_the_page() -> None:
    """No command is left out."""
    for name, parser in each_command(make_parser()):
        if not any(isinstance(action.choices, dict) for action in parser._actions):
            assert re.search(rf"^(\$ |    )stickyproxy {name}\b", PAGE, re.MULTILINE), name


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["status"], 2, "say which proxy"),
        (["status", "--admin", "ftp://x"], 2, "expected http://HOST:PORT"),
        (["status", "--admin", "http://127.0.0.1:1"], 3, "cannot be reached: Connection refused"),
        (["status", "--admin", "unix:/nowhere.sock"], 3, "unix:/nowhere.sock cannot be reached: No such file"),
        (["status", "--admin", "http://127.0.0.1:9001"], 3, "not as the admin API of stickyproxy does"),
        (["top", "--once", "--interval", "0.1", "--admin", "http://127.0.0.1:9001"], 3, "not as the admin API"),
        (["reload", "--admin", "http://127.0.0.1:9900"], 4, "no token is given"),
        (["status", "-c", "none.toml"], 1, "none.toml: No such file"),
        (["up", "app", "nobody", "-c", "proxy.toml"], 1, "cluster app has no backend of this name"),
        (["set", "app", "a", "-c", "proxy.toml"], 2, "say what to set"),
        (["set", "app", "a", "--weight", "999", "-c", "proxy.toml"], 1, "0 to 256"),
        (["drain", "app", "a", "--deadline", "soon", "-c", "proxy.toml"], 1, "deadline: expected a duration"),
        (["sessions", "kick", "shop", "0" * 24, "-c", "proxy.toml"], 1, "their clients keep them, in cookies"),
        (["top", "-c", "proxy.toml"], 2, "this is no terminal"),
        (["explain", "--live", "-c", "proxy.toml", "example.org"], 1, "expected a URL"),
    ],
)
def test_what_goes_wrong(
    scene: Scene, ask: Callable[..., tuple[int, str, str]], words: list[str], status: int, told: str
) -> None:
    """Each gets its status, and a sentence that tells what to do; with --json in JSON."""
    words = [scene.ours(word) for word in words]
    got, out, err = ask(*words)
    assert (got, out) == (status, ""), err
    assert told in err and "Traceback" not in err
    if words[:1] != ["top"]:
        got, out, err = ask(*words, "--json")
        assert (got, err) == (status, "")
        assert told in json.loads(out)["error"]


def test_a_wrong_token(scene: Scene, ask: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """One that is nobody's, and a file that others may read, are status 4, each with its reason."""
    wrong = tmp_path / "wrong.token"
    wrong.write_text("x" * 32)
    wrong.chmod(0o600)
    status, _, err = ask("reload", "-c", "proxy.toml", "--token-file", str(wrong))
    assert status == 4 and "nobody's" in err
    wrong.chmod(0o644)
    status, _, err = ask("reload", "-c", "proxy.toml", "--token-file", str(wrong))
    assert status == 4 and "chmod 600" in err and "x" * 32 not in err


@contextmanager
def busy(scene: Scene, ask: Callable[..., tuple[int, str, str]], seconds: int) -> Iterator[str]:
    """A request takes so long; gives the backend that answers it."""

    def get() -> None:
        with suppress(OSError, HTTPException):
            scene.get(f"/?seconds={seconds}")

    thread = threading.Thread(target=get)
    thread.start()
    found: list[str] = []
    deadline = time.monotonic() + 15
    while not found and time.monotonic() < deadline:
        backends = json.loads(ask("status", "--json", "-c", "proxy.toml")[1])["clusters"]["app"]["backends"]
        found = [id for id, backend in backends.items() if backend["active"]]
    yield found[0]
    thread.join()


def test_a_drain_that_cuts(scene: Scene, ask: Callable[..., tuple[int, str, str]]) -> None:
    """Who waits for a drain sees its progress, and the status tells that its deadline has passed; one is cancelled."""
    with busy(scene, ask, 60) as backend:
        status, out, err = ask("drain", "app", backend, "--wait", "--deadline", "500ms", "-c", "proxy.toml")
        assert status == 1, out + err
        assert "closing, 1 sockets left" in err and f"backend {backend} of app: cut" in out and "1 cut" in out
    assert ask("up", "app", backend, "-c", "proxy.toml")[0] == 0
    with busy(scene, ask, 2) as backend:
        status, out, err = ask("drain", "app", backend, "--deadline", "1m", "-c", "proxy.toml", "--json")
        assert (status, json.loads(out)["ended"]) == (0, False)
        status, out, _ = ask("drain", "app", backend, "--cancel", "-c", "proxy.toml")
        assert status == 0 and "cancelled" in out
    assert "up" in ask("set", "app", backend, "--weight", "1", "-c", "proxy.toml")[1]


def test_mistakes_are_told_when_reloading(scene: Scene, ask: Callable[..., tuple[int, str, str]]) -> None:
    """A wrong file is not loaded: all its mistakes and status 1; the plan says the same beforehand, of the new file."""
    right = scene.config.read_text()
    wrong = right.replace('"source"', '"sauce"')
    Path("wrong.toml").write_text(wrong)
    status, _, err = ask("plan", "proxy.toml", "wrong.toml")
    assert status == 1 and f"{Path('wrong.toml').absolute()}: cluster.app.affinity: " in err
    scene.config.write_text(wrong)
    try:
        status, out, _ = ask("reload", "-c", "proxy.toml", "--json")
        assert (status, json.loads(out)["mistakes"][0]["key"]) == (1, "cluster.app.affinity")
    finally:
        scene.config.write_text(right)


def test_a_plan_from_files(scene: Scene, ask: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """Where nothing runs by that file the plan comes from the files, and says why it knows no more."""
    other = tmp_path / "other.toml"
    for name, path in (("proxy.toml", other), ("new.toml", tmp_path / "new.toml")):
        text = (scene.directory / name).read_text()
        path.write_text(text.replace("admin.token", str(scene.directory / "admin.token")))
    for words, why in (
        (["proxy.toml", "--admin", "http://127.0.0.1:1"], "cannot be reached"),
        ([str(other)], f"runs {scene.config}"),
    ):
        new = str(tmp_path / "new.toml")
        status, out, _ = ask("plan", words[0], new, *words[1:])
        assert status == 0 and why in out and "from the files alone" in out
        assert "backend b of app goes (on_removal: keep)" in out
    status, out, _ = ask("plan", str(other), new, "--json")
    report = json.loads(out)
    assert (report["live"], report["backends"][0]["sessions"]) == (False, None)


def test_all_sessions(scene: Scene, ask: Callable[..., tuple[int, str, str]]) -> None:
    """--all goes on until there are no more; one page tells how to get at the next."""
    scene.get()
    status, out, _ = ask("sessions", "list", "--all", "--limit", "1", "-c", "proxy.toml", "--json")
    assert status == 0
    assert [session["cluster"] for session in json.loads(out)["sessions"]] == ["app"]


def test_top_in_a_terminal(scene: Scene) -> None:
    """A live table, in colours, until Ctrl-C, which is status 0; and it goes on while the proxy cannot be reached."""
    ours, theirs = pty.openpty()
    program = Path(sys.executable).with_name("stickyproxy")
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(
        [program, "top", "-c", scene.config, "--interval", "0.2"], stdin=theirs, stdout=theirs, stderr=theirs,
        env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    patience = threading.Timer(40, process.kill)
    patience.start()
    try:
        while seen.count(b"it takes new clients") < 6:
            seen += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        with pytest.raises(OSError):  # EIO: the end of a terminal
            while True:
                seen += os.read(ours, 65536)
        assert process.wait(20) == 0
    finally:
        patience.cancel()
        process.kill()
        process.wait()
        os.close(ours)
    text = seen.decode(errors="replace")
    assert "\x1b[32m" in text and "REQ/S" in text and "Ctrl-C ends" in text and "Traceback" not in text


def test_a_file_that_runs_itself(scene: Scene, tmp_path: Path) -> None:
    """An executable configuration with our first line serves, and stops on SIGTERM."""
    path = tmp_path / "proxy.toml"
    text = scene.config.read_text().partition("[admin]")[0]
    path.write_text("#!/usr/bin/env -S stickyproxy run\n" + text.replace(scene.ports["8080"], str(free_port())))
    path.chmod(0o755)
    search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with Program(path, cwd=tmp_path, env={"PATH": search, "PYTHONPATH": str(ROOT)}) as running:
        running.wait_for("Frontend web listens on ", timeout=30)
        assert running.stop() in (0, -signal.SIGTERM)  # Twisted ends by the signal that it got
        assert "Server Shut Down." in running.log and "Traceback" not in running.log
    assert not (tmp_path / "twistd.pid").exists()


def test_a_frontend_and_all_of_them(scene: Scene, ask: Callable[..., tuple[int, str, str]]) -> None:
    """Drained, they do not listen until that is cancelled; and I have to say which of the three I mean."""
    for words, name in ((["--frontend", "web"], "frontend web"), (["--process"], "process")):
        status, out, err = ask("drain", *words, "--wait", "-c", "proxy.toml")
        assert (status, out) == (0, f"{name}: done, 0 sockets left\n"), err
        assert json.loads(ask("status", "--json", "-c", "proxy.toml")[1])["frontends"]["web"]["addresses"] == []
        assert ask("drain", *words, "--cancel", "-c", "proxy.toml")[0] == 0
        assert json.loads(ask("status", "--json", "-c", "proxy.toml")[1])["frontends"]["web"]["addresses"] != []
        assert ask("drain", *words, "--cancel", "-c", "proxy.toml")[0] == 1
    for wrong in (["app"], ["app", "a", "--process"], ["--process", "--frontend", "web"]):
        status, _, err = ask("drain", *wrong, "-c", "proxy.toml")
        assert status == 2 and "say what to drain" in err
