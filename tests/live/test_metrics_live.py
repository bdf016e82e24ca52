"""Metrics of a real ``twistd``: what was done is what is told, to the last request."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from clients import connect, port_of, read_until, trusting, wait_until
from parts import Backend, Proxy
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from websockets.sync.client import connect as open_websocket

TOML = """
[frontend.web]
listen = "tcp:0:interface=127.0.0.1"
cluster = "app"
routes = [{{ path = "/nobody/", cluster = "nobody" }}]
[frontend.safe]
listen = "tcp:0:interface=127.0.0.1"
cluster = "app"
[frontend.safe.tls]
certificates = ["{certificate}"]
[frontend.wire]
listen = "tcp:0:interface=127.0.0.1"
protocol = "tcp"
cluster = "lines"
[cluster.app]
affinity = "source"
balance = {{ by = "first", fill = 100000 }}
backends = {{ a = "{a}", b = "{b}" }}
[cluster.lines]
backends = {{ t = "{t}" }}
[cluster.nobody]
backends = {{ x = "tcp:127.0.0.1:1" }}
[admin]
listen = "tcp:0:interface=127.0.0.1"
"""

Values = dict[str, float]


def scrape(port: int, accept: str = "") -> Values:
    """Every sample, under its name with its labels as PromQL has them."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Accept": accept} if accept else {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        page = answer.read().decode()
    parse = parse_openmetrics if accept else parse_text
    return {
        sample.name + ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in parse(page)
        for sample in family.samples
    }


def status_of(port: int, path: str = "/", data: bytes | None = None, context: ssl.SSLContext | None = None) -> int:
    scheme = "https" if context is not None else "http"
    try:
        with urllib.request.urlopen(f"{scheme}://localhost:{port}{path}", data, 10, context=context) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_what_was_done_is_what_is_told(
    proxy: Callable[..., Proxy],
    backends: Callable[..., list[Backend]],
    certificate: Callable[..., Path],
    authority_file: Path,
) -> None:
    """Requests, a content, a WebSocket, a TCP connection, a 502, TLS and a client who is moved: each counts once."""
    a, b = backends("a", "b")
    (t,) = backends("t", tcp=True)
    pem = certificate("localhost")
    running = proxy(TOML.format(a=a.endpoint, b=b.endpoint, t=t.endpoint, certificate=pem))
    web, safe, wire = (port_of(running, name) for name in ("web", "safe", "wire"))
    admin = int(running.wait_for(r"Admin API listens on \S+ 127\.0\.0\.1:(\d+)")[0][1])

    assert [status_of(web) for _ in range(200)] == [200] * 200
    assert status_of(web, data=b"x" * 1234) == 200
    assert status_of(web, "/nobody/") == 502
    assert status_of(safe, context=trusting(authority_file)) == 200
    with open_websocket(f"ws://127.0.0.1:{web}/echo") as websocket:
        websocket.send("hello")
        websocket.recv(timeout=10)
        during = scrape(admin)
    with connect(wire) as line:
        line.sendall(b"hello\n")
        read_until(line, b"\n")
        wait_until(lambda: scrape(admin).get("stickyproxy_tcp_relaysbackend=t,cluster=lines,frontend=wire") == 1)
    a.stop()
    assert status_of(web) == 200  # by b

    requests = "stickyproxy_requests_totalbackend={},cluster={},frontend={},status={}".format
    wait_until(lambda: scrape(admin)["stickyproxy_tcp_relaysbackend=t,cluster=lines,frontend=wire"] == 0)
    wait_until(lambda: scrape(admin)["stickyproxy_reactor_lag_distribution_seconds_count"] > 0)
    seen = scrape(admin)
    assert seen[requests("a", "app", "web", "2xx")] == 201
    assert seen[requests("b", "app", "web", "2xx")] == 1
    assert seen[requests("a", "app", "web", "1xx")] == 1
    assert seen[requests("a", "app", "safe", "2xx")] == 1
    assert sum(value for name, value in seen.items() if "requests_total" in name and "5xx" in name) == 1
    assert seen["stickyproxy_request_duration_seconds_countcluster=app"] == 204
    assert seen["stickyproxy_received_bytes_totalbackend=a,cluster=app,frontend=web,protocol=http"] == 1234
    assert during["stickyproxy_websocketsbackend=a,cluster=app,frontend=web"] == 1
    assert during["stickyproxy_received_bytes_totalbackend=a,cluster=app,frontend=web,protocol=websocket"] > 5
    assert seen["stickyproxy_websocketsbackend=a,cluster=app,frontend=web"] == 0
    assert seen["stickyproxy_websockets_opened_totalbackend=a,cluster=app,frontend=web"] == 1
    assert seen["stickyproxy_tcp_relays_opened_totalbackend=t,cluster=lines,frontend=wire"] == 1
    assert seen["stickyproxy_received_bytes_totalbackend=t,cluster=lines,frontend=wire,protocol=tcp"] == 6
    assert seen["stickyproxy_sticky_broken_totalcluster=app,reason=unreachable"] == 1
    assert seen["stickyproxy_affinity_totalcluster=app,outcome=rebound"] == 1
    assert seen["stickyproxy_affinity_totalcluster=app,outcome=new"] >= 1
    assert seen["stickyproxy_backend_connect_errors_totalbackend=x,cluster=nobody"] == 1
    assert seen["stickyproxy_backend_connect_errors_totalbackend=a,cluster=app"] >= 1
    assert sum(value for name, value in seen.items() if "tls_handshakes_total" in name and "result=done" in name) == 1
    assert seen["stickyproxy_certificate_expiry_timestamp_secondsfrontend=safe,name=localhost"] > 1.7e9
    assert seen["process_open_fds"] > 3
    again = scrape(admin, "application/openmetrics-text;version=1.0.0")
    assert again[requests("a", "app", "web", "2xx")] == 201
