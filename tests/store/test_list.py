"""Store.page: all jobs in order, page by page, whatever else happens meanwhile."""

import pytest

from rqueue.domain.job import ACCEPTED, DELETE, FINISH, UNREACHABLE, Status
from rqueue.store.store import PAGE
from tests.conftest import new
from tests.store.line import CLAIM_MS, admit, create, declare, jobs, line, running


async def some_of_all(store, clock):
    """Jobs of every status, of two owners."""
    await declare(store, 5)
    await store.configure("vm", {"lease_seconds": 60})
    names = ["expired", "done", "failed", "calling", "running"]
    for number, name in enumerate(names):
        await create(store, name, owner_id="xy"[number % 2], priority=number)
    await admit(store)
    for name in ("expired", "done", "running"):
        await store.transition("vm", name, ACCEPTED)
    clock.forward(30)
    await store.transition("vm", "running", {Status.RUNNING: Status.RUNNING})
    await store.transition("vm", "done", FINISH)
    clock.forward(30)
    await store.due("vm", CLAIM_MS)
    await store.transition("vm", "failed", UNREACHABLE)
    await create(store, "cancelled", owner_id="y")
    await store.transition("vm", "cancelled", DELETE)
    await create(store, "queued", owner_id="x", priority=10)
    await create(store, "first", owner_id="y", priority=-1)
    await create(store, "middle", owner_id="x", priority=3)


@pytest.mark.parametrize(
    ("status", "owner_id", "names"),
    [
        (None, "", ["first", "calling", "middle", "running", "queued"]),
        (None, "x", ["middle", "running", "queued"]),
        (None, "y", ["first", "calling"]),
        (None, "nobody", []),
        ("queued", "", ["first", "middle", "queued"]),
        ("queued", "x", ["middle", "queued"]),
        ("calling", "", ["calling"]),
        ("calling", "x", []),
        ("running", "", ["running"]),
        ("running", "x", ["running"]),
        ("done", "", ["done"]),
        ("done", "x", []),
        ("cancelled", "y", ["cancelled"]),
        ("failed", "", ["failed"]),
        ("expired", "x", ["expired"]),
    ],
)  # fmt: skip
async def test_what_is_listed(store, clock, status, owner_id, names):
    await some_of_all(store, clock)
    assert await line(store, status and Status(status), owner_id) == names


async def test_ended_jobs_are_in_the_order_of_their_end(store, clock):
    await create(store, "a", "b", "c")
    for name in "bca":
        await store.transition("vm", name, DELETE)
        clock.forward(1)
    assert await line(store, Status.CANCELLED) == ["b", "c", "a"]


async def test_a_listed_job_is_the_job(store):
    await create(store, "a")
    (listed,) = await jobs(store)
    got = (await store.get("vm", "a")).document()
    assert listed.document().items() <= got.items()


async def test_of_a_type_without_jobs(store):
    page = await store.page("nothing")
    assert (page.jobs, page.cursor) == ([], "")


@pytest.mark.parametrize("most", [1, 2, 7, 100])
@pytest.mark.parametrize("status", [None, Status.QUEUED, Status.CANCELLED])
async def test_pages_have_everything_once(store, most, status):
    await declare(store, 3)
    await store.create("vm", [new(f"j{n}", priority=n % 4) for n in range(20)])
    await admit(store)
    for number in range(10, 14):
        await store.transition("vm", f"j{number}", DELETE)
    whole = await line(store, status)
    found, sizes, cursor = [], [], ""
    while True:
        page = await store.page("vm", "", status, cursor, most)
        found += [job.request_id for job in page.jobs]
        sizes.append(len(page.jobs))
        cursor = page.cursor
        if not cursor:
            break
    assert found == whole
    assert max(sizes) == min(most, len(whole))


async def test_a_page_that_leaves_all_out_is_not_the_end(store):
    await store.create("vm", [new(f"j{n}") for n in range(PAGE + 5)])
    await declare(store, PAGE + 5)
    while await admit(store):
        pass
    last = f"j{PAGE + 4}"
    await store.transition("vm", last, ACCEPTED)
    page = await store.page("vm", "", Status.RUNNING, most=4)
    assert (page.jobs, bool(page.cursor)) == ([], True)
    assert await line(store, Status.RUNNING) == [last]


async def test_a_page_looks_on_for_those_it_is_asked_for(store):
    await store.create("vm", [new(f"j{n}", owner_id="xy"[n % 2]) for n in range(20)])
    await declare(store, 20)
    await admit(store)
    await store.transition("vm", "j13", ACCEPTED)
    page = await store.page("vm", "y", Status.RUNNING, most=1)
    assert [job.request_id for job in page.jobs] == ["j13"]


async def moved(store, name):
    await store.move("vm", name, "front")


async def moved_back(store, name):
    await store.move("vm", name, "back")


async def deleted(store, name):
    await store.transition("vm", name, DELETE)


@pytest.mark.parametrize("meanwhile", [moved, moved_back, deleted])
@pytest.mark.parametrize("priority", [None, 7])
async def test_who_did_not_move_is_listed_once_whatever_the_others_do(store, meanwhile, priority):
    """The first and the last of each page move or go, the one at which the page ends, and one further on."""
    await store.create("vm", [new(f"j{n}", priority=priority) for n in range(30)])
    touched, seen, cursor = set(), [], ""
    while True:
        page = await store.page("vm", cursor=cursor, most=4)
        names = [job.request_id for job in page.jobs]
        seen += names
        cursor = page.cursor
        if not cursor:
            break
        waiting = await line(store)
        chosen = {names[0], names[-1], waiting[(waiting.index(names[-1]) + 2) % len(waiting)]} - touched
        for name in sorted(chosen):
            await meanwhile(store, name)
        touched |= chosen
    stayed = [f"j{n}" for n in range(30) if f"j{n}" not in touched]
    assert len(stayed) > 5
    assert [name for name in seen if name in stayed] == stayed


