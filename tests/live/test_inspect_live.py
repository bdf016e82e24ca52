"""TCP affinity by what the first bytes say: MQTT, Redis, PostgreSQL and TLS with their own clients."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clients import Server, configuration, connect, port_of, read_until, run
from parts import Backend, Program, Proxy, free_port

TCP = ('frontend.web.protocol = "tcp"', 'cluster.app.affinity.by = "key"')
USERS = ("alice", "bob", "carol", "dave", "erin")

Start = Callable[..., Program]


@pytest.fixture
def through(proxy: Callable[..., Proxy]) -> Callable[..., Proxy]:
    """``through(servers, *lines, certificate=None)``: a proxy before them that binds by the key."""
    return lambda servers, *lines, **more: proxy(configuration(servers, *TCP, *lines, cookie=False, **more))


def visits(served: Callable[[str], str], names: set[str]) -> None:
    """Everybody comes three times, in other orders, and is where he was; together they are everywhere."""
    homes = {user: served(user) for user in USERS}
    assert set(homes.values()) == names
    for order in (USERS[::-1], USERS[2:] + USERS[:2]):
        assert {user: served(user) for user in order} == homes


# MQTT


@pytest.fixture
def brokers(needs: Callable[[str], str], program: Start) -> list[Server]:
    """Two mosquittos, each with its name as a retained message."""
    servers = [Server(name, free_port()) for name in ("m1", "m2")]
    for name, port in servers:
        program(needs("mosquitto"), "-p", str(port)).wait_for(r"version \S+ running")
        told = run(needs("mosquitto_pub"), "-h", "127.0.0.1", "-p", str(port), "-t", "who", "-r", "-m", name)
        assert told.returncode == 0, told.stderr
    return servers


@pytest.mark.needs("mosquitto", "mosquitto_pub", "mosquitto_sub")
def test_mqtt_clients_stay(needs: Callable[[str], str], through: Callable[..., Proxy], brokers: list[Server]) -> None:
    """By client identifier and by user, in all versions; what is published for a client that is away waits for it."""
    proxy = through(brokers, 'frontend.web.inspect = "mqtt"', *user_frontend("mqtt"))
    by_id, by_user = str(port_of(proxy)), str(port_of(proxy, "user"))
    subscribe = [needs("mosquitto_sub"), "-h", "127.0.0.1", "-t", "who", "-C", "1", "-W", "20"]
    versions = iter(["311", "5", "31"] * 20)

    def identified(name: str) -> str:
        return run(*subscribe, "-p", by_id, "-V", next(versions), "-i", name).stdout.decode().strip()

    def named(user: str) -> str:
        will = ["--will-topic", "gone", "--will-payload", user]
        return (
            run(*subscribe, "-p", by_user, "-V", next(versions), "-u", user, "-P", "pw", *will).stdout.decode().strip()
        )

    visits(identified, {"m1", "m2"})
    visits(named, {"m1", "m2"})
    away = [
        needs("mosquitto_sub"),
        "-h",
        "127.0.0.1",
        "-p",
        by_id,
        "-i",
        "keeper",
        "-c",
        "-q",
        "1",
        "-t",
        "mail",
        "-W",
        "20",
    ]
    assert run(*away, "-E").returncode == 0
    sent = run(needs("mosquitto_pub"), "-h", "127.0.0.1", "-p", by_id, "-i", "keeper-2", "-t", "x", "-m", "x")
    assert sent.returncode == 0
    for broker in brokers:
        run(
            needs("mosquitto_pub"),
            "-h",
            "127.0.0.1",
            "-p",
            str(broker.port),
            "-q",
            "1",
            "-t",
            "mail",
            "-m",
            f"from {broker.name}",
        )
    assert run(*away, "-C", "1").stdout.startswith(b"from m")


def user_frontend(inspector: str) -> list[str]:
    """A second frontend of the cluster, whose key is the user."""
    return [
        'frontend.user.listen = "tcp:0:interface=127.0.0.1"',
        'frontend.user.protocol = "tcp"',
        'frontend.user.cluster = "app"',
        f'frontend.user.inspect = {{ by = "{inspector}", key = "user", bytes = "2KiB", timeout = "10s" }}',
    ]


# Redis


@pytest.mark.needs("redis-server", "redis-cli")
def test_redis_users_stay(
    needs: Callable[[str], str],
    through: Callable[..., Proxy],
    program: Start,
    tmp_path: Path,
    certificate: Callable[..., Path],
    authority_file: Path,
) -> None:
    """redis-cli with a user, in both protocols, on TLS too, and clients that tell a name; no password is in the log."""
    servers = [Server(name, free_port()) for name in ("r1", "r2")]
    users = [word for user in USERS for word in ("--user", user, "on", f">secret-{user}", "~*", "+@all")]
    for name, port in servers:
        arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", tmp_path, *users]
        program(needs("redis-server"), *arguments).wait_for("Ready to accept connections")
        assert run(needs("redis-cli"), "-p", str(port), "SET", "who", name).stdout == b"OK\n"
    lines = [
        'frontend.secure.protocol = "tcp"',
        'frontend.secure.inspect = "redis"',
        'frontend.web.inspect = { by = "redis", timeout = "20s" }',
    ]
    proxy = through(servers, *lines, certificate=certificate("127.0.0.1"))
    port, secure = port_of(proxy), ["-p", str(port_of(proxy, "secure")), "--tls", "--cacert", str(authority_file)]
    manners = itertools.cycle([["-p", str(port), "-2"], ["-p", str(port), "-3"], [*secure, "-3"]])

    def served(user: str) -> str:
        words = ["--user", user, "--pass", f"secret-{user}", "--no-auth-warning", "GET", "who"]
        return run(needs("redis-cli"), *next(manners), *words).stdout.decode().strip()

    def named(name: str) -> str:
        with connect(port) as client:
            client.sendall(b"CLIENT SETNAME worker-%b\r\n" % name.encode())
            read_until(client, b"+OK\r\n")
            client.sendall(b"GET who\r\n")
            return read_until(client, b"\r\n").split(b"\r\n")[1].decode()

    visits(served, {"r1", "r2"})
    visits(named, {"r1", "r2"})
    assert run(needs("redis-cli"), "-p", str(port), "PING", timeout=15).stdout == b"PONG\n"  # no key, and no wait
    assert "secret" not in proxy.log


# PostgreSQL


@pytest.fixture
def databases(needs: Callable[[str], str], program: Start) -> Iterator[list[Server]]:
    """Two PostgreSQL servers that know the users and believe them; they do not run as root."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))  # which are on nobody's path
    programs = (debian[-1] if debian else Path(needs("initdb"))).parent
    as_other = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
    servers = [Server(name, free_port()) for name in ("p1", "p2")]
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        if as_other:
            shutil.chown(place, "nobody")
        first = place / "p1"
        initdb = [*as_other, programs / "initdb", "-D", first, "-U", "root", "-A", "trust", "--no-sync", "--no-locale"]
        subprocess.run(initdb, check=True, capture_output=True, timeout=120, cwd=place)
        subprocess.run([*as_other, "cp", "-r", first, place / "p2"], check=True, timeout=120, cwd=place)
        running = []
        for name, port in servers:
            settings = {
                "listen_addresses": "127.0.0.1",
                "unix_socket_directories": "",
                "fsync": "off",
                "cluster_name": name,
                "port": str(port),
                "max_connections": "20",
                "shared_buffers": "1MB",
            }
            words = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
            server = program(*as_other, programs / "postgres", "-D", place / name, *words, cwd=place)
            server.wait_for("ready to accept connections", timeout=60)
            running.append(server)
        yield servers
        for server in running:
            server.stop(2)


