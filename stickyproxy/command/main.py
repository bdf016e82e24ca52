"""The program ``stickyproxy``: its words are read, a command answers, and the answer is written. Floor 7."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from importlib import import_module

from stickyproxy.command.answers import Answer, Failure, Status
from stickyproxy.command.words import make_parser
from stickyproxy.config import ConfigurationErrors
from stickyproxy.errors import StickyproxyError


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status (``answers.Status``)."""
    chosen = make_parser().parse_args(arguments)
    try:
        return _tell(_command(chosen.command)(chosen), chosen.json)
    except BrokenPipeError:  # whoever reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Status.FINE
    except KeyboardInterrupt:
        return Status.INTERRUPTED
    except (StickyproxyError, OSError, ValueError) as error:
        return _fail(_failure(error), chosen.json)


def _command(name: str) -> Callable[[Namespace], Answer]:
    """``"files.check"``: only what is wanted is imported."""
    module, _, function = name.partition(".")
    command: Callable[[Namespace], Answer] = getattr(import_module(f"stickyproxy.command.{module}"), function)
    return command


def _tell(answer: Answer, as_json: bool) -> Status:
    text = json.dumps(answer.value, ensure_ascii=False) if as_json else "\n".join(answer.lines)
    if text:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    return answer.status


def _failure(error: Exception) -> Failure:
    """What went wrong, with the status that says so."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, ConfigurationErrors):
        mistakes = [{"file": str(path or ""), "key": key, "message": text} for path, key, text in error.mistakes]
        return Failure("the configuration has mistakes", mistakes=mistakes)
    return Failure(str(error), Status.WORDS if isinstance(error, ValueError) else Status.FAILED)


def _fail(failure: Failure, as_json: bool) -> Status:
    if as_json:
        sys.stdout.write(json.dumps(failure.to_json(), ensure_ascii=False) + "\n")
    else:
        sys.stderr.write("\n".join([f"stickyproxy: {failure}", *failure.lines()[1:], ""]))
    return failure.status