async def test_who_is_admitted_between_two_pages_is_listed_once(store):
    await store.create("vm", [new(f"j{n}") for n in range(12)])
    await declare(store, 5)
    first = await store.page("vm", most=3)
    await admit(store)
    second = await store.page("vm", cursor=first.cursor, most=100)
    names = [job.request_id for job in first.jobs + second.jobs]
    assert names == [f"j{n}" for n in range(12)]


@pytest.mark.parametrize("stops_at", [10, 30, 50])
async def test_who_got_another_rank_between_two_pages_is_listed_once(store, stops_at):
    """Room is made among equal priorities by spreading ranks: those who get another one did not move."""
    names = [f"j{n}" for n in range(60)]
    await store.create("vm", [new(name, priority=5) for name in names])
    for name in names[1:]:
        await store.move("vm", name, "after", "j0")
    whole = await line(store)
    first = await store.page("vm", most=stops_at)
    movers = [f"m{n}" for n in range(200)]
    await store.create("vm", [new(name) for name in movers])
    left, right = whole[stops_at - 2], whole[stops_at]
    touched = 0
    for name in movers:
        touched += (await store.move("vm", name, "after", left))[2]
        touched += (await store.move("vm", name, "before", right))[2]
    assert touched > 0
    rest, cursor = [], first.cursor
    while cursor:
        page = await store.page("vm", cursor=cursor)
        rest += [job.request_id for job in page.jobs]
        cursor = page.cursor
    listed = [job.request_id for job in first.jobs] + rest
    assert [name for name in listed if name in names] == whole


async def test_a_page_ends_when_it_is_large(real_store):
    """Long Data: memory is bounded by the page, not by the line."""
    await real_store.create("vm", [new(f"j{n}", text="x" * 300_000) for n in range(10)])
    page = await real_store.page("vm")
    assert 1 <= len(page.jobs) < 6
    assert page.cursor
    assert await line(real_store) == [f"j{n}" for n in range(10)]


async def test_a_member_without_a_job_is_left_out(store, redis, namespace):
    await create(store, "a", "b")
    await redis.zadd(f"{namespace}:{{vm}}:queue", {"00000000000000:gone": 1, "junk": 2})
    assert await line(store) == ["a", "b"]


async def test_one_owner_does_not_see_another(store):
    await running(store, "a")
    await create(store, "b", owner_id="z")
    assert await line(store, None, "y") == ["a"]
    assert await line(store, None, "z") == ["b"]


@pytest.mark.parametrize("position", [0, 1, 150, 249, 250, 9_999])
async def test_a_page_begins_at_a_position(store, position):
    names = [f"j{n}" for n in range(250)]
    await store.create("vm", [new(name) for name in names])
    page = await store.page("vm", "", Status.QUEUED, most=60, position=position)
    assert [job.request_id for job in page.jobs] == names[position : position + 60]
    assert bool(page.cursor) == (position + 60 <= 250 and position < 250)


@pytest.mark.parametrize("search", ["NEEDLE", "needle", "eedle-1"])
async def test_a_search_looks_at_a_page_and_goes_on(store, search):
    await store.create("vm", [new(f"j{n}", text="hay") for n in range(PAGE + 5)] + [new("needle-1")])
    page = await store.page("vm", search=search)
    assert (page.jobs, bool(page.cursor)) == ([], True)
    page = await store.page("vm", cursor=page.cursor, search=search)
    assert ([job.request_id for job in page.jobs], page.cursor) == (["needle-1"], "")


async def test_a_search_reads_only_so_many_bytes_at_once(real_store):
    await real_store.create("vm", [new(f"j{n}", text="x" * 300_000) for n in range(10)])
    looked, cursor = 0, ""
    while True:
        page = await real_store.page("vm", cursor=cursor, search="nowhere")
        assert page.jobs == []
        looked, cursor = looked + 1, page.cursor
        if not cursor:
            break
    assert looked > 1


async def test_where_jobs_of_a_page_stand_is_asked_for_all_at_once(store):
    await declare(store)
    await create(store, "runs", "first", "second", "goes", "ends")
    await admit(store)
    page = await store.page("vm")
    await store.transition("vm", "ends", DELETE)
    await store.move("vm", "goes", "front")
    found = await store.standing(page.jobs)
    assert [(job.request_id, job.position) for job in found] == [
        ("runs", None),
        ("first", 1),
        ("second", 2),
        ("goes", 0),
    ]
    assert found == [await store.get("vm", job.request_id) for job in found]
    assert found[0].next_call > found[0].updated_at


@pytest.mark.parametrize(
    "edit", [("SET", "x"), ("ZADD", "inf", "runs"), ("ZADD", "-5", "runs"), ("ZADD", "1e300", "runs")]
)
async def test_a_hand_edit_of_due_hides_no_more_than_the_next_call(store, redis, namespace, edit):
    await declare(store)
    await create(store, "runs")
    await admit(store)
    key = f"{namespace}:{{vm}}:due"
    await redis.delete(key)
    await redis.execute_command(edit[0], key, *edit[1:])
    job = await store.get("vm", "runs")
    assert (job.status, job.next_call) == (Status.CALLING, None)
