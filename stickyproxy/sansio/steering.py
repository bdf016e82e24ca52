"""What a backend may say of a session, in fields of its answers. Floor 2, pure.

``Sticky-Pin`` binds the client to it, ``Sticky-Release`` to nobody, ``Sticky-Move: ID`` to another backend of the
cluster; ``Sticky-TTL: SECONDS`` says for how long, with or without one of these. Clients never see them.
"""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from stickyproxy.model import ResponseHead
from stickyproxy.sansio.fields import STEERING


class Steering(NamedTuple):
    """What the backend wants: ``to`` is the id of a backend, ``""`` nobody, None: as it is."""

    to: str | None
    lifetime: float | None = None  #: seconds


def steering(head: ResponseHead, backend_id: str, members: Container[str]) -> Steering | None:
    """What ``backend_id`` wants by ``head``, or None. What contradicts itself or names no member means nothing."""
    named = head.named
    if STEERING.isdisjoint(named):
        return None
    wishes: set[str] = set()
    if b"sticky-pin" in named:
        wishes.add(backend_id)
    if b"sticky-release" in named:
        wishes.add("")
    wishes |= {value.decode("latin-1") for value in named.get(b"sticky-move", ())}
    lifetime = named.get(b"sticky-ttl", [])
    seconds = float(lifetime[0]) if len(lifetime) == 1 and lifetime[0].isdigit() and len(lifetime[0]) < 10 else None
    if len(wishes) > 1 or (lifetime and seconds is None):
        return None
    to = wishes.pop() if wishes else None
    if to and to not in members:
        return None
    return Steering(to, seconds)
