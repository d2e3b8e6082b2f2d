"""What happened: each change is an event in the type's stream, and in the history of its job."""

import asyncio
import json
from dataclasses import replace

import pytest

from rqueue import errors
from rqueue.domain.caller import ANYONE, Caller, Role
from rqueue.domain.event import KEPT_OF_JOB, Event, Wanted
from rqueue.domain.job import ACCEPTED, CONFIRM, DELETE, FINISH, REQUEUE, UNWANTED
from rqueue.domain.pool import Pool
from rqueue.store.check import Check
from rqueue.store.live import Live
from tests import invariants
from tests.conftest import new
from tests.store.line import CLAIM_MS, admit, create, declare, running
from tests.store.live import declare_live, see

ALICE = Caller("alice", Role.ADMIN)
ROWS = ("what", "request_id", "from_", "to", "actor", "why")


async def said(store, **of):
    """The events of the type, in short."""
    found, _ = await store.events.last("vm", most=1000, wanted=Wanted(**of))
    return [tuple(getattr(event, name) for name in ROWS) for event in found]


async def told(store, request_id="a", caller=ANYONE):
    """The history of a job, in short."""
    found = await store.events.of_job("vm", request_id, caller)
    return [tuple(getattr(event, name) for name in ROWS) for event in found]


async def failing(store, error="HTTP 503", delay_ms=2500):
    """A job whose first call failed."""
    await declare(store)
    await create(store, "a")
    (turn,) = (await store.admit("vm", "default", CLAIM_MS)).turns
    await store.retry(turn, delay_ms, error)
    return turn


async def test_the_life_of_a_job_is_told_in_order_and_by_whom(store, clock):
    await declare(store, 2)
    (job,), _ = await store.create("vm", [new("a", priority=5)], caller=ALICE)
    await store.create("vm", [new("b", priority=9)])
    await store.move("vm", "a", "back", caller=ALICE)
    await store.update("vm", "a", "http://h/other", new("a", project="p"), ALICE)
    (turn, _) = sorted((await store.admit("vm", "default", CLAIM_MS)).turns, key=lambda turn: turn.request_id)
    await store.retry(turn, 2500, "HTTP 503")
    clock.forward(2.5)
    (turn, *_) = (await store.due("vm", CLAIM_MS)).turns
    await store.call(turn, CLAIM_MS)
    await store.transition("vm", "a", ACCEPTED, admission=turn.admission)
    await store.transition("vm", "a", CONFIRM, caller=ALICE)  # renews a lease: nothing to tell
    await store.transition("vm", "a", REQUEUE, caller=ALICE)
    await store.transition("vm", "a", DELETE, caller=ALICE)
    expected = [
        ("created", "a", "", "queued", "alice", ""),
        ("moved", "a", "5", "10", "alice", ""),
        ("updated", "a", "", "", "alice", "callback, data"),
        ("admitted", "a", "queued", "calling", "", "host"),
        ("call_failed", "a", "", "1", "", "HTTP 503; called again in 2.5 s"),
        ("called", "a", "", "2", "", ""),
        ("running", "a", "calling", "running", "", ""),
        ("queued", "a", "running", "queued", "alice", ""),
        ("cancelled", "a", "queued", "cancelled", "alice", ""),
    ]
    assert await said(store, request_id="a") == expected
    assert await told(store) == expected
    found, _ = await store.events.last("vm", wanted=Wanted("a"))
    history = await store.events.of_job("vm", "a", ANYONE)
    assert history[1:] == found[1:]
    assert {event.owner_id for event in found} == {"y"}
    assert history[0].id == f"{job.created_at // 1000}-0"


async def test_the_end_of_a_job_says_why(store, clock):
    await store.configure("vm", {"call_deadline": 60, "lease_seconds": 100})
    await running(store, "lapses", "ends")
    await store.transition("vm", "ends", FINISH, caller=ALICE)
    await create(store, "unwanted", "dead")
    (unwanted,) = (await store.admit("vm", "default", CLAIM_MS, most=1)).turns
    await store.transition(
        "vm", "unwanted", UNWANTED, admission=unwanted.admission, error="HTTP 410: nobody wants it"
    )
    (dead,) = (await store.admit("vm", "default", CLAIM_MS)).turns
    await store.retry(dead, 10**9, "HTTP 500")
    clock.forward(100)
    await store.due("vm", CLAIM_MS)
    ends = [row for row in await said(store) if row[0] in ("done", "cancelled", "failed", "expired")]
    assert sorted(ends) == [
        ("cancelled", "unwanted", "calling", "cancelled", "", "HTTP 410: nobody wants it"),
        ("done", "ends", "running", "done", "alice", ""),
        ("expired", "lapses", "running", "expired", "", "its lease lapsed"),
        ("failed", "dead", "calling", "failed", "", "HTTP 500"),
    ]
    assert ("call_failed", "dead", "", "1", "", "HTTP 500; not called again") in await said(store)


