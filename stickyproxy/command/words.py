"""The words of the command line: every command, its options, and the help that stands alone. Floor 7.

The manual page and the completion of shells are made from the same parser.
"""

from __future__ import annotations

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stickyproxy import __version__
from stickyproxy.command.answers import MEANING

#: Seconds that an answer may take; those that wait for something come in pieces.
PATIENCE = 10.0
_DESCRIPTION = """\
Runs stickyproxy, tells what a configuration does, and steers the proxy that runs.

Commands that steer ask the admin API. Where that is, and the token that changes need, stands in the configuration
([admin] listen, token_file); or say it by --admin and --token-file.
"""
_EXPLAIN = """\
Why a request goes where it goes: which route holds, what each affinity knows of the client, and who serves it.

Cookies and hashed keys are judged as the running proxy would. What that has learned is in its memory alone: ask it by
--live, or send it the request with "X-Sticky-Explain: 1" from one of its trusted_proxies. Nobody is bound by asking.
"""
_RUN = """\
Serves what FILE says, as "twistd -n --pidfile= stickyproxy --config FILE" does: in the foreground, until SIGTERM. What
stands behind "--" are twistd's own options (twistd --help), such as --uid, --logfile and --reactor.

A file runs itself when it is executable and begins with: #!/usr/bin/env -S stickyproxy run
"""
_PLAN = """\
What would change if NEW came in the place of FILE: what is added, removed and different, and how many connections and
sessions of the running proxy that would move. Nothing is changed.

The running proxy is asked, which needs a token. If it does not run, or FILE has no [admin], the answer comes from the
files alone, and says so.
"""
_COOKIE = """\
What an affinity cookie says: which backend, issued when, and whether it is good now. COOKIE is its value, NAME=VALUE,
or "-": a line of standard input, which other users do not see in the list of processes. The keys are those that the
configuration names; they are never shown.
"""
_DRAIN = """\
Drains a backend: new clients go elsewhere, its WebSockets get Close frames over the window, and what is left at the
deadline is cut. It is in maintenance then, until: stickyproxy up CLUSTER BACKEND. With --wait the status is 0 when
nobody was left, and 1 when the rest was cut, or the drain was cancelled. A frontend (--frontend NAME), and all of them
(--process), listen no more until: stickyproxy drain --frontend NAME --cancel.
"""
_SESSION = "the id that 'sessions list' tells"


class _Words:
    """A parser of commands, and what it takes to add one."""

    def __init__(self, commands: Any) -> None:
        self._commands = commands

    def add(
        self, name: str, command: str, text: str, more: str = "", *, steers: bool = True, answers: bool = True
    ) -> ArgumentParser:
        """``command``: what answers (``main._command``). ``steers``: it asks the running proxy; ``answers``: once."""
        parser: ArgumentParser = self._commands.add_parser(
            name,
            help=text,
            description=more or f"{text[0].upper()}{text[1:]}.",
            formatter_class=RawDescriptionHelpFormatter,
        )
        parser.set_defaults(command=command, json=False)
        if steers:
            _add_instance(parser)
        if answers:
            parser.add_argument("--json", action="store_true", help="answer in JSON")
        return parser


def make_parser() -> ArgumentParser:
    """The parser of the whole command line."""
    statuses = "\n".join(f"  {status.value:3}  {text}" for status, text in MEANING.items())
    parser = ArgumentParser(
        prog="stickyproxy",
        description=_DESCRIPTION,
        epilog=f"exit status:\n{statuses}",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"stickyproxy {__version__}")
    words = _Words(parser.add_subparsers(required=True, metavar="COMMAND", title="commands"))
    _add_serving(words)
    _add_files(words)
    _add_looking(words)
    _add_changing(words)
    _add_sessions(words)
    _add_shell(words)
    return parser


def _add_instance(parser: ArgumentParser, *, config: bool = True) -> None:
    group = parser.add_argument_group("which proxy")
    if config:
        group.add_argument("-c", "--config", type=Path, metavar="FILE", help="its configuration")
    group.add_argument("--admin", metavar="URL", help="its admin API: http://HOST:PORT, https://HOST:PORT, unix:PATH")
    group.add_argument("--token-file", type=Path, metavar="FILE", help="the token; default: admin.token_file")
    group.add_argument("--ca", type=Path, metavar="FILE", help="who signs its certificate (PEM)")
    text = f"seconds that an answer may take; default: {PATIENCE:g}"
    group.add_argument("--timeout", type=float, default=PATIENCE, metavar="SECONDS", help=text)


def _add_file(parser: ArgumentParser, *names: str) -> None:
    for name in names:
        parser.add_argument(name.lower(), type=Path, metavar=name, help="a configuration")


def _add_backend(parser: ArgumentParser) -> None:
    parser.add_argument("cluster", metavar="CLUSTER")
    parser.add_argument("backend", metavar="BACKEND")


def _add_serving(words: _Words) -> None:
    run = words.add("run", "serving.run", "serve what a configuration says", _RUN, steers=False, answers=False)
    _add_file(run, "FILE")
    run.add_argument("--daemon", action="store_true", help="in the background, as twistd does without -n")
    run.add_argument("options", nargs="*", metavar="-- OPTION", help="twistd's options")


