"""``stickyproxy completion``: scripts that complete its words in a shell, by shtab where it is installed. Floor 7."""

from __future__ import annotations

from argparse import Namespace

from stickyproxy.command.answers import Answer, Failure
from stickyproxy.command.words import each_command, make_parser

_FILES = ("FILE", "NEW")


def completion(chosen: Namespace) -> Answer:
    """Put it where the shell looks: ``stickyproxy completion bash > ~/.local/share/bash-completion/completions/…``."""
    try:
        import shtab
    except ImportError:
        raise Failure('completion needs shtab: pip install "stickyproxy[completion]"') from None
    parser = make_parser()
    for _, command in each_command(parser):
        for action in command._actions:
            if action.metavar in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
    return Answer(None, shtab.complete(parser, chosen.shell).splitlines())
