"""Quotas: what an owner may hold of a pool. Who is over it is passed over, and blocks nobody."""

import time

import pytest

from rqueue.domain.job import DELETE, FINISH, REQUEUE
from rqueue.domain.pool import Pool
from rqueue.errors import StoreDamaged
from rqueue.store.store import Store
from tests import invariants
from tests.conftest import new
from tests.store.line import CLAIM_MS, admit, create, line, status

HOST = {"host": {"slots": 10, "gpu": 4}}


async def _declare(store, quotas, hosts=HOST, pool="default"):
    await store.put_pool("vm", Pool(pool, hosts, quotas=quotas))


async def _admit_all(store, pool="default"):
    """Who goes in passes until there is no more."""
    found, more = [], True
    while more:
        work = await store.admit("vm", pool, CLAIM_MS)
        found += [turn.request_id for turn in work.turns]
        more = work.more
    return found


async def test_who_is_over_quota_is_passed_over(store, redis, namespace):
    await create(store, "a1", "a2", "a3", owner_id="a")
    await create(store, "b1", owner_id="b")
    await _declare(store, {"a": {"slots": 2}})
    assert await _admit_all(store) == ["a1", "a2", "b1"]
    assert (await store.get("vm", "a3")).reason == "over_quota"
    pool = await store.pool("vm", "default")
    assert pool.usage == {"a": {"slots": 2}, "b": {"slots": 1}}
    assert pool.quotas == {"a": {"slots": 2}}
    await store.transition("vm", "a1", FINISH)
    assert await admit(store) == ["a3"]
    await invariants.check(redis, namespace)


async def test_the_star_is_for_who_has_none_of_their_own(store, redis, namespace):
    await _declare(store, {"*": {"slots": 1}, "a": {"gpu": 1}, "c": {"slots": 0}})
    await create(store, "a1", "a2", owner_id="a")
    await create(store, "b1", "b2", owner_id="b")
    await create(store, "c1", owner_id="c")
    await create(store, "star", "star-2", owner_id="*")
    assert await _admit_all(store) == ["a1", "a2", "b1", "star"]
    await invariants.check(redis, namespace)


async def test_a_smaller_one_of_the_same_owner_may_go(store, redis, namespace):
    await _declare(store, {"a": {"slots": 2}})
    await create(store, "wide", owner_id="a", instances=[{"slots": 3}])
    await create(store, "narrow", owner_id="a")
    await create(store, "b1", owner_id="b")
    assert await _admit_all(store) == ["narrow", "b1"]
    assert (await store.get("vm", "wide")).reason == "over_quota"
    await invariants.check(redis, namespace)


async def test_the_order_of_the_line_is_kept_among_owners(store):
    await _declare(store, {"a": {"slots": 2}}, {"host": {"slots": 1}})
    await create(store, "a-wide", owner_id="a", instances=[{"slots": 3}])
    await create(store, "b1", owner_id="b")
    await create(store, "a-narrow", owner_id="a")
    assert await _admit_all(store) == ["b1"]
    await store.transition("vm", "b1", FINISH)
    assert await _admit_all(store) == ["a-narrow"]


@pytest.mark.parametrize("policy", ["strict", "backfill", "fair"])
async def test_another_quota_lets_them_go(store, redis, namespace, policy):
    await store.configure("vm", {"policy": policy})
    await _declare(store, {"a": {"slots": 1}})
    await create(store, "a1", "a2", "a3", owner_id="a")
    assert await _admit_all(store) == ["a1"]
    await _declare(store, {"a": {"slots": 2}})
    assert await _admit_all(store) == ["a2"]
    await _declare(store, {})
    assert await _admit_all(store) == ["a3"]
    await invariants.check(redis, namespace)


async def test_a_demand_that_comes_within_the_quota_by_a_change(store):
    await _declare(store, {"a": {"slots": 2}})
    await create(store, "wide", owner_id="a", instances=[{"slots": 3}])
    assert await _admit_all(store) == []
    draft = new("wide", owner_id="a", instances=[{"slots": 2}])
    await store.update("vm", "wide", None, draft)
    assert await _admit_all(store) == ["wide"]


