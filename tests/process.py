"""The service as a process of its own, as users start it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

START_SECONDS = 30


@dataclass
class Running:
    """A running `rqueue serve`: its URL, its Redis's, and its end."""

    process: asyncio.subprocess.Process
    url: str
    redis_url: str

    async def kill(self) -> None:
        """kill -9, as when a node dies."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def end(self) -> int:
        """SIGTERM; returns the exit status."""
        self.process.terminate()
        return await self.process.wait()


@asynccontextmanager
async def running(data_dir: Path, **settings: str) -> AsyncIterator[Running]:
    """Start the service on an embedded server in this directory; ended on leaving, if it still runs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RQUEUE_")}
    environment |= {"RQUEUE_DATA_DIR": str(data_dir), "RQUEUE_PORT": "0", "RQUEUE_LOG_FORMAT": "json"}
    environment |= {f"RQUEUE_{name}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rqueue", "serve", env=environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    reading = None
    try:
        async with asyncio.timeout(START_SECONDS):
            event: dict[str, str] = {}
            while "url" not in event:
                event = orjson.loads(await process.stderr.readline())
        reading = asyncio.create_task(process.stderr.read())
        redis_url = settings.get("REDIS_URL") or f"unix://{data_dir / 'redis.sock'}"
        yield Running(process, event["url"], redis_url)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        if reading:
            await reading
