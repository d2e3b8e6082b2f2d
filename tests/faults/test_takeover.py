"""What a replica that dies has begun another ends, and one that wakes up leaves alone what is another's."""

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests import invariants
from tests.conftest import receiving
from tests.faults.proxy import proxied
from tests.faults.stage import LEASE_SECONDS, TICK_SECONDS, staged

pytestmark = pytest.mark.timeout(120)


async def test_calls_of_a_dead_replica_are_taken_over_within_the_lease(tmp_path: Path) -> None:
    """Each is made again by another one, with the same id."""
    ids: dict[str, list[str]] = {}
    async with staged(tmp_path, replicas=2) as on, receiving() as receiver:
        hanging = asyncio.Event()

        async def hang(request: web.Request) -> web.Response:
            ids.setdefault(request.path, []).append(request.headers["webhook-id"])
            if len(ids[request.path]) == 1:
                await hanging.wait()
            return web.Response()

        receiver.answer = hang
        first, second = on.replicas
        async with aiohttp.ClientSession() as session:
            await session.put(f"{first.url}/queues/kube/pools/default", json={"hosts": {"n": {"slots": 100}}})
            bodies = [
                {"request_id": f"j{n}", "owner_id": "y", "callback": f"{receiver.url}/j{n}"}
                for n in range(20)
            ]
            async with session.post(f"{first.url}/v1/kube/", json=bodies) as response:
                assert response.status == 201
            await receiver.until(20)
            await first.kill()
            died = time.monotonic()
            await receiver.until(40)
            took = time.monotonic() - died
            hanging.set()
            async with asyncio.timeout(10):
                running = 0
                while running < 20:
                    async with session.get(f"{second.url}/v1/kube/?status=running") as response:
                        running = len((await response.json())["data"])
    assert took < LEASE_SECONDS + 2 * TICK_SECONDS
    assert all(len(of) == 2 and len(set(of)) == 1 for of in ids.values())


@pytest.mark.parametrize(
    "stops", ["the replica", pytest.param("its way to Redis", marks=pytest.mark.thorough)]
)
async def test_who_is_late_changes_nothing_that_is_no_longer_its_own(stops: str, tmp_path: Path) -> None:
    """It has an answer that it can not write down; meanwhile the job was called, ended and admitted again."""
    async with staged(tmp_path) as on, receiving() as receiver, proxied(on.redis.port) as wire:
        (second,) = on.replicas
        first = await on.add(wire)
        answering, calls = asyncio.Event(), Counter[str]()

        def stop() -> None:
            if stops == "the replica":
                first.process.send_signal(signal.SIGSTOP)
            else:
                wire.hang()

        def go_on() -> None:
            first.process.send_signal(signal.SIGCONT)
            wire.flow()

        async def answer(request: web.Request) -> web.Response:
            calls[request.headers["webhook-id"]] += 1
            if sum(calls.values()) == 1:
                # It is told that the job is not wanted, and says so when that is long another's.
                stop()
                return web.Response(status=410)
            await answering.wait()
            return web.Response()

        receiver.answer = answer
        async with aiohttp.ClientSession(second.url) as session:

            async def job() -> dict[str, object]:
                async with session.get("/v1/kube/a") as response:
                    return dict((await response.json())["data"])

            body = {"request_id": "a", "owner_id": "y", "callback": f"{receiver.url}/a"}
            # Through the first one, so that it is the one that calls.
            async with aiohttp.ClientSession() as other:
                pool = {"hosts": {"n": {"slots": 1}}}
                await other.put(f"{first.url}/queues/kube/pools/default", json=pool)
                async with other.post(f"{first.url}/v1/kube/", json=body) as response:
                    assert response.status == 201
            await receiver.until(2)
            # The second has called by the same admission. The client puts it back in line: another turn.
            async with session.post("/v1/kube/a", json={"status": "running"}) as response:
                assert response.status == 200
            async with session.post("/v1/kube/a", json={"status": "queued"}) as response:
                assert response.status == 200
            await receiver.until(3)
            assert list(calls.values()) == [2, 1]
            before = await job()
            assert before["Status"] == "calling"
            go_on()
            async with on.redis.client() as redis, aiohttp.ClientSession() as other:
                # It is awake, and has done what it had to do: it says so, and has ticked.
                async with asyncio.timeout(10):
                    ready = False
                    while not ready:
                        async with other.get(f"{first.url}/readyz") as response:
                            ready = response.status == 200
                assert await job() == before
                assert [entry["to"] for _, entry in await redis.xrange("rqueue:{kube}:events")].count(
                    "cancelled"
                ) == 0
                answering.set()
                async with asyncio.timeout(10):
                    while (await job())["Status"] != "running":
                        pass
                await invariants.check(redis, "rqueue", "kube")
