"""RDP: the cookie or the routing token of the connection request. Floor 2, pure.

Specifications: MS-RDPBCGR section 2.2.1.1 within X.224 (section 13.3) and TPKT (RFC 1006 section 6). HAProxy:
``rdp_cookie``. What a client sends as ``mstshash`` is mostly the first nine letters of its user's name.
"""

from __future__ import annotations

from zope.interface import implementer

from stickyproxy.interfaces import IStreamInspector
from stickyproxy.sansio.inspecting.cursor import Cursor, NoKey, look

_CONNECTION_REQUEST = 0xE0
_NEGOTIATION = b"\x01"  # what follows the token, or stands in its place
_COOKIES = (b"Cookie: mstshash", b"Cookie: msts")


@implementer(IStreamInspector)
class RDPInspector:
    """The value of the cookie ``mstshash`` or ``msts``, or a routing token of another form as it is."""

    peek_bytes = 4096
    peek_timeout = 5.0

    def inspect(self, data: bytes) -> bytes | None:
        return look(self._find, data)

    def _find(self, stream: Cursor) -> bytes:
        if stream.take(2) != b"\x03\x00":
            raise NoKey
        size = stream.number(2)
        if size < 11:  # both headers
            raise NoKey
        request = stream.within(size - 4)
        request.skip(1)  # its length, again
        if request.number(1) & 0xF0 != _CONNECTION_REQUEST:
            raise NoKey
        request.skip(5)  # references and class
        if stream.data[request.at : request.at + 1] == _NEGOTIATION:
            raise NoKey
        line = request.line()
        name, _, value = line.partition(b"=")
        return value if name in _COOKIES else line
