"""The ways to receivers that may be bad: how their names are looked up, and what is read of them.

aiohttp's own trust the other end: names whose servers are silent, or an answer that does not begin, would
take the threads or the event loop from everybody else. Knows neither jobs nor what an answer means.
"""

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp import TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError

# So much of an answer is looked at for the end of its head; aiohttp bounds its lines and their number.
MAX_HEAD_BYTES = 65_536
# What the kernel takes in before anybody looks at it; it doubles that for itself.
RECEIVE_BYTES = 32_768
# So many names are looked up at once.
LOOKUPS = 128
# So many addresses of a name are tried: where one fails, aiohttp tries all that are left, and again for each.
ADDRESSES = 16


class Resolver(AbstractResolver):
    """Looks names up as the system does, each in a thread of its own.

    uvloop has two threads for all lookups, those for Redis too: two names whose servers are silent, and
    nobody's would be found. A thread cannot be stopped, but none holds up the end of the process.
    """

    def __init__(self, look_up: Callable[..., list[Any]] = socket.getaddrinfo) -> None:
        self._look_up = look_up
        self._room = asyncio.Semaphore(LOOKUPS)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a name, as aiohttp wants them. Raises OSError for one that has none."""
        await self._room.acquire()
        loop = asyncio.get_running_loop()
        found: asyncio.Future[list[Any]] = loop.create_future()

        def settle(infos: list[Any] | None, error: Exception | None) -> None:
            self._room.release()
            if found.done():
                # Whoever waited has gone.
                return
            if error is None:
                found.set_result(infos or [])
            else:
                found.set_exception(error)

        def look_up() -> None:
            infos, failed = None, None
            try:
                infos = self._look_up(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
            except Exception as error:
                failed = error
            # The loop may have ended meanwhile.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, infos, failed)

        try:
            threading.Thread(target=look_up, name=f"look up {host}", daemon=True).start()
        except RuntimeError as error:
            # The machine has no more threads.
            settle(None, OSError(str(error)))
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for family, _, protocol, _, address in (await found)[:ADDRESSES]
        ]

    async def close(self) -> None:
        """Nothing is open: a thread that still looks ends when it has an answer."""


class Connector(TCPConnector):
    """aiohttp's, with bounds on what a receiver can make it read or wait for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # It has no option for this.
        self._factory = partial(_Connection, loop=self._loop)  # type: ignore[assignment]


class _Connection(ResponseHandler):
    """Gives up an answer whose head does not end, serves nobody after an answer that nobody asked for, and
    closes without waiting for who does not read.

    aiohttp reads answers of 1xx, and blank lines before an answer, as fast as they come and as long as the
    time allows; it takes what is said after an answer for that to the next call; and what a receiver does not
    take keeps its connection open when it is closed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._head_bytes = 0

    def set_response_params(self, **options: Any) -> None:
        self._head_bytes = 0
        super().set_response_params(**options)

    def data_received(self, data: bytes) -> None:
        # What has come at once is looked at whole: a body may follow its head.
        if self._head_bytes >= MAX_HEAD_BYTES:
            self.set_exception(HttpProcessingError(message="no end of the head"))
            self.abort()
            return
        self._head_bytes += len(data)
        super().data_received(data)

    def is_connected(self) -> bool:
        """Whether it may serve another call: what came since the last one was not asked for."""
        return super().is_connected() and not len(self)

    def close(self) -> None:
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.abort()
        else:
            super().close()
