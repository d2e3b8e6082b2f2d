"""Store.get: one job, where it stands, and why it waits."""

import pytest

from rqueue import errors
from rqueue.domain.job import ACCEPTED, FINISH, Reason
from tests.store.line import CLAIM_MS, admit, create, declare


async def test_a_waiting_job_says_its_position_in_line_and_who_is_ahead_in_its_pool(store):
    for number, pool in enumerate(["one", "two", "one", "two", "two"]):
        await create(store, f"j{number}", host_aggregate=pool)
    await create(store, "first", host_aggregate="two", priority=1)
    found = [await store.get("vm", name) for name in ("first", "j0", "j1", "j2", "j3", "j4")]
    assert [job.position for job in found] == [0, 1, 2, 3, 4, 5]
    assert [job.ahead for job in found] == [0, 0, 1, 1, 2, 3]


@pytest.mark.parametrize("moves", [(), (ACCEPTED,), (ACCEPTED, FINISH)])
async def test_a_job_that_does_not_wait_has_no_position(store, moves):
    await create(store, "a", "b")
    await declare(store)
    await admit(store)
    for move in moves:
        await store.transition("vm", "a", move)
    job = await store.get("vm", "a")
    assert (job.position, job.ahead, job.reason) == (None, None, None)
    assert (await store.get("vm", "b")).position == 0


async def nothing(store):
    pass


async def paused(store):
    await declare(store)
    await store.configure("vm", {"paused": True})


async def declared(store):
    await declare(store)


async def full(store):
    await declare(store)
    await create(store, "running", priority=-1)
    await admit(store)


async def full_and_ahead(store):
    await full(store)
    await create(store, "ahead", priority=0)
    await admit(store)


async def small(store):
    await declare(store, host={"gpu": 1})
    await admit(store)


async def forgotten(store):
    await full(store)
    await store.delete_pool("vm", "default")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (nothing, Reason.NO_POOL),
        (forgotten, Reason.NO_POOL),
        (paused, Reason.PAUSED),
        (declared, Reason.WAITING_FOR_CAPACITY),
        (full, Reason.WAITING_FOR_CAPACITY),
        (full_and_ahead, Reason.BEHIND),
        (small, Reason.NEVER_FITS),
    ],
)
async def test_it_says_why_it_waits(store, given, reason):
    await create(store, "a")
    await given(store)
    assert (await store.get("vm", "a")).reason == reason


async def test_of_a_job_that_is_not_there(store):
    await create(store, "a")
    for type_, name in [("vm", "b"), ("kube", "a"), ("vm", "A"), ("vm", "")]:
        with pytest.raises(errors.JobNotFound):
            await store.get(type_, name)


@pytest.mark.parametrize(
    "field", ["ID", "Priority", "Status", "OwnerID", "Pool", "Data", "Callback", "CreatedAt"]
)
async def test_a_job_that_was_cut_by_hand_is_an_error_with_its_name(store, redis, namespace, field):
    await create(store, "a", "b")
    await redis.hdel(f"{namespace}:{{vm}}:job:a", field)
    with pytest.raises((errors.StoreDamaged, errors.JobNotFound), match="'a'"):
        await store.get("vm", "a")
    assert (await store.get("vm", "b")).request_id == "b"


async def test_reading_changes_nothing(store, redis, namespace):
    await create(store, "a")
    await declare(store)
    await store.admit("vm", "default", CLAIM_MS)
    before = {name: await redis.dump(name) async for name in redis.scan_iter(f"{namespace}:*")}
    await store.get("vm", "a")
    await store.page("vm")
    await store.queue("vm")
    await store.pool("vm", "default")
    assert {name: await redis.dump(name) async for name in redis.scan_iter(f"{namespace}:*")} == before
