"""Store.put_pool, pool and delete_pool: what hosts have, what is used of it, and whose pool it is."""

import pytest

from rqueue import errors
from rqueue.capacity import declared
from rqueue.domain.job import FINISH, Reason
from rqueue.domain.pool import Pool
from tests import invariants
from tests.store.line import CLAIM_MS, admit, create, declare


async def test_a_pool_is_what_was_put(store):
    put = Pool("p", {"node-1": {"VCPU": 64, "nvidia.com/gpu": 2}, "node-2": {"Disk": 2**53 - 1}}, ("a", "z"))
    await store.put_pool("vm", put)
    assert await store.pool("vm", "p") == put
    assert (await store.queue("vm")).pools == ("p",)
    assert await store.types() == ["vm"]


async def test_a_pool_may_have_no_hosts(store):
    await store.put_pool("vm", Pool("p", {}))
    assert await store.pool("vm", "p") == Pool("p", {})


async def test_quantities_are_read_and_written_again(store):
    body = {"hosts": {"n": {"cpu": "1500m", "memory": "2Gi", "pods": 3}}}
    await store.put_pool("vm", declared.read("p", body))
    await create(store, "a", host_aggregate="p", instances=[{"cpu": "500m", "memory": "1Gi"}])
    await admit(store, "p")
    assert (await store.pool("vm", "p")).document() == {
        "pool": "p",
        "hosts": {
            "n": {
                "capacity": {"cpu": "1500m", "memory": 2 << 30, "pods": 3},
                "used": {"cpu": "500m", "memory": 1 << 30, "pods": 0},
                "free": {"cpu": 1, "memory": 1 << 30, "pods": 3},
            }
        },
        "projects": [],
        "waiting": 0,
        "quotas": {},
        "usage": {"y": {"cpu": "500m", "memory": 1 << 30}},
    }


async def test_to_put_is_to_replace_but_for_what_is_used(store, redis, namespace):
    await declare(store, old={"slots": 2}, both={"slots": 1})
    await create(store, "a", "b", instances=[{"slots": 1}])
    await create(store, "c", instances=[{"slots": 9}])
    assert await admit(store) == ["a", "b"]
    used = (await store.pool("vm", "default")).used
    await store.put_pool("vm", Pool("default", {"both": {"gpu": 1}}, ("q",)))
    pool = await store.pool("vm", "default")
    assert pool == Pool("default", {"both": {"gpu": 1}}, ("q",), used, 1, {}, {"y": {"slots": 2}})
    assert sum(host["free"].get("slots", 0) for host in pool.document()["hosts"].values()) == -2
    await invariants.check(redis, namespace)
    await store.transition("vm", "a", FINISH)
    await store.transition("vm", "b", FINISH)
    pool = await store.pool("vm", "default")
    assert (pool.used, pool.usage) == ({}, {})


async def test_a_project_belongs_to_one_pool(store):
    await declare(store, pool="one", projects=("a", "b"))
    with pytest.raises(errors.ProjectTaken, match="'b' belongs to pool 'one'") as raised:
        await declare(store, 9, pool="two", projects=("c", "b"))
    assert raised.value.field == "projects"
    with pytest.raises(errors.PoolNotFound):
        await store.pool("vm", "two")
    await declare(store, pool="one", projects=("a",))
    await declare(store, pool="two", projects=("c", "b"))
    assert (await store.pool("vm", "one")).projects == ("a",)
    assert (await store.pool("vm", "two")).projects == ("b", "c")
    # Pools of another type are other pools.
    await store.put_pool("kube", Pool("x", {}, ("a", "b")))


async def test_a_refused_pool_stays_as_it_was(store):
    await declare(store, 1, pool="one", projects=("a",))
    await declare(store, 2, pool="two", projects=("b",))
    before = await store.pool("vm", "two")
    with pytest.raises(errors.ProjectTaken):
        await declare(store, 9, pool="two", projects=("c", "a"))
    assert await store.pool("vm", "two") == before


async def test_a_deleted_pool_is_forgotten_and_its_jobs_wait(store, redis, namespace):
    await declare(store, projects=("y",))
    await create(store, "a", "b")
    await admit(store)
    await store.delete_pool("vm", "default")
    with pytest.raises(errors.PoolNotFound):
        await store.pool("vm", "default")
    assert (await store.queue("vm")).pools == ()
    assert (await store.get("vm", "b")).reason == Reason.NO_POOL
    assert await admit(store) == []
    await invariants.check(redis, namespace)
    await store.transition("vm", "a", FINISH)
    await declare(store, pool="other", projects=("y",))
    assert (await create(store, "c"))[0].pool == "other"
    await declare(store)
    assert await admit(store) == ["b"]
    await invariants.check(redis, namespace)


async def test_of_a_pool_that_is_not_there(store):
    await create(store, "a")
    with pytest.raises(errors.PoolNotFound):
        await store.pool("vm", "default")
    with pytest.raises(errors.PoolNotFound):
        await store.delete_pool("vm", "default")


async def test_capacity_gives_a_pool_reason_to_be_examined(store):
    await declare(store, pool="p")
    assert (await store.due("vm", CLAIM_MS)).pools == ("p",)


@pytest.mark.parametrize("name", ["a/b", "虛擬機", "{x}", "with:colon", "%41", " ", "p" * 256])
async def test_a_pool_may_have_any_name(store, redis, namespace, name):
    await declare(store, pool=name, projects=(name,))
    (job,) = await create(store, "a", project=name)
    assert job.pool == name
    assert await admit(store, name) == ["a"]
    await invariants.check(redis, namespace)


async def test_a_pool_that_is_deleted_is_examined(store):
    await store.put_pool("vm", Pool("default", {"n": {"slots": 1}}))
    await create(store, "a", "b")
    await store.admit("vm", "default", 5000)
    await store.delete_pool("vm", "default")
    assert "default" in (await store.due("vm", 5000)).pools
