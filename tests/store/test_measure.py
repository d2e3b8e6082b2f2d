"""measure, and the gauges that are made of it: what a scrape reads of the lines and pools."""

import asyncio

import pytest

from rqueue import metrics
from rqueue.domain.job import CONFIRM, FINISH
from rqueue.domain.pool import Pool
from rqueue.store import gauges
from rqueue.store.gauges import GaugeReader
from tests.conftest import new

PASS_MS = 60_000


@pytest.fixture
def reader(pipeline, namespace, clock) -> GaugeReader:
    return GaugeReader(pipeline, namespace, clock)


async def read(reader: GaugeReader) -> metrics.Gauges:
    """The gauges as they are now, whatever was read a moment ago."""
    reader._fresh_until = 0.0
    return await reader.read()


async def test_lines_and_pools_are_as_they_are(store, reader, clock):
    hosts = {"n1": {"cpu": 4000, "gpu": 2}, "n2": {"cpu": 4000}}
    await store.put_pool("vm", Pool("p", hosts))
    for name in "abc":
        await store.create("vm", [new(name, host_aggregate="p", instances=[{"cpu": "3"}])])
        clock.forward(10)
    await store.create("vm", [new("lost", host_aggregate="misspelt")])
    await store.admit("vm", "p", PASS_MS)
    found = await read(reader)
    assert found[metrics.QUEUE_JOBS] == {("vm", "p"): 1, ("vm", "misspelt"): 1}
    assert found[metrics.OLDEST_AGE] == {("vm", "p"): 10, ("vm", "misspelt"): 0}
    assert found[metrics.RUNNING] == {("vm",): 2}
    assert found[metrics.CAPACITY] == {("vm", "p", "cpu"): 8000, ("vm", "p", "gpu"): 2}
    assert found[metrics.USED] == {("vm", "p", "cpu"): 6000, ("vm", "p", "gpu"): 0}
    assert found[metrics.FREE] == {("vm", "p", "cpu"): 2000, ("vm", "p", "gpu"): 2}
    assert found[metrics.PAUSED] == {("vm",): 0}
    assert found[metrics.REDIS_UP] == {(): 1}
    assert found[metrics.LEFT_OUT] == {(): 0}
    await store.configure("vm", {"paused": True})
    await store.put_pool("vm", Pool("p", {"n2": {"cpu": 1000}}))
    found = await read(reader)
    assert found[metrics.PAUSED] == {("vm",): 1}
    assert found[metrics.CAPACITY]["vm", "p", "cpu"] == 1000
    assert found[metrics.USED]["vm", "p", "cpu"] == 6000
    assert found[metrics.FREE]["vm", "p", "cpu"] == 0


async def test_an_empty_pool_is_there_with_nothing_in_line(store, reader):
    await store.put_pool("vm", Pool("p", {"n": {"slots": 1}}))
    found = await read(reader)
    assert found[metrics.QUEUE_JOBS] == {("vm", "p"): 0}
    assert found[metrics.OLDEST_AGE] == {("vm", "p"): 0}


@pytest.mark.parametrize("where", ["front", "back"])
async def test_whoever_is_moved_keeps_their_age(store, reader, clock, where):
    for number in range(40):
        await store.create("vm", [new(f"j{number}")])
        clock.forward(1)
    moved = {"front": "j39", "back": "j0"}[where]
    await store.move("vm", moved, where)
    assert (await read(reader))[metrics.OLDEST_AGE] == {("vm", "default"): 40}


async def test_who_starves_at_a_large_priority_is_seen(store, reader, clock):
    await store.create("vm", [new("poor", priority=100)])
    clock.forward(1000)
    for number in range(30):
        await store.create("vm", [new(f"rich{number}", priority=1)])
        await store.create("vm", [new(f"later{number}", priority=100)])
    assert (await read(reader))[metrics.OLDEST_AGE] == {("vm", "default"): 1000}


async def test_how_late_a_replica_would_be(store, reader, clock):
    await store.put_pool("vm", Pool("default", {"n": {"slots": 1}}))
    await store.create("vm", [new("a")])
    await store.admit("vm", "default", PASS_MS)
    assert (await read(reader))[metrics.LATE] == {("vm",): 0}
    clock.forward(PASS_MS / 1000 + 7)
    assert (await read(reader))[metrics.LATE]["vm",] == pytest.approx(7, abs=0.01)
    await store.transition("vm", "a", CONFIRM)
    assert (await read(reader))[metrics.LATE] == {("vm",): 0}
    await store.transition("vm", "a", FINISH)
    assert (await read(reader))[metrics.RUNNING] == {("vm",): 0}


