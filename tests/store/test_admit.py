"""Store.admit: whose turn it is and who fits, host by host; who blocks, and who does not."""

from contextlib import suppress

import pytest

from rqueue.domain.job import ACCEPTED, DELETE, FINISH, Reason
from rqueue.domain.policy import Settings
from rqueue.domain.pool import Pool
from rqueue.errors import JobNotFound, RedisUnavailable
from rqueue.store.connect import connect
from rqueue.store.embedded import embedded
from rqueue.store.store import Store
from tests import invariants
from tests.conftest import new, redis_at
from tests.store.line import CLAIM_MS, admit, create, declare, line, status

GPU = {"gpu": 1}


async def reasons(store, *names):
    return [(await store.get("vm", name)).reason for name in names]


async def test_an_admitted_job_is_charged_and_called(store, redis, namespace, clock):
    await create(store, "a", instances=[{"cpu": 2, "memory": "1Gi"}, {"cpu": "500m"}])
    await declare(store, host={"cpu": 4000, "memory": 1 << 31})
    work = await store.admit("vm", "default", CLAIM_MS)
    (turn,) = work.turns
    assert (turn.type, turn.request_id, turn.callback) == ("vm", "a", new("a").callback)
    assert (turn.claim, work.more) == (clock.now // 1000 + CLAIM_MS, False)
    job = await store.get("vm", "a")
    assert (job.status, job.placement, job.attempts) == ("calling", ("host", "host"), 1)
    assert (job.admission, job.admitted_at) == (turn.admission, clock.now)
    assert (await store.pool("vm", "default")).used == {"host": {"cpu": 2500, "memory": 1 << 30}}
    assert await admit(store) == []
    await invariants.check(redis, namespace)


async def test_an_admission_holds_nothing_that_a_client_chose(store):
    await create(store, "a.b", "a.c")
    await declare(store, 2)
    admissions = [turn.admission for turn in (await store.admit("vm", "default", CLAIM_MS)).turns]
    assert len(set(admissions)) == 2
    assert not any("." in admission or "a.b" in admission for admission in admissions)


async def test_the_line_goes_in_order(store, redis, namespace):
    await create(store, "a", "b", "c", "d")
    await store.move("vm", "d", "front")
    await declare(store, 3)
    assert await admit(store) == ["d", "a", "b"]
    await store.transition("vm", "a", DELETE)
    assert await admit(store) == ["c"]
    await invariants.check(redis, namespace)


async def test_the_first_blocks_its_own_pool_only(store, redis, namespace):
    big = [{"slots": 2}]
    for pool in ("one", "two"):
        await create(store, f"running-{pool}", host_aggregate=pool)
        await declare(store, 2, pool)
        await admit(store, pool)
    await create(store, "big", instances=big, host_aggregate="one")
    await create(store, "small", host_aggregate="one")
    await create(store, "other", host_aggregate="two")
    assert await admit(store, "one") == []
    assert await admit(store, "two") == ["other"]
    assert await reasons(store, "big", "small") == [Reason.WAITING_FOR_CAPACITY, Reason.BEHIND]
    await store.transition("vm", "running-one", FINISH)
    assert await admit(store, "one") == ["big"]
    assert await reasons(store, "small") == [Reason.WAITING_FOR_CAPACITY]
    await invariants.check(redis, namespace)


HOSTS = {"a": {"VCPU": 10}, "b": {"VCPU": 10}}


@pytest.mark.parametrize(
    ("hosts", "held", "wanted", "placement"),
    [
        # Four hosts with one GPU each are not a host with four.
        (dict.fromkeys("abcd", GPU), [], [{"gpu": 4}], None),
        (dict.fromkeys("abcd", GPU), [], [{"gpu": 2}, {"gpu": 2}], None),
        (dict.fromkeys("abcd", GPU), [], [GPU] * 4, "abcd"),
        (dict.fromkeys("abcd", GPU), [], [GPU] * 5, None),
        ({"a": {"gpu": 4}, "b": GPU}, [], [{"gpu": 4}], "a"),
        # Each resource on the same host.
        ({"a": {"VCPU": 9, "gpu": 0}, "b": {"gpu": 1, "VCPU": 0}}, [], [{"VCPU": 1, "gpu": 1}], None),
        ({"a": {"VCPU": 9, "gpu": 0}, "b": {"gpu": 1, "VCPU": 1}}, [], [{"VCPU": 1, "gpu": 1}], "b"),
        # A resource that no host has; one that is asked for in no amount.
        (HOSTS, [], [{"VCPU": 1, "fpga": 1}], None),
        (HOSTS, [], [{"VCPU": 1, "fpga": 0}], "a"),
        (HOSTS, [], [{"VCPU": 0}], "a"),
        # Best fit: the fullest host that still holds it.
        (HOSTS, [("b", 3)], [{"VCPU": 2}], "b"),
        (HOSTS, [("b", 9)], [{"VCPU": 2}], "a"),
        (HOSTS, [("a", 2), ("b", 5)], [{"VCPU": 5}], "b"),
        (HOSTS, [("a", 2), ("b", 5)], [{"VCPU": 6}], "a"),
        # Decreasing: the large ones first, answered in the client's own order.
        (HOSTS, [], [{"VCPU": 4}, {"VCPU": 6}, {"VCPU": 4}, {"VCPU": 6}], "aabb"),
        (HOSTS, [], [{"VCPU": 1}] * 3 + [{"VCPU": 10}], "bbba"),
        ({"a": {"VCPU": 10}}, [], [{"VCPU": 6}, {"VCPU": 5}], None),
        (HOSTS, [("a", 1)], [{"VCPU": 9}, {"VCPU": 10}], "ab"),
        (HOSTS, [("a", 1)], [{"VCPU": 10}] * 2, None),
    ],
)  # fmt: skip
async def test_all_instances_fit_whole_or_none(store, redis, namespace, hosts, held, wanted, placement):
    for number, (host, amount) in enumerate(held):
        await declare(store, **{host: hosts[host]})
        await create(store, f"held-{number}", instances=[{"VCPU": amount}])
        assert await admit(store) == [f"held-{number}"]
    await declare(store, **hosts)
    before = (await store.pool("vm", "default")).used
    await create(store, "x", instances=wanted)
    expected = (["x"], tuple(placement)) if placement else ([], None)
    assert (await admit(store), (await store.get("vm", "x")).placement) == expected
    await invariants.check(redis, namespace)
    await invariants.capacity_kept(redis, namespace)
    await store.transition("vm", "x", DELETE)
    assert (await store.pool("vm", "default")).used == before


async def test_the_largest_amounts_are_counted_exactly(store, redis, namespace):
    most = 2**53 - 1
    await declare(store, host={"disk": most})
    await create(store, "a", instances=[{"disk": most - 1}])
    await create(store, "b", "c", instances=[{"disk": 1}])
    assert await admit(store) == ["a", "b"]
    assert (await store.pool("vm", "default")).used == {"host": {"disk": most}}
    await invariants.check(redis, namespace)


async def test_who_never_fits_blocks_nobody(store, redis, namespace):
    await create(store, "whale", "whale 2", instances=[{"slots": 9}])
    await create(store, "a", "b", "c")
    await declare(store, 2)
    assert await admit(store) == ["a", "b"]
    assert await reasons(store, "whale", "whale 2", "c") == [
        Reason.NEVER_FITS,
        Reason.NEVER_FITS,
        Reason.WAITING_FOR_CAPACITY,
    ]
    await store.transition("vm", "a", FINISH)
    assert await admit(store) == ["c"]
    await invariants.check(redis, namespace)


async def test_who_comes_behind_one_that_never_fits_goes_at_once(store):
    await create(store, "whale", instances=[{"slots": 9}])
    await declare(store)
    assert await admit(store) == []
    _, pools = await store.create("vm", [new("a")])
    assert pools == ["default"]
    assert await admit(store) == ["a"]
    assert await reasons(store, "whale") == [Reason.NEVER_FITS]


async def test_who_never_fits_says_so_behind_others_too(store):
    await declare(store)
    await create(store, "running", "head")
    await create(store, "whale", instances=[{"slots": 9}])
    await create(store, "last")
    await admit(store)
    assert await reasons(store, "head", "whale", "last") == [
        Reason.WAITING_FOR_CAPACITY,
        Reason.NEVER_FITS,
        Reason.BEHIND,
    ]


async def test_capacity_that_is_declared_later_lets_it_go(store, redis, namespace):
    await create(store, "whale", instances=[{"slots": 9}])
    await create(store, "a")
    assert await reasons(store, "whale", "a") == [Reason.NO_POOL, Reason.NO_POOL]
    await declare(store)
    assert await admit(store) == ["a"]
    await declare(store, 10)
    assert await admit(store) == ["whale"]
    await invariants.check(redis, namespace)


async def test_a_paused_queue_admits_nobody_and_forgets_nobody(store, redis, namespace):
    await create(store, "a")
    await declare(store)
    await store.configure("vm", {"paused": True})
    assert await admit(store) == []
    assert await reasons(store, "a") == [Reason.PAUSED]
    assert (await store.due("vm", CLAIM_MS)).pools == ()
    assert await store.configure("vm", {"paused": False}) == ["default"]
    assert await admit(store) == ["a"]
    await invariants.check(redis, namespace)


@pytest.mark.parametrize("instances", [[{"slots": 1}], [{"slots": 9}]])
async def test_a_pass_is_bounded_and_says_whether_there_is_more(store, redis, namespace, instances):
    await store.create("vm", [new(f"j{n}", instances=instances) for n in range(7)])
    await store.create("vm", [new("last")])
    await declare(store, 8)
    passes = [await store.admit("vm", "default", CLAIM_MS, most=3) for _ in range(3)]
    assert [work.more for work in passes] == [True, True, False]
    assert [work.pools for work in passes] == [("default",), ("default",), ()]
    assert max(len(work.turns) for work in passes) <= 3
    assert passes[2].turns[-1].request_id == "last"
    await invariants.check(redis, namespace)


async def test_what_is_left_of_a_pass_is_kept_in_redis(store):
    await store.create("vm", [new(f"j{n}") for n in range(4)])
    await declare(store, 4)
    await store.admit("vm", "default", CLAIM_MS, most=3)
    assert (await store.due("vm", CLAIM_MS)).pools == ("default",)
    assert await admit(store) == ["j3"]
    assert (await store.due("vm", CLAIM_MS)).pools == ()


async def test_a_pool_that_shrank_waits_until_there_is_room(store, redis, namespace):
    await create(store, "a", "b", "c", "d")
    await declare(store, 3)
    assert await admit(store) == ["a", "b", "c"]
    await declare(store, 1)
    assert (await store.pool("vm", "default")).used == {"host": {"slots": 3}}
    for name, goes in {"a": [], "b": [], "c": ["d"]}.items():
        await store.transition("vm", name, FINISH)
        assert await admit(store) == goes
    await invariants.check(redis, namespace)
    await invariants.capacity_kept(redis, namespace)


async def test_a_host_that_is_gone_stays_charged_and_takes_nobody(store, redis, namespace):
    await create(store, "a")
    await declare(store, old={"slots": 1})
    await admit(store)
    await create(store, "b", "c")
    await declare(store, new={"slots": 1})
    assert await admit(store) == ["b"]
    assert (await store.get("vm", "b")).placement == ("new",)
    await store.transition("vm", "a", FINISH)
    assert await admit(store) == []
    assert (await store.pool("vm", "default")).used == {"new": {"slots": 1}}
    await invariants.check(redis, namespace)


HAND_EDITS = {
    "a member that is no rank": ("ZADD", "pool:default", "1", "junk"),
    "a member without a job": ("ZADD", "pool:default", "1", f"{'0' * 14}:gone"),
    "a place that the job does not have": ("ZADD", "pool:default", "1", f"{'0' * 14}:a"),
    "a member of the line that is no rank": ("ZADD", "queue", "-1", "junk"),
    "one at the same priority": ("ZADD", "queue", "7", "zz"),
    "an infinite priority": ("ZADD", "queue", "+inf", f"{'f' * 14}:gone"),
    "a priority with a fraction": ("ZADD", "queue", "7.5", f"{'0' * 14}:gone"),
    "a head that is no place": ("HSET", "heads", "default", "junk"),
    "a head that is no number": ("HSET", "heads", "default", "x:y"),
    "an empty head": ("HSET", "heads", "default", ""),
    "a head that is gone": ("HSET", "heads", "default", "-5:gone"),
    "a pool that nobody has": ("SADD", "wake", "nobody's"),
    "an amount that is no number": ("HSET", "capacity:default", "host/gpu", "many"),
    "an amount of no host": ("HSET", "capacity:default", "gpu", "3"),
    "a use that is no number": ("HSET", "used:default", "other/slots", "some"),
    "settings that are no numbers": (
        *("HSET", "settings", "call_deadline", "soon", "retention", "long", "lease_seconds", "-"),
        *("max_queued", "many", "paused", "perhaps", "policy", "?"),
    ),
    "a due job that is gone": ("ZADD", "due", "1", "gone"),
    "a waiting job that is due": ("ZADD", "due", "1", "a"),
    "an event that is none": ("XADD", "events", "*", "what", "?"),
}


@pytest.mark.parametrize("edit", HAND_EDITS)
async def test_a_hand_edit_stops_nobody(store, redis, namespace, edit):
    """The whole way of a job, after somebody wrote nonsense with redis-cli."""
    await create(store, "a", "b", priority=7)
    command, name, *words = HAND_EDITS[edit]
    await redis.execute_command(command, f"{namespace}:{{vm}}:{name}", *words)
    await create(store, "c", "d", priority=7)
    await create(store, "e")
    for where in [("after", "a"), ("before", "a"), ("front",), ("back",), ("between", "a", "b")]:
        await store.move("vm", "d", *where)
    assert await line(store) == ["a", "d", "b", "c", "e"]
    assert [(await store.get("vm", name)).status for name in "abcde"] == ["queued"] * 5
    await declare(store, 2)
    gone = [*await admit(store), *await admit(store)]
    assert gone == ["a", "d"]
    await store.due("vm", CLAIM_MS)
    await store.transition("vm", "a", ACCEPTED)
    await store.transition("vm", "a", DELETE)
    await store.transition("vm", "d", FINISH)
    assert await admit(store) == ["b", "c"]
    assert (await store.queue("vm")).settings == Settings()


@pytest.mark.parametrize(
    "demand",
    [None, "", "junk", "null", "5", "{}", "[5]", "[[1]]", '[["x", {"slots": 1}]]', '[[1, {"slots": "?"}]]'],
)
async def test_a_demand_that_nobody_can_read_never_fits(store, redis, namespace, demand):
    await create(store, "a", "b")
    key = f"{namespace}:{{vm}}:job:a"
    await redis.execute_command(
        *(("HDEL", key, "Demand") if demand is None else ("HSET", key, "Demand", demand))
    )
    await declare(store, 2)
    assert await admit(store) == ["b"]
    assert await reasons(store, "a") == [Reason.NEVER_FITS]
    assert await status(store, "b") == "calling"


@pytest.mark.parametrize(
    "edit",
    [
        {"Placement": "junk"},
        {"Placement": "[]"},
        {"Placement": "5"},
        {"Demand": "junk"},
        {"Demand": '[[7,{"slots":1}]]'},
        {"Demand": '[[1,{"slots":0}]]'},
    ],
    ids=str,
)
async def test_a_damaged_running_job_holds_up_nobody_else(store, redis, namespace, clock, edit):
    await create(store, "a", "b")
    await declare(store, 2)
    assert await admit(store) == ["a", "b"]
    await redis.hset(f"{namespace}:{{vm}}:job:a", mapping=edit)
    clock.forward(600)
    await store.due("vm", CLAIM_MS)
    assert await status(store, "b") == "failed"
    clock.forward(24 * 3600)
    await store.due("vm", CLAIM_MS)
    for name in "ab":
        with pytest.raises(JobNotFound):
            await store.get("vm", name)


async def passes(store) -> list[int]:
    """How many each pass admits, until one says that there is no more."""
    found, more = [], True
    while more:
        work = await store.admit("vm", "default", CLAIM_MS)
        found.append(len(work.turns))
        more = work.more
    return found


async def test_a_pass_looks_at_a_bounded_number_of_hosts(store, redis, namespace):
    """Then it says that there is more, and the next one goes on."""
    await declare(store, **{f"n{n}": {"slots": n} for n in range(1, 600)})
    await create(store, *(f"j{n}" for n in range(20)))
    for n in range(20):
        await store.create("vm", [new(f"k{n}", instances=[{"slots": 500 - n}])])
    found = await passes(store)
    assert sum(found) == 40
    assert max(found) < 30
    await invariants.check(redis, namespace)


async def test_a_pass_admits_a_bounded_number_of_jobs(store, redis, namespace):
    await declare(store, 90)
    await create(store, *(f"j{n}" for n in range(95)))
    found = await passes(store)
    assert sum(found) == 90
    assert max(found) < 60
    await invariants.check(redis, namespace)


async def test_a_pool_that_is_large_for_one_pass_still_admits(store, redis, namespace):
    """One job a pass at the least, however much there is to read."""
    await declare(store, **{f"n{n}": {f"r{n % 10}": 1, "slots": 1} for n in range(8000)})
    await create(store, "a", "b")
    found = await passes(store)
    assert sum(found) == 2
    assert len(found) > 1
    await invariants.check(redis, namespace)


async def test_nobody_is_examined_in_a_pool_without_hosts(store):
    """However many wait there: one pass, and a job that comes to the front costs one more."""
    await create(store, *(f"j{n}" for n in range(120)))
    assert not (await store.admit("vm", "default", CLAIM_MS)).more
    await store.move("vm", "j110", "front")
    assert not (await store.admit("vm", "default", CLAIM_MS)).more


async def test_a_redis_that_is_full_charges_whoever_it_admits(tmp_path, namespace, clock):
    """Or admits nobody: what it refuses must not be half of an admission."""
    with embedded(tmp_path / "redis") as url:
        async with connect(url) as pipeline, redis_at(url) as redis:
            store = Store(pipeline, namespace, clock)
            await declare(store, 2)
            await create(store, "a", "b", "c")
            await redis.config_set("maxmemory", "1")
            with suppress(RedisUnavailable):
                await store.admit("vm", "default", CLAIM_MS)
            await redis.config_set("maxmemory", "0")
            await invariants.check(redis, namespace)
            while (await store.admit("vm", "default", CLAIM_MS)).more:
                pass
            assert await line(store) == ["c"]
            await invariants.check(redis, namespace)


@pytest.mark.parametrize("amount", ["nan", "inf", "-inf"])
async def test_an_amount_that_is_no_number_holds_nobody(real_store, real_redis, namespace, amount):
    await real_store.put_pool("vm", Pool("default", {"n": {"slots": 1}}))
    await create(real_store, "a", "b")
    await real_redis.hset(f"{namespace}:{{vm}}:capacity:default", "n/slots", amount)
    assert (await real_store.admit("vm", "default", CLAIM_MS)).turns == ()


async def test_what_is_used_of_a_host_and_is_no_number_makes_no_room(real_store, real_redis, namespace):
    await real_store.put_pool("vm", Pool("default", {"n": {"slots": 1}}))
    await create(real_store, "a", "b")
    await real_redis.hset(f"{namespace}:{{vm}}:used:default", "n/slots", "nan")
    assert len((await real_store.admit("vm", "default", CLAIM_MS)).turns) <= 1
