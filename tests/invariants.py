"""What must hold of the keys of a type after anything at all has happened.

Reads Redis directly: this is what an operator with redis-cli would check by hand.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable

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

    await _by_owner(redis, key, below, jobs, member)

    charged: dict[str, Counter[str]] = {}
    usage: dict[str, Counter[str]] = {}
    for request_id, job in jobs.items():
        assert ("Placement" in job) == (job["Status"] in ADMITTED)
        assert ("DeletedAt" in job) == (job["Status"] in ENDED)
        if "Observed" in job:
            # Its source sees it, so that its hosts are not charged.
            assert job["Status"] == "running"
            assert await redis.zscore(key("held:") + job["Pool"], request_id) == float("inf")
        if job["Status"] in ADMITTED:
            hosts = iter(json.loads(job["Placement"]))
            counter = charged.setdefault(job["Pool"], Counter())
            held = usage.setdefault(job["Pool"], Counter())
            for count, shape in json.loads(job["Demand"]):
                for _ in range(count):
                    host = next(hosts)
                    for resource, amount in shape.items():
                        held[f"{coded(job['OwnerID'])}/{resource}"] += amount
                        if "Observed" not in job:
                            counter[f"{host}/{resource}"] += amount
            assert next(hosts, None) is None
    for prefix, sums in (("used:", charged), ("usage:", usage)):
        there = {pool: await redis.hgetall(name) for pool, name in (await below(prefix)).items()}
        assert {p: {f: int(a) for f, a in of.items()} for p, of in there.items()} == {
            p: dict(c) for p, c in sums.items() if c
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
    for request_id, name in (await below("history:")).items():
        assert request_id in jobs
        entries = await redis.lrange(name, 0, -1)
        assert 0 < len(entries) <= 100
        ids = [tuple(map(int, entry.split("\t")[0].split("-"))) for entry in entries]
        assert ids == sorted(set(ids))
    for name in (await below("releases:")).values():
        entries = await redis.lrange(name, 0, -1)
        # What a hand edit wrote is left out by who reads it.
        assert 0 < len(entries) < 192

    due = await zset(key("due"))
    for request_id in due:
        assert request_id in jobs
        assert jobs[request_id]["Status"] not in WAITING
    for request_id, job in jobs.items():
        assert (request_id in due) or job["Status"] in WAITING | {"running"}
    return jobs


def coded(owner: str) -> str:
    """An owner as it stands before a slash."""
    return owner.replace("%", "%25").replace("/", "%2F")


async def _by_owner(
    redis: "Redis",
    key: Callable[[str], str],
    below: Callable[[str], Awaitable[dict[str, str]]],
    jobs: dict[str, dict[str, str]],
    member: Callable[[str], str],
) -> None:
    """Where waiting jobs stand by owner, all of them do, and each owner stands once at the most."""
    if await redis.get(key("apart")) != "1":
        return
    lines: dict[str, dict[str, float]] = {}
    for request_id, job in jobs.items():
        if job["Status"] in WAITING:
            name = f"{coded(job['OwnerID'])}/{job['Pool']}"
            lines.setdefault(name, {})[member(request_id)] = float(job["Priority"])
    there = await below("line:")
    assert {name: dict(await redis.zrange(k, 0, -1, withscores=True)) for name, k in there.items()} == lines
    fair = await redis.hget(key("settings"), "policy") == "fair"
    for pool in {job["Pool"] for job in jobs.values()}:
        owners = {job["OwnerID"] for job in jobs.values() if job["Status"] in WAITING and job["Pool"] == pool}
        firsts = await redis.hgetall(key("firsts:") + pool)
        entries = sorted(f"{place}:{owner}" for owner, place in firsts.items())
        assert await redis.zrange(key("owners:") + pool, 0, -1) == entries
        if fair:
            assert sorted(await redis.zrange(key("shares:") + pool, 0, -1)) == entries
        skipped = await redis.smembers(key("skipped:") + pool)
        assert set(firsts) | skipped == owners
        for owner in set(firsts) - skipped:
            first, priority = (await redis.zrange(key(f"line:{coded(owner)}/{pool}"), 0, 0, withscores=True))[
                0
            ]
            high = f"1{int(priority):014x}" if priority >= 0 else f"0{int(priority) + 2**53:014x}"
            assert firsts[owner] == high + first[:14]


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
