"""Store.retry: a delivery that did not succeed is tried again later, never past the deadline."""

from dataclasses import replace

import pytest

from rqueue.errors import LostClaim
from tests import invariants
from tests.store.line import CLAIM_MS
from tests.store.test_call import LOST, turn_of


@pytest.mark.parametrize("delay_ms", [0, 1, 70_000])
async def test_it_is_due_after_the_delay(store, redis, namespace, clock, delay_ms):
    turn = await turn_of(store)
    await store.retry(turn, delay_ms, "HTTP 503")
    clock.forward((delay_ms - 1) / 1000)
    assert (await store.due("vm", CLAIM_MS)).turns == ()
    clock.forward(0.001)
    (again,) = (await store.due("vm", CLAIM_MS)).turns
    assert again == replace(turn, claim=clock.now // 1000 + CLAIM_MS, first=False, job=None)
    assert (await store.get("vm", "a")).last_error == "HTTP 503"
    await invariants.check(redis, namespace)


async def test_it_is_never_due_later_than_the_deadline(store, clock):
    turn = await turn_of(store)
    await store.retry(turn, 10**9, "HTTP 503")
    clock.forward(600)
    await store.due("vm", CLAIM_MS)
    assert (await store.get("vm", "a")).status == "failed"


async def test_without_an_error_the_last_one_stays(store, clock):
    turn = await turn_of(store)
    await store.retry(turn, 0, "HTTP 503")
    (turn,) = (await store.due("vm", CLAIM_MS)).turns
    await store.retry(turn, 0)
    assert (await store.get("vm", "a")).last_error == "HTTP 503"


async def test_an_admission_that_nobody_called_has_had_no_attempt(store, redis, namespace):
    turn = await turn_of(store)
    await store.retry(turn, 0, called=False)
    assert (await store.get("vm", "a")).attempts == 0
    for attempt in (1, 2):
        (turn,) = (await store.due("vm", CLAIM_MS)).turns
        assert (await store.call(turn, CLAIM_MS))[0].attempts == attempt
        turn = replace(turn, claim=int(await redis.zscore(f"{namespace}:{{vm}}:due", "a")))
        # What was counted by a call stays: only an admission counts in advance.
        await store.retry(turn, 0, called=False)
        assert (await store.get("vm", "a")).attempts == attempt


@pytest.mark.parametrize("meanwhile", LOST)
async def test_a_claim_that_is_lost_changes_nothing(store, redis, namespace, clock, meanwhile):
    turn = await turn_of(store)
    await meanwhile(store, clock, turn)
    before = await invariants.check(redis, namespace)
    with pytest.raises(LostClaim):
        await store.retry(turn, 0, "too late")
    assert await invariants.check(redis, namespace) == before
