"""A Valkey of a test's own, which it may stop, kill and start again on the same files."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from rqueue.store.embedded import ENVIRONMENT, OPTIONS, server_binary
from tests.conftest import redis_at

START_SECONDS = 20


def free_port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class Server:
    """One server on a port and a folder of its own."""

    def __init__(self, folder: Path, port: int, **options: str) -> None:
        self.port = port
        self.url = f"redis://127.0.0.1:{port}"
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._options = {**OPTIONS, **options, "port": str(port), "bind": "127.0.0.1", "dir": str(folder)}
        # Before its options: a file, or another way of being a server.
        self._words: tuple[str, ...] = ()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, until_ready: bool = True, **options: str) -> None:
        """Start it, with more options than it was made with; by default wait until it has read its file."""
        words = [w for name, value in (self._options | options).items() for w in (f"--{name}", value)]
        words = list(self._words) or words
        with (self._folder / "redis.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                server_binary(), *words, stdout=log, stderr=log, env={**ENVIRONMENT, **os.environ}
            )
        if until_ready:
            await self.until_ready()

    async def until_ready(self) -> None:
        """Wait until it has read its file."""
        async with asyncio.timeout(START_SECONDS), redis_at(self.url) as redis:
            while True:
                with suppress(RedisError, OSError):
                    if await redis.ping():
                        return
                await asyncio.sleep(0.01)

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """SIGKILL, as when the node dies; SIGTERM, as when it is asked to."""
        if self._process is not None:
            self.send(number)
            self.send(signal.SIGCONT)
            await self._process.wait()

    def client(self) -> "Redis":
        """redis-py's own client, to look into it beside the service."""
        return redis_at(self.url)


@asynccontextmanager
async def server(folder: Path, **options: str) -> AsyncIterator[Server]:
    """A running server, persistent as the embedded one is; it has ended on leaving."""
    one = Server(folder, free_port(), **options)
    await one.start()
    try:
        yield one
    finally:
        await one.end()
