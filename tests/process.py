"""The service as a process of its own, as users start it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

START_SECONDS = 30
SERVE = (sys.executable, "-m", "rqueue", "serve")


@dataclass
class Running:
    """A running `rqueue serve`: its URL, its Redis's, what it says, and its end."""

    process: asyncio.subprocess.Process
    url: str
    redis_url: str
    log: list[dict[str, Any]] = field(default_factory=list)

    async def kill(self) -> None:
        """kill -9, as when a node dies."""
        self.process.send_signal(signal.SIGKILL)
        await self.process.wait()

    async def end(self) -> int:
        """SIGTERM; returns the exit status."""
        self.process.terminate()
        return await self.process.wait()


def alive() -> dict[int, tuple[int, str]]:
    """Every process that runs: pid → its parent's and its command. One that waits to be reaped does not.

    But for its other threads, which may still hold its sockets: on Linux each has a row (-L).
    """
    rows_of = ("-AL" if sys.platform == "linux" else "-A", "-o", "pid=,ppid=,stat=,args=")
    listed = subprocess.run(["ps", *rows_of], capture_output=True, text=True, check=True)
    rows = (line.split(maxsplit=3) for line in listed.stdout.splitlines())
    return {int(pid): (int(parent), args) for pid, parent, stat, args in rows if stat[0] not in "ZX"}


async def _read_on(lines: asyncio.StreamReader, log: list[dict[str, Any]]) -> None:
    async for line in lines:
        event = orjson.loads(line) if line.startswith(b"{") else {"level": "", "message": line.decode()}
        log.append(event)


@asynccontextmanager
async def running(
    data_dir: Path, command: Sequence[str] = SERVE, cwd: Path | None = None, **settings: str
) -> AsyncIterator[Running]:
    """Start the service on an embedded server in this directory; ended on leaving, if it still runs."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RQUEUE_")}
    environment |= {"RQUEUE_DATA_DIR": str(data_dir), "RQUEUE_PORT": "0", "RQUEUE_LOG_FORMAT": "json"}
    environment |= {f"RQUEUE_{name}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=environment, stderr=asyncio.subprocess.PIPE, limit=1 << 20
    )
    assert process.stderr is not None
    reading = None
    try:
        async with asyncio.timeout(START_SECONDS):
            event: dict[str, str] = {}
            while "url" not in event:
                event = orjson.loads(await process.stderr.readline())
        redis_url = settings.get("REDIS_URL") or f"unix://{data_dir / 'redis.sock'}"
        service = Running(process, event["url"], redis_url, [event])
        reading = asyncio.create_task(_read_on(process.stderr, service.log))
        yield service
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
            # A test that failed may have left it stopped.
            process.send_signal(signal.SIGCONT)
        await process.wait()
        if reading:
            await reading
