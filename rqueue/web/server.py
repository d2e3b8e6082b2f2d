"""Serving an application on a socket, with the one error shape even for what is not HTTP."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from rqueue.errors import Malformed, RqueueError
from rqueue.web.answers import refusal

BACKLOG = 1024


class _Protocol(web.RequestHandler):
    """aiohttp's own, but what it cannot parse, or what escapes the application, is answered in our shape."""

    def handle_error(
        self, request: Any, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if status >= 500 or request.writer.output_size > 0:
            super().handle_error(request, status, exc, message)  # logs, and raises where an answer has begun
        kind = RqueueError if status >= 500 else Malformed
        first_line = (message or "").partition("\n")[0]
        response = refusal(kind.code, f"{kind.__doc__} {first_line}".strip(), status)
        response.force_close()
        return response


@asynccontextmanager
async def listening(app: web.Application, sock: socket.socket, grace: float) -> AsyncIterator[None]:
    """Serve until left; then stop accepting, and give what is in flight `grace` seconds to end."""
    runner = web.AppRunner(app, shutdown_timeout=grace)
    await runner.setup()
    manager, loop = runner.server, asyncio.get_running_loop()
    assert manager is not None  # noqa: S101 - setup made it

    def protocol() -> _Protocol:
        # Compressed bodies are refused, not inflated: MAX_BODY is a bound on what is read.
        return _Protocol(manager, loop=loop, access_log=None, auto_decompress=False)  # type: ignore[arg-type]

    server = await loop.create_server(protocol, sock=sock, backlog=BACKLOG)
    try:
        yield
    finally:
        server.close()
        await runner.cleanup()
