"""The API as OpenAPI 3.1 describes it: whatever schemathesis makes of the description is answered as that says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import given, settings
from parts import Backend, Proxy
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

TOKEN = "live" * 8
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
TOML = """
[frontend.web]
listen = "tcp:0:interface=127.0.0.1"
cluster = "app"
access_log = false
[cluster.app]
affinity = "source"
backends = {{ a = "{a}" }}
[admin]
listen = "tcp:0:interface=127.0.0.1"
token_file = "{token_file}"
"""


@schemathesis.serializer("application/toml")
def _toml(context: Any, value: Any) -> bytes:
    return str(value).encode(errors="replace")


def test_what_is_described_is_so(
    proxy: Callable[..., Proxy], backends: Callable[..., list[Backend]], tmp_path: Path
) -> None:
    """Each operation, with values of every kind: the statuses, types and shapes that are described, never a 500."""
    (a,) = backends("a")
    (tmp_path / "admin.token").write_text(TOKEN)
    (tmp_path / "admin.token").chmod(0o600)
    running = proxy(TOML.format(a=a.endpoint, token_file=tmp_path / "admin.token"))
    port = running.wait_for(r"Admin API listens on \S+ 127\.0\.0\.1:(\d+)")[0][1]
    base, auth = f"http://127.0.0.1:{port}", {"Authorization": f"Bearer {TOKEN}"}
    document = requests.get(f"{base}/api/openapi.json", timeout=30).json()
    assert document["openapi"] == "3.1.0"
    asked = 0
    with requests.Session() as session:
        for result in schemathesis.openapi.from_dict(document).get_all_operations():
            operation = result.ok()
            if operation.path == "/api/events":  # it has no end
                continue

            @settings(max_examples=12, database=None)
            @given(case=operation.as_strategy())
            def check(case: schemathesis.Case) -> None:
                answer = case.call(base_url=base, session=session, headers=auth, timeout=30)
                expected = [each for each in CHECKS if each is not not_a_server_error or answer.status_code != 503]
                case.validate_response(answer, checks=expected)

            check()
            asked += 1
    assert asked >= 20
    assert "Traceback" not in running.log
