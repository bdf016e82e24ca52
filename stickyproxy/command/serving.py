"""``stickyproxy run``: ``twistd``, in this process, with words that one would else have to remember. Floor 7."""

from __future__ import annotations

import sys
from argparse import Namespace

from stickyproxy.command.answers import Answer


def run(chosen: Namespace) -> Answer:
    """Serves until it is stopped; twistd's exit status is the program's."""
    from twisted.scripts.twistd import run as run_twistd

    sys.argv = twistd_words(chosen)
    run_twistd()
    return Answer(None, [])


def twistd_words(chosen: Namespace) -> list[str]:
    """What one would have typed for ``twistd``."""
    foreground = [] if chosen.daemon else ["-n", "--pidfile="]
    return ["twistd", *foreground, *chosen.options, "stickyproxy", "--config", str(chosen.file)]
