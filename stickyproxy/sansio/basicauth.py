"""Basic authentication: what the client sends, what it is asked, and the file of its users. Floor 2, pure.

RFC 7617 for the scheme, RFC 9110 section 11 for the fields. The file is that of Apache's ``htpasswd -B`` and of nginx
``auth_basic_user_file``: a line ``name:hash`` for each user, the hash by bcrypt.
"""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Sequence

from stickyproxy.errors import StickyproxyError

#: bcrypt looks at no more of a password.
PASSWORD_BYTES = 72
_BASIC = re.compile(rb"basic +([A-Za-z0-9+/]+={0,2})", re.IGNORECASE)
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")
#: 2x is what one broken implementation made; the cost is a power of two.
_HASH = re.compile(rb"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")
_COSTS = range(4, 17)


class UsersFileError(StickyproxyError):
    """A file of users cannot be read, or is none. It tells the line, and never what stands there."""


def credentials(values: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Name and password from the ``values`` of Authorization; None where there are none, or more than one says so."""
    match = _BASIC.fullmatch(values[0].strip(b" \t")) if len(values) == 1 else None
    if match is None:
        return None
    try:
        name, colon, password = b64decode(match[1], validate=True).partition(b":")
    except NotBase64:
        return None
    return (name, password) if colon and not _CONTROLS.search(name + password) else None


def challenge(realm: str) -> bytes:
    """The complete line that asks for a name and a password (RFC 7617 section 2); ``realm`` is printable ASCII."""
    quoted = re.sub(r'(["\\])', r"\\\1", realm)
    return b'WWW-Authenticate: Basic realm="%b", charset="UTF-8"\r\n' % quoted.encode("ascii")


def read_users(content: bytes) -> dict[bytes, bytes]:
    """The hashes of a file by the names. Empty lines and those that begin with ``#`` count for nothing.

    Raises ``UsersFileError``, its text beginning with the number of the line.
    """
    users: dict[bytes, bytes] = {}
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip() or line.startswith(b"#"):
            continue
        name, colon, hashed = line.rstrip().partition(b":")
        match = _HASH.fullmatch(hashed)
        if not (name and colon) or _CONTROLS.search(name):
            raise UsersFileError(f"line {number}: expected name:hash")
        if name in users:
            raise UsersFileError(f"line {number}: this name stands on a line before")
        if match is None:
            raise UsersFileError(f"line {number}: expected a hash by bcrypt: htpasswd -B makes one")
        if int(match[1]) not in _COSTS:
            raise UsersFileError(f"line {number}: expected a cost from {_COSTS[0]} to {_COSTS[-1]}")
        users[name] = hashed
    if not users:
        raise UsersFileError("there is nobody in it")
    return users
