"""Redis goes away, hangs, refuses, forgets, and comes back: under load, and nobody restarts the service."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from redis.exceptions import RedisError

from tests import invariants
from tests.faults.conftest import Record
from tests.faults.load import Load, loaded
from tests.faults.proxy import Proxy, proxied
from tests.faults.server import Server, server
from tests.process import Running, running

pytestmark = pytest.mark.timeout(120)

READY_SECONDS = 2.0
# /readyz is asked again and again; so much longer takes the last answer.
TOLD_SECONDS = 0.5
LASTS = 1.5
# Longer than Redis may take over a reply, so that who waits for one is told.
HANGS = 6.0
SERVING = {"CALLBACK_TIMEOUT": "2", "CALLBACK_ALLOW": "127.0.0.0/8"}


@dataclass
class Scene:
    """A service with its Redis, the wire between them, and a load on it."""

    service: Running
    redis: Server
    wire: Proxy
    load: Load

    async def ready(self) -> bool:
        """What /readyz says now."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.service.url}/readyz") as response:
            assert response.status == 200 or "Retry-After" in response.headers
            return response.status == 200

    async def until_ready(self, wanted: bool) -> float:
        """How many seconds it took /readyz to say so; the last question asked may take as long again."""
        began = time.monotonic()
        async with asyncio.timeout(20):
            while await self.ready() is not wanted:  # noqa: ASYNC110 - a process says it
                await asyncio.sleep(0.02)
        return time.monotonic() - began


@asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    async with server(folder / "redis") as redis, proxied(redis.port) as wire:
        url = f"redis://127.0.0.1:{wire.port}"
        async with (
            running(folder, REDIS_URL=url, **SERVING) as service,
            loaded(service.url) as load,
        ):
            yield Scene(service, redis, wire, load)


# --- what breaks it, and on leaving mends it -----------------------------------------------------------

Fault = Callable[[Scene], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def refused(at: Scene) -> AsyncIterator[None]:
    await at.wire.refuse()
    yield
    await at.wire.open()


@asynccontextmanager
async def dropped(at: Scene) -> AsyncIterator[None]:
    at.wire.hang()
    yield
    # What was on its way is lost with its connections.
    at.wire.reset()
    at.wire.flow()


@asynccontextmanager
async def stopped(at: Scene) -> AsyncIterator[None]:
    at.redis.send(signal.SIGSTOP)
    yield
    at.redis.send(signal.SIGCONT)


@asynccontextmanager
async def killed(at: Scene) -> AsyncIterator[None]:
    await at.redis.end(signal.SIGKILL)
    yield
    await at.redis.start()


@asynccontextmanager
async def loading(at: Scene) -> AsyncIterator[None]:
    await at.redis.end(signal.SIGTERM)
    # So many microseconds a key, and a look at its clients after so many bytes.
    slowly = {"key-load-delay": "2000", "loading-process-events-interval-bytes": "1024"}
    await at.redis.start(until_ready=False, **slowly)
    yield
    await at.redis.until_ready()


@asynccontextmanager
async def busy(at: Scene) -> AsyncIterator[None]:
    async def spin() -> None:
        async with at.redis.client() as redis:
            with suppress(RedisError):
                await redis.eval("while true do end", 0)

    async with at.redis.client() as redis:
        await redis.config_set("busy-reply-threshold", 50)
        spinning = asyncio.create_task(spin())
        yield
        await redis.script_kill()
        await spinning


@asynccontextmanager
async def demoted(at: Scene) -> AsyncIterator[None]:
    async with at.redis.client() as redis:
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        yield
        await redis.execute_command("REPLICAOF", "NO", "ONE")


def configured(name: str, broken: str, sound: str) -> Fault:
    @asynccontextmanager
    async def fault(at: Scene) -> AsyncIterator[None]:
        async with at.redis.client() as redis:
            await redis.config_set(name, broken)
            yield
            await redis.config_set(name, sound)

    return fault


FAULTS: dict[str, Fault] = {
    "connections to Redis are refused": refused,
    "the network to Redis drops everything": dropped,
    "Redis hangs (SIGSTOP)": stopped,
    "Redis is killed, and starts again from its file": killed,
    "Redis is asked to end, and reads its file (LOADING)": loading,
    "a script of another holds Redis (BUSY)": busy,
    "Redis becomes a replica of nobody (READONLY)": demoted,
    "Redis is out of memory (OOM)": configured("maxmemory", "1", "0"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_redis_is_away_and_back(fault: str, tmp_path: Path, record: Record, thorough: bool) -> None:
    """503 with Retry-After meanwhile, not ready within 2 s, and on as before."""
    times = 5 if thorough else 1
    async with scene(tmp_path) as at:
        for _ in range(times):
            await at.load.until_accepted(100)
            async with FAULTS[fault](at):
                assert await at.until_ready(False) < READY_SECONDS + TOLD_SECONDS
                await asyncio.sleep(HANGS if FAULTS[fault] in (dropped, stopped) else LASTS)
            await at.load.fault_is_over()
            await at.load.until_accepted(100)
            assert await at.until_ready(True) < READY_SECONDS
        outcome = await at.load.finish()
        async with at.redis.client() as redis:
            await invariants.check(redis, "rqueue")
            await invariants.capacity_kept(redis, "rqueue")
    outcome.sound()
    assert outcome.answers[503]
    record(fault, times, outcome)
