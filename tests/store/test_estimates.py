"""Estimates from what the store wrote down: `releases:`, who has one, and how well they hold."""

import orjson
import pytest

from rqueue.domain.job import ACCEPTED, FINISH, REQUEUE
from tests import invariants
from tests.store.calibration import LOADS, SIZES, TIMES, calibrate
from tests.store.line import CLAIM_MS, admit, create, declare

KEY = "{}:{{vm}}:releases:default"


async def lined_up(store, clock, releases=12, slots=2, waiting=30):
    """So many releases, one every 10 seconds, while others wait."""
    await declare(store, slots)
    await create(store, *(f"j{n}" for n in range(releases + waiting)))
    await admit(store)
    for n in range(releases):
        clock.forward(10)
        await store.transition("vm", f"j{n}", FINISH, claim_ms=CLAIM_MS)


async def test_what_is_released_while_others_wait_is_remembered(store, redis, namespace, clock):
    await declare(store, 1)
    await create(store, "a")
    await admit(store)
    await store.transition("vm", "a", FINISH, claim_ms=CLAIM_MS)
    key = KEY.format(namespace)
    assert await redis.lrange(key, 0, -1) == []
    await create(store, "b", "c", "d")
    await admit(store)
    began = clock.now
    clock.forward(5)
    await store.transition("vm", "b", ACCEPTED)
    await store.transition("vm", "b", REQUEUE, claim_ms=CLAIM_MS)
    clock.forward(5)
    demand = '[[1,{"slots":1}]]'
    assert await redis.lrange(key, 0, -1) == [str(began), f"{began + 5_000_000} {demand}"]
    await invariants.check(redis, namespace)
    await store.delete_pool("vm", "default")
    assert not await redis.exists(key)


async def test_only_so_much_is_remembered(store, redis, namespace, clock):
    await lined_up(store, clock, 260, waiting=5)
    assert 129 <= await redis.llen(KEY.format(namespace)) < 192


async def test_whose_turn_will_come_has_an_estimate(store, clock):
    await lined_up(store, clock)
    found = {n: (await store.get("vm", f"j{n}")).estimate for n in (14, 20, 41)}
    for n, estimate in found.items():
        ahead = n - 14
        assert estimate.early <= clock.now + (ahead + 1) * 10_000_000 <= estimate.late
    document = (await store.get("vm", "j20")).document()
    assert list(document)[-3:] == ["EstimatedStart", "EstimatedSpread", "EstimateBasis"]
    early, late = document["EstimatedSpread"]
    assert early < document["EstimatedStart"] < late
    assert document["EstimateBasis"] == "12 releases of pool default in 2 min in which others waited"


async def fair(store):
    await store.configure("vm", {"policy": "fair"})


async def backfill(store):
    await store.configure("vm", {"policy": "backfill"})


async def paused(store):
    await store.configure("vm", {"paused": True})


async def gone(store):
    await store.delete_pool("vm", "default")


@pytest.mark.parametrize("given", [fair, backfill, paused, gone])
async def test_who_cannot_be_told_has_none(store, clock, given):
    await lined_up(store, clock)
    await given(store)
    document = (await store.get("vm", "j20")).document()
    assert document["EstimatedStart"] is None
    assert "EstimatedSpread" not in document


async def test_a_thin_basis_is_none(store, clock):
    await lined_up(store, clock, releases=5)
    assert (await store.get("vm", "j20")).estimate is None


@pytest.mark.parametrize("entry", ["", "nonsense", " ", "nan [[1,{}]]", "-5 x", '1e300 [[1,{"slots":1}]]'])
async def test_what_a_hand_edit_broke_is_left_out(real_store, real_redis, namespace, clock, entry):
    store, redis = real_store, real_redis
    await lined_up(store, clock)
    for at in (0, 5, -1):
        await redis.lset(KEY.format(namespace), at, entry)
        assert await store.get("vm", "j20")
    await redis.delete(KEY.format(namespace))
    await redis.set(KEY.format(namespace), "of another kind")
    assert (await store.get("vm", "j20")).estimate is None
    await store.transition("vm", "j12", FINISH, claim_ms=CLAIM_MS)
    await redis.delete(KEY.format(namespace))
    await invariants.check(redis, namespace)


@pytest.mark.parametrize(
    ("service", "load", "sizes"), [("exponential", 1.05, "homogeneous"), ("constant", 1.5, "mixed")]
)
async def test_four_of_five_jobs_start_within_their_estimate(real_store, clock, service, load, sizes):
    """One seed and few jobs, whose waits hang together: so the bounds are wide."""
    found = await calibrate(real_store, clock, "vm", service, load, sizes, 400, 3)
    assert found.estimated > 200
    assert 0.65 <= found.share <= 0.95, found


@pytest.mark.thorough
@pytest.mark.timeout(300)
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("service", TIMES)
async def test_four_of_five_jobs_start_within_their_estimate_whatever_the_load(
    real_store, clock, service, sizes
):
    within = estimated = 0
    for load in LOADS:
        for seed in range(3):
            type_ = orjson.dumps([load, seed]).decode()
            found = await calibrate(real_store, clock, type_, service, load, sizes, 800, seed)
            within, estimated = within + found.within, estimated + found.estimated
    assert 0.68 <= within / estimated <= 0.95
