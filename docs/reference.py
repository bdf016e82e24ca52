"""Writes ``docs/configuration.md``: ``python docs/reference.py``."""

from pathlib import Path

from stickyproxy.config.reference import render
from stickyproxy.extensions import find_extensions

Path(__file__).with_name("configuration.md").write_text(render(find_extensions()))
