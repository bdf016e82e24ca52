"""What another configuration would change: by the proxy that runs, else from the files alone. Floor 7.

For ``stickyproxy plan`` and for ``twistd stickyproxy --plan``.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from stickyproxy.command.answers import Answer, Failure, Status
from stickyproxy.command.instance import Instance, instance_of
from stickyproxy.command.words import PATIENCE
from stickyproxy.config import Configuration, ConfigurationErrors, document_at
from stickyproxy.control.planning import lines, plan
from stickyproxy.extensions import Extensions, find_extensions
from stickyproxy.service import read_again


def answer(chosen: Namespace) -> Answer:
    """Raises ``Failure`` and ``ConfigurationErrors``."""
    old, new = chosen.file.absolute(), chosen.new.absolute()
    extensions = find_extensions()
    document = document_at(new)
    wanted = _wanted(old, new, document, extensions)
    try:
        instance = instance_of(chosen, old)
        report = _live(instance, old, document.decode())
        note = f"asked: the proxy at {instance.place}"
    except Failure as failure:
        if failure.status not in (Status.AWAY, Status.FORBIDDEN):
            raise
        running = read_again(old, extensions).configuration
        report = plan(running, wanted)
        note = f"from the files alone, what it moves is not known: {failure}"
    live = "told" in report
    told = report.pop("told", None) or lines(report)
    return Answer({"live": live, "note": note, **report, "told": told}, [*told, f"({note})"])


def told(old: Path, new: Path) -> list[str]:
    """The lines for ``twistd stickyproxy --config OLD --plan NEW``."""
    chosen = Namespace(file=old, new=new, admin=None, config=None, token_file=None, ca=None, timeout=PATIENCE)
    return list(answer(chosen).lines)


def _wanted(old: Path, new: Path, document: bytes, extensions: Extensions) -> Configuration:
    """What stands in ``new`` as it means in the place of ``old``: paths begin there. Mistakes are those of ``new``."""
    try:
        return read_again(old, extensions, document).configuration
    except ConfigurationErrors as errors:
        mistakes = [each._replace(path=new) if each.path == old else each for each in errors.mistakes]
        raise ConfigurationErrors(mistakes) from None


def _live(instance: Instance, old: Path, document: str) -> dict[str, Any]:
    """Raises ``Failure``: of another status than 1 when nobody there runs ``old``."""
    report: dict[str, Any] = instance.ask("POST", "/api/plan", "changes", document)
    runs = instance.ask("GET", "/api/version", "configuration")["configuration"]
    if runs is not None and Path(runs) != old:
        raise Failure(f"the proxy at {instance.place} runs {runs}", Status.AWAY)
    return report