async def test_what_there_is_no_room_for_is_counted_and_its_jobs_are_others(store, reader, monkeypatch):
    monkeypatch.setattr(gauges, "SERIES", 20)
    for number in range(18):
        await store.create("a", [new(f"r{number}", host_aggregate=f"p{number:02}")])
    await store.create("b", [new("r", host_aggregate="p1")])
    await store.create("b", [new("s", host_aggregate="p2"), new("t", host_aggregate="p3")])
    await store.put_pool("b", Pool("p3", {"n": {"slots": 1}}))
    found = await read(reader)
    assert found[metrics.LEFT_OUT] == {(): 1}
    assert found[metrics.QUEUE_JOBS]["b", "p3"] == 1
    assert found[metrics.QUEUE_JOBS]["b", "p1"] == 1
    assert found[metrics.QUEUE_JOBS]["b", "other"] == 1
    assert sum(found[metrics.QUEUE_JOBS].values()) == 21


async def test_a_pool_called_other_and_the_others_are_one_series(store, reader, monkeypatch):
    monkeypatch.setattr(gauges, "SERIES", 1)
    await store.put_pool("vm", Pool("other", {"n": {"slots": 1}}))
    await store.create("vm", [new("a", host_aggregate="other"), new("b", host_aggregate="p")])
    assert (await read(reader))[metrics.QUEUE_JOBS] == {("vm", "other"): 2}


async def test_jobs_of_a_pool_that_was_deleted_are_not_lost(store, reader):
    await store.put_pool("vm", Pool("p", {"n": {"slots": 1}}))
    await store.configure("vm", {"paused": True})
    await store.create("vm", [new("a", host_aggregate="p")])
    await store.delete_pool("vm", "p")
    assert sum((await read(reader))[metrics.QUEUE_JOBS].values()) == 1


@pytest.mark.parametrize("key", ["queue", "due", "heads", "pools", "settings", "pool:default", "capacity:p"])
async def test_a_type_that_a_hand_damaged_is_named_and_the_others_are_read(
    store, reader, redis, namespace, key
):
    for type_ in ("bad", "good"):
        await store.put_pool(type_, Pool("p", {"n": {"slots": 1}}))
        await store.create(type_, [new("a")])
    name = f"{namespace}:{{bad}}:{key}"
    await redis.delete(name)
    await redis.set(name, "a string")
    found = await read(reader)
    assert found[metrics.DAMAGED] == {("bad",): 1}
    assert found[metrics.QUEUE_JOBS]["good", "default"] == 1
    assert found[metrics.REDIS_UP] == {(): 1}


async def test_what_a_hand_damaged_of_a_job_or_an_amount_is_passed_over(
    store, reader, redis, namespace, clock
):
    await store.put_pool("vm", Pool("default", {"n": {"slots": 1, "gpu": 4}}))
    await store.create("vm", [new("a"), new("b"), new("c")])
    clock.forward(5)
    await redis.delete(f"{namespace}:{{vm}}:job:a")
    await redis.hset(f"{namespace}:{{vm}}:job:b", "CreatedAt", "nonsense")
    await redis.hset(f"{namespace}:{{vm}}:capacity:default", "n/gpu", "many")
    await redis.zadd(f"{namespace}:{{vm}}:due", {"x": float("-inf")})
    found = await read(reader)
    assert found[metrics.OLDEST_AGE] == {("vm", "default"): 5}
    assert found[metrics.CAPACITY] == {("vm", "default", "slots"): 1}


@pytest.mark.parametrize("written", ["9" * 400, "inf", "nan", "-5"])
async def test_numbers_that_are_none_fail_no_scrape(store, reader, redis, namespace, written):
    for type_ in ("bad", "good"):
        await store.put_pool(type_, Pool("default", {"n": {"slots": 1}}))
        await store.create(type_, [new("a")])
    await redis.hset(f"{namespace}:{{bad}}:job:a", "CreatedAt", written)
    await redis.hset(f"{namespace}:{{bad}}:capacity:default", "n/slots", written)
    found = await read(reader)
    assert found[metrics.QUEUE_JOBS]["good", "default"] == 1
    assert "rqueue_capacity" in metrics.text("", [], found, process=False)[0].decode()


async def test_a_storm_of_scrapes_reads_once(store, reader, clock):
    await store.create("vm", [new("a")])
    first = await reader.read()
    await store.create("vm", [new("b")])
    assert await reader.read() is first


class Hanging:
    """The way to Redis, which hangs until it is let go."""

    def __init__(self, pipeline):
        self.pipeline, self.let_go = pipeline, asyncio.Event()

    async def call(self, *words, write=False):
        await self.let_go.wait()
        return await self.pipeline.call(*words)

    async def calls(self, *commands, write=False):
        await self.let_go.wait()
        return await self.pipeline.calls(*commands)


async def test_after_a_hang_the_next_reading_is_as_soon_as_ever(pipeline, namespace, monkeypatch):
    """A reading that was given up says nothing of how long the next one takes."""
    monkeypatch.setattr(gauges, "READ_SECONDS", 0.5)
    monkeypatch.setattr(gauges, "FRESH_SECONDS", 0.01)
    redis = Hanging(pipeline)
    reader = gauges.GaugeReader(redis, namespace)
    assert await reader.read() == {metrics.REDIS_UP: {(): 0}}
    redis.let_go.set()
    async with asyncio.timeout(3):
        while (await reader.read())[metrics.REDIS_UP] != {(): 1}:  # noqa: ASYNC110 - time has no event
            await asyncio.sleep(0.01)
