"""The affinities: the memory of who is served by whom. Each provides ``interfaces.IAffinity``. Floor 2, pure."""

from stickyproxy.sansio.affinity.application import ApplicationAffinity
from stickyproxy.sansio.affinity.chain import ChainAffinity
from stickyproxy.sansio.affinity.cookie import CookieAffinity
from stickyproxy.sansio.affinity.engineio import EngineIOAffinity
from stickyproxy.sansio.affinity.hashed import HashAffinity
from stickyproxy.sansio.affinity.learned import LearnedAffinity
from stickyproxy.sansio.affinity.mcp import MCPAffinity
from stickyproxy.sansio.affinity.migration import ForeignCookie, MigrationAffinity
from stickyproxy.sansio.affinity.named import NamedAffinity
from stickyproxy.sansio.affinity.none import NoAffinity
from stickyproxy.sansio.affinity.sockjs import sockjs_session
from stickyproxy.sansio.affinity.table import TableAffinity
from stickyproxy.sansio.affinity.theirs import PrefixAffinity, RewriteAffinity

__all__ = [
    "ApplicationAffinity",
    "ChainAffinity",
    "CookieAffinity",
    "EngineIOAffinity",
    "ForeignCookie",
    "HashAffinity",
    "LearnedAffinity",
    "MCPAffinity",
    "MigrationAffinity",
    "NamedAffinity",
    "NoAffinity",
    "PrefixAffinity",
    "RewriteAffinity",
    "TableAffinity",
    "sockjs_session",
]
