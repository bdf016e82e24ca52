"""The corpus of requests through other proxies: what each lets through to a backend that records, and what it refuses.

Each proxy has some lanes: a listening port of its own before a backend port of its own, so that whatever arrives there
belongs to the one case that the lane is busy with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import h11
from cases import Case

LANES = 12
#: What the backend's answers are known by.
_ANSWER = b"HTTP/1.1 200 OK\r\nX-Backend: 1\r\nContent-Length: 2\r\n\r\nok"
_HEAD_ANSWER = _ANSWER.removesuffix(b"ok")


class Lane(NamedTuple):
    """The port of the proxy, and that of the backend behind it."""

    port: int
    backend: int


class Seen(NamedTuple):
    """What became of a case: the requests that reached the backend whole, and how the connection ended."""

    reached: tuple[tuple[bytes, bytes, bytes], ...]  #: method, target, content
    broken: bool  #: the backend got something that h11 refuses, or a request that was cut off
    status: int  #: of the proxy's own answer; 0: it gave none


class Recorder:
    """A backend that reads as h11 does, strictly, and answers each whole request."""

    def __init__(self) -> None:
        self.reached: list[tuple[bytes, bytes, bytes]] = []
        self.broken = False
        self.busy = 0

    def clear(self) -> None:
        self.reached, self.broken = [], False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.busy += 1
        try:
            await self._serve(reader, writer)
        except OSError:
            pass
        finally:
            self.busy -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        judge = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        method = target = content = b""
        try:
            while True:
                event = judge.next_event()
                if event is h11.NEED_DATA:
                    judge.receive_data(await reader.read(65536))
                elif isinstance(event, h11.Request):
                    method, target, content = event.method, event.target, b""
                    if b"100-continue" in dict(event.headers).get(b"expect", b"").lower():
                        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                elif isinstance(event, h11.Data):
                    content += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    self.reached.append((method, target, content))
                    writer.write(_HEAD_ANSWER if method == b"HEAD" else _ANSWER)
                    if judge.their_state is h11.MIGHT_SWITCH_PROTOCOL and method == b"CONNECT":
                        return
                    judge.send(h11.Response(status_code=200, headers=[(b"Content-Length", b"0")]))
                    judge.send(h11.EndOfMessage())
                    if judge.our_state is not h11.DONE or judge.their_state is not h11.DONE:
                        return
                    judge.start_next_cycle()
                else:  # the end of the connection, or a protocol that h11 does not speak
                    return
        except h11.RemoteProtocolError:
            self.broken = True
            writer.write(b"HTTP/1.1 400 Bad Request\r\nX-Backend: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


async def run_case(lane: Lane, recorder: Recorder, case: Case, quiet: float, patience: float) -> Seen:
    """Send ``case``, and wait until the proxy closes, or has answered and says nothing for ``quiet`` seconds.

    ``patience`` is how long it may take to say anything at all.
    """
    recorder.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", lane.port)
    answered = b""
    try:
        writer.write(case.raw)
        while True:
            try:
                piece = await asyncio.wait_for(reader.read(65536), quiet if answered else patience)
            except TimeoutError:
                break
            if not piece:
                break
            answered += piece
    except OSError:
        pass
    finally:
        writer.transport.abort()
    for _ in range(50):
        if not recorder.busy:
            break
        await asyncio.sleep(0.02)
    return Seen(tuple(recorder.reached), recorder.broken, own_status(answered))


def own_status(answered: bytes) -> int:
    """The status of the answer that no backend gave, or 0."""
    for part in answered.split(b"HTTP/1.")[1:]:
        head = part.partition(b"\r\n\r\n")[0]
        status = int(head[2:5]) if head[2:5].isdigit() else 0
        if b"X-Backend: 1" not in head and b"x-backend: 1" not in head and status >= 300:
            return status
    return 0


async def run_all(
    lanes: list[Lane], cases: Iterable[tuple[str, Case]], quiet: float, patience: float
) -> dict[str, Seen]:
    """What became of each case, by its key."""
    waiting = list(cases)[::-1]
    results: dict[str, Seen] = {}

    async def work(lane: Lane) -> None:
        recorder = Recorder()
        async with await asyncio.start_server(recorder.serve, "127.0.0.1", lane.backend):
            while waiting:
                key, case = waiting.pop()
                results[key] = await run_case(lane, recorder, case, quiet, patience)

    await asyncio.gather(*map(work, lanes))
    return results


def verdict(seen: Seen, case: Case) -> str:
    """``refused`` or ``passed``, as the case may say; ``let through``, where it should not be, ``changed``; ``broken``.

    The last means that h11, as a backend, refuses what came.
    """
    if seen.broken:
        return "broken"
    if list(seen.reached) == [(one.method, one.target, one.body) for one in case.reaches]:
        return "refused" if case.refused else "passed"
    if not seen.reached:
        return "refused"
    return "let through" if case.refused else "changed"


# The proxies.


def nginx_configuration(directory: Path, lanes: list[Lane]) -> str:
    """nginx as Debian has it, in the foreground, forwarding as HTTP/1.1 without keeping connections."""
    servers = "\n".join(
        f"server {{ listen 127.0.0.1:{lane.port}; location / {{ proxy_pass http://127.0.0.1:{lane.backend}; }} }}"
        for lane in lanes
    )
    temporary = "\n".join(
        f"{kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
daemon off; master_process off; pid {directory}/nginx.pid; error_log {directory}/error.log;
events {{ worker_connections 512; }}
http {{
access_log off; client_header_timeout 2s; client_body_timeout 2s; client_max_body_size 0; lingering_close off;
proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
{temporary}
{servers}
}}
"""


def haproxy_configuration(lanes: list[Lane]) -> str:
    """HAProxy as it is without options, but for timeouts."""
    parts = "\n".join(
        f"frontend f{number}\n bind 127.0.0.1:{lane.port}\n default_backend b{number}\n"
        f"backend b{number}\n http-reuse never\n server s 127.0.0.1:{lane.backend}\n"
        for number, lane in enumerate(lanes)
    )
    return f"""
global
 maxconn 500
defaults
 mode http
 timeout connect 5s
 timeout server 5s
 timeout client 2s
 timeout http-request 2s
 timeout http-keep-alive 2s
{parts}
"""


def our_configuration(lanes: list[Lane]) -> str:
    """stickyproxy with a frontend and a cluster for each lane."""
    return "access_log = false\n" + "\n".join(
        f'[frontend.f{number}]\nlisten = "tcp:{lane.port}:interface=127.0.0.1"\ncluster = "c{number}"\n'
        f'timeouts = {{ head = "2s", body = "2s" }}\n'
        f'[cluster.c{number}.backends]\na = "tcp:127.0.0.1:{lane.backend}"\n'
        f"[cluster.c{number}.pool]\nsize = 0\n"
        for number, lane in enumerate(lanes)
    )
