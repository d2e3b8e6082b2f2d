"""Store.call: a delivery is written down before it goes out, by the holder of the claim alone."""

from dataclasses import replace

import pytest

from rqueue.domain.job import ACCEPTED, DELETE, REQUEUE
from rqueue.errors import LostClaim
from tests import invariants
from tests.store.line import CLAIM_MS, create, declare


async def turn_of(store):
    await create(store, "a")
    await declare(store)
    (turn,) = (await store.admit("vm", "default", CLAIM_MS)).turns
    return turn


async def test_a_call_counts_and_renews_the_claim(store, redis, namespace, clock):
    turn = await turn_of(store)
    clock.forward(5)
    job, claim = await store.call(turn, CLAIM_MS)
    assert (job.status, job.attempts, job.admission, job.updated_at) == (
        "calling",
        1,
        turn.admission,
        clock.now,
    )
    assert claim == turn.claim + 5000
    clock.forward(CLAIM_MS / 1000 - 0.001)
    assert (await store.due("vm", CLAIM_MS)).turns == ()
    clock.forward(0.001)
    (again,) = (await store.due("vm", CLAIM_MS)).turns
    job, _ = await store.call(again, CLAIM_MS)
    assert (job.attempts, job.admission) == (2, turn.admission)
    await invariants.check(redis, namespace)


async def test_the_first_call_is_counted_by_the_admission(store):
    """So it may go out at once; where it goes out late, it is not counted again."""
    turn = await turn_of(store)
    admitted = turn.job
    assert (admitted.status, admitted.attempts, admitted.placement) == ("calling", 1, ("host",))
    assert admitted == (await store.get("vm", "a"))._replace(next_call=None)
    job, _ = await store.call(replace(turn, job=None), CLAIM_MS)
    assert job.attempts == 1


async def test_a_claim_never_outlasts_the_deadline(store, clock):
    turn = await turn_of(store)
    clock.forward(590)
    _, claim = await store.call(turn, CLAIM_MS)
    assert claim == turn.claim - CLAIM_MS + 600_000


async def confirmed(store, clock, turn):
    await store.transition("vm", "a", ACCEPTED)


async def ended(store, clock, turn):
    await store.transition("vm", "a", DELETE)


async def taken_over(store, clock, turn):
    clock.forward(CLAIM_MS / 1000)
    await store.due("vm", CLAIM_MS)


async def called_before(store, clock, turn):
    clock.forward(1)
    await store.call(turn, CLAIM_MS)


async def given_up(store, clock, turn):
    await store.retry(turn, 1)


async def failed(store, clock, turn):
    clock.forward(600)
    await store.due("vm", CLAIM_MS)


async def admitted_again(store, clock, turn):
    await store.transition("vm", "a", ACCEPTED)
    await store.transition("vm", "a", REQUEUE)
    await store.admit("vm", "default", CLAIM_MS)


async def purged(store, clock, turn):
    await store.transition("vm", "a", DELETE)
    clock.forward(24 * 3600)
    await store.due("vm", CLAIM_MS)


LOST = (confirmed, ended, taken_over, called_before, given_up, failed, admitted_again, purged)


@pytest.mark.parametrize("meanwhile", LOST)
async def test_a_claim_that_is_lost_calls_nobody(store, redis, namespace, clock, meanwhile):
    turn = await turn_of(store)
    await meanwhile(store, clock, turn)
    before = await invariants.check(redis, namespace)
    with pytest.raises(LostClaim):
        await store.call(turn, CLAIM_MS)
    assert await invariants.check(redis, namespace) == before


async def test_a_repeated_call_is_answered_again_and_counts_once(store):
    """As when the answer was lost, and a client library sends the same again."""
    turn = await turn_of(store)
    arguments = {
        "request_id": "a",
        "admission": turn.admission,
        "claim": turn.claim,
        "claim_ms": CLAIM_MS,
        "nonce": "once",
        "counts": 1,
    }
    first = await store._run("call", "vm", **arguments)
    assert await store._run("call", "vm", **arguments) == first
    assert (await store.get("vm", "a")).attempts == 2


async def test_nobody_is_called_after_the_deadline(store, clock):
    turn = await turn_of(store)
    clock.forward(600)
    with pytest.raises(LostClaim):
        await store.call(replace(turn, first=False), CLAIM_MS)
    assert (await store.get("vm", "a")).attempts == 1
