"""Writes ``docs/man/stickyproxy.1``: ``python docs/manual.py``."""

from pathlib import Path

from stickyproxy.command.manual import render

Path(__file__).parent.joinpath("man", "stickyproxy.1").write_text(render())
