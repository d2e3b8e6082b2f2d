"""A wire between the service and Redis that a test may cut, at any moment and in any way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Hands on what comes, both ways. `port` is where to connect."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.connections = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        # Whether the next reply is not handed on, and its connection reset instead.
        self._swallow = False

    async def open(self) -> None:
        """Accept connections, on the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Accept no more, and reset what is open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.reset()

    def reset(self) -> None:
        """Reset all connections; new ones are accepted."""
        for writer in list(self._writers):
            writer.transport.abort()

    def swallow(self) -> None:
        """The next requests are handed on, and the connection is reset before their replies are."""
        self._swallow = True

    def hang(self) -> None:
        """Hand nothing on, and keep all connections open, as a network that drops everything."""
        self._flows.clear()

    def flow(self) -> None:
        """Hand on again."""
        self._flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there_writer}
        try:
            await asyncio.gather(
                self._hand_on(reader, there_writer, writer),
                self._hand_on(there_reader, writer, there_writer, True),
            )
        finally:
            self._writers -= {writer, there_writer}

    async def _hand_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        other: asyncio.StreamWriter,
        reply: bool = False,
    ) -> None:
        with suppress(ConnectionError, OSError):
            while data := await reader.read(1 << 16):
                await self._flows.wait()
                if reply and self._swallow:
                    self._swallow = False
                    break
                writer.write(data)
                await writer.drain()
        for one in (writer, other):
            one.transport.abort()


@asynccontextmanager
async def proxied(target: int) -> AsyncIterator[Proxy]:
    """A proxy to a port of loopback."""
    proxy = Proxy(target)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.refuse()
        proxy.flow()
