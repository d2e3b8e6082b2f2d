"""Redis's own clock steps, as by NTP or at a failover: nothing breaks; what is due is late, or early."""

import pytest

from rqueue.domain.job import ACCEPTED, DELETE
from rqueue.errors import LostClaim
from tests import invariants
from tests.store.line import CLAIM_MS, create, declare, jobs, line, status

STEPS = (5, 86_400)


@pytest.mark.parametrize("back", STEPS)
async def test_who_comes_after_the_clock_went_back_is_last_in_line(store, redis, namespace, clock, back):
    await create(store, "a", "b")
    clock.forward(-back)
    await create(store, "c", "d")
    assert await line(store) == ["a", "b", "c", "d"]
    priorities = [job.priority for job in await jobs(store)]
    assert priorities == sorted(set(priorities))
    await store.move("vm", "d", "front")
    await store.move("vm", "a", "back")
    await create(store, "e")
    assert await line(store) == ["d", "b", "c", "a", "e"]
    await invariants.check(redis, namespace)


@pytest.mark.parametrize("back", STEPS)
async def test_a_call_that_is_out_when_the_clock_goes_back_is_still_its_caller_s(
    store, redis, namespace, clock, back
):
    await create(store, "a")
    await declare(store)
    (turn,) = (await store.admit("vm", "default", CLAIM_MS)).turns
    clock.forward(-back)
    assert (await store.due("vm", CLAIM_MS)).turns == ()
    # It failed, and is due again in a second of the clock as it is.
    await store.retry(turn, 1000, "HTTP 503")
    assert (await store.due("vm", CLAIM_MS)).turns == ()
    clock.forward(1)
    (turn,) = (await store.due("vm", CLAIM_MS)).turns
    job, _ = await store.call(turn, CLAIM_MS)
    assert (job.attempts, job.updated_at) == (2, clock.now)
    await store.transition("vm", "a", ACCEPTED, admission=turn.admission)
    assert await status(store, "a") == "running"
    await invariants.check(redis, namespace)


@pytest.mark.parametrize("back", STEPS)
async def test_deadlines_leases_and_retention_are_late_by_as_much_and_no_more(
    store, redis, namespace, clock, back
):
    await store.configure("vm", {"call_deadline": 60, "lease_seconds": 60, "retention": 60})
    await create(store, "called", "running", "ended")
    await declare(store, 2)
    first, second = (await store.admit("vm", "default", CLAIM_MS)).turns
    assert second.request_id == "running"
    await store.transition("vm", "running", ACCEPTED, admission=second.admission)
    await store.transition("vm", "ended", DELETE)
    await store.retry(first, 10**9, "HTTP 503")
    for seconds in (-back, 59.9, back):
        # The clock went back; as it is then, the time was up; as it was before, it nearly is.
        clock.forward(seconds)
        assert (await store.due("vm", CLAIM_MS)).turns == ()
        assert [await status(store, name) for name in ("called", "running", "ended")] == [
            *("calling", "running", "cancelled")
        ]
    clock.forward(0.1)
    await store.due("vm", CLAIM_MS)
    left = await invariants.check(redis, namespace)
    assert {name: job["Status"] for name, job in left.items()} == {"called": "failed", "running": "expired"}


@pytest.mark.parametrize("ahead", STEPS)
async def test_a_call_that_is_out_when_the_clock_goes_ahead_is_taken_over(
    store, redis, namespace, clock, ahead
):
    await store.configure("vm", {"call_deadline": 200_000})
    await create(store, "a")
    await declare(store)
    (turn,) = (await store.admit("vm", "default", 1000)).turns
    clock.forward(ahead)
    (again,) = (await store.due("vm", CLAIM_MS)).turns
    assert again.admission == turn.admission
    with pytest.raises(LostClaim):
        await store.retry(turn, 0, "too late")
    await store.transition("vm", "a", ACCEPTED, admission=turn.admission)
    clock.forward(-ahead)
    assert (await store.due("vm", CLAIM_MS)).turns == ()
    await invariants.check(redis, namespace)
