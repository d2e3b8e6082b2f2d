"""Store.move: a waiting job stands exactly where it was asked to, and nobody else's priority changes."""

import pytest

from rqueue import errors
from rqueue.domain.job import MAX_PRIORITY, UNWANTED, Status
from tests import invariants
from tests.store.line import admit, create, declare, jobs, line

TOP = MAX_PRIORITY


async def lay(store, **priorities):
    """Put jobs in line with these priorities."""
    for name, priority in priorities.items():
        await create(store, name, priority=priority)


@pytest.mark.parametrize(
    ("priorities", "asked", "order", "priority"),
    [
        # front: the smallest - 1
        ({"a": 5, "b": 9, "x": 20}, ("front",), "xab", 4),
        ({"a": 1, "x": 20}, ("front",), "xa", 0),
        ({"a": 0, "x": 20}, ("front",), "xa", -1),
        ({"a": -TOP, "x": 20}, ("front",), "xa", -TOP),
        ({"a": -TOP, "b": -TOP, "x": -TOP}, ("front",), "xab", -TOP),
        ({"a": 2756167942488154, "x": TOP}, ("front",), "xa", 2756167942488153),
        # back: the largest + 1
        ({"x": 1, "a": 5, "b": 9}, ("back",), "abx", 10),
        ({"x": -7, "a": -1}, ("back",), "ax", 0),
        ({"x": 1, "a": TOP}, ("back",), "ax", TOP),
        ({"x": TOP, "a": TOP, "b": TOP}, ("back",), "abx", TOP),
        ({"x": 1, "a": 2756167942488154}, ("back",), "ax", 2756167942488155),
        ({"x": 1, "a": 99999999999999}, ("back",), "ax", 100000000000000),
        # after: halfway to the next
        ({"a": 10, "b": 20, "x": 99}, ("after", "a"), "axb", 15),
        ({"a": 10, "b": 11, "x": 99}, ("after", "a"), "axb", 10),
        ({"a": 10, "b": 10, "x": 99}, ("after", "a"), "axb", 10),
        ({"x": 1, "a": 10, "b": 20}, ("after", "b"), "abx", 21),
        ({"a": -TOP, "b": TOP, "x": TOP}, ("after", "a"), "axb", 0),
        ({"a": TOP - 1, "b": TOP, "x": TOP}, ("after", "a"), "axb", TOP - 1),
        ({"a": TOP, "b": TOP, "x": TOP}, ("after", "a"), "axb", TOP),
        ({"a": 2756167942488154, "b": 2756167942488158, "x": TOP}, ("after", "a"), "axb", 2756167942488156),
        # before
        ({"a": 10, "b": 20, "x": 99}, ("before", "b"), "axb", 15),
        ({"a": 10, "b": 20, "x": 99}, ("before", "a"), "xab", 9),
        ({"a": 10, "b": 11, "x": 99}, ("before", "b"), "axb", 10),
        ({"a": 10, "b": 10, "x": 99}, ("before", "b"), "axb", 10),
        ({"a": -TOP, "x": 1}, ("before", "a"), "xa", -TOP),
        ({"x": 0, "a": 1, "b": 5}, ("before", "b"), "axb", 3),
        # between: the integer average, below the smallest and above the largest sum that a double holds
        ({"a": 10, "b": 20, "x": 99}, ("between", "a", "b"), "axb", 15),
        ({"a": 10, "b": 13, "x": 99}, ("between", "a", "b"), "axb", 11),
        ({"a": -4, "b": -1, "x": 99}, ("between", "a", "b"), "axb", -3),
        ({"a": -3, "b": -1, "x": 99}, ("between", "a", "b"), "axb", -2),
        ({"a": -5, "b": 3, "x": 99}, ("between", "a", "b"), "axb", -1),
        ({"a": -1, "b": 1, "x": 99}, ("between", "a", "b"), "axb", 0),
        ({"a": -1, "b": 0, "x": 99}, ("between", "a", "b"), "axb", -1),
        ({"a": TOP - 2, "b": TOP, "x": TOP}, ("between", "a", "b"), "axb", TOP - 1),
        ({"a": -TOP, "b": -TOP + 2, "x": 0}, ("between", "a", "b"), "axb", -TOP + 1),
        ({"a": 10, "b": 12, "c": 20, "x": 99}, ("between", "a", "c"), "abxc", 15),
        ({"a": 10, "b": 15, "c": 20, "x": 99}, ("between", "a", "c"), "abxc", 15),
        ({"a": 7, "b": 7, "c": 7, "x": 99}, ("between", "a", "c"), "axbc", 7),
        # priority: behind those that have it
        ({"a": 10, "b": 20, "x": 99}, ("priority", 83334), "abx", 83334),
        ({"a": 10, "b": 20, "x": 99}, ("priority", 10), "axb", 10),
        ({"x": 1, "a": 10, "b": 10, "c": 11}, ("priority", 10), "abxc", 10),
        ({"a": 10, "x": 99}, ("priority", -TOP), "xa", -TOP),
        ({"x": 10, "a": 99}, ("priority", TOP), "ax", TOP),
        ({"a": 10, "x": 99}, ("priority", 0), "xa", 0),
        ({"a": 10, "x": 99}, ("priority", 123456789012345), "ax", 123456789012345),
    ],
)  # fmt: skip
async def test_it_stands_where_it_was_asked_to(
    store, redis, namespace, clock, priorities, asked, order, priority
):
    await lay(store, **priorities)
    clock.forward(1)
    job, _, touched = await store.move("vm", "x", *asked)
    assert (job.request_id, job.priority, job.updated_at) == ("x", priority, clock.now)
    assert touched == 0
    assert await line(store) == list(order)
    assert {j.request_id: j.priority for j in await jobs(store)} == {**priorities, "x": priority}
    await invariants.check(redis, namespace)
    # Once more changes nothing: a client library may send a script twice.
    clock.forward(1)
    again, _, _ = await store.move("vm", "x", *asked)
    assert again == job
    assert await line(store) == list(order)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("a", ("front",)),
        ("d", ("back",)),
        ("b", ("after", "a")),
        ("b", ("before", "c")),
        ("b", ("between", "a", "c")),
        ("c", ("between", "a", "d")),
        ("b", ("priority", 5)),
    ],
)
async def test_a_job_that_stands_there_already_stays(store, redis, namespace, clock, name, asked):
    await lay(store, a=5, b=5, c=5, d=9)
    before = await jobs(store)
    clock.forward(1)
    _, pool, touched = await store.move("vm", name, *asked)
    assert await jobs(store) == before
    assert (pool, touched) == ("", 0)
    await invariants.check(redis, namespace)


