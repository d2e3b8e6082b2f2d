"""Store.create: new jobs stand where they should, all or none of them, each request_id and callback once."""

import json

import pytest

from rqueue import errors
from rqueue.domain.job import MAX_PRIORITY, Status
from rqueue.store.keys import Keys
from rqueue.store.scripts import Scripts
from tests import invariants
from tests.conftest import START, new
from tests.store.line import create, declare, line, running


async def test_a_new_job_is_what_was_asked_for(store, redis, namespace):
    (job,), pools = await store.create("vm", [new("a", "owner", callback="http://c/", project="p")])
    assert (job.id, job.request_id, job.type, job.owner_id) == (1, "a", "vm", "owner")
    assert (job.status, job.priority, job.callback) == (Status.QUEUED, START, "http://c/")
    assert (job.created_at, job.updated_at, job.deleted_at) == (START, START, None)
    assert pools == ["default"]
    got = await store.get("vm", "a")
    assert job.document().items() <= got.document().items()
    assert await store.types() == ["vm"]
    await invariants.check(redis, namespace)


async def test_a_batch_is_created_in_its_order(store, redis, namespace):
    jobs, _ = await store.create("vm", [new(f"job-{n}") for n in range(12)])
    assert [job.id for job in jobs] == list(range(1, 13))
    assert await line(store) == [job.request_id for job in jobs] == [f"job-{n}" for n in range(12)]
    await invariants.check(redis, namespace)


@pytest.mark.parametrize(
    ("drafts", "error", "field", "named"),
    [
        ([new("taken", callback="http://c/1")], errors.DuplicateRequestID, "request_id", "taken"),
        ([new("b", callback="http://taken/")], errors.DuplicateCallback, "callback", "taken"),
        ([new("taken", callback="http://c/1")], errors.DuplicateRequestID, "0.request_id", "taken"),
        ([new("b"), new("taken", callback="http://c/1")], errors.DuplicateRequestID, "1.request_id", "taken"),
        ([new("b"), new("c", callback="http://taken/")], errors.DuplicateCallback, "1.callback", "taken"),
        ([new("b"), new("c"), new("b", callback="c")], errors.DuplicateRequestID, "2.request_id", "b"),
        (
            [new("b", callback="http://c/"), new("c", callback="http://c/")],
            *(errors.DuplicateCallback, "1.callback", "b"),
        ),
    ],
)  # fmt: skip
async def test_a_duplicate_creates_nothing_and_names_who_has_it(
    store, redis, namespace, drafts, error, field, named
):
    await create(store, "taken", callback="http://taken/")
    with pytest.raises(error) as raised:
        await store.create("vm", drafts, indexed=field[0].isdigit())
    assert raised.value.field == field
    assert repr(named) in raised.value.message
    assert set(await invariants.check(redis, namespace)) == {"taken"}


async def test_names_are_unique_within_their_type_only(store):
    await create(store, "a")
    (job,), _ = await store.create("kube", [new("a")])
    assert (job.type, job.id) == ("kube", 1)


async def test_an_ended_job_keeps_its_names(store):
    await running(store, "a")
    await store.transition("vm", "a", {Status.RUNNING: Status.DONE})
    with pytest.raises(errors.DuplicateRequestID):
        await create(store, "a", callback="http://other/")
    with pytest.raises(errors.DuplicateCallback):
        await create(store, "b", callback=new("a").callback)


async def test_the_same_call_sent_twice_creates_once(store, redis, pipeline, namespace, clock):
    """A client library sends a script again when the answer was lost."""
    scripts = Scripts(pipeline, Keys(namespace))
    drafts = [new("a"), new("b")]
    rest = [
        value
        for d in drafts
        for value in (d.request_id, d.owner_id, d.callback, "", d.demand, "", "", d.data_head, d.data_tail)
    ]
    said = {"nonce": "n", "default_pool": "default", "actor": "", "owners": "", "traceparent": ""}
    first = await scripts.run("create", "vm", *rest, **said, now=clock())
    second = await scripts.run("create", "vm", *rest, **said, now=clock() + 1)
    assert [sorted(flat) for flat in second[1:]] == [sorted(flat) for flat in first[1:]]
    assert await line(store) == ["a", "b"]
    assert set(await invariants.check(redis, namespace)) == {"a", "b"}
    with pytest.raises(errors.DuplicateRequestID):
        await store.create("vm", [new("a")])


