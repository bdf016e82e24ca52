"""``stickyproxy drain``: begun, waited for, cancelled. Floor 7."""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

from stickyproxy.command.answers import Answer, Failure, Status
from stickyproxy.command.instance import Instance, instance_of, path_of

#: The stages of a drain that ended well; what else it may end with has cut somebody off, or ended it before its time.
_WELL = ("done",)
#: How the proxy is asked while it drains: each question is answered at the end, or after that time.
_WAIT = "1s"


def drain(chosen: Namespace) -> Answer:
    instance = instance_of(chosen)
    wanted, name = _wanted(chosen)
    if chosen.cancel:
        path = path_of("drains", name)
        report = instance.ask("DELETE", path, "stage")
        return Answer(report, [told(report)])
    options = {key: value for key in ("stay", "window", "deadline", "code") if (value := getattr(chosen, key))}
    report = instance.ask("POST", "/api/drains", "stage", {**wanted, **options})
    if chosen.wait:
        report = _wait(instance, report, quiet=chosen.json)
    failed = report["ended"] and report["stage"] not in _WELL
    return Answer(report, [told(report)], Status.FAILED if failed else Status.FINE)


def _wanted(chosen: Namespace) -> tuple[dict[str, Any], str]:
    """What is to be drained, and the name of that drain. Raises ``Failure``."""
    kinds = [chosen.cluster is not None, chosen.frontend is not None, chosen.process]
    if sum(kinds) != 1 or (chosen.cluster is not None and chosen.backend is None):
        raise Failure("say what to drain: CLUSTER BACKEND, --frontend NAME, or --process", Status.WORDS)
    if chosen.process:
        return {"process": True}, "process"
    if chosen.frontend is not None:
        return {"frontend": chosen.frontend}, f"frontend {chosen.frontend}"
    return {"cluster": chosen.cluster, "backend": chosen.backend}, f"backend {chosen.backend} of {chosen.cluster}"


def drains(chosen: Namespace) -> Answer:
    answer = instance_of(chosen).ask("GET", "/api/drains", "drains")
    return Answer(answer, [told(report) for report in answer["drains"]] or ["nothing drains"])


def _wait(instance: Instance, report: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Until it has ended; what is left is told on standard error whenever that is another. Raises ``Failure``."""
    if instance.timeout < 2:
        raise Failure("to wait, --timeout has to be 2 or more", Status.WORDS)
    path, before = path_of("drains", report["id"]), ""
    try:
        while not report["ended"]:
            line = told(report)
            if not quiet and line != before:
                sys.stderr.write(f"{line}\n")
            before = line
            report = instance.ask("GET", path, "stage", query={"wait": _WAIT})
    except KeyboardInterrupt:
        sys.stderr.write("nobody waits any more; the drain goes on (--cancel ends it)\n")
        raise
    return report


def told(report: dict[str, Any]) -> str:
    """``backend b of app: closing, 3 sockets left``."""
    parts = [report["stage"], f"{report['sockets']} sockets left"]
    if report["sessions"] is not None:
        parts.append(f"{report['sessions']} sessions")
    if report["cut"]:
        parts.append(f"{report['cut']} cut")
    if report["remaining"] is not None:
        parts.append(f"{report['remaining']:.0f} s to go")
    return f"{report['id']}: {', '.join(parts)}"
