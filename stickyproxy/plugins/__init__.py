"""Extensions live here, and in every ``stickyproxy/plugins/`` directory of the module search path. Floor 3."""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))
__all__: list[str] = []
