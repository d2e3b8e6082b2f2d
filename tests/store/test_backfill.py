"""Policy backfill: who fits may go before the first in line, for as long as that has patience."""

from rqueue.domain.job import DELETE, FINISH
from rqueue.domain.pool import Pool
from tests import invariants
from tests.store.line import CLAIM_MS, admit, create, declare, line, status

BIG, SMALL = [{"slots": 3}], [{"slots": 1}]


async def _full_but_one(store, **settings):
    """Three slots, two of which are taken by `a` and `b`; `big` wants all."""
    await store.configure("vm", {"policy": "backfill", **settings})
    await declare(store, 3)
    await create(store, "a", "b", instances=SMALL)
    assert await admit(store) == ["a", "b"]
    await create(store, "big", instances=BIG)


async def test_who_fits_goes_before_the_first_in_line(store, redis, namespace):
    await _full_but_one(store)
    await create(store, "two", instances=[{"slots": 2}])
    await create(store, "one", "more", instances=SMALL)
    assert await admit(store) == ["one"]
    assert await line(store) == ["big", "two", "more"]
    await invariants.check(redis, namespace)


async def test_who_comes_later_and_fits_wakes_the_pool_and_who_does_not_fit_does_not(store):
    await _full_but_one(store)
    assert await admit(store) == []
    _, pools = await store.create("vm", [_new("one", SMALL)])
    assert pools == ["default"]
    assert await admit(store) == ["one"]
    _, pools = await store.create("vm", [_new("two", [{"slots": 2}])])
    assert pools == ["default"]
    assert await admit(store) == []
    # What does not fit is known by now, also in an array.
    _, pools = await store.create("vm", [_new("two-again", [{"slots": 2}]), _new("big-again", BIG)])
    assert pools == []
    _, pools = await store.create("vm", [_new("big-3", BIG), _new("other", [{"slots": 1}, {"slots": 1}])])
    assert pools == ["default"]


async def test_room_makes_all_be_looked_at_again(store, redis, namespace):
    await _full_but_one(store)
    await create(store, "two", instances=[{"slots": 2}])
    assert await admit(store) == []
    await store.transition("vm", "a", FINISH)
    assert await admit(store) == ["two"]
    await store.put_pool("vm", Pool("default", {"host": {"slots": 6}}))
    assert await admit(store) == ["big"]
    await invariants.check(redis, namespace)


async def test_a_release_lets_one_behind_go_at_once(store):
    await _full_but_one(store)
    await create(store, "two", instances=[{"slots": 2}])
    assert await admit(store) == []
    _, work = await store.transition("vm", "a", FINISH, claim_ms=CLAIM_MS)
    assert [turn.request_id for turn in work.turns] == ["two"]


async def test_after_its_patience_the_first_is_the_next(store, redis, namespace, clock):
    await _full_but_one(store, patience=60)
    await create(store, "one", instances=SMALL)
    clock.forward(100)
    # It waited, but nobody went before it.
    assert await admit(store) == ["one"]
    await store.transition("vm", "one", FINISH)
    clock.forward(59)
    await create(store, "in-time", instances=SMALL)
    assert await admit(store) == ["in-time"]
    await store.transition("vm", "in-time", FINISH)
    clock.forward(1)
    await create(store, "late", instances=SMALL)
    assert await admit(store) == []
    await store.transition("vm", "a", FINISH)
    assert await admit(store) == []
    await store.transition("vm", "b", FINISH)
    assert await admit(store) == ["big"]
    await store.transition("vm", "big", FINISH)
    assert await admit(store) == ["late"]
    assert await redis.exists(f"{namespace}:{{vm}}:passed:default") == 0
    await invariants.check(redis, namespace)


async def test_without_patience_it_is_as_strict_from_the_second_on(store):
    await _full_but_one(store, patience=0)
    await create(store, "one", "more", instances=SMALL)
    assert await admit(store) == ["one"]
    await store.transition("vm", "one", FINISH)
    assert await admit(store) == []


async def test_who_leaves_takes_its_patience_along(store, redis, namespace, clock):
    await _full_but_one(store, patience=60)
    await create(store, "one", instances=SMALL)
    assert await admit(store) == ["one"]
    await store.transition("vm", "big", DELETE)
    assert await redis.exists(f"{namespace}:{{vm}}:passed:default") == 0
    clock.forward(100)
    await store.transition("vm", "one", FINISH)
    await create(store, "big-2", instances=BIG)
    await create(store, "two", instances=SMALL)
    assert await admit(store) == ["two"]


async def test_a_move_to_the_front_does_not_take_the_others_patience(store, clock):
    await _full_but_one(store, patience=60)
    await create(store, "one", instances=SMALL)
    assert await admit(store) == ["one"]
    clock.forward(60)
    await create(store, "big-2", instances=[{"slots": 2}, {"slots": 1}])
    await store.move("vm", "big-2", "front")
    await store.transition("vm", "one", FINISH)
    await create(store, "two", instances=SMALL)
    assert await admit(store) == ["two"]
    await store.transition("vm", "big-2", DELETE)
    await store.transition("vm", "two", FINISH)
    await create(store, "three", instances=SMALL)
    # Now `big` is the first again, and was passed over long ago.
    assert await admit(store) == []


async def test_another_policy_is_seen_at_once(store):
    await _full_but_one(store)
    await store.configure("vm", {"policy": "strict"})
    await create(store, "one", instances=SMALL)
    assert await admit(store) == []
    assert await store.configure("vm", {"policy": "backfill"}) == ["default"]
    assert await admit(store) == ["one"]


async def test_what_never_fits_is_no_head(store, redis, namespace):
    await _full_but_one(store)
    await create(store, "never", instances=[{"slots": 9}])
    await store.move("vm", "never", "front")
    await create(store, "one", instances=SMALL)
    assert await admit(store) == ["one"]
    assert await redis.exists(f"{namespace}:{{vm}}:passed:default") == 1
    assert (await store.get("vm", "never")).reason == "never_fits"
    assert await redis.zrange(f"{namespace}:{{vm}}:passed:default", 0, -1) == ["big"]


async def test_a_pass_looks_at_a_bounded_number_behind_the_head(real_store, real_redis, namespace):
    store = real_store
    await _full_but_one(store)
    for start in range(0, 3000, 1000):
        await store.create("vm", [_new(f"n{start + i}", BIG) for i in range(1000)])
    await store.create("vm", [_new("far", SMALL)])
    assert await admit(store) == []
    assert await status(store, "far") == "queued"
    await store.move("vm", "far", "after", "n500")
    assert await admit(store) == ["far"]
    await invariants.check(real_redis, namespace)


def _new(request_id, instances):
    from tests.conftest import new

    return new(request_id, instances=instances)
