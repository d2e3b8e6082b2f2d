"""Serving an application on a socket: connections are accepted while there is room, and ended in time."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from rqueue.files import Watched
from rqueue.web.connections import Connection, Connections, Limits
from rqueue.web.counting import UNUSED, Counting, timed
from rqueue.web.middleware import answerable, expecting

BACKLOG = 1024
# The server of uvloop accepts one connection a turn of the loop: of 512 that came at once, under load, the
# last was served after 1.2 s.
ACCEPTED_A_TURN = 64
# For so long a client may take over its TLS handshake, and over saying goodbye.
HANDSHAKE_SECONDS = 10.0
LAST_HANDSHAKE_SECONDS = 1.0
# One that takes longer over it goes first where there is no room.
LONG_HANDSHAKE_SECONDS = 1.0
# How long nobody is accepted where there is no room and nobody may go.
FULL_SECONDS = 0.1

log = logging.getLogger("rqueue.web")


@asynccontextmanager
async def listening(
    app: web.Application,
    sock: socket.socket,
    grace: float,
    tls: Watched[ssl.SSLContext] | None = None,
    limits: Limits = Limits(),  # noqa: B008 - a value that cannot change
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

    all_ = Connections(limits)

    def protocol() -> Connection:
        # Compressed bodies are refused, not inflated: MAX_BODY is a bound on what is read.
        return Connection(
            all_,
            manager,
            loop=loop,
            keepalive_timeout=limits.keepalive_seconds,
            lingering_time=limits.linger_seconds,
            access_log=UNUSED,
            access_log_class=Counting,
            auto_decompress=False,
        )

    opening: dict[asyncio.Task[Any], float] = {}  # since when

    def make_room() -> bool:
        for task, since in opening.items():
            if since < loop.time() - LONG_HANDSHAKE_SECONDS:
                del opening[task]
                task.cancel()
                return True
            break  # they are in the order in which they began
        return all_.make_room()

    def pause(seconds: float) -> None:
        loop.remove_reader(sock)
        loop.call_later(seconds, listen)

    def accept() -> None:
        for _ in range(ACCEPTED_A_TURN):
            if len(all_) + len(opening) >= limits.connections and not make_room():
                pause(FULL_SECONDS)  # the kernel holds BACKLOG that wait
                return
            try:
                connection, _ = sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                # There is no descriptor left: others of this machine, or of this process, have them.
                log.error("no connection can be accepted for a second: %s", error)
                for _ in range(ACCEPTED_A_TURN):
                    make_room()
                pause(1)
                return
            connection.setblocking(False)
            task = loop.create_task(open_to(connection))
            opening[task] = loop.time()
            task.add_done_callback(lambda done: opening.pop(done, None))

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

    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # For all that are accepted: the kernel knows whether anything of what was sent is taken (RFC 5482).
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.reader_seconds * 1000))
    sock.setblocking(False)
    sock.listen(BACKLOG)
    listen()
    watching = loop.create_task(all_.watch())
    try:
        yield
    finally:
        watching.cancel()
        loop.remove_reader(sock)
        sock.close()
        if opening:
            # Else one that is accepted and not yet known to the runner would be left open.
            _, shaking = await asyncio.wait(list(opening), timeout=LAST_HANDSHAKE_SECONDS)
            for task in shaking:
                task.cancel()
            await asyncio.gather(*shaking, return_exceptions=True)
        await runner.cleanup()