async def test_a_job_that_comes_before_those_that_are_over(store, redis, namespace):
    await _declare(store, {"a": {"slots": 2}})
    await create(store, *(f"wide{i}" for i in range(30)), owner_id="a", instances=[{"slots": 3}])
    await create(store, "narrow", owner_id="a")
    assert await _admit_all(store) == []
    assert await status(store, "narrow") == "queued"
    # It is looked at among the first twenty of its owner.
    await store.move("vm", "narrow", "after", "wide10")
    assert await _admit_all(store) == ["narrow"]
    await invariants.check(redis, namespace)


async def test_who_leaves_makes_place_among_those_that_are_looked_at(store):
    await _declare(store, {"a": {"slots": 2}})
    await create(store, *(f"wide{i}" for i in range(20)), owner_id="a", instances=[{"slots": 3}])
    await create(store, "narrow", owner_id="a")
    assert await _admit_all(store) == []
    _, work = await store.transition("vm", "wide5", DELETE)
    assert work.pools == ("default",)
    assert await _admit_all(store) == ["narrow"]


async def test_one_that_goes_back_in_line_holds_nothing(store, redis, namespace):
    await _declare(store, {"a": {"slots": 1}})
    await create(store, "a1", "a2", owner_id="a")
    assert await _admit_all(store) == ["a1"]
    await store.transition("vm", "a1", {"calling": "running"})
    await store.transition("vm", "a1", REQUEUE)
    assert (await store.pool("vm", "default")).usage == {}
    assert await _admit_all(store) == ["a1"]
    await invariants.check(redis, namespace)


async def test_names_with_slashes_and_percents(store, redis, namespace):
    for owner in ("a/b", "a%2Fb", "a", "a/", "%"):
        await create(store, f"1 {owner}", f"2 {owner}", owner_id=owner, data={})
    await _declare(store, {"a/b": {"slots": 1}, "%": {"slots": 1}})
    went = await _admit_all(store)
    assert set(went) == {f"{n} {o}" for o in ("a%2Fb", "a", "a/") for n in (1, 2)} | {"1 a/b", "1 %"}
    pool = await store.pool("vm", "default")
    assert pool.usage == {
        "a/b": {"slots": 1},
        "%": {"slots": 1},
        "a%2Fb": {"slots": 2},
        "a": {"slots": 2},
        "a/": {"slots": 2},
    }
    await invariants.check(redis, namespace)


async def test_a_hundred_thousand_over_quota_and_the_next_owner_goes_in_one_pass(
    real_store, real_redis, namespace
):
    store = real_store
    await _declare(store, {"a": {"slots": 1}}, {"host": {"slots": 100}})
    for start in range(0, 100_000, 1000):
        drafts = [new(f"a{start + i}", owner_id="a") for i in range(1000)]
        await store.create("vm", drafts)
    await create(store, "b1", "b2", owner_id="b")
    assert [turn.request_id for turn in (await store.admit("vm", "default", CLAIM_MS)).turns] == [
        "a0",
        "b1",
        "b2",
    ]
    # Its own next one goes when the first has ended, and nobody looks at the others meanwhile.
    calls = int((await real_redis.info("commandstats"))["cmdstat_hmget"]["calls"])
    await create(store, "b3", owner_id="b")
    began = time.perf_counter()
    assert await admit(store) == ["b3"]
    assert time.perf_counter() - began < 1
    assert int((await real_redis.info("commandstats"))["cmdstat_hmget"]["calls"]) - calls < 200
    _, work = await store.transition("vm", "a0", FINISH, claim_ms=CLAIM_MS)
    assert [turn.request_id for turn in work.turns] == ["a1"]


