"""The primary that Redis Sentinel names, followed when it is another.

redis-py asks the sentinels at each connect. Here all of them are asked at once and the newest configuration
counts, since one that was cut off goes on naming the old primary; and they are asked again each second, since
a primary that hangs, or is cut off with us, says nothing of its being one no more.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self, cast

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel
from redis.exceptions import RedisError

from rqueue.store.pipeline import Pipeline, Replicas

# Not more than this is waited for a sentinel, and so long after an answer all are asked again.
SENTINEL_SECONDS = 1.0


class Sentinels(Sentinel):
    """The sentinels that each of these pools leads to."""

    def __init__(self, pools: Sequence[ConnectionPool]) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        self.sentinels = [Redis.from_pool(pool) for pool in pools]

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Host and port of the primary, of the newest configuration. Raises MasterNotFoundError.

        A failover raises the epoch of the configuration (https://valkey.io/topics/sentinel/).
        """
        told = await asyncio.gather(*(self._told(one, service_name) for one in self.sentinels))
        states = [state for state in told if state]
        newest = max((state["config-epoch"] for state in states), default=0)
        for state in states:
            if state["config-epoch"] == newest and self.check_master_state(state, service_name):
                return state["ip"], state["port"]
        raise MasterNotFoundError(
            "it is down for the sentinels, and no other is primary yet"
            if states
            else f"none of {len(told)} sentinels answers and knows a primary of the name in the URL"
        )

    async def _told(self, sentinel: "Redis", service_name: str) -> dict[str, Any] | None:
        with suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(SENTINEL_SECONDS):
                # Of RESP2 it is a map of names.
                known: Any = await sentinel.sentinel_masters()
                return cast("dict[str, Any] | None", known.get(service_name))
        return None


class SentinelPipeline(Pipeline):
    """The way to the primary of a name; while it is entered, the primary is followed."""

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        replicas: Replicas | None,
        sentinels: Sentinels,
        primary: str,
    ) -> None:
        super().__init__(make, replicas)
        self._sentinels = sentinels
        self._primary = primary
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._following = asyncio.create_task(self._follow())
        return await super().__aenter__()

    async def __aexit__(self, *_: object) -> None:
        if self._following is not None:
            while not self._following.done():
                # Again and again, as redis-py may lose one; see _Lane.close.
                self._following.cancel()
                await asyncio.wait([self._following], timeout=0.2)
        await super().__aexit__()
        await self._sentinels.aclose()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(SENTINEL_SECONDS)
            # Where nobody knows better the one there is stays in use, as far as it answers.
            with suppress(MasterNotFoundError):
                self.leave(await self._sentinels.discover_master(self._primary))