async def test_settings_are_told_from_what_they_were_to_what_they_are(store):
    await store.configure("vm", {"paused": True, "retention": 300, "default_pool": "5"}, ALICE)
    await store.configure("vm", {"paused": True, "retention": None, "lease_seconds": 9}, ALICE)
    await store.configure("vm", {"paused": True, "lease_seconds": 9}, ALICE)
    rows = [(json.loads(was), json.loads(to), actor) for _, _, was, to, actor, _ in await said(store)]
    assert rows == [
        (
            {"paused": False, "retention": 86400, "default_pool": "default"},
            {"paused": True, "retention": 300, "default_pool": "5"},
            "alice",
        ),
        ({"retention": 300, "lease_seconds": None}, {"retention": 86400, "lease_seconds": 9}, "alice"),
    ]


async def test_pools_are_told_by_what_changed_of_their_hosts(store):
    async def put(hosts, **more):
        await store.put_pool("vm", Pool("p", hosts, **more), ALICE)

    await put({"n1": {"VCPU": 4, "Memory": 8}})
    await put({"n1": {"VCPU": 4, "Memory": 8}})
    await put({"n1": {"VCPU": 8}, "n2": {"VCPU": 2}}, projects=("x",), quotas={"y": {"VCPU": 1}})
    await put({"n1": {"VCPU": 8}, "n2": {"VCPU": 2}}, projects=("x",), quotas={"y": {"VCPU": 1}})
    await store.delete_pool("vm", "p", ALICE)
    assert await said(store) == [
        ("capacity", "", "", "p", "alice", "n1/Memory none -> 8, n1/VCPU none -> 4"),
        (
            "capacity",
            "",
            "p",
            "p",
            "alice",
            "projects, n1/Memory 8 -> none, n1/VCPU 4 -> 8, n2/VCPU none -> 2, quotas",
        ),
        ("capacity", "", "p", "", "alice", ""),
    ]


async def test_what_is_told_of_many_hosts_has_an_end(store):
    await declare(store, **{f"node-{n:04d}": {"slots": 1} for n in range(500)})
    await store.create("vm", [new("a", instances=[{"slots": 1}] * 300)])
    assert await admit(store) == ["a"]
    (_, _, _, _, _, hosts), *_, (what, _, _, _, _, placed) = await said(store)
    assert what == "admitted"
    for words, count in ((hosts, 500), (placed, 300)):
        assert len(words) < 300
        named, _, more = words.partition(" and ")
        assert len(named.split(", ")) + int(more.removesuffix(" more")) == count


async def test_a_live_source_is_told_of_only_when_capacity_changes(pipeline, store, namespace, clock):
    live = Live(pipeline, namespace, "r1", clock)
    await declare_live(store)
    await see(live, n={"VCPU": 4})
    await see(live, taken={"n": {"VCPU": 1}}, n={"VCPU": 4})
    await see(live, taken={"n": {"VCPU": 3}}, n={"VCPU": 8})
    await see(live)
    assert [row[2:] for row in await said(store) if row[0] == "capacity"] == [
        ("", "default", "", "how it is found"),
        ("default", "default", "", "n/VCPU none -> 4"),
        ("default", "default", "", "n/VCPU 4 -> 8"),
        ("default", "default", "", "n/VCPU 8 -> none"),
    ]


# --- a job's own history ---------------------------------------------------------------------------


async def test_who_only_waits_has_no_key_of_its_own_and_whoever_was_purged_has_none_any_more(
    store, redis, namespace, clock
):
    await create(store, "a", "b")
    keys = [key async for key in redis.scan_iter(f"{namespace}:*history*")]
    assert keys == []
    assert await told(store) == [("created", "a", "", "queued", "", "")]
    await store.transition("vm", "a", DELETE)
    await invariants.check(redis, namespace)
    clock.forward(10**6)
    await store.due("vm", CLAIM_MS)
    assert [key async for key in redis.scan_iter(f"{namespace}:*history*")] == []
    with pytest.raises(errors.JobNotFound):
        await told(store)


