"""stickyproxy: WebSockets, TLS termination and sticky sessions together, for HTTP and any TCP protocol."""

__version__ = "0.1.0"