@pytest.mark.parametrize("asked", [("front",), ("back",)])
async def test_a_job_alone_is_first_and_last(store, asked):
    await lay(store, x=5)
    job, _, _ = await store.move("vm", "x", *asked)
    assert job.priority == 5


@pytest.mark.parametrize(
    ("asked", "error", "named"),
    [
        (("after", "x"), errors.NeighbourIsSelf, "x"),
        (("before", "x"), errors.NeighbourIsSelf, "x"),
        (("between", "x", "b"), errors.NeighbourIsSelf, "x"),
        (("between", "a", "x"), errors.NeighbourIsSelf, "x"),
        (("after", "gone"), errors.NeighbourNotQueued, "gone"),
        (("before", "gone"), errors.NeighbourNotQueued, "gone"),
        (("between", "a", "gone"), errors.NeighbourNotQueued, "gone"),
        (("between", "gone", "a"), errors.NeighbourNotQueued, "gone"),
        (("after", "called"), errors.NeighbourNotQueued, "calling"),
        (("between", "called", "b"), errors.NeighbourNotQueued, "calling"),
        (("before", "ended"), errors.NeighbourNotQueued, "cancelled"),
        (("between", "b", "a"), errors.NeighboursReversed, "b"),
        (("between", "a", "a"), errors.NeighboursReversed, "a"),
        (("between", "twin", "b"), errors.NeighboursReversed, "twin"),
    ],
)
async def test_a_neighbour_that_cannot_be_one_changes_nothing(store, redis, namespace, asked, error, named):
    await lay(store, called=1, ended=2)
    await declare(store, 2)
    await admit(store)
    await store.transition("vm", "ended", UNWANTED)
    await lay(store, a=10, b=20, twin=20, x=99)
    before = await jobs(store)
    with pytest.raises(error) as raised:
        await store.move("vm", "x", *asked)
    assert named in raised.value.message
    assert await jobs(store) == before
    await invariants.check(redis, namespace)


