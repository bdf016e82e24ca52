"""``stickyproxy``: what is asked on the command line of a configuration, without serving it. Floor 7."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import attrs
from twisted.internet.task import Clock

from stickyproxy.cluster import Cluster
from stickyproxy.config import Configuration, ConfigurationErrors, load
from stickyproxy.config.specs import Cluster as ClusterSpec
from stickyproxy.control.explaining import Question, explain, judge, verdict
from stickyproxy.errors import StickyproxyError
from stickyproxy.extensions import Extensions, find_extensions
from stickyproxy.sansio.selection import Choice
from stickyproxy.service import build_cluster

_EXPLAIN = """\
Why a request goes where it goes: which route holds, what each affinity knows of the client, and who serves it.

Cookies and hashed keys are judged as the running proxy would. What that has learned is in its memory alone: send it the
request with "X-Sticky-Explain: 1" from one of its trusted_proxies, and its answer tells the same.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The program ``stickyproxy``. Returns its exit status: 0, 1 for a wrong configuration, 2 for wrong words."""
    parser = argparse.ArgumentParser(
        prog="stickyproxy", description="Tools for stickyproxy, which itself is run by: twistd stickyproxy"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    explain = commands.add_parser(
        "explain",
        help="why a request goes where it goes",
        description=_EXPLAIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    explain.add_argument("url", metavar="URL", help="as the client asks for it: http://example.org/path?query")
    explain.add_argument("-c", "--config", type=Path, required=True, metavar="FILE", help="the configuration")
    explain.add_argument("-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", help="repeatable")
    explain.add_argument("-X", "--method", default="GET", help="default: GET")
    explain.add_argument("--client", default="127.0.0.1", metavar="ADDRESS", help="who asks; default: 127.0.0.1")
    explain.add_argument("--frontend", metavar="NAME", help="default: the first one for HTTP")
    explain.set_defaults(run=_explain)
    chosen = parser.parse_args(arguments)
    try:
        for line in chosen.run(chosen):
            sys.stdout.write(f"{line}\n")
    except (ConfigurationErrors, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except (StickyproxyError, ValueError) as error:
        sys.stderr.write(f"stickyproxy: {error}\n")
        return 2
    return 0


def _explain(chosen: argparse.Namespace) -> Iterator[str]:
    extensions = find_extensions()
    configuration = load(chosen.config, extensions)
    question = Question(chosen.url, chosen.method, chosen.header, chosen.client, chosen.frontend)
    asked = judge(question, configuration)
    if asked.cluster is None:
        yield f"frontend {asked.frontend}: {asked.route}"
        return
    yield f"frontend {asked.frontend}"
    yield asked.route
    spec = next(cluster for cluster in configuration.clusters if cluster.name == asked.cluster)
    cluster = _cluster(spec, configuration, extensions)
    yield from explain(asked, cluster)
    selected = cluster.select(asked.arrival)
    if selected is None or isinstance(selected, Choice):
        yield verdict(selected, cluster)


def _cluster(spec: ClusterSpec, configuration: Configuration, extensions: Extensions) -> Cluster:
    """The cluster as it would run, on a clock that stands still. A key file that is not there is not made."""
    directory = configuration.path.parent if configuration.path is not None else None
    key_file = spec.key_file or (directory / "stickyproxy.key" if directory is not None else None)
    if not spec.keys and (key_file is None or not key_file.exists()):
        spec = attrs.evolve(spec, keys=(bytes(Random().randbytes(32)),), key_file=None)
    return build_cluster(spec, Clock(), extensions, random=Random(), directory=directory)
