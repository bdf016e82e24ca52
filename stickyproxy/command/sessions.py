"""``stickyproxy sessions``: listed, moved, pinned, ended. Floor 7."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from stickyproxy.command.answers import Answer, columns, moment
from stickyproxy.command.instance import instance_of, path_of

_TITLES = ("SESSION", "CLUSTER", "BACKEND", "KNOWN BY", "SINCE", "SEEN", "")
_MOST = "1000"
_ELSEWHERE = {"client": "its clients keep them, in cookies", None: "nobody keeps them"}


def listed(chosen: Namespace) -> Answer:
    """One page, or (``--all``) all of them."""
    instance = instance_of(chosen)
    query = {key: getattr(chosen, key) for key in ("cluster", "backend", "key", "address", "limit", "after")}
    if chosen.all:
        query["limit"] = query["limit"] or _MOST
    answer = instance.ask("GET", "/api/sessions", "sessions", query=query)
    page = answer
    while chosen.all and page["next"] is not None:
        page = instance.ask("GET", "/api/sessions", "sessions", query={**query, "after": page["next"]})
        answer = {**page, "sessions": [*answer["sessions"], *page["sessions"]]}
    lines = columns([_TITLES, *map(_row, answer["sessions"])]) if answer["sessions"] else []
    if answer["next"] is not None:
        lines.append(f"more follow: --after {answer['next']}")
    return Answer(answer, lines or [*_not_here(answer["clusters"]), "no sessions"])


def _row(session: dict[str, Any]) -> tuple[Any, ...]:
    known = ", ".join(f"{key['by']} {key['key'] or '(secret)'}" for key in session["keys"])
    times = moment(session["since"]), moment(session["seen"])
    return session["id"], session["cluster"], session["backend"], known, *times, "pinned" if session["pinned"] else ""


def _not_here(clusters: dict[str, Any]) -> list[str]:
    """Why the sessions of a cluster are not among those that can be listed."""
    lines = []
    for name, links in clusters.items():
        keepers = [link["kept_by"] for link in links]
        if "table" not in keepers:
            lines.append(f"cluster {name}: {_ELSEWHERE['client' if 'client' in keepers else None]}")
    return lines


def move(chosen: Namespace) -> Answer:
    return _change(chosen, {"backend": chosen.backend} | ({"pinned": True} if chosen.pin else {}))


def pin(chosen: Namespace) -> Answer:
    return _change(chosen, {"pinned": True})


def unpin(chosen: Namespace) -> Answer:
    return _change(chosen, {"pinned": False})


def kick(chosen: Namespace) -> Answer:
    session = instance_of(chosen).ask(
        "DELETE", path_of("clusters", chosen.cluster, "sessions", chosen.session), "pinned"
    )
    return Answer(session, [f"session {session['id']} of {session['cluster']} is ended"])


def _change(chosen: Namespace, wanted: dict[str, Any]) -> Answer:
    path = path_of("clusters", chosen.cluster, "sessions", chosen.session)
    session = instance_of(chosen).ask("PUT", path, "pinned", wanted)
    pinned = ", pinned" if session["pinned"] else ""
    return Answer(session, [f"session {session['id']} of {session['cluster']}: at {session['backend']}{pinned}"])
