"""Run suites of Twisted's own against one reactor: ``python twisted_suite.py REACTOR MODULE ...``.

REACTOR is ``uv`` for ours, or ``epoll`` for Twisted's, to compare. What makes classes for each reactor
(``ReactorBuilder``) makes them for this one alone. The rest is trial's: the summary is in the last line, the status
says whether all is well.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from twisted.internet.test import reactormixins

REACTORS = {"uv": "twisted_suite.UVReactor", "epoll": "twisted.internet.epollreactor.EPollReactor"}

# What does not hold for our reactor, by the name of the test; why, for a maintainer of Twisted.
EXCEPTIONS = {
    "twisted.internet.test.test_tcp.WriteSequenceTestsMixin.test_streamingProducer": (
        "it sets bufferSize to 500, writes 1,000 bytes, and wants the producer paused: in Twisted's reactors every "
        "write waits in the buffer for the next turn. Ours gives the bytes to the system at once, as a libuv stream "
        "does; it has taken them all, nothing is buffered, and there is nothing to pause for. That a producer pauses "
        "when the system takes no more, and resumes, is tested in tests/reactor/test_streams.py."
    ),
}


def UVReactor(case: object) -> object:  # noqa: N802 - it names the classes of the tests
    """A reactor of ours for one test, whose loop is closed after it."""
    from stickyproxy.reactor.uv import UVReactor

    reactor = UVReactor()
    case.addCleanup(reactor.loop.close)  # type: ignore[attr-defined]
    return reactor


def skip(name: str, reason: str) -> None:
    from twisted.python.reflect import namedAny

    namedAny(name).skip = reason


def main() -> None:
    reactor, *modules = sys.argv[1:]
    reactormixins.ReactorBuilder._reactors = [REACTORS[reactor]]
    reactormixins.DEFAULT_TIMEOUT_DURATION = 20.0  # Twisted's own is 120: too long for a test that waits for nothing
    if reactor == "uv":
        for name, reason in EXCEPTIONS.items():
            skip(name, reason)
    homes = Path(sys.executable).resolve().parents
    if os.getuid() == 0 and not all(home.stat().st_mode & 1 for home in homes):
        tests = "twisted.internet.test.test_process.ProcessTestsBuilderBase.test_change"
        for what in ("UID", "GID"):
            skip(tests + what, f"another user may not run {sys.executable}, whatever the reactor")
    from twisted.scripts.trial import run

    sys.argv[1:] = ["--reporter=bwverbose", f"--temp-directory={Path.cwd() / '_trial_temp'}", *modules]
    run()


if __name__ == "__main__":
    sys.modules["twisted_suite"] = sys.modules["__main__"]
    main()
