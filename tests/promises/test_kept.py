"""kept: a 2xx answer means that it is in Redis."""

import asyncio
from pathlib import Path

import aiohttp

from tests import invariants
from tests.conftest import redis_at
from tests.process import running


async def test_what_was_answered_is_there_after_a_kill(tmp_path: Path) -> None:
    """Clients create one after the other while the service is killed; every 201 is found again."""
    answered: list[str] = []
    enough = asyncio.Event()
    async with running(tmp_path) as first, aiohttp.ClientSession(first.url) as session:

        async def client(number: int) -> None:
            for turn in range(10_000):
                name = f"c{number}-{turn}"
                body = {"request_id": name, "owner_id": "y", "callback": f"http://127.0.0.1:9/{name}"}
                try:
                    async with session.post("/v1/vm/", json=body) as response:
                        assert response.status == 201
                except aiohttp.ClientError:
                    return
                answered.append(name)
                if len(answered) == 500:
                    enough.set()

        clients = asyncio.gather(*(client(number) for number in range(8)))
        async with asyncio.timeout(30):
            await enough.wait()
        await first.kill()
        await clients
    async with running(tmp_path) as second, redis_at(second.redis_url) as redis:
        jobs = await invariants.check(redis, "rqueue")
    assert set(answered) <= set(jobs)


async def test_the_same_post_again_is_told_that_the_job_is_there(tmp_path: Path) -> None:
    body = {"request_id": "d", "owner_id": "y", "callback": "http://127.0.0.1:9/d"}
    for status in (201, 409):
        async with running(tmp_path) as service, aiohttp.ClientSession(service.url) as session:
            async with session.post("/v1/vm/", json=body) as response:
                assert response.status == status
            assert await service.end() == 0
