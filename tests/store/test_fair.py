"""Policy fair: the owner with the smallest dominant share goes first."""

from rqueue.domain.job import DELETE, FINISH
from rqueue.domain.pool import Pool
from tests import invariants
from tests.conftest import new
from tests.store.line import CLAIM_MS, create, declare, line


async def _admit_all(store):
    found, more = [], True
    while more:
        work = await store.admit("vm", "default", CLAIM_MS)
        found += [turn.request_id for turn in work.turns]
        more = work.more
    return found


async def _fair(store, hosts, **settings):
    await store.configure("vm", {"policy": "fair", **settings})
    await store.put_pool("vm", Pool("default", hosts))


async def test_the_example_of_the_paper(store, redis, namespace):
    """Nine CPUs and 18 GB: three tasks of A (1 CPU, 4 GB) and two of B (3 CPUs, 1 GB)."""
    await _fair(store, {"host": {"cpus": 9, "gb": 18}})
    await create(store, *(f"a{i}" for i in range(9)), owner_id="a", instances=[{"cpus": 1, "gb": 4}])
    await create(store, *(f"b{i}" for i in range(9)), owner_id="b", instances=[{"cpus": 3, "gb": 1}])
    assert await _admit_all(store) == ["a0", "b0", "a1", "b1", "a2"]
    await invariants.check(redis, namespace)


async def test_equal_shares_go_in_the_order_of_the_line_and_each_owner_in_its_own(store, redis, namespace):
    await _fair(store, {"host": {"slots": 6}})
    await create(store, "c1", owner_id="c")
    await create(store, "a1", "a2", "a3", owner_id="a")
    await create(store, "b1", "b2", owner_id="b")
    await store.move("vm", "a3", "front")
    assert await _admit_all(store) == ["a3", "c1", "b1", "a1", "b2", "a2"]
    await invariants.check(redis, namespace)


async def test_one_that_floods_delays_nobody(store, redis, namespace):
    await _fair(store, {"host": {"slots": 4}})
    await create(store, *(f"flood{i}" for i in range(50)), owner_id="f")
    assert await _admit_all(store) == ["flood0", "flood1", "flood2", "flood3"]
    await create(store, "a1", "a2", owner_id="a")
    await store.transition("vm", "flood0", FINISH)
    assert await _admit_all(store) == ["a1"]
    await store.transition("vm", "flood1", FINISH)
    assert await _admit_all(store) == ["a2"]
    await store.transition("vm", "flood2", FINISH)
    assert await _admit_all(store) == ["flood4"]
    await invariants.check(redis, namespace)


async def test_who_does_not_fit_does_not_block_the_next_owner_until_patience_ends(
    store, redis, namespace, clock
):
    await _fair(store, {"host": {"slots": 3}}, patience=60)
    await create(store, "x1", "x2", owner_id="x")
    assert await _admit_all(store) == ["x1", "x2"]
    await create(store, "big", owner_id="a", instances=[{"slots": 3}])
    await create(store, "s1", owner_id="b")
    assert await _admit_all(store) == ["s1"]
    clock.forward(60)
    await store.transition("vm", "s1", FINISH)
    await create(store, "s2", owner_id="b")
    assert await _admit_all(store) == []
    await store.transition("vm", "x1", FINISH)
    await store.transition("vm", "x2", FINISH)
    assert await _admit_all(store) == ["big"]
    await store.transition("vm", "big", FINISH)
    assert await _admit_all(store) == ["s2"]
    await invariants.check(redis, namespace)


async def test_one_whose_owner_holds_most_goes_too_when_its_patience_ends(store, clock):
    """Others with smaller shares come all the time."""
    await _fair(store, {"host": {"slots": 4}}, patience=60)
    await create(store, "a1", "a2", "a3", "a4", owner_id="a")
    assert await _admit_all(store) == ["a1", "a2", "a3", "a4"]
    await create(store, "waits", owner_id="a")
    went = []
    for number in range(10):
        await create(store, f"b{number}", owner_id=f"b{number}")
        await store.transition("vm", went[-1] if went else "a4", FINISH)
        went += await _admit_all(store)
        clock.forward(10)
    assert went[:8] == [*(f"b{i}" for i in range(6)), "waits", "b6"]


async def test_shares_follow_the_pool(store, redis, namespace):
    await _fair(store, {"host": {"cpus": 10, "gpus": 10}})
    await create(store, "a1", owner_id="a", instances=[{"cpus": 5}])
    await create(store, "b1", owner_id="b", instances=[{"gpus": 4}])
    assert await _admit_all(store) == ["a1", "b1"]
    await store.configure("vm", {"paused": True})
    await create(store, "a2", owner_id="a", instances=[{"cpus": 1}])
    await create(store, "b2", owner_id="b", instances=[{"cpus": 1}])
    # Now 4 of 4 GPUs are more than 5 of 10 CPUs.
    await store.put_pool("vm", Pool("default", {"host": {"cpus": 10, "gpus": 4}}))
    await store.configure("vm", {"paused": False})
    assert await _admit_all(store) == ["a2", "b2"]
    await invariants.check(redis, namespace)


async def test_quotas_hold_too(store, redis, namespace):
    await store.configure("vm", {"policy": "fair"})
    await store.put_pool("vm", Pool("default", {"host": {"slots": 5}}, quotas={"a": {"slots": 1}}))
    await create(store, "a1", "a2", owner_id="a")
    await create(store, "b1", "b2", "b3", owner_id="b")
    assert await _admit_all(store) == ["a1", "b1", "b2", "b3"]
    await store.transition("vm", "a1", FINISH)
    assert await _admit_all(store) == ["a2"]
    await invariants.check(redis, namespace)


async def test_it_begins_with_those_who_wait_already_and_ends_again(real_store, real_redis, namespace):
    store = real_store
    await declare(store, 4)
    for start in range(0, 1000, 500):
        await store.create(
            "vm", [new(f"j{start + i}", owner_id=f"o{(start + i) // 250}") for i in range(500)]
        )
    await store.configure("vm", {"policy": "fair"})
    assert await _admit_all(store) == ["j0", "j250", "j500", "j750"]
    await invariants.check(real_redis, namespace)
    await store.configure("vm", {"policy": "strict"})
    await store.transition("vm", "j500", FINISH)
    assert await _admit_all(store) == ["j1"]
    await store.configure("vm", {"policy": "fair"})
    await store.transition("vm", "j750", FINISH)
    assert await _admit_all(store) == ["j501"]
    await invariants.check(real_redis, namespace)


async def test_what_leaves_and_what_never_fits(store, redis, namespace):
    await _fair(store, {"host": {"slots": 2}})
    await create(store, "never", owner_id="a", instances=[{"slots": 3}])
    await create(store, "a2", owner_id="a")
    await create(store, "b1", "b2", owner_id="b")
    await store.transition("vm", "b1", DELETE)
    assert await _admit_all(store) == ["a2", "b2"]
    assert await line(store) == ["never"]
    assert (await store.get("vm", "never")).reason == "never_fits"
    await invariants.check(redis, namespace)