async def test_a_history_keeps_the_newest(store, redis, namespace):
    await create(store, "a", "b")
    for _ in range(KEPT_OF_JOB // 2 + 5):
        await store.move("vm", "a", "back")
        await store.move("vm", "a", "front")
    found = await store.events.of_job("vm", "a", ANYONE)
    assert len(found) == KEPT_OF_JOB + 1
    assert found[0].what == "created"
    assert found[1:] == (await store.events.last("vm", most=KEPT_OF_JOB))[0]
    await invariants.check(redis, namespace)


async def test_the_job_of_another_has_no_history_for_one(store):
    await create(store, "a")
    assert await told(store, caller=Caller("c", Role.CLIENT, owners=["y"]))
    for caller, name in ((Caller("c", Role.CLIENT, owners=["x"]), "a"), (ANYONE, "nobody")):
        with pytest.raises(errors.JobNotFound):
            await told(store, name, caller)


async def test_what_is_tried_is_no_event(store, redis, namespace):
    await failing(store)
    before = await said(store), await told(store), await redis.hgetall(f"{namespace}:{{vm}}:job:a")
    await store.dry.redeliver("vm", "a", ALICE)
    await store.dry.transition("vm", "a", FINISH, ALICE)
    await store.dry.create("vm", [new("b")], False, ALICE)
    assert before == (
        await said(store),
        await told(store),
        await redis.hgetall(f"{namespace}:{{vm}}:job:a"),
    )


async def test_a_hand_edit_of_events_or_of_a_history_loses_only_them(store, redis, namespace):
    key = f"{namespace}:{{vm}}:"
    await create(store, "a", "b")
    await redis.rpush(key + "history:a", "nonsense", "1\t2", "x\ty\tz\t\t\t")
    await redis.xadd(key + "events", {"else": "x"})
    await store.move("vm", "a", "back")
    assert [row[0] for row in await told(store)] == ["created", "moved"]
    assert [row[0] for row in await said(store)] == ["created", "created", "", "moved"]
    await redis.delete(key + "history:a", key + "events")
    await redis.set(key + "history:a", "x")
    await redis.set(key + "events", "x")
    await store.move("vm", "a", "front")
    assert await told(store) == [("created", "a", "", "queued", "", "")]
    with pytest.raises(errors.StoreDamaged, match="events"):
        await said(store)
    with pytest.raises(errors.StoreDamaged, match="events"):
        await store.events.after("vm", "1-0")


async def test_check_puts_a_history_without_a_job_aside_and_says_what_it_mended(
    pipeline, store, redis, namespace, clock
):
    key = f"{namespace}:{{vm}}:"
    await create(store, "a", "b")
    await redis.rpush(key + "history:gone", "1-0\tmoved\t1\t2\t\t")
    await redis.rpush(key + "history:a", "1-0\tmoved\t1\t2\t\t")
    await redis.zrem(key + "queue", *await redis.zrange(key + "queue", 0, 0))
    found = [fault async for fault in Check(pipeline, namespace, repair=False, now=clock).faults()]
    assert sorted((fault.code, fault.name) for fault in found) == [("missing", "a"), ("stranger", "gone")]
    assert (await said(store))[-1][0] == "created"
    mended = [fault async for fault in Check(pipeline, namespace, repair=True, now=clock).faults()]
    assert {fault.mended for fault in mended} == {True}
    assert await redis.exists(key + "damaged:history:gone", key + "history:a") == 2
    assert (await said(store))[-1] == ("repaired", "", "", "", "rqueue check", "1 missing, 1 stranger")
    assert not [fault async for fault in Check(pipeline, namespace, repair=True, now=clock).faults()]
    assert len([row for row in await said(store) if row[0] == "repaired"]) == 1
    await redis.delete(key + "damaged:history:gone")


# --- reading ---------------------------------------------------------------------------------------


async def test_the_newest_are_read_page_by_page_and_by_whom_they_are_about(store):
    await store.configure("vm", {"paused": True})
    for n in range(6):
        await create(store, f"j{n}", owner_id=f"o{n % 2}")
    found, before = await store.events.last("vm", most=4)
    assert [event.request_id for event in found] == ["j2", "j3", "j4", "j5"]
    found, before = await store.events.last("vm", before, most=3)
    assert [event.request_id for event in found] == ["", "j0", "j1"]
    assert before == ""
    found, before = await store.events.last("vm", most=2, wanted=Wanted(owners=frozenset({"o1"})))
    assert [event.request_id for event in found] == ["j3", "j5"]
    found, before = await store.events.last("vm", before, most=2, wanted=Wanted(owners=frozenset({"o1"})))
    assert ([event.request_id for event in found], before) == (["j1"], "")
    assert await said(store, request_id="j3", owners=frozenset({"o0"})) == []


async def test_what_came_after_an_id_is_read_and_what_was_missed_is_said(store, redis, namespace):
    key = f"{namespace}:{{vm}}:events"
    nothing = await store.events.after("vm", None)
    assert (nothing.events, nothing.after) == ([], "0-0")
    await create(store, *"abcde")
    found, _ = await store.events.last("vm")
    ids = [event.id for event in found]
    now = await store.events.after("vm", None)
    assert (now.events, now.after, now.more) == ([], ids[-1], False)
    passage = await store.events.after("vm", ids[1], most=2)
    assert (passage.events, passage.after, passage.more) == (found[2:4], ids[3], True)
    assert (await store.events.after("vm", "0")).events == found
    await redis.xtrim(key, minid=ids[2], approximate=False)
    passage = await store.events.after("vm", ids[2])
    assert passage.events == found[3:]
    passage = await store.events.after("vm", ids[0])
    first, *rest = passage.events
    assert (first.what, first.id, first.from_, first.to, rest) == (
        "missed",
        ids[0],
        ids[0],
        ids[2],
        found[2:],
    )
    # Beyond the newest: another Redis has taken over, which never had it.
    passage = await store.events.after("vm", f"{2**63}-5")
    assert [event.what for event in passage.events] == ["missed"]
    assert passage.after == ids[-1]


def test_an_event_is_the_same_everywhere():
    event = Event("1795459837773-2", "moved", "a", "x", "1", "2", "alice", "because")
    assert event.document() == {
        "id": "1795459837773-2",
        "at": "2026-11-23T18:50:37.773000+00:00",
        "what": "moved",
        "request_id": "a",
        "owner_id": "x",
        "from": "1",
        "to": "2",
        "actor": "alice",
        "why": "because",
    }
    # Whatever a hand may add.
    assert Event(f"{2**64 - 1}-0", "x").document()["at"].startswith("9999-")


# --- calling again ---------------------------------------------------------------------------------


async def test_a_job_whose_call_failed_is_called_now_by_who_asks(store, redis, namespace, clock):
    turn = await failing(store, delay_ms=60_000)
    job, work = await store.redeliver("vm", "a", claim_ms=CLAIM_MS, caller=ALICE)
    assert job is not None
    claimed = clock.now // 1000 + CLAIM_MS
    assert work.turns == (replace(turn, claim=claimed, first=False, job=None),)
    assert (await store.call(work.turns[0], CLAIM_MS))[0].attempts == 2
    assert [row[0] for row in await told(store)][-2:] == ["redelivered", "called"]
    assert [row[4] for row in await told(store)][-2:] == ["alice", ""]
    await invariants.check(redis, namespace)


@pytest.mark.parametrize("under_way", ["the first call", "a later call", "asked already"])
async def test_a_job_that_is_being_called_is_not_called_twice_at_once(
    store, redis, namespace, clock, under_way
):
    if under_way == "the first call":
        await declare(store)
        await create(store, "a")
        await store.admit("vm", "default", CLAIM_MS)
    else:
        await failing(store, delay_ms=0 if under_way == "a later call" else 60_000)
        if under_way == "a later call":
            (turn,) = (await store.due("vm", CLAIM_MS)).turns
            await store.call(turn, CLAIM_MS)
        else:
            await store.redeliver("vm", "a", claim_ms=CLAIM_MS)
    before = await redis.zscore(f"{namespace}:{{vm}}:due", "a"), await told(store)
    clock.forward(1)
    job, work = await store.redeliver("vm", "a", claim_ms=CLAIM_MS)
    assert (job is not None, work.turns) == (True, ())
    assert before == (await redis.zscore(f"{namespace}:{{vm}}:due", "a"), await told(store))


async def test_where_the_one_who_is_asked_calls_nobody_the_next_look_does(store, clock):
    await failing(store, delay_ms=60_000)
    assert (await store.redeliver("vm", "a"))[1].turns == ()
    (turn,) = (await store.due("vm", CLAIM_MS)).turns
    assert turn.request_id == "a"


async def test_a_call_is_never_claimed_beyond_the_deadline(store, clock):
    await failing(store, delay_ms=10**9)
    clock.forward(595)
    _, work = await store.redeliver("vm", "a", claim_ms=CLAIM_MS)
    assert work.turns[0].claim == clock.now // 1000 + 5000
    # A second turn of the job knows nothing of it.
    clock.forward(5)
    await store.due("vm", CLAIM_MS)
    await store.transition("vm", "a", REQUEUE)
    await admit(store)
    assert (await store.redeliver("vm", "a", claim_ms=CLAIM_MS))[1].turns == ()


async def test_only_a_calling_job_is_called_again(store):
    await running(store, "a")
    await create(store, "b")
    for name in "ab":
        with pytest.raises(errors.IllegalTransition):
            await store.redeliver("vm", name)
    with pytest.raises(errors.JobNotFound):
        await store.redeliver("vm", "c")
    with pytest.raises(errors.JobNotFound):
        await store.redeliver("vm", "a", caller=Caller("c", Role.CLIENT, owners=["x"]))


async def test_many_who_ask_at_once_have_it_called_once(store):
    await failing(store, delay_ms=60_000)
    asked = await asyncio.gather(*(store.redeliver("vm", "a", claim_ms=CLAIM_MS) for _ in range(10)))
    assert sum(len(work.turns) for _, work in asked) == 1
