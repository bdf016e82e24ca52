"""A backend to be proxied: ``python backend.py NAME [--tcp] [--port N] [--certificate PEM]``. Prints where it listens.

HTTP: any request is answered with JSON of what arrived (``record`` below). Paths do more: ``/stream?n=BYTES`` sends so
many, ``/echo`` sends the body back as it comes, ``/drop`` closes instead of answering, ``/truncate`` promises more than
it sends, ``/sink?rate=BYTES`` reads the body at so many a second. Every path takes ``seconds`` (to wait before
the answer), ``code``, ``header=Name:value`` (repeatable), and ``chunked=1`` or ``until_close=1`` for another framing.
A WebSocket gets the JSON as its first message and then its own messages back; it accepts the subprotocol ``chat``.

TCP (``--tcp``): sends its name and a newline, echoes, and answers the end of input with ``bye\\n``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from websockets.frames import Opcode
from websockets.server import ServerProtocol

PIECE = 64 * 1024
connections = itertools.count(1)
counters = {"requests": 0, "open": 0}


class Request:
    """One request as it came over the wire; ``pieces`` reads its body."""

    def __init__(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.head = head
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        self.method, self.target, self.version = first.split(" ")
        self.headers = [[name, value.strip()] for name, _, value in (line.partition(":") for line in lines)]
        self.named = {name.lower(): value for name, value in self.headers}
        self.path = urlsplit(self.target).path
        self.query = parse_qs(urlsplit(self.target).query)
        self.trailers: list[str] = []
        self._reader, self._writer = reader, writer

    def number(self, name: str, default: float = 0) -> float:
        return float(self.query.get(name, [default])[0])

    async def pieces(self) -> AsyncIterator[bytes]:
        if self.named.get("expect") == "100-continue":
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.named.get("transfer-encoding", "").lower() == "chunked":
            while size := int((await self._reader.readline()).split(b";")[0], 16):
                yield await self._reader.readexactly(size)
                await self._reader.readexactly(2)
            while (line := await self._reader.readline()) not in (b"\r\n", b""):
                self.trailers.append(line.decode("latin-1").strip())
        left = int(self.named.get("content-length", 0))
        while left:
            piece = await self._reader.read(min(left, PIECE))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece


class Backend:
    """One listening server; ``serve`` is called for each connection."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = next(connections)
        counters["open"] += 1
        try:
            for number in itertools.count(1):
                head = await reader.readuntil(b"\r\n\r\n")
                counters["requests"] += 1
                request = Request(head, reader, writer)
                if not await self._answer(request, reader, writer, {"connection": connection, "request": number}):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass  # the proxy went away, as it may
        finally:
            counters["open"] -= 1
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, serials: Mapping[str, int]
    ) -> bool:
        """Answer one request; True when the connection goes on."""
        if request.path == "/drop":
            async for _ in request.pieces():
                pass
            return False
        await asyncio.sleep(request.number("seconds"))
        if request.named.get("upgrade", "").lower() == "websocket" and "code" not in request.query:
            await self._websocket(request, reader, writer, self.record(request, serials))
            return False
        if request.path == "/echo":
            length = request.named.get("content-length")
            return await self._send(request, writer, request.pieces(), None if length is None else int(length))
        length, digest, rate = 0, hashlib.sha256(), request.number("rate", float("inf"))
        async for piece in request.pieces():
            length += len(piece)
            digest.update(piece)
            await asyncio.sleep(len(piece) / rate)
        if request.path == "/stream":
            return await self._send(request, writer, zeros(int(request.number("n"))), int(request.number("n")))
        if request.path == "/truncate":
            return await self._send(request, writer, zeros(500), 1000) and False
        record = self.record(request, {**serials, "length": length, "sha256": digest.hexdigest()})
        body = json.dumps(record).encode()
        return await self._send(request, writer, only(body), len(body), b"Content-Type: application/json\r\n")

    def record(self, request: Request, more: Mapping[str, int | str]) -> dict[str, object]:
        """What the JSON tells; ``connection`` and ``request`` count from 1, the latter within its connection."""
        return {
            "backend": self.name,
            "method": request.method,
            "target": request.target,
            "version": request.version,
            "headers": request.headers,
            "trailers": request.trailers,
            "total": counters["requests"],
            "open": counters["open"],
            **more,
        }

    async def _send(
        self,
        request: Request,
        writer: asyncio.StreamWriter,
        pieces: AsyncIterator[bytes],
        length: int | None,
        fields: bytes = b"",
    ) -> bool:
        code = int(request.number("code", 200))
        chunked = length is None or "chunked" in request.query
        until_close = "until_close" in request.query
        for header in request.query.get("header", []):
            fields += header.replace(":", ": ", 1).encode() + b"\r\n"
        if until_close:
            fields += b"Connection: close\r\n"
        elif chunked:
            fields += b"Transfer-Encoding: chunked\r\n"
        elif code not in (204, 304):
            fields += b"Content-Length: %d\r\n" % length
        head = b"HTTP/1.1 %d %s\r\n%s\r\n" % (code, HTTPStatus(code).phrase.encode(), fields)
        if request.path == "/echo":  # whose content is still to come
            writer.write(head)
            head = b""
        silent = request.method == "HEAD" or code in (204, 304)
        async for piece in pieces:
            if not silent and piece:
                # With the head in one write: who is killed between two has begun an answer that nobody can finish.
                writer.write(head + (b"%x\r\n%s\r\n" % (len(piece), piece) if chunked and not until_close else piece))
                head = b""
                await writer.drain()
        writer.write(head + (b"0\r\n\r\n" if chunked and not until_close and not silent else b""))
        await writer.drain()
        return not until_close and request.named.get("connection", "").lower() != "close"

    async def _websocket(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: dict[str, object]
    ) -> None:
        protocol = ServerProtocol(subprotocols=["chat"] if "sec-websocket-protocol" in request.named else None)
        protocol.receive_data(request.head)
        protocol.send_response(protocol.accept(protocol.events_received()[0]))
        protocol.send_text(json.dumps(record).encode())
        while True:
            for frame in protocol.events_received():
                if frame.opcode is Opcode.TEXT:
                    protocol.send_text(frame.data, frame.fin)
                elif frame.opcode is Opcode.BINARY:
                    protocol.send_binary(frame.data, frame.fin)
                elif frame.opcode is Opcode.CONT:
                    protocol.send_continuation(frame.data, frame.fin)
            for data in protocol.data_to_send():
                if not data:  # the close handshake is done, and a server closes first
                    return
                writer.write(data)
            await writer.drain()
            if data := await reader.read(PIECE):
                protocol.receive_data(data)
            else:
                return


async def zeros(count: int) -> AsyncIterator[bytes]:
    piece = bytes(PIECE)
    while count > 0:
        yield piece[:count]
        count -= PIECE


async def only(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def echo(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        writer.write(name.encode() + b"\n")
        while data := await reader.read(PIECE):
            writer.write(data)
            await writer.drain()
        writer.write(b"bye\n")
        await writer.drain()
    writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--certificate")
    options = parser.parse_args()
    context = None
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate)

    async def tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await echo(options.name, reader, writer)

    server = await asyncio.start_server(
        tcp if options.tcp else Backend(options.name).serve,
        "127.0.0.1",
        options.port,
        ssl=context,
        limit=1024 * 1024,
        backlog=512,
    )
    print(f"{options.name} listens on {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
