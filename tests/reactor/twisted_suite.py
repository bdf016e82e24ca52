"""Run suites of Twisted's own against one reactor: ``python twisted_suite.py REACTOR MODULE ...``.

REACTOR is ``uv`` for ours, or ``epoll`` for Twisted's, to compare. What makes classes for each reactor
(``ReactorBuilder``) makes them for this one alone. The rest is trial's: the summary is in the last line, the status
says whether all is well.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

REACTORS = {"uv": "twisted_suite.UVReactor", "epoll": "twisted.internet.epollreactor.EPollReactor"}

# What does not hold for our reactor, by the name of the test; why, for a maintainer of Twisted.
EXCEPTIONS = {
    "twisted.internet.test.test_tcp.WriteSequenceTestsMixin.test_streamingProducer": (
        "it sets bufferSize to 500, writes 1,000 bytes, and wants the producer paused: in Twisted's reactors every "
        "write waits in the buffer for the next turn. Ours gives the bytes to the system at once, as a libuv stream "
        "does; it has taken them all, nothing is buffered, and there is nothing to pause for. That a producer pauses "
        "when the system takes no more, and resumes, is tested in tests/reactor/test_streams.py."
    ),
    "twisted.test.test_tcp.LoopbackTests.test_tcpNoDelay": (
        "it wants Nagle's algorithm to be on by default. libuv turns it off, as asyncio does, and so it must be where "
        "writes go out at once: two small writes in a turn are two segments, and the second would wait for the "
        "peer's delayed acknowledgement of the first. setTcpNoDelay(False) turns it on."
    ),
    "twisted.test.test_tcp.HalfCloseTests.testCloseWriteCloser": (
        "it looks into FileDescriptor's private buffer (_tempDataBuffer), which a stream of libuv has not. What it "
        "wants of half-close is tested in tests/reactor/test_streams.py."
    ),
    "twisted.test.test_ftp.FTPClientFailedRETRAndErrbacksUponDisconnectTests.test_FailedRETR": (
        "its server closes the connection at once, and it depends on the client having connected another one in as few "
        "turns as there are before the end of the first is seen. Ours needs a turn more to connect, in which libuv "
        "takes the socket over."
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
    if reactor == "uv":
        from stickyproxy.reactor.uv import install
    else:
        from twisted.internet.epollreactor import install
    install()  # for the tests that use the reactor of the process
    from twisted.internet.test import reactormixins

    reactormixins.ReactorBuilder._reactors = [REACTORS[reactor]]
    reactormixins.DEFAULT_TIMEOUT_DURATION = 20.0  # Twisted's own is 120: too long for a test that waits for nothing
    for name, reason in EXCEPTIONS.items() if reactor == "uv" else ():
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
