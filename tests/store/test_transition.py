"""Store.transition: every status with everything that may be asked of it, and what follows from it."""

import pytest

from rqueue import errors
from rqueue.domain.job import (
    ACCEPTED,
    CONFIRM,
    DELETE,
    FINISH,
    REQUEUE,
    UNREACHABLE,
    UNWANTED,
    Status,
)
from tests import invariants
from tests.conftest import new
from tests.store.line import CLAIM_MS, admit, create, declare, jobs, line, running, status

MOVES = {
    "CONFIRM": CONFIRM,
    "FINISH": FINISH,
    "DELETE": DELETE,
    "REQUEUE": REQUEUE,
    "ACCEPTED": ACCEPTED,
    "UNWANTED": UNWANTED,
    "UNREACHABLE": UNREACHABLE,
}
#             CONFIRM    FINISH  DELETE       REQUEUE   ACCEPTED   UNWANTED     UNREACHABLE
TABLE = {
    "queued":    (None,      None,   "cancelled", None,     None,      None,        None),
    "calling":   ("running", "done", "done",      None,     "running", "cancelled", "failed"),
    "running":   ("running", "done", "done",      "queued", None,      None,        None),
    "done":      (None,      None,   None,        None,     None,      None,        None),
    "cancelled": (None,      None,   None,        None,     None,      None,        None),
    "failed":    (None,      None,   None,        "queued", None,      None,        None),
    "expired":   (None,      None,   None,        "queued", None,      None,        None),
}  # fmt: skip
LEGAL = [(a, asked, to) for a, row in TABLE.items() for asked, to in zip(MOVES, row, strict=True) if to]
ILLEGAL = [(a, asked) for a, row in TABLE.items() for asked, to in zip(MOVES, row, strict=True) if not to]
HELD = ("calling", "running")


async def reach(store, clock, wanted):
    """A job "x" of this status, and one "behind" it in line."""
    await store.configure("vm", {"lease_seconds": 60})
    await create(store, "x", priority=5)
    await create(store, "behind", priority=6)
    await declare(store)
    if wanted == "queued":
        return
    if wanted == "cancelled":
        await store.transition("vm", "x", DELETE)
        return
    await admit(store)
    if wanted == "failed":
        await store.transition("vm", "x", UNREACHABLE, error="nobody there")
    elif wanted != "calling":
        await store.transition("vm", "x", ACCEPTED)
    if wanted == "done":
        await store.transition("vm", "x", FINISH)
    elif wanted == "expired":
        clock.forward(60)
        await store.due("vm", CLAIM_MS)


@pytest.mark.parametrize(("present", "asked", "to"), LEGAL)
async def test_legal(store, redis, namespace, clock, present, asked, to):
    await reach(store, clock, present)
    assert await status(store, "x") == present
    clock.forward(1)
    job, work = await store.transition("vm", "x", MOVES[asked])
    assert job.status == to
    assert job.updated_at == clock.now
    assert (job.placement is not None) == (to in HELD)
    assert job.deleted_at == (clock.now if to in ("done", "cancelled", "failed") else None)
    # Whoever frees capacity, or comes back in line, gives its pool reason to be examined.
    if present != "queued":
        assert work.pools == (() if present in HELD and to in HELD else ("default",))
    assert (await store.pool("vm", "default")).used == ({"host": {"slots": 1}} if to in HELD else {})
    assert await line(store) == (["x", "behind"] if to == "queued" else ["behind"])
    await invariants.check(redis, namespace)


@pytest.mark.parametrize(("present", "asked"), ILLEGAL)
async def test_illegal(store, redis, namespace, clock, present, asked):
    await reach(store, clock, present)
    before = await store.get("vm", "x")
    clock.forward(1)
    with pytest.raises(errors.IllegalTransition, match=f"is {present}") as raised:
        await store.transition("vm", "x", MOVES[asked])
    assert raised.value.field == "status"
    assert await store.get("vm", "x") == before
    await invariants.check(redis, namespace)


@pytest.mark.parametrize("asked", MOVES)
async def test_of_a_job_that_is_not_there(store, asked):
    with pytest.raises(errors.JobNotFound):
        await store.transition("vm", "x", MOVES[asked])


@pytest.mark.parametrize("asked", ["CONFIRM", "ACCEPTED"])
async def test_running_begins_a_lease(store, clock, asked):
    await reach(store, clock, "calling")
    clock.forward(30)
    await store.transition("vm", "x", MOVES[asked])
    clock.forward(59)
    await store.due("vm", CLAIM_MS)
    assert await status(store, "x") == "running"
    clock.forward(1)
    await store.due("vm", CLAIM_MS)
    assert await status(store, "x") == "expired"


async def test_a_lease_is_renewed_as_long_as_it_is_asked_for(store, redis, namespace, clock):
    await reach(store, clock, "running")
    for _ in range(5):
        clock.forward(59)
        await store.transition("vm", "x", CONFIRM)
        await store.due("vm", CLAIM_MS)
        assert await status(store, "x") == "running"
    await invariants.check(redis, namespace)


