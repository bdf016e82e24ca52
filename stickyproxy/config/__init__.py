"""The configuration: TOML → frozen specs, and every mistake at once. Floor 2."""

from stickyproxy.config.mistakes import ConfigurationErrors, Mistake
from stickyproxy.config.reading import document_at, from_tables, load, parse
from stickyproxy.config.specs import Configuration

__all__ = ["Configuration", "ConfigurationErrors", "Mistake", "document_at", "from_tables", "load", "parse"]
