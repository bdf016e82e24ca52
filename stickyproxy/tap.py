"""``twistd stickyproxy``: the command line. Floor 7."""

from __future__ import annotations

import atexit
import os
import secrets
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python import usage

from stickyproxy import __version__
from stickyproxy.config import Configuration, document_at, from_tables, parse
from stickyproxy.control.controls import Controls, LocalControls
from stickyproxy.control.cores import worker_count
from stickyproxy.control.fleet import CannotResize
from stickyproxy.control.fleet_controls import FleetControls
from stickyproxy.control.reloading import Loaded
from stickyproxy.control.service import AdminService
from stickyproxy.control.sockets import Sockets
from stickyproxy.errors import StickyproxyError
from stickyproxy.extensions import Extensions, find_extensions
from stickyproxy.listening import Listen
from stickyproxy.model import BackendState

_log = Logger()
DEFAULT_LISTEN = "tcp:8080:interface=127.0.0.1"
DETAILS = f"""
--config serves what a TOML file says. In the source, conf/ has samples and
docs/configuration.md explains every key. With --check nothing is served: the
file is read, and every mistake in it is told.

--backend serves HTTP and WebSockets without a file, for a try:
    twistd -n stickyproxy --backend a=tcp:127.0.0.1:9001 --backend b=tcp:127.0.0.1:9002
Each client is bound to a backend by a signed cookie, SRV, whose key lives as
long as the process. ENDPOINT is an endpoint string of Twisted, as in
--listen tcp:8080; without --listen that is {DEFAULT_LISTEN}.

--demo runs everything embedded, backends included, and prints the addresses to open.
"""


class Options(usage.Options):
    """What the words after ``twistd stickyproxy`` ask for; wrong words are a ``usage.UsageError``.

    Afterwards ``configuration`` is what to run (None for ``--demo``). Mistakes in it go to standard error, and the
    program ends with status 1.
    """

    synopsis = "(--config FILE [--check | --plan NEW] | --backend NAME=ENDPOINT ... [--listen ENDPOINT ...] | --demo)"
    longdesc = "Serves HTTP, WebSockets and any other TCP protocol from backends, each client always from the same."
    optParameters = [
        ["config", "c", None, "The configuration, a TOML file."],
        ["plan", None, None, "Say what would change if this file came in the place of --config, and exit."],
    ]
    optFlags = [
        ["check", None, "Say whether the configuration is right, and exit: status 0, or 1 and every mistake."],
        ["demo", None, "Run the demonstration, on loopback only."],
    ]
    compData = usage.Completions(optActions={"config": usage.CompleteFiles("*.toml")})

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []
        self["backend"] = {}
        self.configuration: Configuration | None = None
        self.document = b""  #: what it was read from
        self.extensions: Extensions

    def opt_listen(self, endpoint: str) -> None:
        """Without --config: where clients connect, an endpoint string. May be given again."""
        self["listen"].append(endpoint)

    def opt_backend(self, backend: str) -> None:
        """Without --config: a backend, as NAME=ENDPOINT. May be given again."""
        name, _, endpoint = backend.partition("=")
        if not name or ":" not in endpoint or ":" in name:
            raise usage.UsageError(f"--backend {backend}: write NAME=ENDPOINT, such as a=tcp:127.0.0.1:9001")
        if name in self["backend"]:
            raise usage.UsageError(f"--backend {backend}: there is a backend {name} already, give each its own name")
        self["backend"][name] = endpoint

    def getUsage(self, width: int | None = None) -> str:
        return str(super().getUsage(width)) + DETAILS

    def opt_version(self) -> None:
        """Print the version and exit."""
        sys.stdout.write(f"stickyproxy {__version__}\n")
        sys.exit(0)

    def parseArgs(self, *words: str) -> None:
        if words:
            raise usage.UsageError(f"{words[0]}: what is this? A configuration is given as --config FILE")

    def postOptions(self) -> None:
        chosen = [f"--{name}" for name in ("config", "backend", "demo") if self[name]]
        if not chosen:
            raise usage.UsageError("say what to serve: --config FILE, --backend NAME=ENDPOINT …, or --demo")
        if len(chosen) > 1:
            raise usage.UsageError(f"{' and '.join(chosen)}: only one of them says what to serve")
        if self["plan"] and not self["config"]:
            raise usage.UsageError("--plan needs something to compare with: --config FILE")
        if self["listen"] and not self["backend"]:
            raise usage.UsageError(f"--listen belongs to --backend: {chosen[0]} says itself where to listen")
        if self["demo"]:
            if self["check"]:
                raise usage.UsageError("--check needs something to check: --config FILE")
            return
        try:
            self.extensions = find_extensions()
            self.configuration = self._load()
            from stickyproxy.service import trial

            trial(self.configuration, self.extensions, files=self["check"])
            if self["plan"]:
                from stickyproxy.command.plans import told

                sys.stdout.write("\n".join([*told(Path(self["config"]), Path(self["plan"])), ""]))
                sys.exit(0)
        except StickyproxyError as errors:
            sys.stderr.write(f"{errors}\n")
            sys.exit(1)
        if self["check"]:
            sys.stdout.write(summary(self.configuration))
            sys.exit(0)

    def _load(self) -> Configuration:
        if self["config"]:
            path = Path(self["config"]).absolute()
            self.document = document_at(path)
            return parse(self.document, self.extensions, path)
        tables = {
            "frontend": {"main": {"listen": self["listen"] or [DEFAULT_LISTEN], "cluster": "main"}},
            "cluster": {
                "main": {
                    "affinity": {"by": "cookie", "name": "SRV"},
                    "keys": [secrets.token_urlsafe(32)],
                    "backends": self["backend"],
                }
            },
        }
        return from_tables(tables, self.extensions)


