"""Serving an application on a socket, with the one error shape even for what is not HTTP."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from rqueue.errors import Malformed, RqueueError
from rqueue.files import Watched
from rqueue.web.answers import refusal
from rqueue.web.counting import UNUSED, Counting, timed
from rqueue.web.middleware import answerable, expecting

BACKLOG = 1024
# The server of uvloop accepts one connection a turn of the loop: of 512 that came at once, under load, the
# last was served after 1.2 s.
ACCEPTED_A_TURN = 64
# For so long a client may take over its TLS handshake, and over saying goodbye.
HANDSHAKE_SECONDS = 10.0
LAST_HANDSHAKE_SECONDS = 1.0

log = logging.getLogger("rqueue.web")


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
async def listening(
    app: web.Application,
    sock: socket.socket,
    grace: float,
    tls: Watched[ssl.SSLContext] | None = None,
) -> AsyncIterator[None]:
    """Serve until left; then stop accepting, and give what is in flight `grace` seconds to end.

    With `tls` it speaks HTTPS, each connection by the certificate of its moment.
    """
    runner = web.AppRunner(app, shutdown_timeout=grace)
    await runner.setup()
    manager, loop = runner.server, asyncio.get_running_loop()
    assert manager is not None  # noqa: S101 - setup made it
    manager.request_factory = timed(answerable(manager.request_factory))
    manager.request_handler = expecting(manager.request_handler)

    def protocol() -> _Protocol:
        # Compressed bodies are refused, not inflated: MAX_BODY is a bound on what is read.
        return _Protocol(
            manager,
            loop=loop,
            access_log=UNUSED,
            access_log_class=Counting,
            auto_decompress=False,
        )

    opening: set[asyncio.Task[Any]] = set()

    def accept() -> None:
        for _ in range(ACCEPTED_A_TURN):
            try:
                connection, _ = sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("no connection can be accepted for a second: %s", error)
                loop.remove_reader(sock)
                loop.call_later(1, listen)
                return
            connection.setblocking(False)
            task = loop.create_task(open_to(connection))
            opening.add(task)
            task.add_done_callback(opening.discard)

    async def open_to(connection: socket.socket) -> None:
        options: dict[str, Any] = {}
        if tls is not None:
            options["ssl"] = tls.value
            options["ssl_handshake_timeout"] = options["ssl_shutdown_timeout"] = HANDSHAKE_SECONDS
        try:
            await loop.connect_accepted_socket(protocol, connection, **options)
        except OSError as error:
            # Who speaks no TLS, does not trust the certificate, or took too long.
            log.debug("a connection was not opened: %s", error)

    def listen() -> None:
        if sock.fileno() >= 0:
            loop.add_reader(sock, accept)

    sock.setblocking(False)
    sock.listen(BACKLOG)
    listen()
    try:
        yield
    finally:
        loop.remove_reader(sock)
        sock.close()
        if opening:
            # Else one that is accepted and not yet known to the runner would be left open.
            _, shaking = await asyncio.wait(opening, timeout=LAST_HANDSHAKE_SECONDS)
            for task in shaking:
                task.cancel()
            await asyncio.gather(*shaking, return_exceptions=True)
        await runner.cleanup()
