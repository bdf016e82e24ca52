"""The house rules that no linter knows."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for part in ("stickyproxy", "twisted", "bench") for path in (ROOT / part).rglob("*.py"))
IMPORT_ALL = """
import importlib, pkgutil, sys
import stickyproxy
for module in pkgutil.walk_packages(stickyproxy.__path__, "stickyproxy."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as missing:
        if missing.name != "uvloop":  # without it there is no reactor of ours
            raise
    print(module.name)
    if "twisted.internet.reactor" in sys.modules:
        sys.exit(f"{module.name} installs a reactor: take it as an argument instead")
"""


def functions() -> list[tuple[str, int]]:
    """Where each function is, and its lines without the docstring."""
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                docstring = ast.get_docstring(node, clean=False)
                lines = node.end_lineno - node.lineno + 1 - (docstring.count("\n") + 1 if docstring else 0)
                found.append((f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", lines))
    return found


def test_no_module_installs_a_reactor() -> None:
    """I can import any part of stickyproxy into my own program and choose the reactor afterwards."""
    run = subprocess.run([sys.executable, "-c", IMPORT_ALL], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert {"stickyproxy.model", "stickyproxy.config.specs"} <= set(run.stdout.split())


def test_twisted_is_not_hidden() -> None:
    """Twisted stays importable beside the folder that carries the plug-in."""
    assert [path.name for path in (ROOT / "twisted").rglob("*.py")] == ["stickyproxy_plugin.py"]


def test_every_package_says_what_it_is() -> None:
    """Each folder with modules is a package, so that type checker, import linter and wheel see the same modules."""
    folders = {path.parent for path in (ROOT / "stickyproxy").rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_fits_on_the_table(path: Path) -> None:
    """A module stops at 400 lines."""
    lines = path.read_text().count("\n")
    assert lines <= 400


def test_function_fits_on_the_screen() -> None:
    """A function stops at 40 lines, its docstring not counted."""
    assert [(where, lines) for where, lines in functions() if lines > 40] == []