def makeService(options: Options) -> IService:
    """The service for ``options``. Raises ``SystemExit`` with the reason, where the files it needs are not right."""
    _choose_reactor()
    from twisted.internet import reactor  # noqa: TID251 - the one place where it is chosen; all others are given it

    from stickyproxy.program import Program

    program = Program(reactor, os.environ)
    if options["demo"]:
        from stickyproxy.demo import make_service

        make_service(reactor).setServiceParent(program)
        return program
    assert options.configuration is not None
    try:
        _run(program, _serving(program, options, reactor), options, reactor)
    except (StickyproxyError, ValueError) as error:
        raise SystemExit(f"stickyproxy: {error}") from error
    return program


class _Serving(NamedTuple):
    """What serves, by one process or by several, and what can be asked of it."""

    service: IService
    proxy: Any  #: in this process
    here: LocalControls  #: of this process
    controls: Controls  #: of all
    reopen: Callable[[], object]  #: opens all logs again
    apply: Callable[[Loaded], Awaitable[None]]
    listen: Listen  #: for what this process serves itself
    sockets: Sockets | None = None


def _run(program: Any, serving: _Serving, options: Options, reactor: Any) -> None:
    """Have ``program`` serve, and obey."""
    from stickyproxy.control.onsignal import OnSignal
    from stickyproxy.control.reloading import Reloading
    from stickyproxy.service import read_again

    configuration = options.configuration
    assert configuration is not None
    serving.service.setServiceParent(program)
    program.can_upgrade(serving.proxy, serving.sockets)
    OnSignal(signal.SIGUSR1, serving.reopen, reactor).setServiceParent(program)
    admin = AdminService(configuration.admin, serving.controls, reactor, serving.listen)
    admin.setServiceParent(program)
    if configuration.path is None:
        return

    def apply(new: Loaded) -> Deferred[None]:
        return Deferred.fromCoroutine(admin.reconfigure(new.configuration.admin, partial(serving.apply, new)))

    read, current = partial(read_again, configuration.path, options.extensions), lambda: serving.proxy.configuration
    serving.here.reloading = Reloading(read, current, apply, reactor, program.reloads)
    serving.here.reloading.setServiceParent(program)


def _serving(program: Any, options: Options, reactor: Any) -> _Serving:
    from stickyproxy.service import build
    from stickyproxy.service.workers import build_fleet

    configuration = options.configuration
    assert configuration is not None
    if worker_count(configuration.process.workers) > 1:
        fail = partial(_fail, reactor)
        fleet = build_fleet(Loaded(options.document, configuration), reactor, options.extensions, fail)
        program.serving = fleet.serving
        here, sockets = LocalControls(fleet.proxy, reactor), fleet.sockets
        controls = FleetControls(fleet, here)
        return _Serving(fleet, fleet.proxy, here, controls, fleet.reopen, fleet.reload, sockets.listen_here, sockets)
    listen = program.listen(configuration.process)
    proxy = build(configuration, reactor, options.extensions, listen=listen)

    async def apply(loaded: Loaded) -> None:
        if worker_count(loaded.configuration.process.workers) > 1:
            raise CannotResize("process.workers: from one process to several it takes a restart")
        await proxy.reconfigure(loaded.configuration)

    here = LocalControls(proxy, reactor)
    return _Serving(proxy, proxy, here, here, proxy.recording.reopen, apply, listen)


def _fail(reactor: Any, reason: str) -> None:
    """End the running program with status 1, in order."""
    _log.critical("{reason}", reason=reason)
    atexit.register(os._exit, 1)  # twistd knows no other status for a reactor that has run
    reactor.stop()


def _choose_reactor() -> None:
    """Ours where uvloop is installed, unless there is one already: by ``twistd --reactor``, or in a program of its own.

    ``twistd`` itself imports the reactor after this, and says in its log which it is.
    """
    if "twisted.internet.reactor" not in sys.modules:
        try:
            from stickyproxy.reactor.uv import install
        except ImportError:
            return  # no uvloop: Twisted has a default
        install()


def summary(configuration: Configuration) -> str:
    """Frontends, clusters and backends, a line for each."""
    workers = configuration.process.workers
    lines = [] if workers == 1 else [f"process: {worker_count(workers)} workers"]
    for frontend in configuration.frontends:
        kind = frontend.protocol.upper() + (" on TLS" if frontend.tls else "")
        lines.append(f"frontend {frontend.name}: {kind} on {', '.join(frontend.listen)}")
        lines += [f"  {route.host or 'any host'}, {route.path} -> {route.cluster}" for route in frontend.routes]
        lines += [f"  {'all else' if frontend.routes else 'all'} -> {frontend.cluster}"] if frontend.cluster else []
    for cluster in configuration.clusters:
        lines.append(f"cluster {cluster.name}: balance {cluster.balance.name}, affinity {cluster.affinity.name}")
        for backend in cluster.backends:
            state = "" if backend.state is BackendState.UP else f", {backend.state.value}"
            lines.append(f"  {backend.id}: {backend.endpoint}, weight {backend.weight}{state}")
    counts = (
        (len(configuration.frontends), "frontend"),
        (len(configuration.clusters), "cluster"),
        (sum(len(cluster.backends) for cluster in configuration.clusters), "backend"),
    )
    told = ", ".join(f"{count} {word}{'s' if count > 1 else ''}" for count, word in counts)
    return "\n".join([*lines, f"{configuration.path or 'command line'}: fine ({told})", ""])
