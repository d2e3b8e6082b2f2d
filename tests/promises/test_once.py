"""once: a job is admitted at most once per turn, and capacity is never promised twice."""

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from tests import invariants
from tests.conftest import Clock, Receiver, config_of, receiving, redis_at, serving
from tests.process import running

CLIENTS = 256
SECONDS = 12


async def test_two_replicas_call_each_job_once(
    redis_url: str, real_redis: "Redis", namespace: str, clock: Clock, receiver: Receiver
) -> None:
    async with (
        serving(config_of(namespace), redis_url, clock) as one,
        serving(config_of(namespace), redis_url, clock) as two,
    ):
        await one.call("PUT", "/queues/vm/pools/default", {"hosts": {"n": {"slots": 1000}}})
        bodies = [
            {"request_id": f"j{n}", "owner_id": "y", "callback": f"{receiver.url}/j{n}"} for n in range(200)
        ]
        await asyncio.gather(
            *((one, two)[n % 2].call("POST", "/v1/vm/", body) for n, body in enumerate(bodies))
        )
        for _ in range(3):
            await asyncio.gather(one.settle(), two.settle())
    assert Counter(path for path, _, _ in receiver.calls) == {f"/j{n}": 1 for n in range(200)}
    await invariants.check(real_redis, namespace)
    await invariants.capacity_kept(real_redis, namespace)


async def test_no_host_holds_more_than_it_has(
    redis_url: str, real_redis: "Redis", namespace: str, clock: Clock, receiver: Receiver
) -> None:
    """Releases and creates race in two replicas; after each round all that fits is charged, and no more."""
    async with (
        serving(config_of(namespace), redis_url, clock) as one,
        serving(config_of(namespace), redis_url, clock) as two,
    ):
        hosts = {f"n{n}": {"gpu": 4} for n in range(3)}
        await one.call("PUT", "/queues/vm/pools/default", {"hosts": hosts})
        rng = random.Random(7)
        for n in range(120):
            instances = [{"gpu": rng.randint(1, 4)}] * rng.randint(1, 2)
            body = {
                "request_id": f"j{n}",
                "owner_id": "y",
                "callback": f"{receiver.url}/j{n}",
                "data": {"instances": instances},
            }
            await (one, two)[n % 2].call("POST", "/v1/vm/", body)
        for _ in range(120):
            _, answer = await one.call("GET", "/v1/vm/?status=running&limit=2")
            deletes = [
                (one, two)[n].call("DELETE", f"/v1/vm/{job['RequestID']}")
                for n, job in enumerate(answer["data"])
            ]
            await asyncio.gather(*deletes, one.reaper.tick(), two.reaper.tick())
            await asyncio.gather(one.settle(), two.settle())
            await invariants.capacity_kept(real_redis, namespace)
        jobs = await invariants.check(real_redis, namespace)
    assert {job["Status"] for job in jobs.values()} == {"done"}
    assert Counter(path for path, _, _ in receiver.calls) == {f"/j{n}": 1 for n in range(120)}


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_256_clients_at_once(tmp_path: Path) -> None:
    """Creating, moving, listing and releasing side by side: no 5xx, and all keys agree afterwards."""
    statuses: Counter[int] = Counter()
    async with receiving() as receiver, running(tmp_path) as service:
        connector = aiohttp.TCPConnector(limit=CLIENTS)
        async with aiohttp.ClientSession(service.url, connector=connector) as session:

            async def call(method: str, path: str, body: Any = None) -> Any:
                async with session.request(method, path, json=body) as response:
                    statuses[response.status] += 1
                    return await response.json()

            hosts = {f"n{n}": {"VCPU": 16, "Memory": 4096} for n in range(10)}
            await call("PUT", "/queues/vm/pools/default", {"hosts": hosts})
            until = time.monotonic() + SECONDS

            async def client(number: int) -> None:
                rng, own = random.Random(number), []
                for turn in range(10**6):
                    if time.monotonic() > until:
                        break
                    name = f"c{number}-{turn}"
                    shape = {"VCPU": rng.randint(1, 4), "Memory": rng.randint(0, 512)}
                    body = {
                        "request_id": name,
                        "owner_id": f"o{number % 7}",
                        "callback": f"{receiver.url}/{name}",
                    }
                    await call(
                        "POST", "/v1/vm/", {**body, "data": {"instances": [shape] * rng.randint(1, 3)}}
                    )
                    own.append(name)
                    place = rng.choice(
                        [{"position": "front"}, {"position": "back"}, {"priority": rng.randint(0, 9)}]
                    )
                    await call("POST", f"/v1/vm/{rng.choice(own)}", place)
                    await call("POST", f"/v1/vm/{name}", {"after": rng.choice(own)})
                    await call("GET", f"/v1/vm/{name}")
                    if len(own) > 5:
                        await call("DELETE", f"/v1/vm/{own.pop(rng.randrange(len(own)))}")

            async def watch() -> None:
                """Meanwhile it stays ready, and what time brings is not held up by what clients bring."""
                async with aiohttp.ClientSession(service.url) as own:

                    async def ask(method: str, path: str, body: Any = None) -> Any:
                        async with own.request(method, path, json=body) as response:
                            return await response.json()

                    await ask("PUT", "/queues/idle", {"call_deadline": 2})
                    await ask("PUT", "/queues/idle/pools/default", {"hosts": {"n": {"slots": 1}}})
                    body = {"request_id": "a", "owner_id": "y", "callback": "http://127.0.0.1:9/"}
                    await ask("POST", "/v1/idle/", body)
                    while time.monotonic() < until:
                        ready.append((await ask("GET", "/readyz"))["ok"])
                        job = (await ask("GET", "/v1/idle/a"))["data"]
                        if job["Status"] == "failed":
                            failed_after.append(time.monotonic() - (until - SECONDS))
                        await asyncio.sleep(0.5)

            failed_after: list[float] = []
            ready: list[bool] = []
            await asyncio.gather(watch(), *(client(number) for number in range(CLIENTS)))
            assert len(ready) > 5
            assert all(ready)
            assert min(failed_after) < 15
        async with redis_at(service.redis_url) as redis:
            jobs = await invariants.check(redis, "rqueue")
            await invariants.capacity_kept(redis, "rqueue")
    assert len(jobs) > CLIENTS
    assert {status for status in statuses if status >= 500} == set()
    assert receiver.calls
