"""Store.transition with a claim: what is freed goes to the next in line by the same script."""

import random

import pytest

from rqueue.domain.job import ACCEPTED, CONFIRM, DELETE, FINISH, REQUEUE, Status
from rqueue.domain.pool import Pool
from rqueue.errors import Conflict, Missing
from tests import invariants
from tests.conftest import new
from tests.store.line import CLAIM_MS, create, declare, running, status


@pytest.mark.parametrize("moves", [DELETE, FINISH], ids=["delete", "done"])
async def test_the_next_one_goes_at_once(store, redis, namespace, clock, moves):
    await running(store, "a")
    await create(store, "b", "c")
    await store.admit("vm", "default", CLAIM_MS)
    job, work = await store.transition("vm", "a", moves, claim_ms=CLAIM_MS)
    assert (job.status, work.more, work.pools) == ("done", False, ())
    (turn,) = work.turns
    assert (turn.request_id, turn.claim, turn.first) == ("b", clock.now // 1000 + CLAIM_MS, True)
    assert turn.job == (await store.get("vm", "b"))._replace(next_call=None)
    assert turn.job.status == "calling"
    assert await status(store, "c") == "queued"
    assert (await store.admit("vm", "default", CLAIM_MS)).turns == ()
    await invariants.check(redis, namespace)


async def test_without_a_claim_the_pool_is_for_somebody_else(store, redis, namespace):
    await running(store, "a")
    await create(store, "b")
    await store.admit("vm", "default", CLAIM_MS)
    _, work = await store.transition("vm", "a", DELETE)
    assert (work.turns, work.pools) == ((), ("default",))
    assert await status(store, "b") == "queued"
    await invariants.check(redis, namespace)


async def test_one_that_stood_in_the_way_lets_others_go(store, redis, namespace):
    await running(store, "a")
    await declare(store, 3)
    await create(store, "wide", instances=[{"slots": 3}])
    await create(store, "b")
    await store.admit("vm", "default", CLAIM_MS)
    _, work = await store.transition("vm", "wide", DELETE, claim_ms=CLAIM_MS)
    assert [turn.request_id for turn in work.turns] == ["b"]
    await invariants.check(redis, namespace)


async def test_what_comes_back_in_line_is_answered_as_it_came(store, redis, namespace):
    """It stands first, so it goes again at once; the answer is what was asked for."""
    await running(store, "a")
    job, work = await store.transition("vm", "a", REQUEUE, claim_ms=CLAIM_MS)
    assert job.status == "queued"
    assert [turn.request_id for turn in work.turns] == ["a"]
    assert await status(store, "a") == "calling"
    await invariants.check(redis, namespace)


async def test_a_paused_queue_lets_nobody_go(store, redis, namespace):
    await running(store, "a")
    await create(store, "b")
    await store.configure("vm", {"paused": True})
    _, work = await store.transition("vm", "a", DELETE, claim_ms=CLAIM_MS)
    assert work.turns == ()
    assert await store.configure("vm", {"paused": False}) == ["default"]
    await invariants.check(redis, namespace)


async def test_more_than_one_pass_may_do_is_left_to_the_next(store, redis, namespace):
    await declare(store, 90)
    await create(store, "wide", instances=[{"slots": 90}])
    await store.admit("vm", "default", CLAIM_MS)
    await create(store, *(f"j{n}" for n in range(95)))
    await store.admit("vm", "default", CLAIM_MS)
    _, work = await store.transition("vm", "wide", DELETE, claim_ms=CLAIM_MS)
    found, passes = len(work.turns), 1
    while work.pools or work.more:
        work = await store.admit("vm", "default", CLAIM_MS)
        found, passes = found + len(work.turns), passes + 1
    assert found == 90
    assert passes > 1
    await invariants.check(redis, namespace)


async def test_a_release_whose_answer_was_lost_changes_nothing_more(store, redis, namespace):
    """The jobs that it admitted are due when the claim lapses."""
    await running(store, "a")
    await create(store, "b", "c")
    await store.admit("vm", "default", CLAIM_MS)
    arguments = {
        "request_id": "a",
        "moves": "running:done",
        "admission": "",
        "nonce": "once",
        "last_error": "",
        "lease_seconds": "",
        "hold_seconds": 300,
        "stale_after": 60,
        "retention": 100,
        "call_deadline": 600,
        "patience": 600,
        "claim_ms": CLAIM_MS,
        "actor": "",
        "owners": "",
        "most": 100,
        "want": 0,
    }
    first = await store._run("release", "vm", **arguments)
    assert len(first) == 3
    before = await invariants.check(redis, namespace)
    assert len(await store._run("release", "vm", **arguments)) == 2
    assert await invariants.check(redis, namespace) == before


# --- one host is as good as all ----------------------------------------------------------------------

BOTH = ("whole", "freed")
HOSTS = ("n1", "n2", "n3")
KINDS = ["create"] * 5 + ["confirm", "requeue"] * 4 + ["release"] * 4 + ["move", "cancel", "pool"]


def written(chance: random.Random) -> list[dict[str, int]]:
    """What a job asks for: mostly one instance, sometimes what no host could hold."""
    asked = chance.choice([("cpus",), ("cpus",), ("cpus", "gpus"), ("cpus", "disk")])
    shape = {resource: chance.choice([1, 2, 2, 3, 5]) for resource in asked}
    return [shape] * chance.choice([1, 1, 1, 2, 3]) + [{"cpus": 1}] * chance.choice([0, 0, 0, 1])


def hosts(chance: random.Random) -> dict[str, dict[str, int]]:
    return {
        host: {"cpus": chance.randint(3, 9), "gpus": chance.randint(1, 9), "disk": 9}
        for host in HOSTS
        if chance.random() < 0.95
    }


async def follow(store, type_, pools):
    """Examine pools until there is no more, as the reaper does."""
    for pool in pools:
        more = True
        while more:
            more = (await store.admit(type_, pool, CLAIM_MS)).more


@pytest.mark.parametrize("seed", range(30))
async def test_who_goes_is_the_same_as_if_every_host_were_looked_at(real_store, seed):
    """Two lines to which the same happens: one is examined in whole, by a script of its own; in the other
    what a release frees is given on by the same script, which looks at one host where it may.
    """
    store = real_store
    plan = random.Random(seed)
    jobs: list[str] = []
    await store.put_pool("whole", Pool("default", hosts(random.Random(seed)), ()))
    await store.put_pool("freed", Pool("default", hosts(random.Random(seed)), ()))
    for _ in range(100):
        kind = plan.choice(KINDS)
        step = plan.randrange(1 << 30)
        if kind == "create":
            jobs.append(f"j{len(jobs)}")
        name = random.Random(step).choice(jobs) if jobs else "none"
        for type_ in BOTH:
            chance = random.Random(step)
            claim_ms = CLAIM_MS if type_ == "freed" else 0
            pools: list[str] = []
            try:
                if kind == "create":
                    _, pools = await store.create(type_, [new(jobs[-1], instances=written(chance))])
                elif kind == "pool":
                    await store.put_pool(type_, Pool("default", hosts(chance), ()))
                    pools = ["default"]
                elif kind == "move":
                    _, pool, _ = await store.move(type_, name, chance.choice(["front", "back"]))
                    pools = [pool] if pool else []
                else:
                    moves = {"release": DELETE, "confirm": CONFIRM, "requeue": REQUEUE, "cancel": DELETE}[
                        kind
                    ]
                    held = (await store.get(type_, name)).status in (Status.CALLING, Status.RUNNING)
                    if held == (kind != "cancel"):
                        _, work = await store.transition(type_, name, moves, claim_ms=claim_ms)
                        pools = list(work.pools)
            except (Conflict, Missing):
                pass
            await follow(store, type_, pools)
        seen = [
            [(job.request_id, job.status, job.placement) for job in (await store.page(type_)).jobs]
            for type_ in BOTH
        ]
        assert seen[0] == seen[1], kind


async def test_another_release_that_nobody_followed_up_is_seen_too(store, redis, namespace):
    """As when the replica that did it died: then more than one host has room."""
    await declare(store, n1={"slots": 1}, n2={"slots": 1}, n3={"slots": 1})
    await create(store, "a", "b", "c")
    await store.admit("vm", "default", CLAIM_MS)
    await create(store, "d", "e", "f")
    await store.admit("vm", "default", CLAIM_MS)
    await store.transition("vm", "a", ACCEPTED)
    await store.transition("vm", "a", DELETE)
    _, work = await store.transition("vm", "b", DELETE, claim_ms=CLAIM_MS)
    assert [turn.request_id for turn in work.turns] == ["d", "e"]
    await invariants.check(redis, namespace)


# --- what a hand edit broke ---------------------------------------------------------------------------


async def test_a_pool_that_cannot_be_read_does_not_fail_a_release(store, redis, namespace):
    await running(store, "a")
    await create(store, "b", instances=[{"slots": 1}] * 2)
    await redis.delete(f"{namespace}:{{vm}}:capacity:default")
    await redis.set(f"{namespace}:{{vm}}:capacity:default", "text")
    job, work = await store.transition("vm", "a", DELETE, claim_ms=CLAIM_MS)
    assert (job.status, work.turns, work.pools) == ("done", (), ("default",))


@pytest.mark.parametrize("placement", ["[null]", "[{}]", "5", "["])
async def test_a_placement_that_cannot_be_read_does_not_fail_a_release(store, redis, namespace, placement):
    await running(store, "a")
    await create(store, "b")
    await store.admit("vm", "default", CLAIM_MS)
    await redis.hset(f"{namespace}:{{vm}}:job:a", "Placement", placement)
    await store.transition("vm", "a", DELETE, want=False, claim_ms=CLAIM_MS)
    assert await status(store, "a") == "done"


@pytest.mark.parametrize("bounds", ["5", "null", '{"slots":5}', "["])
async def test_bounds_that_cannot_be_read_change_only_who_is_placed_first(store, redis, namespace, bounds):
    await declare(store, 9)
    await create(store, "a", instances=[{"slots": 1}, {"slots": 3}])
    await redis.hset(f"{namespace}:{{vm}}:pools", "default", bounds)
    assert [turn.request_id for turn in (await store.admit("vm", "default", CLAIM_MS)).turns] == ["a"]


async def test_who_asks_for_nothing_goes_in_a_pool_that_is_full(store, redis, namespace):
    await running(store, "a")
    await create(store, "b", instances=[{"slots": 0}])
    assert [turn.request_id for turn in (await store.admit("vm", "default", CLAIM_MS)).turns] == ["b"]
    await invariants.check(redis, namespace)
