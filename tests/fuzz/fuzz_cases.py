"""Inputs that a target failed on once, each with what was wrong. They stay as tests."""

from __future__ import annotations

#: The target, and the input.
CASES: list[tuple[str, bytes]] = [
    # The reason of a 502 depended on how the backend's head was split
    ("answers", b"\x00\x01HTTP/1.1 200 OK\r\nTransfer!}\xc0{ding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nA: b\r\n\r\n"),
    # A bad trailer: a 502 where all comes at once, else an answer that is cut off; never one that looks whole
    ("answers", b"\x00\x01HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nA: b\r\n?\xec\xfec\n"),
    ("answers", b"\x00\x03HTTP/1.1Content\r\n\r\nunt\x81\x02 the close"),
    # An unknown method with another fault: refused for the one or the other
    ("requests", b'\x07NS * HTTP/1.1\r\nHost: [::1]:80\r\nConnection: x\r\nTE:st="a"\r\nX\x98-t\r\nV\xa6ia: x\r\n\r\n'),
    # A HEAD that is refused within its content: a head without content
    (
        "requests",
        b"\x03HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\xff5;x=\x00@\r\nhello\r\n0\r\n\r\n",
    ),
    # A client of a WebSocket is reset while the backend goes on talking: that held the backend's connection
    ("conversations", bytes([0, 17, 0, 6, 0, 12, 0, 8, 0])),
    # Exceptions instead of mistakes: nesting, digits, a path that no file system takes, an affinity that is a list
    ("configurations", b"a=" + b"[" * 5000),
    ("configurations", b"a=" + b"{a=" * 5000),
    ("configurations", b"a=" + b"1" * 5000),
    ("configurations", b'frontend.a={listen="tcp:1",tls={certificates="%b"}}' % (b"x" * 5000)),
    ("configurations", b'frontend.a={listen="tcp:1",protocol="tcp",cluster="a"}\ncluster.a.affinity=[]'),
    ("configurations", b'frontend.a={listen="tcp:1",protocol="tcp",cluster="a"}\ncluster.a.affinity.by={}'),
]
