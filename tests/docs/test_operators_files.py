"""conf/ for operators: what containers and Kubernetes start is what there is. No container engine is needed."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from stickyproxy.command.words import make_parser
from stickyproxy.config import Configuration, parse
from stickyproxy.extensions import find_extensions

ROOT = Path(__file__).parents[2]
CONTAINERFILE = (ROOT / "conf" / "container" / "Containerfile").read_text()
#: Word and rest of each instruction, lines joined, comments gone.
INSTRUCTIONS = [
    (line.partition(" ")[0], line.partition(" ")[2].strip())
    for line in re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", CONTAINERFILE, flags=re.MULTILINE)).splitlines()
    if line
]
DOCUMENTS: dict[str, dict[str, Any]] = {
    document["kind"]: document
    for document in yaml.safe_load_all((ROOT / "conf" / "kubernetes" / "stickyproxy.yaml").read_text())
}
POD = DOCUMENTS["Deployment"]["spec"]["template"]["spec"]


def configuration(text: str, directory: Path) -> Configuration:
    """What a configuration means where the files that it names are."""
    for name in ("key", "admin.token"):
        (directory / name).touch()
        text = re.sub(rf'"/(?:run|var/lib)/stickyproxy/{name}"', f'"{directory / name}"', text)
    return parse(text.encode(), find_extensions(), directory / "proxy.toml")


def last(word: str) -> str:
    return next(rest for name, rest in reversed(INSTRUCTIONS) if name == word)


def understood(words: list[str]) -> bool:
    """Whether our command line takes these words."""
    assert words[0] == "stickyproxy"
    return bool(make_parser().parse_args(words[1:]).command)


def test_the_container_runs_what_there_is() -> None:
    """Its commands are ours and in exec form, so that SIGTERM reaches the proxy; what is copied is in the source."""
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "VOLUME", "USER", "EXPOSE", "STOPSIGNAL"}
    assert {name for name, _ in INSTRUCTIONS} == known | {"HEALTHCHECK", "ENTRYPOINT", "CMD"}
    entry = json.loads(last("ENTRYPOINT")) + json.loads(last("CMD"))
    assert understood(entry)
    check = last("HEALTHCHECK").partition("CMD ")[2]
    assert understood(json.loads(check)) and entry[-1] in check
    for name, rest in INSTRUCTIONS:
        if name == "COPY" and "--from" not in rest:
            assert all((ROOT / source).exists() for source in rest.split()[:-1]), rest


def test_the_container_is_nobody() -> None:
    """It runs as a user that is not root, in a stage that has neither source nor compiler, and SIGTERM stops it."""
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", last("USER"))
    assert last("STOPSIGNAL") == "SIGTERM"
    final = [name for name, _ in INSTRUCTIONS][::-1].index("FROM")
    assert all("pip" not in rest for _, rest in INSTRUCTIONS[-final:])


def test_the_container_has_a_configuration(tmp_path: Path) -> None:
    """The sample beside it is right, listens where the container is open, and keeps its key where that is a volume."""
    text = (ROOT / "conf" / "container" / "proxy.toml").read_text()
    ready = configuration(text, tmp_path)
    assert ready.frontends[0].listen == (f"tcp:{last('EXPOSE')}",)
    assert tomllib.loads(text)["cluster"]["app"]["key_file"].startswith(last("VOLUME"))
    assert ready.admin is not None


def test_kubernetes_gives_it_time(tmp_path: Path) -> None:
    """From preStop over the drain to the end it has less time than Kubernetes gives it before it kills."""
    ready = configuration(DOCUMENTS["ConfigMap"]["data"]["proxy.toml"], tmp_path)
    (container,) = POD["containers"]
    name, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    drain = ready.process.drain
    assert name == "sleep" and drain is not None
    assert int(seconds) + drain + 5 <= POD["terminationGracePeriodSeconds"]


def test_kubernetes_runs_what_there_is(tmp_path: Path) -> None:
    """Its words are ours; ports, volumes and labels fit together; probes ask what is there."""
    (container,) = POD["containers"]
    entry = json.loads(last("ENTRYPOINT"))
    assert understood([*entry, *container["args"]])
    assert understood(container["livenessProbe"]["exec"]["command"])
    (port,) = container["ports"]
    ready = configuration(DOCUMENTS["ConfigMap"]["data"]["proxy.toml"], tmp_path)
    assert ready.frontends[0].listen == (f"tcp:{port['containerPort']}",)
    assert container["readinessProbe"]["tcpSocket"]["port"] == port["name"]
    assert DOCUMENTS["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    labels = DOCUMENTS["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert DOCUMENTS["Service"]["spec"]["selector"] == labels
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert DOCUMENTS[kind]["spec"]["selector"]["matchLabels"] == labels
    volumes = {volume["name"] for volume in POD["volumes"]}
    for each in (container, *POD["initContainers"]):
        assert {mount["name"] for mount in each["volumeMounts"]} <= volumes
        assert each["image"] == container["image"]


@pytest.mark.parametrize("container", [*POD["containers"], *POD["initContainers"]], ids=lambda each: each["name"])
def test_kubernetes_locks_it_up(container: dict[str, Any]) -> None:
    """No root, no capabilities, nothing to write to but memory; the user is that of the container."""
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert POD["securityContext"]["runAsNonRoot"]
    assert f"{POD['securityContext']['runAsUser']}:{POD['securityContext']['runAsGroup']}" == last("USER")
    assert container["resources"]["limits"]["memory"]
