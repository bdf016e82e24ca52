"""The extensions that come with stickyproxy. Floor 3.

The parameters of the functions here, their types and defaults, are the options in the configuration.
"""

from __future__ import annotations

from stickyproxy.extensions import Extension
from stickyproxy.interfaces import IAffinity
from stickyproxy.sansio.affinity import NoAffinity

no_affinity = Extension("none", IAffinity, NoAffinity)
