"""The configuration: TOML → frozen specs, and every mistake at once. Floor 2."""

from stickyproxy.config.mistakes import ConfigurationErrors, Mistake
from stickyproxy.config.reading import from_tables, load
from stickyproxy.config.specs import Configuration

__all__ = ["Configuration", "ConfigurationErrors", "Mistake", "from_tables", "load"]
