"""Bearer tokens that are JSON Web Tokens, and the claim that a client is known by. Floor 2, pure.

RFC 6750 section 2.1 (``Authorization: Bearer``), RFC 7519 (JWT), RFC 7515 (the signed form, three parts). Verifying is
PyJWT's work: an optional dependency, imported where it is asked for.
"""

from __future__ import annotations

import base64
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any

#: Bytes of a token that are worth their time; a longer one is as if absent.
LONGEST_TOKEN = 8192
#: Good tokens whose verification is remembered.
REMEMBERED = 1024

_FAMILIES = {"HS": "a shared secret", "RS": "an RSA key", "PS": "an RSA key", "ES": "an EC key", "Ed": "an EdDSA key"}


def token_of(values: Sequence[bytes]) -> bytes | None:
    """The token in the values of the Authorization fields of a request, None unless there is exactly one."""
    if len(values) != 1 or values[0][:7].lower() != b"bearer ":
        return None
    token = values[0][7:].strip(b" \t")
    return token if 0 < len(token) <= LONGEST_TOKEN else None


def unverified_claim(token: bytes, claim: str) -> bytes | None:
    """The claim of a token that anybody may have written."""
    parts = token.split(b".")
    if len(parts) != 3:
        return None
    try:
        content = base64.b64decode(parts[1] + b"=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
        return _text(json.loads(content), claim)
    except (ValueError, RecursionError):
        return None


def verifier(
    claim: str,
    *,
    key: str | bytes,
    algorithms: Sequence[str],
    clock: Callable[[], float],
    audience: str | None = None,
    issuer: str | None = None,
) -> Callable[[bytes], bytes | None]:
    """What reads the claim of a token that ``key`` verifies, and that holds at ``clock()``; None for any other.

    ``key`` is the shared secret, or the public key in PEM; ``clock`` gives seconds since the epoch. Good tokens are
    remembered by their digest, those that were used last, until they expire: another look at one is a hash. Bad ones
    are not, so that nobody can push the good ones out. Raises ``ValueError``: PyJWT is missing, or cannot use these.
    """
    jwt = _library(algorithms)
    prepared = _prepared(jwt, key, algorithms[0])
    options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": audience is not None}
    known: OrderedDict[bytes, tuple[bytes, float, float]] = OrderedDict()

    def verify(token: bytes) -> bytes | None:
        try:
            claims = jwt.decode(token, prepared, list(algorithms), options=options, audience=audience, issuer=issuer)
            text = _text(claims, claim)
            span = float(claims.get("nbf", 0)), float(claims.get("exp", "inf"))
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return None
        if text is not None:
            known[blake2b(token, digest_size=32).digest()] = (text, *span)
            if len(known) > REMEMBERED:
                known.popitem(last=False)
        return text

    def read(token: bytes) -> bytes | None:
        digest = blake2b(token, digest_size=32).digest()
        if digest not in known and verify(token) is None:
            return None
        text, begins, ends = known[digest]
        known.move_to_end(digest)
        if begins <= clock() < ends:
            return text
        del known[digest]
        return None

    return read


def _text(claims: Any, claim: str) -> bytes | None:
    """A claim that is a text or a whole number; anything else tells nobody apart."""
    value = claims.get(claim) if isinstance(claims, dict) else None
    if type(value) is int:
        value = str(value)
    return value.encode() if isinstance(value, str) and value else None


def _library(algorithms: Sequence[str]) -> Any:
    try:
        import jwt
    except ImportError:
        raise ValueError("verifying a bearer token takes PyJWT: pip install 'stickyproxy[jwt]'") from None
    known = set(jwt.algorithms.get_default_algorithms()) - {"none"}
    for name in algorithms:
        if name not in known:
            raise ValueError(f"algorithm {name!r}: expected one of {', '.join(sorted(known))}")
    if len({_FAMILIES.get(name[:2]) for name in algorithms}) != 1:  # a public key must never become a shared secret
        raise ValueError("algorithms: expected one or more that take the same kind of key, such as RS256 and PS256")
    return jwt


def _prepared(jwt: Any, key: str | bytes, algorithm: str) -> Any:
    """The key as PyJWT uses it, so that PEM is read once."""
    try:
        prepared = jwt.algorithms.get_default_algorithms()[algorithm].prepare_key(key)
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise ValueError(f"the key cannot be used with {algorithm}: {error}") from None
    if not isinstance(prepared, bytes) and not hasattr(prepared, "verify"):
        raise ValueError("the key is a private one, which has no place here: expected the public key")
    return prepared
