"""Everything at once, to look at: three backends, stickyproxy in front of them, and a page that explains. Floor 6."""

from stickyproxy.demo.service import make_service

__all__ = ["make_service"]
