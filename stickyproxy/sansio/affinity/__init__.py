"""The affinities: the memory of who is served by whom. Each provides ``interfaces.IAffinity``. Floor 2, pure."""

from stickyproxy.sansio.affinity.cookie import CookieAffinity
from stickyproxy.sansio.affinity.none import NoAffinity
from stickyproxy.sansio.affinity.source import SourceAffinity

__all__ = ["CookieAffinity", "NoAffinity", "SourceAffinity"]
