"""``docs/man/stickyproxy.1``, made from the parser: ``python docs/manual.py``. Floor 7."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from stickyproxy.command.answers import MEANING
from stickyproxy.command.words import each_command, make_parser


def render() -> str:
    """The page, in the macros of man(7)."""
    parser = make_parser()
    lines = ['.TH STICKYPROXY 1 "" stickyproxy', ".SH NAME", "stickyproxy \\- a load balancer with sticky sessions"]
    lines += [".SH SYNOPSIS", ".B stickyproxy", "COMMAND ...", ".SH DESCRIPTION", *_text(parser.description or "")]
    lines.append(".SH COMMANDS")
    for name, command in each_command(parser):
        if any(isinstance(action.choices, dict) for action in command._actions):
            continue
        arguments = [_called(action) for action in command._actions if not action.option_strings]
        lines += [f".SS {_escape(' '.join([name, *arguments]))}", *_text(command.description or "")]
        for action in command._actions:
            if action.option_strings and action.dest != "help":
                lines += [".TP", f".B {_escape(_option(action))}", *_text(action.help or "")]
    lines.append(".SH EXIT STATUS")
    for status, meaning in MEANING.items():
        lines += [".TP", f".B {status.value}", *_text(meaning)]
    lines += [".SH SEE ALSO", ".BR twistd (1),", "docs/command.md and docs/configuration.md of the source"]
    return "\n".join(lines) + "\n"


def _called(action: argparse.Action) -> str:
    if action.choices is not None and action.metavar is None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return str(action.metavar or action.dest.upper())


def _option(action: argparse.Action) -> str:
    names = ", ".join(action.option_strings)
    return names if action.nargs == 0 else f"{names} {_called(action)}"


def _text(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if paragraph:
            yield from _escape(paragraph).split("\n")
            yield ".PP"


def _escape(text: str) -> str:
    """Nothing of it is a request of roff."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)
