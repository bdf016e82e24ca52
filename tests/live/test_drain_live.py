"""WebSockets that are drained, as a client and a server of the ``websockets`` library see it."""

from __future__ import annotations

import os
import queue
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from clients import HANDSHAKE, configuration, connect, read_until
from parts import ROOT, Program
from test_websocket_live import Client, server
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close, Frame, Opcode
from websockets.sync.server import ServerConnection


async def rest_of(message: AsyncIterator[str | bytes]) -> str:
    return "".join([str(piece) async for piece in message])


LARGE = 16 * 1024 * 1024


def test_drained_in_the_middle(program: Callable[..., Program], tmp_path: Path) -> None:
    """Idle, within a fragmented message, within a large frame: nothing is torn, and both sides get the right code."""
    seen: queue.SimpleQueue[tuple[str, int | None]] = queue.SimpleQueue()
    drained = threading.Event()

    def pieces() -> Iterator[str]:
        yield "one, "
        assert drained.wait(20)
        yield "two"

    def treat(connection: ServerConnection) -> None:
        path = connection.request.path if connection.request is not None else ""
        try:
            if path == "/pieces":
                connection.send(pieces())
            elif path == "/live":
                connection.send(bytes(LARGE))
            connection.recv()
        except ConnectionClosed as closed:
            seen.put((path, closed.rcvd.code if closed.rcvd is not None else None))

    with server(treat, compression=None) as backend:
        file = tmp_path / "proxy.toml"
        file.write_text(configuration([backend]))
        env = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        proxy = program(sys.executable, Path(__file__).with_name("drained_proxy.py"), file, "1012", env=env)
        port = int(proxy.wait_for(r"Frontend web listens on .*port=(\d+)")[0][1])
        url = f"ws://localhost:{port}"
        with Client(f"{url}/idle") as idle, Client(f"{url}/pieces") as fragmented, connect(port) as large:
            stream = fragmented.connection.recv_streaming()
            assert fragmented._wait(anext(stream)) == "one, "
            large.sendall(HANDSHAKE + b"\r\n")
            read = read_until(large, b"\r\n\r\n").partition(b"\r\n\r\n")[2]
            while len(read) < 1000:  # within the frame
                read += large.recv(1000)
            os.kill(proxy.process.pid, signal.SIGUSR2)
            proxy.wait_for("drained 3")
            drained.set()
            assert fragmented._wait(rest_of(stream)) == "two"
            for client in (idle, fragmented):
                with pytest.raises(ConnectionClosed) as closed:
                    client.recv()
                assert closed.value.rcvd == Close(1012, "")
            frame = Frame(Opcode.BINARY, bytes(LARGE)).serialize(mask=False)
            while len(read) < len(frame) + 4:
                read += large.recv(1 << 20)
            assert read == frame + b"\x88\x02\x03\xf4"
            large.sendall(b"\x88\x82\0\0\0\0\x03\xf4")
            assert large.recv(1) == b""  # we close first
        assert sorted(seen.get(timeout=20) for _ in range(3)) == [("/idle", 1012), ("/live", 1012), ("/pieces", 1012)]
