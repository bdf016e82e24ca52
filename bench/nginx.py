"""nginx as the backend of every proxy, and as the proxy that the others are compared with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bench.processes import Command
from bench.scene import Mode, Scene

#: The answer of the HTTP backends: its first letter names the backend, and it is 60 bytes long.
ANSWER_SIZE = 60
#: What ``/payload/…`` answers with.
PAYLOAD_SIZE = 100 * 1024 * 1024

_MODULES = [Path(root) / "nginx/modules" for root in ("/usr/lib", "/usr/lib64", "/usr/local/lib")]

# One process, so that a signal ends all of it; this costs and saves nothing while it serves.
_MAIN = """\
daemon off;
master_process off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections 16384; }}
"""

_HTTP = """\
    access_log off;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path {directory};
    proxy_temp_path {directory};
    fastcgi_temp_path {directory};
    scgi_temp_path {directory};
    uwsgi_temp_path {directory};
"""

_BACKEND = """\
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ default_type text/plain; return 200 "{answer}"; }}
        location /payload/ {{ root {directory}; rewrite ^ /payload break; sendfile on; }}
    }}
"""

_PROXY = """\
http {{
{http}
    map $http_upgrade $asked_connection {{ default upgrade; "" ""; }}
    upstream app {{
        hash $cookie_srv consistent;
        server 127.0.0.1:{a};
        server 127.0.0.1:{b};
        keepalive 128;
        keepalive_requests 1000000000;
        keepalive_timeout 1h;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096{ssl};
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection $asked_connection;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Port $server_port;
            proxy_read_timeout 10m;
            proxy_send_timeout 10m;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
        }}
    }}
}}
"""

_SSL = """ ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {certificate};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_session_cache shared:bench:8m"""

_RELAY = """\
stream {{
    upstream app {{
        hash $remote_addr consistent;
        server 127.0.0.1:{a};
        server 127.0.0.1:{b};
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        proxy_pass app;
        proxy_timeout 10m;
        tcp_nodelay on;
    }}
}}
"""


def _program() -> str | None:
    return shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def stream_module() -> Path | None:
    """nginx's TCP relay: a module of its own in most distributions (Debian: libnginx-mod-stream)."""
    return next((path for root in _MODULES if (path := root / "ngx_stream_module.so").exists()), None)


def missing(mode: Mode = "http") -> str | None:
    """Why nginx cannot take part, or None if it can."""
    if _program() is None:
        return "nginx is not installed"
    if mode == "tcp" and stream_module() is None:
        return "nginx has no stream module (Debian: libnginx-mod-stream)"
    return None


def _run(directory: Path, configuration: str, modules: str = "") -> Command:
    file = directory / "nginx.conf"
    file.write_text(modules + _MAIN.format(directory=directory) + configuration)
    return Command([_program() or "nginx", "-p", str(directory), "-e", "stderr", "-c", str(file)])


def backend(directory: Path, ports: tuple[int, int]) -> Command:
    """The two HTTP backends, in one process: 60-byte answers everywhere, 100 MiB under ``/payload/``."""
    with (directory / "payload").open("wb") as payload:
        payload.truncate(PAYLOAD_SIZE)
    servers = "".join(
        _BACKEND.format(port=port, directory=directory, answer=name.ljust(ANSWER_SIZE, "."))
        for name, port in zip("ab", ports, strict=True)
    )
    return _run(directory, f"http {{\n{_HTTP.format(directory=directory)}{servers}}}\n")


def proxy(scene: Scene) -> Command:
    """nginx as the proxy: sticky by a hash of the cookie, connections to the backends kept, client identity set."""
    a, b = scene.backends
    if scene.mode == "tcp":
        return _run(scene.directory, _RELAY.format(a=a, b=b, port=scene.port), f"load_module {stream_module()};\n")
    http = _HTTP.format(directory=scene.directory)
    ssl = _SSL.format(certificate=scene.certificate) if scene.mode == "https" else ""
    return _run(scene.directory, _PROXY.format(http=http, a=a, b=b, port=scene.port, ssl=ssl))
