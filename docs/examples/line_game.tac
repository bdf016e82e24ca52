"""The game's frontend in a service of one's own: ``PYTHONPATH=. twistd -ny line_game.tac``."""

from line_game import make_service
from twisted.application.service import Application, MultiService
from twisted.internet import reactor

application = Application("game")
services = MultiService()  # here is also what your application serves besides
services.setServiceParent(application)

backends = {"red": "tcp:127.0.0.1:4001", "blue": "tcp:127.0.0.1:4002"}
make_service(reactor, "tcp:4000", backends).setServiceParent(services)
