"""Sentinel replaces the primary under load: killed, told to go, hung. Nobody restarts the service."""

import itertools
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests import invariants
from tests.faults.conftest import Record
from tests.faults.load import WAITING, Load, loaded
from tests.faults.servers import Watched, in_step, watched
from tests.process import Running, running

# As often as `make reliability` breaks things.
pytestmark = pytest.mark.timeout(900)


async def asked_for(redis: Watched) -> None:
    """The old primary serves on until it is told, and what it accepts meanwhile is lost."""
    await redis.failover()


async def killed(redis: Watched) -> None:
    old = await redis.primary()
    await old.end()
    await redis.until_named(redis.other(old))
    await old.start()


async def hung(redis: Watched) -> None:
    """It comes back, and thinks itself the primary still."""
    old = await redis.primary()
    old.send(signal.SIGSTOP)
    await redis.until_named(redis.other(old))
    old.send(signal.SIGCONT)


WAYS: tuple[Callable[[Watched], Awaitable[None]], ...] = (killed, asked_for, hung)


@asynccontextmanager
async def scene(folder: Path, wait: int) -> AsyncIterator[tuple[Watched, list[Running], Load]]:
    """Two replicas of the service on a Redis with sentinels, and a load on them."""
    async with watched(folder) as redis, AsyncExitStack() as stack:
        settings = {
            "REDIS_URL": redis.url,
            "WAIT_REPLICAS": str(wait),
            "WAIT_TIMEOUT_MS": "500",
            "CALLBACK_TIMEOUT": "1",
            "CALLBACK_ALLOW": "127.0.0.0/8",
        }
        services = [await stack.enter_async_context(running(folder, **settings)) for _ in range(2)]
        # Jobs that are lost are never called, and nobody waits for them.
        waiting = WAITING if wait else 10**6
        async with loaded(*(service.url for service in services), waiting=waiting) as load:
            yield redis, services, load


async def replaced(redis: Watched, load: Load, times: int) -> None:
    """So many failovers, each when all is well again after the one before."""
    for way in itertools.islice(itertools.cycle(WAYS), times):
        await load.until_accepted(50)
        await way(redis)
        await load.fault_is_over()
        new = await redis.primary()
        await redis.until_known(new)
        await in_step(new)
    await load.until_accepted(50)


async def test_no_job_is_lost_whose_write_waited_for_the_replica(
    tmp_path: Path, record: Record, thorough: bool
) -> None:
    times = 10 if thorough else 1
    async with scene(tmp_path, wait=1) as (redis, services, load):
        await replaced(redis, load, times)
        outcome = await load.finish()
        for service in services:
            assert await service.end() == 0
        async with (await redis.primary()).client() as client:
            await invariants.check(client, "rqueue")
            await invariants.capacity_kept(client, "rqueue")
    outcome.sound()
    record("Sentinel replaces the primary, with RQUEUE_WAIT_REPLICAS=1", times, outcome)


async def test_what_is_lost_without_waiting_is_counted(
    tmp_path: Path, record: Record, thorough: bool
) -> None:
    """Nothing is promised then but that the service goes on."""
    if not thorough:
        pytest.skip("NOT TRIED without --thorough: nothing is asserted of what it counts")
    times = 10
    async with scene(tmp_path, wait=0) as (redis, _, load):
        await replaced(redis, load, times)
        outcome = await load.finish()
    outcome.lost = [job for job in outcome.lost if "job_not_found" in job]
    record("Sentinel replaces the primary, without it", times, outcome)
