"""Whether a request to the admin API may come in at all: its Host, its Origin, its token. Floor 5.

Who has the proxy's port open in a browser may also have a stranger's page open there. That page cannot read what comes
from us (no CORS), cannot make our port its own by DNS (``Host``), and cannot change anything (``Origin``, and the token
is in no cookie).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Protocol

from twisted.logger import Logger

from stickyproxy.control.operators import Operators
from stickyproxy.control.routes import Problem
from stickyproxy.sansio.cells import PLACE
from stickyproxy.sansio.ratelimit import TokenBuckets, bucket_of
from stickyproxy.sansio.routing import bare_host

#: Wrong tokens of one address that are looked at: so many at once, and as many in so many seconds.
WRONG, WRONG_SECONDS = 10, 60.0
#: Addresses that are kept out at a time.
_TIRED = 1024
_CHALLENGE = ("WWW-Authenticate", 'Bearer realm="stickyproxy"')
_INVALID = (_CHALLENGE[0], _CHALLENGE[1] + ', error="invalid_token"')


class Fields(Protocol):
    """The fields of a request."""

    def __call__(self, name: bytes) -> list[bytes]: ...


class Door:
    """Lets requests in. ``hosts``: names that are ours; ``operators`` None: nobody has a token."""

    _log = Logger()

    def __init__(self, hosts: Iterable[str], operators: Operators | None, seconds: Callable[[], float]) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._operators = operators
        self._seconds = seconds
        self._wrong = TokenBuckets(WRONG, WRONG_SECONDS, WRONG, memoryview(bytearray(PLACE << 10)))
        self._tired: dict[str, float] = {}  # until when, by address

    def check_site(self, fields: Fields, secure: bool, local_socket: bool) -> None:
        """Raise ``Problem`` for what the page of a stranger makes a browser ask."""
        hosts = fields(b"host")
        if len(hosts) != 1 and not local_socket:
            raise Problem(400, "expected one Host")
        host = hosts[0].lower() if hosts else b""
        if not local_socket and not self._is_ours(host):
            raise Problem(421, "nothing is served under this name here: admin.hosts has the names that are ours")
        origins = fields(b"origin")
        if origins and origins != [(b"https://" if secure else b"http://") + host]:
            raise Problem(403, "a page of another origin may not ask for this")
        strange = fields(b"sec-fetch-site") in ([b"cross-site"], [b"same-site"])
        if strange and fields(b"sec-fetch-mode") != [b"navigate"]:
            raise Problem(403, "a page of another site may not ask for this")

    def _is_ours(self, host: bytes) -> bool:
        name = bare_host(host).decode("ascii", "replace").strip("[]")
        if name in self._hosts or name == "localhost":
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True

    def who(self, fields: Fields, address: str, *, changes: bool, local: bool) -> str:
        """Who asks, in words. Raises ``Problem`` where a token is needed and there is no right one.

        ``local``: only this machine reaches what the request came in by, so that reading is open.
        """
        given = fields(b"authorization")
        if not given:
            if local and not changes:
                return f"somebody at {address}"
            if self._operators is None:
                raise Problem(403, "nothing can be changed here: admin.token_file is not set")
            raise Problem(401, "a token is needed: Authorization: Bearer TOKEN", fields=[_CHALLENGE])
        scheme, _, token = given[0].partition(b" ")
        if len(given) != 1 or scheme.lower() != b"bearer":
            raise Problem(401, "expected one token: Authorization: Bearer TOKEN", fields=[_CHALLENGE])
        name = None if self._is_tired(address, local) else self._name(token.strip())
        if name is None:
            self._refuse(address)
        return f"{name} at {address}"

    def knows(self, fields: Fields) -> bool:
        """Whether there is a right token; nothing follows from a wrong one."""
        scheme, _, token = b", ".join(fields(b"authorization")).partition(b" ")
        return scheme.lower() == b"bearer" and self._name(token.strip()) is not None

    def _name(self, token: bytes) -> str | None:
        return self._operators.name_of(token) if self._operators is not None else None

    def _is_tired(self, address: str, local: bool) -> bool:
        """Whether so many tokens were wrong that none is looked at; others on this machine keep nobody out."""
        return not local and self._seconds() < self._tired.get(bucket_of(address), 0.0)

    def _refuse(self, address: str) -> None:
        whose, now = bucket_of(address), self._seconds()
        until = self._tired.get(whose, 0.0)
        wait = until - now if until > now else self._wrong.take(whose, now)
        if wait:
            if len(self._tired) >= _TIRED:
                self._tired.clear()
            self._tired[whose] = now + wait
            raise Problem(429, "too many wrong tokens", fields=[("Retry-After", str(int(wait) + 1))])
        if self._operators is not None and self._operators.wrong:
            raise Problem(
                401, "nobody's token is taken now: the token file is wrong, the log says how", fields=[_INVALID]
            )
        self._log.warn("A wrong token for the admin API from {address}", address=address)
        raise Problem(401, "this token is nobody's", fields=[_INVALID])