async def test_only_waiting_jobs_move(store, redis, namespace):
    await declare(store)
    await lay(store, called=1, a=2)
    await admit(store)
    for asked in [("front",), ("back",), ("after", "a"), ("before", "a"), ("priority", 7)]:
        with pytest.raises(errors.IllegalTransition, match="is calling"):
            await store.move("vm", "called", *asked)
    assert (await store.get("vm", "called")).priority == 1
    with pytest.raises(errors.JobNotFound):
        await store.move("vm", "gone", "front")
    await invariants.check(redis, namespace)


# Where the next one goes, given those that went ahead of the gap and those that went behind it.
SAME_PLACE = {
    "after the first": lambda ahead, behind: (("after", "a"), behind, 0),
    "before the last": lambda ahead, behind: (("before", "b"), ahead, len(ahead)),
    "between, from the left": lambda ahead, behind: (
        ("between", (["a", *ahead])[-1], "b"), ahead, len(ahead)),
    "between, from the right": lambda ahead, behind: (
        ("between", "a", ([*behind, "b"])[0]), behind, 0),
}  # fmt: skip


@pytest.mark.parametrize("priorities", [(5, 5), (5, 6), (-6, -5), (TOP, TOP), (-TOP, -TOP), (1, TOP)])
@pytest.mark.parametrize("how", SAME_PLACE)
async def test_there_is_always_room(store, redis, namespace, priorities, how):
    await lay(store, a=priorities[0], b=priorities[1])
    ahead, behind = [], []
    for number in range(150):
        asked, side, at = SAME_PLACE[how](ahead, behind)
        (job,) = await create(store, f"n{number}")
        await store.move("vm", job.request_id, *asked)
        side.insert(at, job.request_id)
    assert await line(store) == ["a", *ahead, *behind, "b"]
    assert ((await store.get("vm", "a")).priority, (await store.get("vm", "b")).priority) == priorities
    await invariants.check(redis, namespace)


@pytest.mark.parametrize("edge", [("front", -TOP), ("back", TOP)])
async def test_there_is_room_at_the_ends_of_the_range(store, redis, namespace, edge):
    where, end = edge
    await lay(store, a=end, b=end)
    names = [f"n{n}" for n in range(80)]
    await create(store, *names, priority=0)
    for name in names:
        job, _, _ = await store.move("vm", name, where)
        assert job.priority == end
    assert await line(store) == ([*reversed(names), "a", "b"] if where == "front" else ["a", "b", *names])
    await invariants.check(redis, namespace)


async def test_two_pools_share_one_line(store, redis, namespace):
    await create(store, "a", "c", host_aggregate="one")
    await create(store, "b", "d", host_aggregate="two")
    await store.move("vm", "b", "between", "a", "c")
    assert await line(store) == ["a", "b", "c", "d"]
    assert [(await store.get("vm", name)).ahead for name in "abcd"] == [0, 0, 1, 1]
    await invariants.check(redis, namespace)


async def test_a_move_wakes_the_pool_whose_head_it_changes(store):
    await declare(store)
    await lay(store, running=1, a=5, b=6, c=7)
    await admit(store)
    assert (await store.move("vm", "c", "before", "b"))[1] == ""
    assert (await store.move("vm", "c", "front"))[1] == "default"
    await admit(store)
    assert (await store.move("vm", "c", "back"))[1] == "default"
    assert await line(store, Status.QUEUED) == ["a", "b", "c"]


async def test_an_owner_of_another_kind_holds_up_no_move(real_store, real_redis, namespace):
    await create(real_store, "a", "b")
    await real_redis.delete(f"{namespace}:{{vm}}:owner:y")
    await real_redis.set(f"{namespace}:{{vm}}:owner:y", "x")
    await real_store.move("vm", "b", "front")
    assert [job.request_id for job in (await real_store.page("vm")).jobs] == ["b", "a"]


@pytest.mark.parametrize("score", ["inf", "-inf", "0.5"])
@pytest.mark.parametrize("where", ["before", "after", "front", "back"])
async def test_a_neighbour_of_no_whole_priority_makes_none(real_store, real_redis, namespace, score, where):
    await create(real_store, "a", "b", "c")
    (member,) = [m for m in await real_redis.zrange(f"{namespace}:{{vm}}:queue", 0, -1) if m.endswith(":b")]
    await real_redis.zadd(f"{namespace}:{{vm}}:queue", {member: score})
    await real_store.move("vm", "a", where, "c" if where in ("before", "after") else "")
    assert (await real_store.get("vm", "a")).priority == int(
        await real_redis.hget(f"{namespace}:{{vm}}:job:a", "Priority")
    )
