"""Store.due: what time brings. Redelivery, deadline, lease, purge; a bounded number at a time."""

import pytest

from rqueue.domain.job import ACCEPTED, DELETE, FINISH
from rqueue.domain.pool import Pool
from rqueue.errors import JobNotFound, LostClaim, RedisUnavailable
from rqueue.store.connect import connect
from rqueue.store.embedded import embedded
from rqueue.store.store import Store
from tests import invariants
from tests.conftest import new, redis_at
from tests.store.line import CLAIM_MS, admit, create, declare, line, running, status


async def called(store, *request_ids):
    """Put jobs in line and let them go; their turns."""
    await declare(store, len(request_ids))
    await create(store, *request_ids)
    return (await store.admit("vm", "default", CLAIM_MS)).turns


async def test_before_its_time_nothing_is_due(store, clock):
    await called(store, "a")
    clock.forward(CLAIM_MS / 1000 - 0.001)
    assert (await store.due("vm", CLAIM_MS)).turns == ()


async def test_a_type_is_quiet_when_nobody_is_called_or_runs_and_no_pool_is_woken(store, clock):
    assert (await store.due("vm", CLAIM_MS)).quiet
    (turn,) = await called(store, "a")
    assert not (await store.due("vm", CLAIM_MS)).quiet
    await store.transition("vm", "a", ACCEPTED, turn.admission)
    assert not (await store.due("vm", CLAIM_MS)).quiet
    await create(store, "b")
    await store.transition("vm", "a", FINISH)
    assert not (await store.due("vm", CLAIM_MS)).quiet
    await store.admit("vm", "default", CLAIM_MS)
    await store.transition("vm", "b", DELETE)
    await store.admit("vm", "default", CLAIM_MS)
    assert (await store.due("vm", CLAIM_MS)).quiet
    # The look at which they are forgotten is none at which nothing came.
    clock.forward(86400)
    assert not (await store.due("vm", CLAIM_MS)).quiet
    assert (await store.due("vm", CLAIM_MS)).quiet


async def test_a_claim_that_lapses_goes_to_one_other(store, redis, namespace, clock):
    (old,) = await called(store, "a")
    clock.forward(CLAIM_MS / 1000)
    (turn,) = (await store.due("vm", CLAIM_MS)).turns
    assert (turn.request_id, turn.callback, turn.admission) == (old.request_id, old.callback, old.admission)
    assert turn.claim == old.claim + CLAIM_MS
    assert (await store.due("vm", CLAIM_MS)).turns == ()
    with pytest.raises(LostClaim):
        await store.call(old, CLAIM_MS)
    await store.call(turn, CLAIM_MS)
    await invariants.check(redis, namespace)


