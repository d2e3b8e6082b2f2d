"""explain.lua: what the first in line lacks, from the hosts as they are."""

import pytest

from rqueue.store import steps
from tests.store.line import admit, create, declare

HOSTS = {"n1": {"VCPU": 4, "Memory": 8}, "n2": {"VCPU": 6, "Memory": 4}}


async def words(store, request_id):
    return (await store.get("vm", request_id)).words


async def waiting(store, *instances):
    """One that is first in line, behind nobody; on n1 are 2 VCPU taken, on n2 are 3."""
    await declare(store, **HOSTS)
    await create(store, "r1", instances=[{"VCPU": 2, "Memory": 8}])
    await create(store, "r2", instances=[{"VCPU": 3}])
    await admit(store)
    await create(store, "a", "b", instances=list(instances))
    await admit(store)


@pytest.mark.parametrize(
    ("instances", "expected"),
    [
        ([{"VCPU": 4}], "pool default has no host with 4 VCPU free (most is 3 on n2)"),
        ([{"VCPU": 3, "Memory": 5}], "pool default has no host with 5 Memory free (most is 4 on n2)"),
        ([{"VCPU": 2}] * 3, "pool default has room for 2 of 3 instances of 2 VCPU"),
        (
            [{"VCPU": 2}] * 2 + [{"VCPU": 3}],
            "pool default has room for some of its instances, and not for all at once",
        ),
    ],
)
async def test_it_says_what_is_missing(store, instances, expected):
    await waiting(store, *instances)
    assert await words(store, "a") == expected
    assert await words(store, "b") == "1 job before it waits for pool default"


async def test_each_resource_may_be_there_and_not_on_one_host(store):
    await declare(
        store, n1={"VCPU": 4, "Memory": 1}, n2={"VCPU": 1, "Memory": 4}, n3={"VCPU": 9, "Memory": 9}
    )
    await create(store, "r", instances=[{"VCPU": 9}])
    await admit(store)
    await create(store, "a", instances=[{"VCPU": 3, "Memory": 3}])
    await admit(store)
    assert await words(store, "a") == "pool default has no host with 3 VCPU, 3 Memory free at once"


async def test_one_that_is_about_to_go(store):
    await declare(store)
    await create(store, "a")
    assert await words(store, "a") == "pool default has room for it, and it is about to be admitted"


async def test_many_hosts_are_not_looked_at(store, monkeypatch):
    await waiting(store, {"VCPU": 4})
    monkeypatch.setattr(steps, "MOST_HOSTS", 0)
    assert await words(store, "a") == "pool default has no room for it"


@pytest.mark.parametrize(
    "demand", ["", "{}", "[[1,{}]]", "[[0,{}]]", '[[1,{"VCPU":0}]]', "[[1,[]]]", "nonsense"]
)
async def test_a_demand_that_a_hand_edit_broke_has_words_too(store, redis, namespace, demand):
    await waiting(store, {"VCPU": 4})
    await redis.hset(f"{namespace}:{{vm}}:job:a", "Demand", demand)
    assert await words(store, "a")


@pytest.mark.parametrize("amount", ["nan", "inf", "-7", "x", "1e300"])
async def test_hosts_that_a_hand_edit_broke_have_words_too(store, redis, namespace, amount):
    await waiting(store, {"VCPU": 4})
    for key in ("capacity", "used"):
        await redis.hset(f"{namespace}:{{vm}}:{key}:default", "n2/VCPU", amount)
        assert await words(store, "a")
