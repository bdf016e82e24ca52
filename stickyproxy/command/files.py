"""What is answered from files alone: whether a configuration is right, and where a request would go. Floor 7."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from random import Random
from typing import Any

import attrs
from twisted.internet.task import Clock

from stickyproxy.cluster import Cluster
from stickyproxy.command.answers import Answer, Failure, Status
from stickyproxy.command.instance import instance_of
from stickyproxy.config import Configuration, load
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.control.explaining import Question, judge, verdict
from stickyproxy.control.explaining import explain as told_of
from stickyproxy.extensions import Extensions, find_extensions
from stickyproxy.sansio.selection import Choice
from stickyproxy.service import build_cluster, read_again
from stickyproxy.tap import summary


def check(chosen: Namespace) -> Answer:
    """Raises ``ConfigurationErrors``."""
    path = chosen.file.absolute()
    configuration = read_again(path, find_extensions()).configuration
    names = {cluster.name: [backend.id for backend in cluster.backends] for cluster in configuration.clusters}
    frontends = [frontend.name for frontend in configuration.frontends]
    lines = summary(configuration).splitlines()
    return Answer({"configuration": str(path), "frontends": frontends, "clusters": names}, lines)


def explain(chosen: Namespace) -> Answer:
    """From the configuration alone, or (``--live``) by the proxy that runs."""
    if chosen.live or chosen.admin is not None:
        question = {"url": chosen.url, "method": chosen.method, "headers": chosen.header, "address": chosen.client}
        if chosen.frontend is not None:
            question["frontend"] = chosen.frontend
        report = instance_of(chosen).ask("POST", "/api/explain", "why", question)
    elif chosen.config is None:
        raise Failure("say by which configuration: -c FILE", Status.WORDS)
    else:
        report = _explained(chosen)
    if report["cluster"] is None:
        return Answer(report, [f"frontend {report['frontend']}: {report['why'][0]}"])
    return Answer(report, [f"frontend {report['frontend']}", *report["why"]])


def _explained(chosen: Namespace) -> dict[str, Any]:
    """As ``Controls.explain`` tells it."""
    extensions = find_extensions()
    configuration = load(chosen.config, extensions)
    question = Question(chosen.url, chosen.method, chosen.header, chosen.client, chosen.frontend)
    asked = judge(question, configuration)
    report = {"frontend": asked.frontend, "cluster": asked.cluster, "backend": None, "outcome": None}
    if asked.cluster is None:
        return {**report, "why": [asked.route]}
    spec = next(cluster for cluster in configuration.clusters if cluster.name == asked.cluster)
    cluster = _cluster(spec, configuration, extensions)
    why = [asked.route, *told_of(asked, cluster)]
    selected = cluster.select(asked.arrival)
    if isinstance(selected, Choice):
        report |= {"backend": selected.candidate.id, "outcome": selected.outcome.value}
    if selected is None or isinstance(selected, Choice):
        why.append(verdict(selected, cluster))
    return {**report, "why": why}


def _cluster(spec: ClusterSpec, configuration: Configuration, extensions: Extensions) -> Cluster:
    """The cluster as it would run, on a clock that stands still. A key file that is not there is not made."""
    directory = configuration.path.parent if configuration.path is not None else None
    key_file = key_file_of(spec, configuration)
    if not spec.keys and (key_file is None or not key_file.exists()):
        spec = attrs.evolve(spec, keys=(bytes(Random().randbytes(32)),), key_file=None)
    return build_cluster(spec, Clock(), extensions, random=Random(), directory=directory)


def key_file_of(spec: ClusterSpec, configuration: Configuration) -> Path | None:
    """Where the keys of a cluster are, if they are not in the configuration itself."""
    if spec.keys:
        return None
    if spec.key_file is not None:
        return spec.key_file
    return configuration.path.parent / "stickyproxy.key" if configuration.path is not None else None
