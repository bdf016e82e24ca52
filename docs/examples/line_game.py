"""A protocol of one's own made sticky: all players of a table meet on the same game server.

A client's first line names the table (``table seven``); everything after it is between the client and the server. Run
it beside whatever else your application serves, as ``line_game.tac`` does::

    PYTHONPATH=docs/examples twistd -ny docs/examples/line_game.tac
"""

from twisted.application.internet import StreamServerEndpointService
from twisted.internet.endpoints import serverFromString

from stickyproxy.api import FrontendProtocol, Sweep, TCPFrontendFactory, cluster_of


class LineGame(FrontendProtocol):
    """Reads the first line for a key, and says sorry where nobody serves."""

    def affinity_key(self, data):
        line, end_of_line, _ = data.partition(b"\n")
        return line.removeprefix(b"table ").strip() if end_of_line else None

    def connection_refused(self):
        self.transport.write(b"sorry, no server is up\n")
        super().connection_refused()


def make_service(reactor, listen, backends):
    """The frontend as a service for any MultiService. ``backends``: id to endpoint string.

    A table's server is the same in every process and after every restart, and nothing is stored: it is the hash of the
    key that says so. A server that comes or goes moves only its own tables.
    """
    cluster = cluster_of(reactor, backends, name="tables", balance={"by": "consistent-hash", "key": "key"})
    factory = TCPFrontendFactory(cluster, Sweep(reactor), idle=3600, frontend_protocol=LineGame)
    return StreamServerEndpointService(serverFromString(reactor, listen), factory)
