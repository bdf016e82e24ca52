"""A configuration made to run, and changed while it runs. Floor 6."""

from stickyproxy.service.clusters import build_cluster
from stickyproxy.service.proxy import Proxy, build
from stickyproxy.service.trial import mistakes_of, read_again, trial

__all__ = ["Proxy", "build", "build_cluster", "mistakes_of", "read_again", "trial"]