async def test_those_who_wait_are_sorted_in_steps_while_others_come_and_go(real_store, real_redis, namespace):
    store = real_store
    for start in range(0, 2000, 500):
        drafts = [new(f"j{start + i}", owner_id=f"o{i % 7}") for i in range(500)]
        await store.create("vm", drafts)
    await _declare(store, {"o0": {"slots": 1}}, {"host": {"slots": 20}})
    key = f"{namespace}:{{vm}}:apart"
    passes = 0
    while (await real_redis.get(key)) != "1":
        work = await store.admit("vm", "default", CLAIM_MS)
        assert (work.turns, work.more) == ((), True)
        passes += 1
        await create(store, f"new{passes}", owner_id="o0")
        await store.transition("vm", f"j{passes}", DELETE)
        await store.transition("vm", f"j{1999 - passes}", DELETE)
        await store.move("vm", f"j{1000 + passes}", "front")
        await store.move("vm", f"j{500 + passes}", "back")
    assert 5 < passes < 20
    await invariants.check(real_redis, namespace)
    assert len(await _admit_all(store)) == 20
    await invariants.check(real_redis, namespace)
    await invariants.capacity_kept(real_redis, namespace)


async def test_many_owners_over_quota_are_worked_off_in_bounded_passes(real_store, real_redis, namespace):
    """Ten thousand owners that may have nothing, then one that may."""
    store: Store = real_store
    await _declare(store, {"*": {"slots": 0}, "z": {"slots": 5}})
    for start in range(0, 5000, 500):
        await store.create("vm", [new(f"j{start + i}", owner_id=f"o{start + i}") for i in range(500)])
    await create(store, "z1", owner_id="z")
    longest, more, went = 0.0, True, []
    while more:
        began = time.perf_counter()
        work = await store.admit("vm", "default", CLAIM_MS)
        longest = max(longest, time.perf_counter() - began)
        went += [turn.request_id for turn in work.turns]
        more = work.more
    assert went == ["z1"]
    assert longest < 1
    await create(store, "z2", owner_id="z")
    assert await admit(store) == ["z2"]
    assert len(await line(store)) == 5000


@pytest.mark.parametrize(
    "spoil",
    [
        ("SET", "quotas:default", "x"),
        ("SET", "usage:default", "x"),
        ("HSET", "usage:default", "a/slots", "many"),
        ("HSET", "quotas:default", "a", "{"),
        ("HSET", "quotas:default", "a", '{"slots": "many"}'),
        ("SET", "owners:default", "x"),
        ("DEL", "owners:default"),
        ("DEL", "firsts:default"),
        ("ZADD", "owners:default", "0", "x"),
        ("ZADD", "owners:default", "0", "1000000000000000000000000000000:nobody"),
        ("DEL", "line:a/default"),
        ("ZADD", "line:a/default", "5", "00000000000001:nobody"),
        ("DEL", "apart"),
        ("SET", "apart", "nonsense"),
    ],
    ids=lambda words: " ".join(words)[:40],
)
async def test_a_hand_edit_is_no_fault_of_the_service(real_store, real_redis, namespace, spoil):
    store = real_store
    await _declare(store, {"a": {"slots": 2}})
    await create(store, "a1", "a2", "a3", owner_id="a")
    await create(store, "b1", owner_id="b")
    await _admit_all(store)
    name, key, *rest = spoil
    if name == "SET":
        await real_redis.delete(f"{namespace}:{{vm}}:{key}")
    await real_redis.execute_command(name, f"{namespace}:{{vm}}:{key}", *rest)
    said = []
    for doing in (
        lambda: create(store, "a4", owner_id="a"),
        lambda: create(store, "c1", owner_id="c"),
        lambda: store.transition("vm", "a1", FINISH, claim_ms=CLAIM_MS),
        lambda: _admit_all(store),
        lambda: store.get("vm", "a3"),
        lambda: store.pool("vm", "default"),
    ):
        try:
            await doing()
        except StoreDamaged as error:
            said.append(error.message)
    assert all(key in message for message in said)