@pytest.mark.parametrize(("limit", "batch"), [(0, 1), (2, 3), (999, 1000)])
async def test_no_more_wait_than_max_queued(store, redis, namespace, limit, batch):
    await store.configure("vm", {"max_queued": limit})
    with pytest.raises(errors.QueueFull, match=str(limit)):
        await store.create("vm", [new(f"j{n}") for n in range(batch)])
    assert await invariants.check(redis, namespace) == {}
    await store.configure("vm", {"max_queued": batch})
    await store.create("vm", [new(f"j{n}") for n in range(batch)])
    assert (await store.queue("vm")).queued == batch


async def test_running_jobs_do_not_count_for_max_queued(store):
    await running(store, "a")
    await store.configure("vm", {"max_queued": 1})
    await create(store, "b")
    with pytest.raises(errors.QueueFull):
        await create(store, "c")


@pytest.mark.parametrize(
    ("there", "priority"),
    [
        (START - 5, START),
        (START, START + 1),
        (START + 10**12, START + 10**12 + 1),
        (MAX_PRIORITY - 1, MAX_PRIORITY),
        (MAX_PRIORITY, MAX_PRIORITY),
    ],
)
async def test_without_a_priority_a_job_comes_last(store, redis, namespace, there, priority):
    await create(store, "first", priority=there)
    (job,) = await create(store, "last")
    assert job.priority == priority
    assert await line(store) == ["first", "last"]
    await invariants.check(redis, namespace)


@pytest.mark.parametrize("priority", [MAX_PRIORITY, 10**14 + 1, 3, 0, -1, -(10**15), -MAX_PRIORITY])
async def test_equal_priorities_stand_in_the_order_of_their_coming(store, redis, namespace, priority):
    # By bytes job-10 would stand before job-2.
    names = [f"job-{n}" for n in range(11)]
    for job in await create(store, *names, priority=priority):
        assert job.priority == priority
    assert await line(store) == names
    await invariants.check(redis, namespace)


async def test_an_explicit_priority_goes_where_it_says(store):
    for name, priority in {"five": 5, "one": 1, "minus": -3, "five again": 5, "three": 3}.items():
        await create(store, name, priority=priority)
    assert await line(store) == ["minus", "one", "three", "five", "five again"]


@pytest.mark.parametrize(
    ("data", "pool"),
    [
        ({"host_aggregate": "own", "project": "p"}, "own"),
        ({"project": "p"}, "of-project"),
        ({"project": "unknown"}, "of-owner"),
        ({"project": 7}, "of-owner"),
        ({"host_aggregate": None}, "of-owner"),
        ({}, "of-owner"),
    ],
)
async def test_the_nearest_says_which_pool(store, data, pool):
    await store.configure("vm", {"default_pool": "of-queue"})
    await declare(store, pool="of-project", projects=("p",))
    await declare(store, pool="of-owner", projects=("y",))
    (job,) = await create(store, "a", **data)
    assert job.pool == pool
    assert json.loads(job.data)["host_aggregate"] == pool


async def test_without_a_pool_of_its_own_a_job_has_the_queues_then_the_default(store):
    (before,) = await create(store, "a", project="p")
    await store.configure("vm", {"default_pool": "of-queue"})
    (after,) = await create(store, "b", project="p")
    assert (before.pool, after.pool) == ("default", "of-queue")


@pytest.mark.parametrize(
    "pool", ["host1", "a/b", '"quoted"', "back\\slash", "\\/", "虛擬機", "%1%%", "{x}", "\x7f\n"]
)
async def test_data_is_sorted_and_has_the_pool_in_it(real_store, pool):
    store = real_store  # fakeredis's cjson writes a slash otherwise than every server does
    await store.configure("vm", {"default_pool": pool})
    data = {"zone": {"b": 1, "a": [1.5, None]}, "instances": [{"VCPU": 1, "Disk": 2}], "a": "ü/\\", "host": 1}
    (job,) = await create(store, "a", **data)
    assert json.loads(job.data) == {**data, "host_aggregate": pool}
    keys = list(json.loads(job.data))
    assert keys == ["a", "host", "host_aggregate", "instances", "zone"]
    assert '{"Disk":2,"VCPU":1}' in job.data


async def test_data_without_anything_holds_the_pool_alone(store):
    (job,) = await create(store, "a")
    assert job.data == '{"host_aggregate":"default"}'


@pytest.mark.parametrize("counter", ["-2", str(2**33 - 1), str(2**50)])
async def test_a_counter_that_no_id_can_follow_is_damaged_and_named(
    real_store, real_redis, namespace, counter
):
    """Beyond it a job's rank would be no rank."""
    await real_redis.set(f"{namespace}:{{vm}}:seq", counter)
    with pytest.raises(errors.StoreDamaged, match="vm}:seq"):
        await real_store.create("vm", [new("a")])
    assert await real_redis.exists(f"{namespace}:{{vm}}:job:a", f"{namespace}:{{vm}}:queue") == 0
