"""``stickyproxy``: what operators ask of a configuration, and of the proxy that runs it. Floor 7.

``words`` has the parser, ``files`` what is answered from files alone, ``instance`` asks a running proxy by its admin
API; every command returns an ``Answer``, for people and as JSON, or raises ``Failure``.
"""

from stickyproxy.command.main import main

__all__ = ["main"]
