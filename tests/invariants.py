"""What must hold of the keys of a type after anything at all has happened.

Reads Redis directly: this is what an operator with redis-cli would check by hand.
"""

import json
from collections import Counter

from redis.asyncio import Redis

from rqueue.store.keys import Keys

WAITING = {"queued"}
ADMITTED = {"calling", "running"}
ENDED = {"done", "cancelled", "failed", "expired"}


async def check(redis: "Redis", namespace: str, type_: str = "vm") -> dict[str, dict[str, str]]:
    """Assert that all keys of the type agree. Returns request_id → hash of every job there is."""
    keys = Keys(namespace)

    def key(name: str) -> str:
        return keys.of(type_, name)

    async def below(prefix: str) -> dict[str, str]:
        return {
            found[len(key(prefix)) :]: found
            async for found in redis.scan_iter(_escaped(key(prefix)) + "*", count=1000)
        }

    jobs = {request_id: await redis.hgetall(name) for request_id, name in (await below("job:")).items()}

    def member(request_id: str) -> str:
        job = jobs[request_id]
        return f"{job.get('Rank') or format(int(job['ID']) << 20, '014x')}:{request_id}"

    def line(statuses: set[str], **having: str) -> dict[str, float]:
        return {
            member(request_id): float(job["Priority"])
            for request_id, job in jobs.items()
            if job["Status"] in statuses and all(job[name] == value for name, value in having.items())
        }

    async def zset(name: str) -> dict[str, float]:
        return dict(await redis.zrange(name, 0, -1, withscores=True))

    assert await zset(key("queue")) == line(WAITING)
    assert await zset(key("running")) == line(ADMITTED)
    ended = await zset(key("ended"))
    assert ended == {i: float(job["DeletedAt"]) for i, job in jobs.items() if job["Status"] in ENDED}

    owners, pools = await below("owner:"), await below("pool:")
    assert set(owners) == {job["OwnerID"] for job in jobs.values() if job["Status"] in WAITING | ADMITTED}
    for owner, name in owners.items():
        assert await zset(name) == line(WAITING | ADMITTED, OwnerID=owner)
    assert set(pools) == {job["Pool"] for job in jobs.values() if job["Status"] in WAITING}
    for pool, name in pools.items():
        assert await zset(name) == line(WAITING, Pool=pool)

    assert await redis.hgetall(key("callbacks")) == {job["Callback"]: i for i, job in jobs.items()}

    charged: dict[str, Counter[str]] = {}
    for request_id, job in jobs.items():
        assert ("Placement" in job) == (job["Status"] in ADMITTED)
        assert ("DeletedAt" in job) == (job["Status"] in ENDED)
        if "Observed" in job:
            # Its source sees it, so that it is not charged.
            assert job["Status"] == "running"
            assert await redis.zscore(key("held:") + job["Pool"], request_id) == float("inf")
        elif job["Status"] in ADMITTED:
            hosts = iter(json.loads(job["Placement"]))
            counter = charged.setdefault(job["Pool"], Counter())
            for count, shape in json.loads(job["Demand"]):
                for _ in range(count):
                    host = next(hosts)
                    for resource, amount in shape.items():
                        counter[f"{host}/{resource}"] += amount
            assert next(hosts, None) is None
    used = {pool: await redis.hgetall(name) for pool, name in (await below("used:")).items()}
    assert {p: {f: int(a) for f, a in of.items()} for p, of in used.items()} == {
        p: dict(c) for p, c in charged.items() if c
    }

    for pool, name in (await below("held:")).items():
        for request_id, moment in (await zset(name)).items():
            assert jobs[request_id]["Status"] == "running"
            assert jobs[request_id]["Pool"] == pool
            assert ("Observed" in jobs[request_id]) == (moment == float("inf"))
    live = await redis.hgetall(key("observed"))
    assert set(live) == set(await redis.hgetall(key("sources")))
    assert set(live) <= set(await redis.hgetall(key("pools")))
    assert {*await below("seen:"), *await below("limits:")} <= set(live)
    assert set(await redis.hgetall(key("source_errors"))) <= set(live)

    due = await zset(key("due"))
    for request_id in due:
        assert request_id in jobs
        assert jobs[request_id]["Status"] not in WAITING
    for request_id, job in jobs.items():
        assert (request_id in due) or job["Status"] in WAITING | {"running"}
    return jobs


async def capacity_kept(redis: "Redis", namespace: str, type_: str = "vm") -> None:
    """Assert that no host of a pool is charged beyond what it has."""
    keys = Keys(namespace)
    async for name in redis.scan_iter(_escaped(keys.of(type_, "used:")) + "*"):
        pool = name[len(keys.of(type_, "used:")) :]
        capacity = await redis.hgetall(keys.of(type_, "capacity:") + pool)
        for field, amount in (await redis.hgetall(name)).items():
            assert 0 < int(amount) <= int(capacity[field]), (pool, field)


def _escaped(pattern: str) -> str:
    for character in "\\*?[]":
        pattern = pattern.replace(character, "\\" + character)
    return pattern
