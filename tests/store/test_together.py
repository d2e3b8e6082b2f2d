"""Jobs that are created one by one in the same turn go in line together, and each for itself."""

import asyncio

import pytest

from rqueue.errors import DuplicateCallback, DuplicateRequestID, QueueFull, RedisUnavailable
from rqueue.store.connect import connect
from rqueue.store.store import Store
from rqueue.store.together import AT_ONCE
from tests import invariants
from tests.conftest import new
from tests.store.line import line


async def at_once(store, *drafts):
    """Create each by itself, all in one turn; who got what."""
    return await asyncio.gather(*(store.create("vm", [draft]) for draft in drafts), return_exceptions=True)


async def test_they_go_by_few_scripts_in_the_order_in_which_they_were_asked_for(
    real_store, real_redis, namespace
):
    await real_store.create("vm", [new("first")])
    before = (await real_redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    found = await at_once(real_store, *(new(f"j{n}", owner_id=f"o{n % 3}") for n in range(3 * AT_ONCE)))
    after = (await real_redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before == 3
    assert [[job.request_id for job in jobs] for jobs, _ in found] == [[f"j{n}"] for n in range(3 * AT_ONCE)]
    assert await line(real_store) == ["first", *(f"j{n}" for n in range(3 * AT_ONCE))]
    assert [job for jobs, _ in found for job in jobs] == [
        (await real_store.get("vm", f"j{n}"))._replace(position=None, ahead=None, reason=None, words=None)
        for n in range(3 * AT_ONCE)
    ]
    await invariants.check(real_redis, namespace)


async def test_only_who_is_at_fault_is_refused(store, redis, namespace):
    await store.create("vm", [new("there", callback="http://c/there")])
    drafts = [
        new("a"),
        new("there"),
        new("b", callback="http://c/there"),
        new("a", callback="http://c/other"),
        new("c"),
    ]
    first, taken, called, twice, last = await at_once(store, *drafts)
    assert [jobs[0].request_id for jobs, _ in (first, last)] == ["a", "c"]
    assert isinstance(taken, DuplicateRequestID)
    assert taken.field == "request_id"
    assert isinstance(called, DuplicateCallback)
    assert called.field == "callback"
    assert isinstance(twice, DuplicateRequestID)
    assert await line(store) == ["there", "a", "c"]
    await invariants.check(redis, namespace)


async def test_a_queue_takes_as_many_as_it_may_hold(store):
    await store.configure("vm", {"max_queued": 3})
    found = await at_once(store, *(new(f"j{n}") for n in range(5)))
    assert [type(one) for one in found] == [tuple] * 3 + [QueueFull] * 2
    assert await line(store) == ["j0", "j1", "j2"]


async def test_types_do_not_mix(store):
    await asyncio.gather(*(store.create(type_, [new("a")]) for type_ in ("vm", "kube", "vm2")))
    for type_ in ("vm", "kube", "vm2"):
        assert (await store.get(type_, "a")).type == type_


async def test_who_is_cancelled_disturbs_nobody(store, redis, namespace):
    tasks = [asyncio.create_task(store.create("vm", [new(f"j{n}")])) for n in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(one, tuple) for one in found] == [True, False, True, True]
    assert [name for name in await line(store) if name != "j1"] == ["j0", "j2", "j3"]
    await invariants.check(redis, namespace)


async def test_each_hears_that_redis_is_away():
    async with connect("redis://127.0.0.1:1") as pipeline:
        found = await at_once(Store(pipeline, "test"), new("a"), new("b"))
    assert [type(one) for one in found] == [RedisUnavailable] * 2
    assert found[0] is not found[1]


@pytest.mark.parametrize("damaged", ["callbacks", "queue"])
async def test_what_is_damaged_is_said_to_each(store, redis, namespace, damaged):
    await redis.set(f"{namespace}:{{vm}}:{damaged}", "text")
    found = await at_once(store, new("a"), new("b"))
    assert [getattr(one, "code", "") for one in found] == ["store_damaged"] * 2


async def test_a_batch_whose_answer_was_lost_is_answered_though_one_has_changed_since(
    store, redis, namespace
):
    drafts = [new("a"), new("b")]
    rest = ["" if value is None else value for draft in drafts for value in draft]
    said = {"nonce": "7", "default_pool": "default", "actor": "", "owners": "", "traceparent": ""}
    first = await store._run("create", "vm", *rest, **said, new_type=True)
    await redis.hset(f"{namespace}:{{vm}}:job:b", "Nonce", "8")
    again = await store._run("create", "vm", *rest, **said, new_type=True)
    assert again[1:] == first[1:]
