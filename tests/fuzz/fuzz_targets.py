"""What is fuzzed: each target takes any bytes, and raises where the proxy does what it must not."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from twisted.logger import globalLogPublisher

sys.path.insert(0, str(Path(__file__).parent.parent / "wires"))

import frame_targets as frame
import known_targets as known
import pure_targets as pure
import talk_targets as talk
import wires_targets as wires

_WORDS = re.compile(rb"[A-Za-z_][A-Za-z0-9_-]+|[0-9]+|[^\sA-Za-z0-9]+|\s+")


_logged: list[Any] = []


def _observe(event: dict[str, Any]) -> None:
    if "log_failure" in event:
        _logged.append(event["log_failure"])


globalLogPublisher.addObserver(_observe)


class Target(NamedTuple):
    """``seeds`` are inputs to begin with; ``words`` is what they are made of, for those who put inputs together."""

    run: Callable[[bytes], None]
    seeds: Sequence[bytes]

    def check(self, data: bytes) -> None:
        """Raises for what the proxy does wrong with ``data``; a traceback in the log is wrong, too."""
        _logged.clear()
        self.run(data)
        if _logged:
            raise AssertionError(_logged[0].getTraceback())

    @property
    def words(self) -> list[bytes]:
        found = {word for seed in self.seeds for word in _WORDS.findall(seed) if len(word) <= 40}
        return sorted(found | EXTRA)


#: Words of the attacks that are known.
EXTRA = {
    b"\0", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b"\t", b"\v", b"\f", b"\x7f", b"\x80", b"\xff", b"\xc3\xa4",
    b"chunked", b"identity", b"Content-Length", b"Transfer-Encoding", b"Content_Length", b"0x5", b"+5", b"-1", b"00",
    b"18446744073709551616", b"ffffffffffffffff", b"Connection", b"close", b"keep-alive", b"Upgrade", b"h2c",
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"CONNECT", b"%00", b"%2f", b"%2e%2e", b"..", b"\\", b"#", b"@", b"://",
    b"0\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"inf", b"nan", b"1e999", b"[]", b"{}", b"true", b"1979-05-27",
}  # fmt: skip

TARGETS = {
    "requests": Target(wires.requests, wires.REQUESTS),
    "answers": Target(wires.answers, wires.ANSWERS),
    "conversations": Target(talk.conversations, talk.CONVERSATIONS),
    "proxy_headers": Target(wires.proxy_headers, wires.PROXY_HEADERS),
    "tls_records": Target(wires.tls_records, wires.TLS_RECORDS),
    "identities": Target(pure.identities, pure.IDENTITIES),
    "cookies": Target(pure.cookies, pure.COOKIES),
    "keys": Target(known.keys, known.KEYS),
    "doors": Target(known.doors, known.DOORS),
    "inspectors": Target(known.inspectors, known.INSPECTORS),
    "routes": Target(pure.routes, pure.ROUTES),
    "frames": Target(frame.frames, frame.FRAMES),
    "handshakes": Target(pure.handshakes, pure.HANDSHAKES),
    "configurations": Target(pure.configurations, pure.CONFIGURATIONS + pure.CHANGES),
}
