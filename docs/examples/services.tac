"""What a configuration serves, and a site of one's own on the same cluster: ``twistd -ny services.tac``."""

from pathlib import Path

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Application, MultiService
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.web.server import Site
from twisted.web.static import Data

from stickyproxy.api import AffinityRequest, AffinityResource, build, find_extensions, load

application = Application("shop")
services = MultiService()  # here is also what your application serves besides
services.setServiceParent(application)

extensions = find_extensions()
proxy = build(load(Path(__file__).with_name("proxy.toml"), extensions), reactor, extensions)
proxy.setServiceParent(services)

root = AffinityResource(proxy.clusters["app"], reactor)
root.putChild(b"mine", Data(b"A page of my own.\n", "text/plain"))
site = Site(root, requestFactory=AffinityRequest)
StreamServerEndpointService(serverFromString(reactor, "tcp:8081"), site).setServiceParent(services)