async def test_without_a_lease_a_job_runs_until_it_ends(store, redis, namespace, clock):
    await running(store, "x")
    clock.forward(10**8)
    await store.due("vm", CLAIM_MS)
    assert await status(store, "x") == "running"
    await invariants.check(redis, namespace)


async def test_a_lease_that_is_taken_away_ends_with_the_next_renewal(store, clock):
    await reach(store, clock, "running")
    await store.configure("vm", {"lease_seconds": None})
    await store.transition("vm", "x", CONFIRM)
    clock.forward(10**8)
    await store.due("vm", CLAIM_MS)
    assert await status(store, "x") == "running"


async def test_back_in_line_is_at_the_old_place(store, redis, namespace):
    await declare(store)
    await create(store, "a", "b", "c", priority=5)
    assert await admit(store) == ["a"]
    await store.transition("vm", "a", ACCEPTED)
    await create(store, "later", priority=5)
    await create(store, "first", priority=4)
    job, _ = await store.transition("vm", "a", REQUEUE)
    assert (job.priority, job.attempts, job.admission, job.last_error) == (5, None, None, None)
    assert await line(store) == ["first", "a", "b", "c", "later"]
    await invariants.check(redis, namespace)


async def test_back_in_line_beside_one_that_took_the_place(store, redis, namespace):
    """While b ran, c took the very rank that b had: halfway between the same neighbours."""
    await declare(store, 2)
    await create(store, "a", "b", "c", "d", priority=5)
    await store.move("vm", "b", "back")
    await store.move("vm", "c", "back")
    await store.move("vm", "d", "after", "a")
    await store.move("vm", "b", "after", "a")
    assert await admit(store) == ["a", "b"]
    await store.transition("vm", "a", ACCEPTED)
    await store.transition("vm", "b", ACCEPTED)
    await store.transition("vm", "a", REQUEUE)
    await store.move("vm", "c", "after", "a")
    ranks = [await redis.hget(f"{namespace}:{{vm}}:job:{name}", "Rank") for name in "bc"]
    assert ranks[0] == ranks[1]
    await store.transition("vm", "b", REQUEUE)
    assert await line(store) == ["a", "b", "c", "d"]
    await invariants.check(redis, namespace)
    await create(store, "e", "f", priority=9)
    await store.move("vm", "e", "between", "b", "c")
    await store.move("vm", "f", "after", "c")
    assert await line(store) == ["a", "b", "e", "c", "f", "d"]
    assert {job.priority for job in await jobs(store)} == {5}
    await invariants.check(redis, namespace)


async def test_back_in_line_it_may_go_again(store, redis, namespace, clock):
    await reach(store, clock, "failed")
    job, work = await store.transition("vm", "x", REQUEUE)
    assert (job.deleted_at, job.last_error, work.pools) == (None, None, ("default",))
    assert await admit(store) == ["x"]
    # The moment at which the failed job was to be purged is forgotten.
    await store.transition("vm", "x", ACCEPTED)
    await store.transition("vm", "x", CONFIRM)
    await store.configure("vm", {"lease_seconds": None})
    await store.transition("vm", "x", CONFIRM)
    clock.forward(10**6)
    await store.due("vm", CLAIM_MS)
    assert await status(store, "x") == "running"
    await invariants.check(redis, namespace)


@pytest.mark.parametrize("asked", ["ACCEPTED", "UNWANTED", "UNREACHABLE"])
async def test_an_answer_counts_for_its_own_turn_only(store, redis, namespace, clock, asked):
    await create(store, "x")
    await declare(store)
    (old,) = (await store.admit("vm", "default", CLAIM_MS)).turns
    await store.transition("vm", "x", ACCEPTED, admission=old.admission)
    await store.transition("vm", "x", REQUEUE)
    with pytest.raises(errors.LostClaim):
        await store.transition("vm", "x", MOVES[asked], admission=old.admission)
    (turn,) = (await store.admit("vm", "default", CLAIM_MS)).turns
    assert turn.admission != old.admission
    with pytest.raises(errors.LostClaim):
        await store.transition("vm", "x", MOVES[asked], admission=old.admission)
    assert await status(store, "x") == "calling"
    await store.transition("vm", "x", MOVES[asked], admission=turn.admission)
    await invariants.check(redis, namespace)


async def test_what_went_wrong_is_kept(store, clock):
    await reach(store, clock, "calling")
    job, _ = await store.transition("vm", "x", UNREACHABLE, error="refused: 10.0.0.1")
    assert (job.status, job.last_error) == (Status.FAILED, "refused: 10.0.0.1")


@pytest.mark.parametrize(("retention", "seconds"), [(None, 24 * 3600), (10, 10), (0, 0)])
async def test_an_ended_job_is_kept_for_its_retention(store, redis, namespace, clock, retention, seconds):
    await store.configure("vm", {"retention": retention})
    await create(store, "x")
    await store.transition("vm", "x", DELETE)
    clock.forward(seconds - 0.001)
    await store.due("vm", CLAIM_MS)
    assert await status(store, "x") == "cancelled"
    clock.forward(0.002)
    await store.due("vm", CLAIM_MS)
    with pytest.raises(errors.JobNotFound):
        await store.get("vm", "x")
    assert await invariants.check(redis, namespace) == {}
    await store.create("vm", [new("x")])
