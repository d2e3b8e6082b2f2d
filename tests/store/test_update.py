"""Store.update: a waiting job asks for something else, or has someone else called; its place stays."""

import json

import pytest

from rqueue import errors
from rqueue.domain.job import DELETE, Reason
from tests import invariants
from tests.conftest import new
from tests.store.line import admit, create, declare, line


async def test_another_callback(store, redis, namespace, clock):
    await create(store, "a")
    clock.forward(1)
    job, pools = await store.update("vm", "a", "http://other/", None)
    assert (job.callback, job.updated_at, pools) == ("http://other/", clock.now, [])
    await store.create("vm", [new("b", callback=new("a").callback)])
    with pytest.raises(errors.DuplicateCallback, match="'a'"):
        await store.create("vm", [new("c", callback="http://other/")])
    await invariants.check(redis, namespace)


@pytest.mark.parametrize("draft", [None, new("", zone="z")])
async def test_a_callback_that_is_taken_changes_nothing(store, redis, namespace, clock, draft):
    await create(store, "a", "b")
    before = await invariants.check(redis, namespace)
    clock.forward(1)
    with pytest.raises(errors.DuplicateCallback, match="'b'") as raised:
        await store.update("vm", "a", new("b").callback, draft)
    assert raised.value.field == "callback"
    assert await invariants.check(redis, namespace) == before


async def test_its_own_callback_again(store, redis, namespace):
    await create(store, "a")
    for _ in range(2):
        job, _ = await store.update("vm", "a", new("a").callback, None)
        assert job.callback == new("a").callback
    await invariants.check(redis, namespace)


@pytest.mark.parametrize("priority", [None, 5])
async def test_other_data_in_the_same_place(store, redis, namespace, priority):
    await create(store, "a", "b", "c", priority=priority)
    await store.move("vm", "c", "between", "a", "b")
    before = await store.get("vm", "c")
    job, pools = await store.update("vm", "c", None, new("", instances=[{"VCPU": 2}], zone="z"))
    assert json.loads(job.data) == {"host_aggregate": "default", "instances": [{"VCPU": 2}], "zone": "z"}
    assert (job.callback, job.priority, set(pools)) == (before.callback, before.priority, {"default"})
    assert await line(store) == ["a", "c", "b"]
    await invariants.check(redis, namespace)


async def test_data_says_the_pool_again(store, redis, namespace):
    await declare(store, pool="of-project", projects=("p",))
    await create(store, "a", host_aggregate="own")
    was = "own"
    for data, pool in [({"project": "p"}, "of-project"), ({}, "default"), ({"host_aggregate": "own"}, "own")]:
        job, woken = await store.update("vm", "a", None, new("", **data))
        # Who stood behind it in its old pool may go, and so may it in its new one.
        assert (job.pool, woken) == (pool, [was, pool])
        was = pool
        assert json.loads(job.data)["host_aggregate"] == pool
        await invariants.check(redis, namespace)


async def test_a_job_that_never_fitted_goes_when_it_asks_for_less(store, redis, namespace):
    await declare(store)
    await create(store, "a", instances=[{"slots": 2}])
    await admit(store)
    assert (await store.get("vm", "a")).reason == Reason.NEVER_FITS
    await store.update("vm", "a", None, new(""))
    assert await admit(store) == ["a"]
    await invariants.check(redis, namespace)


async def test_a_head_that_asks_for_too_much_lets_the_next_go(store, redis, namespace):
    await declare(store, 2)
    await create(store, "running")
    await create(store, "head", instances=[{"slots": 2}])
    await create(store, "next")
    assert await admit(store) == ["running"]
    await store.update("vm", "head", None, new("", instances=[{"slots": 3}]))
    assert await admit(store) == ["next"]
    await invariants.check(redis, namespace)


async def test_a_head_that_goes_to_another_pool_lets_the_next_go(store, redis, namespace):
    await declare(store, 2)
    await create(store, "running")
    await create(store, "head", instances=[{"slots": 2}])
    await create(store, "next")
    assert await admit(store) == ["running"]
    await store.update("vm", "head", None, new("", host_aggregate="other"))
    assert set((await store.due("vm", 1)).pools) == {"default", "other"}
    assert await admit(store) == ["next"]
    await invariants.check(redis, namespace)


async def test_both_at_once(store, redis, namespace):
    await create(store, "a")
    job, _ = await store.update("vm", "a", "http://other/", new("", zone="z"))
    assert (job.callback, json.loads(job.data)["zone"]) == ("http://other/", "z")
    await invariants.check(redis, namespace)


async def test_only_waiting_jobs_change(store, redis, namespace):
    await declare(store)
    await create(store, "called", "ended")
    await admit(store)
    await store.transition("vm", "ended", DELETE)
    before = await invariants.check(redis, namespace)
    for name, is_ in {"called": "is calling", "ended": "is cancelled"}.items():
        with pytest.raises(errors.IllegalTransition, match=is_):
            await store.update("vm", name, "http://other/", new(""))
    with pytest.raises(errors.JobNotFound):
        await store.update("vm", "gone", "http://other/", None)
    assert await invariants.check(redis, namespace) == before