@pytest.mark.needs("psql")
def test_postgresql_users_stay(
    needs: Callable[[str], str], through: Callable[..., Proxy], databases: list[Server]
) -> None:
    """psql by its user and by its database; one that asks for TLS first is served as well, but not known."""
    lines = (
        'frontend.web.inspect = { by = "postgresql", key = "database", timeout = "20s" }',
        *user_frontend("postgresql"),
    )
    proxy = through(databases, *lines)

    def ask(port: int, sql: str, **words: str) -> str:
        told = {
            "host": "127.0.0.1",
            "port": port,
            "user": "root",
            "sslmode": "disable",
            "gssencmode": "disable",
        } | words
        conninfo = " ".join(f"{key}={value}" for key, value in told.items())
        ended = run(needs("psql"), "--no-psqlrc", "-w", "-At", "-c", sql, f"dbname=postgres {conninfo}")
        assert ended.returncode == 0, ended.stderr
        return ended.stdout.decode().strip()

    for server in databases:
        for user in USERS:
            ask(server.port, f"create role {user} login")
            ask(server.port, f"create database {user} strategy file_copy" if user < "c" else "select 1")
    by_user = port_of(proxy, "user")
    visits(lambda user: ask(by_user, "show cluster_name", user=user), {"p1", "p2"})
    homes = {ask(port_of(proxy), "show cluster_name", user=user, dbname="alice") for user in USERS}
    assert len(homes) == 1
    asked = {ask(by_user, "show cluster_name", user="alice", sslmode="prefer") for _ in range(4)}
    assert asked == {"p1", "p2"}


# TLS that is passed through


@pytest.mark.needs("curl", "openssl")
def test_tls_is_routed_by_its_name(
    needs: Callable[[str], str],
    proxy: Callable[..., Proxy],
    backends: Callable[..., list[Backend]],
    certificate: Callable[..., Path],
    authority_file: Path,
) -> None:
    """curl and openssl reach the backend of the name, and its own certificate; without a name, the default's."""
    a, b, c = (backends(name, certificate=certificate(f"{name}.example.org"))[0] for name in "abc")
    lines = [
        'frontend.web.protocol = "tcp"',
        'frontend.web.inspect = "tls"',
        'frontend.web.routes = [{ host = "b.example.org", cluster = "b" }, { host = "*.org", cluster = "c" }]',
        f'cluster.b.backends.b = "{b.endpoint}"',
        f'cluster.c.backends.c = "{c.endpoint}"',
    ]
    port = port_of(proxy(configuration([a], *lines, cookie=False)))

    def curl(host: str) -> tuple[int, str]:
        options = ["--silent", "--max-time", "20", "--cacert", authority_file, "--resolve", f"{host}:{port}:127.0.0.1"]
        ended = run(needs("curl"), *options, f"https://{host}:{port}/")
        return ended.returncode, json.loads(ended.stdout)["backend"] if ended.stdout else ""

    assert curl("b.example.org") == (0, "b")
    assert curl("B.Example.ORG") == (0, "b")
    assert curl("c.example.org") == (0, "c")
    assert curl("x.example.org")[0] == 60  # the certificate of c is for another name
    for options, name in ((["-servername", "b.example.org", "-alpn", "h2,http/1.1"], "b"), (["-noservername"], "a")):
        ended = run(needs("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", *options, input_=b"")
        told = run(needs("openssl"), "x509", "-noout", "-ext", "subjectAltName", input_=ended.stdout).stdout
        assert f"DNS:{name}.example.org".encode() in told, ended.stderr
