"""docs/metrics.md has every family as it is told, and the alerts and the dashboard ask for families that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import yaml

from stickyproxy.control.metrics.families import FAMILIES, Family

DOCS = Path(__file__).parents[2] / "docs"
ALERTS, DASHBOARD = DOCS / "examples" / "alerts.yml", DOCS / "examples" / "grafana.json"


def row(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels) or "–"
    return f"| `{family.name}` | {family.kind} | {labels} | {family.meaning} | {family.merge} |"


def names(expression: str) -> set[str]:
    """The metrics that an expression of PromQL asks for, as families."""
    found = set(re.findall(r"\b(?:stickyproxy|process)_\w+", re.sub(r'"[^"]*"', "", expression)))
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in found}


def labels_of(expression: str) -> set[str]:
    """The labels that it selects or sums by."""
    by = [label for group in re.findall(r"\bby \(([^)]*)\)", expression) for label in re.split(r",\s*", group)]
    return {*by, *re.findall(r"(\w+)(?:=~|!~|!=|=)\"", expression)} - {"le", "job", "instance"}


def check(expression: str) -> None:
    asked = names(expression)
    assert asked <= FAMILIES.keys(), expression
    known = {label for name in asked for label in FAMILIES[name].labels}
    assert labels_of(expression) <= known, expression


def test_the_page_has_every_family() -> None:
    """Name, type, labels, meaning and what several processes make of it, in the order in which they are told."""
    rows = re.findall(r"^\| `(?:stickyproxy|process)_.*$", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    assert rows == [row(family) for family in FAMILIES.values()]


def test_names_are_as_prometheus_wants_them() -> None:
    """Counters end in _total, nothing else does, and what has a unit says so in whole seconds or bytes."""
    for name, family in FAMILIES.items():
        assert re.fullmatch(r"(stickyproxy|process)_[a-z_]+", name)
        assert name.endswith("_total") == (family.kind == "counter")
        assert not re.search(r"_(ms|milliseconds|kb|percent)\b", name)


def test_alerts_ask_for_what_there_is() -> None:
    """Every rule is one that Prometheus takes, and its expression names families and labels that are told."""
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    assert len(group["rules"]) >= 10
    for rule in group["rules"]:
        assert rule.keys() == {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"\d+[smh]", rule["for"])
        if rule["alert"] != "StickyproxyAway":
            assert names(rule["expr"])
        check(rule["expr"])
    if promtool := shutil.which("promtool"):
        subprocess.run([promtool, "check", "rules", ALERTS], check=True, timeout=60)


def test_the_dashboard_asks_for_what_there_is() -> None:
    """Every panel's expressions name families and labels that are told, and most families are on some panel."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    for expression in expressions:
        check(expression)
    shown = {name for expression in expressions for name in names(expression)}
    assert len(shown) >= 0.75 * len([name for name in FAMILIES if name.startswith("stickyproxy")])