def _add_files(words: _Words) -> None:
    check = words.add("check", "files.check", "tell every mistake of a configuration", steers=False)
    _add_file(check, "FILE")
    plan = words.add("plan", "plans.answer", "what another configuration would change", _PLAN, steers=False)
    _add_file(plan, "FILE", "NEW")
    _add_instance(plan, config=False)
    explain = words.add("explain", "files.explain", "why a request goes where it goes", _EXPLAIN)
    explain.add_argument("url", metavar="URL", help="as the client asks for it: http://example.org/path?query")
    explain.add_argument("-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", help="repeatable")
    explain.add_argument("-X", "--method", default="GET", help="default: GET")
    explain.add_argument("--client", default="127.0.0.1", metavar="ADDRESS", help="who asks; default: 127.0.0.1")
    explain.add_argument("--frontend", metavar="NAME", help="default: the first one for HTTP")
    explain.add_argument("--live", action="store_true", help="ask the running proxy")
    token = words.add("token", "tokens.answer", "what an affinity cookie says", _COOKIE, steers=False)
    token.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="the configuration")
    token.add_argument("cookie", metavar="COOKIE", help='its value, NAME=VALUE, or "-"')
    token.add_argument("--client", default="127.0.0.1", metavar="ADDRESS", help='whose it is, with bind_to = "address"')
    token.add_argument("--tls", action="store_true", help='it came by TLS, with bind_to = "tls"')


def _add_looking(words: _Words) -> None:
    words.add("status", "steering.status", "what runs: clusters and their backends")
    top = words.add("top", "top.show", 'the same as it changes, in a live table (needs "stickyproxy[top]")')
    top.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="default: 1")
    top.add_argument("--once", action="store_true", help="one table, and that is it")


def _add_changing(words: _Words) -> None:
    words.add("reload", "steering.reload", "load the configuration again, as SIGHUP does")
    up = words.add("up", "steering.up", "let clients come to a backend, and end its drain")
    _add_backend(up)
    change = words.add("set", "steering.change", "set the state or the weight of a backend")
    _add_backend(change)
    change.add_argument("--state", choices=("up", "drain", "maintenance"))
    change.add_argument("--weight", type=int, metavar="N", help="0 to 256")
    drain = words.add("drain", "drains.drain", "drain a backend, a frontend, or all", _DRAIN)
    drain.add_argument("cluster", metavar="CLUSTER", nargs="?")
    drain.add_argument("backend", metavar="BACKEND", nargs="?")
    drain.add_argument("--frontend", metavar="NAME", help="this frontend: it listens no more, until --cancel")
    drain.add_argument("--process", action="store_true", help="all frontends; the process goes on")
    drain.add_argument("--wait", action="store_true", help="until it has ended, with its progress")
    drain.add_argument("--cancel", action="store_true", help="end the drain; a frontend listens again")
    drain.add_argument("--stay", metavar="DURATION", help="for how long bound clients stay (5m); default: not at all")
    drain.add_argument("--window", metavar="DURATION", help="over which its WebSockets are closed")
    drain.add_argument("--deadline", metavar="DURATION", help="after which the rest is cut; default: 30s")
    drain.add_argument("--code", type=int, metavar="N", help="of the Close frames; default: as the frontend says")
    words.add("drains", "drains.drains", "all drains, and the last ones that have ended")


def _add_sessions(words: _Words) -> None:
    sessions = words._commands.add_parser("sessions", help="list sessions, move them, end them")
    inner = _Words(sessions.add_subparsers(required=True, metavar="COMMAND", title="commands"))
    listed = inner.add("list", "sessions.listed", "sessions, a hundred at a time")
    for name, text in (
        ("cluster", "those of this cluster"),
        ("backend", "those that this backend serves"),
        ("key", "the one that is known by this, as its client sends it"),
        ("address", "the one of this IP address"),
        ("limit", "how many at most; default: 100"),
        ("after", "those that follow: what the answer before told"),
    ):
        listed.add_argument(f"--{name}", metavar=name.upper(), help=text)
    listed.add_argument("--all", action="store_true", help="all of them, however many")
    for name, text in (
        ("move", "bind a session to another backend"),
        ("pin", "keep a session where it is, used or not"),
        ("unpin", "let it end as others do"),
        ("kick", "end a session: its client is a new one"),
    ):
        one = inner.add(name, f"sessions.{name}", text)
        one.add_argument("cluster", metavar="CLUSTER")
        one.add_argument("session", metavar="SESSION", help=_SESSION)
        if name == "move":
            one.add_argument("backend", metavar="BACKEND")
            one.add_argument("--pin", action="store_true", help="and keep it there")


def _add_shell(words: _Words) -> None:
    text = 'write what completes these words in a shell (needs "stickyproxy[completion]")'
    completion = words.add("completion", "shells.completion", text, steers=False, answers=False)
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))


def each_command(parser: ArgumentParser, words: Sequence[str] = ()) -> list[tuple[str, ArgumentParser]]:
    """Every command with its parser, as ``("sessions list", parser)``; those of commands come behind them."""
    found = []
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for name, inner in action.choices.items():
                found += [(" ".join([*words, name]), inner), *each_command(inner, [*words, name])]
    return found