async def test_a_full_redis_is_freed_of_what_has_ended(tmp_path, namespace, clock):
    """Also behind a job that is to be called again."""
    with embedded(tmp_path / "redis") as url:
        async with connect(url) as pipeline, redis_at(url) as redis:
            store = Store(pipeline, namespace, clock)
            await store.configure("vm", {"retention": CLAIM_MS // 1000 + 1})
            await called(store, "a", "b", "c")
            await store.transition("vm", "b", FINISH)
            await create(store, "d")
            await redis.config_set("maxmemory", "1")
            with pytest.raises(RedisUnavailable, match="OOM"):
                await create(store, "e")
            for name in "cd":
                await store.transition("vm", name, DELETE)
            clock.forward(CLAIM_MS / 1000 + 1)
            assert [turn.request_id for turn in (await store.due("vm", CLAIM_MS)).turns] == ["a"]
            for name in "bcd":
                with pytest.raises(JobNotFound):
                    await store.get("vm", name)
            await invariants.check(redis, namespace)


async def test_after_the_deadline_a_job_has_failed_and_the_next_goes(store, redis, namespace, clock):
    await store.configure("vm", {"call_deadline": 30})
    await called(store, "a")
    await create(store, "b")
    clock.forward(29.999)
    await store.due("vm", CLAIM_MS)
    assert await status(store, "a") == "calling"
    clock.forward(0.001)
    work = await store.due("vm", CLAIM_MS)
    assert work.turns == ()
    assert work.pools == ("default",)
    job = await store.get("vm", "a")
    assert (job.status, job.placement, job.deleted_at) == ("failed", None, clock.now)
    assert job.last_error == "no answer within the call_deadline"
    assert await admit(store) == ["b"]
    await invariants.check(redis, namespace)


async def test_a_failed_job_says_what_went_wrong_last(store, clock):
    (turn,) = await called(store, "a")
    await store.retry(turn, 10**9, "connection refused")
    clock.forward(600)
    await store.due("vm", CLAIM_MS)
    assert (await store.get("vm", "a")).last_error == "connection refused"


async def test_a_lease_that_lapses_frees_the_capacity(store, redis, namespace, clock):
    await store.configure("vm", {"lease_seconds": 60})
    await called(store, "a")
    await store.transition("vm", "a", ACCEPTED)
    await create(store, "b")
    clock.forward(60)
    work = await store.due("vm", CLAIM_MS)
    assert (work.turns, work.pools) == ((), ("default",))
    job = await store.get("vm", "a")
    assert (job.status, job.placement, job.deleted_at) == ("expired", None, clock.now)
    assert await admit(store) == ["b"]
    await invariants.check(redis, namespace)


async def test_a_purge_frees_the_names(store, redis, namespace, clock):
    await create(store, "a", "b")
    await store.transition("vm", "a", DELETE)
    clock.forward(24 * 3600)
    await store.due("vm", CLAIM_MS)
    with pytest.raises(JobNotFound):
        await store.get("vm", "a")
    assert set(await invariants.check(redis, namespace)) == {"b"}
    ((job,), _) = await store.create("vm", [new("a")])
    assert job.id == 3


async def test_a_purge_leaves_nothing_of_a_type_but_its_counter_and_events(store, redis, namespace, clock):
    await store.create("vm", [new("a", owner_id="z", host_aggregate="p", priority=1)])
    await store.transition("vm", "a", DELETE)
    clock.forward(24 * 3600)
    await store.due("vm", CLAIM_MS)
    left = {name.removeprefix(f"{namespace}:") async for name in redis.scan_iter(f"{namespace}:*")}
    assert left == {"types", "{vm}:seq", "{vm}:events", "{vm}:wake"}


async def test_it_does_so_many_at_a_time_and_says_whether_there_is_more(store, redis, namespace, clock):
    await called(store, *[f"j{n}" for n in range(7)])
    clock.forward(CLAIM_MS / 1000)
    works = [await store.due("vm", CLAIM_MS, most=3) for _ in range(3)]
    assert [len(work.turns) for work in works] == [3, 3, 1]
    assert [work.more for work in works] == [True, True, False]
    assert len({turn.request_id for work in works for turn in work.turns}) == 7
    await invariants.check(redis, namespace)


async def test_what_woke_stays_until_it_is_examined(store):
    await create(store, "a", host_aggregate="one")
    await create(store, "b", host_aggregate="two")
    for _ in range(2):
        assert set((await store.due("vm", CLAIM_MS)).pools) == {"one", "two"}
    await store.admit("vm", "one", CLAIM_MS)
    assert (await store.due("vm", CLAIM_MS)).pools == ("two",)


async def test_due_says_at_most_so_many_pools(store):
    await store.create("vm", [new(f"j{n}", host_aggregate=f"p{n}") for n in range(150)])
    seen = set()
    for _ in range(2):
        pools = (await store.due("vm", CLAIM_MS)).pools
        assert len(set(pools)) == min(100, 150 - len(seen))
        for pool in pools:
            await store.admit("vm", pool, CLAIM_MS)
        seen.update(pools)
    assert len(seen) == 150
    assert len(await line(store)) == 150


async def test_a_status_of_nobody_s_is_left_for_a_person(store, redis):
    """What is not understood is neither thrown away nor looked at for ever."""
    await running(store, "a")
    key = store._keys.of
    await redis.hset(key("vm", "job:") + "a", "Status", "Running")
    await redis.zadd(key("vm", "due"), {"a": 1})
    await store.due("vm", CLAIM_MS)
    assert await redis.hget(key("vm", "job:") + "a", "Status") == "Running"
    assert await redis.zcard(key("vm", "due")) == 0


async def test_a_job_about_which_nothing_can_be_done_holds_up_no_other(
    real_store, real_redis, namespace, clock
):
    store = real_store
    await store.put_pool("vm", Pool("default", {"n": {"slots": 2}}))
    await store.create("vm", [new("ended"), new("called")])
    await store.admit("vm", "default", CLAIM_MS)
    await store.transition("vm", "ended", FINISH)
    await real_redis.zadd(f"{namespace}:{{vm}}:due", {"ended": 0})
    await real_redis.delete(f"{namespace}:{{vm}}:callbacks")
    await real_redis.set(f"{namespace}:{{vm}}:callbacks", "x")
    clock.forward(CLAIM_MS / 1000 + 1)
    work = await store.due("vm", CLAIM_MS)
    assert [turn.request_id for turn in work.turns] == ["called"]
    # It is not the first of all for ever.
    assert await real_redis.zscore(f"{namespace}:{{vm}}:due", "ended") > clock.now / 1000
