"""An MCP server with sessions in its memory, of the official SDK: ``python mcp_server.py NAME``."""

from __future__ import annotations

import socket
import sys

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

name = sys.argv[1]
server = MCPServer(name)
calls: dict[str, int] = {}


@server.tool()
async def count(context: Context) -> str:  # type: ignore[type-arg]
    """Who answers, and how often it was called in this session."""
    session = (context.headers or {})["mcp-session-id"]
    calls[session] = calls.get(session, 0) + 1
    return f"{name} {calls[session]}"


listening = socket.create_server(("127.0.0.1", 0))
print(f"{name} listens on {listening.getsockname()[1]}", flush=True)
uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="warning")).run(sockets=[listening])
