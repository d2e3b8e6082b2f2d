"""Where faults are played: replicas of the service, the wire between them and their Redis, a load on them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from tests import invariants
from tests.faults.load import Load, loaded
from tests.faults.proxy import Proxy, proxied
from tests.faults.server import Server, server
from tests.process import Running, running

CALLBACK_SECONDS = 1
# A claim covers two tries and 5 s more: see rqueue/reaper.py.
LEASE_SECONDS = 2 * CALLBACK_SECONDS + 5
TICK_SECONDS = 1


class Stage:
    """All of it. `replicas` are those that get requests; who is taken from them gets none from then on."""

    def __init__(self, stack: AsyncExitStack, folder: Path, redis: Server, wire: Proxy) -> None:
        self.redis = redis
        self.wire = wire
        self.replicas: list[Running] = []
        self.load: Load
        self._stack = stack
        self._folder = folder

    async def add(self, wire: Proxy | None = None) -> Running:
        """Start one more replica, where given on a wire of its own."""
        settings = {"CALLBACK_TIMEOUT": str(CALLBACK_SECONDS), "CALLBACK_ALLOW": "127.0.0.0/8"}
        url = f"redis://127.0.0.1:{(wire or self.wire).port}"
        service = await self._stack.enter_async_context(running(self._folder, REDIS_URL=url, **settings))
        self.replicas.append(service)
        return service

    @property
    def urls(self) -> list[str]:
        return [service.url for service in self.replicas]

    def route(self) -> None:
        """Have requests go to the replicas that there are now."""
        self.load.urls[:] = self.urls

    async def ready(self) -> bool:
        """What /readyz of the first one says now."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.urls[0]}/readyz") as response:
            assert response.status == 200 or "Retry-After" in response.headers
            return response.status == 200

    async def until_ready(self, wanted: bool) -> float:
        """How many seconds it took /readyz to say so; the last question asked may take as long again."""
        began = time.monotonic()
        async with asyncio.timeout(20):
            while await self.ready() is not wanted:  # noqa: ASYNC110 - it is another process that says it
                await asyncio.sleep(0.02)
        return time.monotonic() - began

    async def sound(self) -> None:
        """End the replicas; none met a fault, all keys agree, no host is charged beyond what it has."""
        for service in self.replicas:
            assert await service.end() == 0
            assert not [event for event in service.log if event["level"] == "ERROR"]
        async with self.redis.client() as redis:
            await invariants.check(redis, "rqueue")
            await invariants.capacity_kept(redis, "rqueue")


@asynccontextmanager
async def staged(folder: Path, replicas: int = 1) -> AsyncIterator[Stage]:
    """Everything started, the load too."""
    async with server(folder / "redis") as redis, proxied(redis.port) as wire, AsyncExitStack() as stack:
        stage = Stage(stack, folder, redis, wire)
        for _ in range(replicas):
            await stage.add()
        async with loaded(*stage.urls) as stage.load:
            yield stage
