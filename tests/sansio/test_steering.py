"""What backends say of a session in their answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stickyproxy.sansio.http1 import parse_response_head
from stickyproxy.sansio.steering import Steering, steering


def read(*fields: str) -> Steering | None:
    head = parse_response_head("\r\n".join(["HTTP/1.1 200 OK", *fields, "", ""]).encode(), b"GET")
    assert not any(piece.lower().startswith(b"sticky-") for piece in head.plain)
    return steering(head, "a", {"a", "b"})


@pytest.mark.parametrize(
    ("fields", "wish"),
    [
        ((), None),
        (("Sticky-Pin: 1",), Steering("a")),
        (("sticky-release:",), Steering("")),
        (("Sticky-Move: b",), Steering("b")),
        (("Sticky-TTL: 60",), Steering(None, 60.0)),
        (("Sticky-Pin: 1", "Sticky-TTL: 0"), Steering("a", 0.0)),
        (("Sticky-Move: b", "Sticky-Move: b"), Steering("b")),
        (("Sticky-Move: c",), None),
        (("Sticky-Move: b", "Sticky-Release: 1"), None),
        (("Sticky-TTL: -1",), None),
        (("Sticky-TTL: 1e9",), None),
        (("Sticky-TTL: 9999999999",), None),
        (("Sticky-TTL: 1", "Sticky-TTL: 2"), None),
    ],
)
def test_wishes(fields: tuple[str, ...], wish: Steering | None) -> None:
    """Pin, release, move and a lifetime; what contradicts itself, or names nobody of the cluster, means nothing."""
    assert read(*fields) == wish


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_any_value(value: str) -> None:
    """Whatever a backend says, nobody is bound outside the cluster."""
    wish = read(f"Sticky-Move: {value}", f"Sticky-TTL: {value}")
    assert wish is None or wish.to in ("a", "b")
