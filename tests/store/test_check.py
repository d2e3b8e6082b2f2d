"""rqueue.store.check: each fault is found, and only it; mended; and then all keys agree."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule
from redis.exceptions import ResponseError

from rqueue import errors
from rqueue.domain.job import ACCEPTED, CONFIRM, DELETE, FINISH, REQUEUE
from rqueue.domain.pool import Pool
from rqueue.store import check as checking
from rqueue.store.check import FAULTS, UNMENDED, Check, Fault
from rqueue.store.connect import connect
from rqueue.store.keys import Keys
from rqueue.store.live import Live
from rqueue.store.store import Store
from tests import invariants
from tests.conftest import Clock, new
from tests.store.live import declare_live, see
from tests.store.machine import Machine, drive

CLAIM_MS = 5000
BUSY = {"n": {"slots": 2}}


async def faults(redis_url: str, namespace: str, **options: Any) -> list[Fault]:
    async with connect(redis_url) as pipeline:
        return [fault async for fault in Check(pipeline, namespace, **options).faults()]


@pytest.fixture
async def filled(real_store, real_redis, clock):
    """One runs, one is called, two wait behind them, one more has a rank, one has ended."""
    store = real_store
    await store.put_pool("vm", Pool("default", BUSY, ("p",)))
    await store.create("vm", [new(name) for name in ("ended", "ran", "called", "waits", "other", "moved")])
    await store.move("vm", "moved", "priority", (await store.get("vm", "other")).priority)
    await store.move("vm", "moved", "before", "other")
    await store.admit("vm", "default", CLAIM_MS)
    await store.transition("vm", "ended", FINISH)
    await store.transition("vm", "ran", CONFIRM)
    await store.admit("vm", "default", CLAIM_MS)
    return real_redis


R = Any
EXPIRING = [("expires", "settings"), ("expires", "wake")]


async def _expiring(redis: R, key: Callable[[str], str]) -> None:
    await redis.hset(key("settings"), "retention", 100)
    await redis.sadd(key("wake"), "default")
    for _, name in EXPIRING:
        await redis.expire(key(name), 1000)


async def _never_due(redis: R, key: Callable[[str], str]) -> None:
    await redis.hset(key("settings"), "lease_seconds", 60)
    await redis.zrem(key("due"), "ran")


# What is done by hand, with a key of `vm` each → the faults that are found.
EDITS: dict[str, tuple[Callable[[R, Callable[[str], str]], Awaitable[Any]], list[tuple[str, str]]]] = {
    "a queue is a string": (
        lambda redis, key: redis.set(key("queue"), "x"),
        [("wrong_kind", "queue")],
    ),
    "a job is a list": (
        lambda redis, key: _anew(redis, "RPUSH", key("job:waits")),
        [("wrong_kind", "job:waits")],
    ),
    "events are a set": (lambda redis, key: _anew(redis, "SADD", key("events")), [("wrong_kind", "events")]),
    **{
        f"{name} expires": (
            lambda redis, key, name=name: redis.expire(key(name), 1000),
            [("expires", name)],
        )
        for name in (
            *(
                "queue",
                "running",
                "ended",
                "due",
                "callbacks",
                "capacity:default",
                "pools",
                "projects",
                "seq",
            ),
            *(
                "heads",
                "events",
                "job:waits",
                "job:ended",
                "history:ended",
                "owner:y",
                "pool:default",
                "used:default",
            ),
        )
    },
    "settings and a wake expire": (_expiring, EXPIRING),
    "a key of another kind expires": (
        lambda redis, key: redis.set(key("queue"), "x", ex=1000),
        [("wrong_kind", "queue"), ("expires", "queue")],
    ),
    "a foreign key": (lambda redis, key: redis.set(key("notes"), "x"), [("foreign_key", "notes")]),
    "a hash is gone": (
        lambda redis, key: redis.delete(key("job:waits")),
        [(code, name) for code, name in [("stranger", "owner:y"), ("stranger", "pool:default")]]
        + [("stranger", "queue"), ("callback", "callbacks")],
    ),
    "an ended hash is gone": (
        lambda redis, key: redis.delete(key("job:ended")),
        [
            ("stranger", "ended"),
            ("stranger", "due"),
            ("callback", "callbacks"),
            ("stranger", "history:ended"),
        ],
    ),
    "an ID is nonsense": (
        lambda redis, key: redis.hset(key("job:waits"), "ID", "x"),
        [("no_job", "job:waits")],
    ),
    "Data is gone": (lambda redis, key: redis.hdel(key("job:waits"), "Data"), [("no_job", "job:waits")]),
    "a rank is nonsense": (
        lambda redis, key: redis.hset(key("job:moved"), "Rank", "zz"),
        [("field", "job:moved")],
    ),
    "an owner is gone": (
        lambda redis, key: redis.hdel(key("job:waits"), "OwnerID"),
        [("field", "job:waits")],
    ),
    "a pool is gone": (lambda redis, key: redis.hdel(key("job:waits"), "Pool"), [("field", "job:waits")]),
    "a callback is gone": (
        lambda redis, key: redis.hdel(key("job:waits"), "Callback"),
        [("field", "job:waits")],
    ),
    "a status is nonsense": (
        lambda redis, key: redis.hset(key("job:ran"), "Status", "sleeping"),
        [("field", "job:ran"), ("field", "job:ran"), ("due", "due")],
    ),
    "a priority is nan": (
        lambda redis, key: redis.hset(key("job:waits"), "Priority", "nan"),
        [("field", "job:waits")],
    ),
    "a time is no moment": (
        lambda redis, key: redis.hset(key("job:waits"), "UpdatedAt", "-1"),
        [("field", "job:waits")],
    ),
    "it waits and has ended": (
        lambda redis, key: redis.hset(key("job:waits"), "DeletedAt", "5"),
        [("field", "job:waits")],
    ),
    "a deadline is gone": (
        lambda redis, key: redis.hdel(key("job:called"), "Deadline"),
        [("field", "job:called")],
    ),
    "an end is gone": (
        lambda redis, key: redis.hdel(key("job:ended"), "DeletedAt"),
        [("field", "job:ended")],
    ),
    "a demand is cut": (
        lambda redis, key: redis.hset(key("job:waits"), "Demand", "[[1"),
        [("demand", "job:waits")],
    ),
    "a placement is cut": (
        lambda redis, key: redis.hset(key("job:ran"), "Placement", '["n'),
        [("placement", "job:ran"), ("used", "used:default")],
    ),
    "it left the line": (
        lambda redis, key: _without(redis, key("queue"), ":waits"),
        [("missing", "queue")],
    ),
    "it left its pool": (
        lambda redis, key: _without(redis, key("pool:default"), ":other"),
        [("missing", "pool:default")],
    ),
    "its priority was edited": (
        lambda redis, key: redis.hset(key("job:other"), "Priority", 5),
        [("score", "owner:y"), ("score", "pool:default"), ("score", "queue")],
    ),
    "a stranger waits": (
        lambda redis, key: redis.zadd(key("queue"), {"stranger": 1}),
        [("stranger", "queue")],
    ),
    "a stranger that is no text": (
        lambda redis, key: redis.zadd(key("pool:default"), {b"\xff\xfe": 9e15}),
        [("stranger", "pool:default")],
    ),
    "a stranger is due": (lambda redis, key: redis.zadd(key("due"), {"stranger": 1}), [("stranger", "due")]),
    "it waits and runs": (
        lambda redis, key: _copied(redis, key("queue"), key("running"), ":waits"),
        [("stranger", "running")],
    ),
    "an owner that is none": (
        lambda redis, key: redis.zadd(key("owner:z"), {"00000000400000:waits": 1}),
        [("stranger", "owner:z")],
    ),
    "nothing is due of who is called": (
        lambda redis, key: redis.zrem(key("due"), "called"),
        [("due", "due")],
    ),
    "a lease never lapses": (_never_due, [("due", "due")]),
    "an end is never purged": (lambda redis, key: redis.zadd(key("due"), {"ended": "inf"}), [("due", "due")]),
    "a callback leads nowhere": (
        lambda redis, key: redis.hset(key("callbacks"), "http://c", "nobody"),
        [("callback", "callbacks")],
    ),
    "a callback is missing": (
        lambda redis, key: redis.hdel(key("callbacks"), "http://127.0.0.1:9/waits"),
        [("callback", "callbacks")],
    ),
    "two have one callback": (
        lambda redis, key: redis.hset(key("job:other"), "Callback", "http://127.0.0.1:9/waits"),
        [("callback", "callbacks"), ("callback_shared", "job:other")],
    ),
    "used is less": (
        lambda redis, key: redis.hset(key("used:default"), "n/slots", 1),
        [("used", "used:default")],
    ),
    "used is of nobody": (
        lambda redis, key: redis.hset(key("used:gone"), "n/slots", 1),
        [("used", "used:gone")],
    ),
    "an amount is nan": (
        lambda redis, key: redis.hset(key("capacity:default"), "m/slots", "nan"),
        [("amount", "capacity:default")],
    ),
    "bounds are cut": (lambda redis, key: redis.hset(key("pools"), "default", "{"), [("bounds", "pools")]),
    "a pool is not declared": (
        lambda redis, key: redis.hset(key("capacity:more"), "m/slots", "1"),
        [("bounds", "pools")],
    ),
    "a project is nowhere": (
        lambda redis, key: redis.hset(key("projects"), "q", "gone"),
        [("project", "projects")],
    ),
    "a quota is cut": (
        lambda redis, key: redis.hset(key("quotas:default"), "y", "{"),
        [("quota", "quotas:default"), ("apart", "apart")],
    ),
    "usage is wrong": (
        lambda redis, key: redis.hset(key("usage:default"), "stranger/slots", 7),
        [("used", "usage:default")],
    ),
    "nobody is sorted by owner": (
        lambda redis, key: redis.hset(key("settings"), "policy", "fair"),
        [("apart", "apart")],
    ),
    "a line by owner is not there": (
        lambda redis, key: redis.set(key("apart"), "1"),
        [("missing", "line:y/default"), ("missing", "owners:default")] * 2,
    ),
    "a place among owners is a stranger's": (
        lambda redis, key: redis.zadd(key("owners:default"), {"1" * 29 + ":nobody": 0}),
        [("stranger", "owners:default")],
    ),
    "a job that does not wait was passed over": (
        lambda redis, key: redis.zadd(key("passed:default"), {"ran": 5}),
        [("stranger", "passed:default")],
    ),
    "a setting is nonsense": (
        lambda redis, key: redis.hset(key("settings"), "retention", "soon"),
        [("setting", "settings")],
    ),
    "a pool stands still nowhere": (
        lambda redis, key: redis.hset(key("heads"), "default", "5:nobody"),
        [("head", "heads")],
    ),
    "a pool stands still too far back": (
        lambda redis, key: redis.hset(key("heads"), "default", "9007199254740992:"),
        [("head", "heads")],
    ),
    "a pool is asleep": (lambda redis, key: redis.delete(key("heads")), [("asleep", "pool:default")]),
    "the counter is behind": (lambda redis, key: redis.set(key("seq"), 2), [("seq", "seq")]),
    "the counter is nonsense": (lambda redis, key: redis.set(key("seq"), "x"), [("seq", "seq")]),
}


async def _anew(redis: R, command: str, key: str) -> None:
    await redis.delete(key)
    await redis.execute_command(command, key, "x")


async def _member(redis: R, key: str, end: str) -> str:
    return next(str(member) for member in await redis.zrange(key, 0, -1) if member.endswith(end))


async def _without(redis: R, key: str, end: str) -> None:
    await redis.zrem(key, await _member(redis, key, end))


async def _copied(redis: R, key: str, to: str, end: str) -> None:
    await redis.zadd(to, {await _member(redis, key, end): 1})


@pytest.fixture
async def observed(redis_url, real_store, real_redis, namespace, clock):
    """In a live pool one runs that its source sees, one that it does not, one is called and one waits."""
    store = real_store
    await declare_live(store)
    async with connect(redis_url) as pipeline:
        live = Live(pipeline, namespace, "one", clock)
        await see(live, n={"slots": 4}, taken={"n": {"slots": 1}})
        await store.create("vm", [new(name) for name in ("seen", "ran", "called", "waits")])
        await store.admit("vm", "default", CLAIM_MS)
        await store.transition("vm", "seen", CONFIRM)
        await see(live, n={"slots": 4}, taken={"n": {"slots": 2}})
        await live.failed(await live.claim("vm", CLAIM_MS), "default", "away")
    await store.transition("vm", "ran", CONFIRM)
    await store.admit("vm", "default", CLAIM_MS)
    return real_redis


# As EDITS, of a live pool.
LIVE_EDITS: dict[str, tuple[Callable[[R, Callable[[str], str]], Awaitable[Any]], list[tuple[str, str]]]] = {
    **{
        f"{name} expires": (
            lambda redis, key, name=name: redis.expire(key(name), 1000),
            [("expires", name)],
        )
        for name in (
            *("sources", "observed", "source_errors", "reader"),
            *("seen:default", "held:default"),
        )
    },
    "what is seen is nonsense": (
        lambda redis, key: redis.hset(key("seen:default"), "n/slots", "some"),
        [("amount", "seen:default")],
    ),
    "what is seen is a list": (
        lambda redis, key: _anew(redis, "RPUSH", key("seen:default")),
        [("wrong_kind", "seen:default")],
    ),
    "a stranger is held": (
        lambda redis, key: redis.zadd(key("held:default"), {"called": 1, "nobody": 2}),
        [("stranger", "held:default")],
    ),
    "one that is seen is not held": (
        lambda redis, key: redis.zrem(key("held:default"), "seen"),
        [("missing", "held:default")],
    ),
    "one that is seen is held for later": (
        lambda redis, key: redis.zadd(key("held:default"), {"seen": 5}),
        [("score", "held:default")],
    ),
    "it is not known what is seen": (
        lambda redis, key: redis.hset(key("job:seen"), "Observed", "soon"),
        [("field", "job:seen")],
    ),
    "nothing says that it is seen": (
        lambda redis, key: redis.hdel(key("job:seen"), "Observed"),
        [("score", "held:default"), ("used", "used:default")],
    ),
    "a waiting job is seen": (
        lambda redis, key: redis.hset(key("job:waits"), "Observed", "5"),
        [("field", "job:waits")],
    ),
    "a live pool was observed nobody knows when": (
        lambda redis, key: redis.hset(key("observed"), "default", "lately"),
        [("observed", "observed")],
    ),
    "a live pool is none": (
        lambda redis, key: redis.hdel(key("observed"), "default"),
        [("observed", "observed")],
    ),
    "how a live pool is found is gone": (
        lambda redis, key: redis.hdel(key("sources"), "default"),
        [("unread", "observed"), ("stranger", "source_errors")],
    ),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
async def test_a_fault_is_found_and_only_it_and_mended(filled, redis_url, namespace, clock, edit):
    await _found_and_mended(filled, redis_url, namespace, clock, *edit)


@pytest.mark.parametrize("edit", LIVE_EDITS.values(), ids=LIVE_EDITS)
async def test_so_is_a_fault_of_a_live_pool(observed, redis_url, namespace, clock, edit):
    assert await faults(redis_url, namespace, now=clock) == []
    await _found_and_mended(observed, redis_url, namespace, clock, *edit)


async def _found_and_mended(
    filled: R,
    redis_url: str,
    namespace: str,
    clock: Clock,
    do: Callable[[R, Callable[[str], str]], Awaitable[Any]],
    expected: list[tuple[str, str]],
) -> None:
    await do(filled, lambda name: Keys(namespace).of("vm", name))

    found = await faults(redis_url, namespace, now=clock)
    told = [(fault.code, fault.key.removeprefix(Keys(namespace).of("vm", ""))) for fault in found]
    assert sorted(set(told)) == sorted(set(expected))
    assert not any(fault.mended for fault in found)

    mended = await faults(redis_url, namespace, now=clock, repair=True)
    assert {fault.code for fault in found} <= {fault.code for fault in mended}
    assert all(fault.mended for fault in mended if fault.code not in UNMENDED)
    again = await faults(redis_url, namespace, now=clock)
    assert {fault.code for fault in again} <= UNMENDED
    if not again:
        await invariants.check(filled, namespace)


async def test_nothing_is_found_where_nothing_is_wrong(filled, redis_url, namespace, clock):
    assert await faults(redis_url, namespace, now=clock) == []
    assert await faults(redis_url, namespace, now=clock, repair=True) == []


async def test_what_was_broken_is_kept_aside(filled, redis_url, namespace, clock):
    key = Keys(namespace).of
    await filled.hset(key("vm", "job:waits"), "ID", "x")
    await filled.hset(key("vm", "job:moved"), "Rank", "zz")
    await filled.hset(key("vm", "settings"), "retention", "soon")
    await faults(redis_url, namespace, now=clock, repair=True)
    assert (await filled.hgetall(key("vm", "damaged:job:waits")))["ID"] == "x"
    assert await filled.hgetall(key("vm", "damaged:job:moved")) == {"Rank": "zz"}
    assert await filled.hgetall(key("vm", "damaged:settings")) == {"retention": "soon"}
    # Its names are free again, and a second one of that name finds a place too.
    await _again(redis_url, namespace, clock)
    await filled.hset(key("vm", "job:waits"), "ID", "y")
    await faults(redis_url, namespace, now=clock, repair=True)
    assert (await filled.hgetall(key("vm", "damaged:job:waits:2")))["ID"] == "y"


async def _again(redis_url, namespace, clock):
    async with connect(redis_url) as pipeline:
        await Store(pipeline, namespace, clock).create("vm", [new("waits")])


async def test_a_rank_that_was_lost_is_that_of_the_line(filled, redis_url, namespace, clock):
    key = Keys(namespace).of
    before = await filled.zrange(key("vm", "queue"), 0, -1)
    await filled.hset(key("vm", "job:moved"), "Rank", b"\xff")
    await faults(redis_url, namespace, now=clock, repair=True)
    assert await filled.zrange(key("vm", "queue"), 0, -1) == before


async def test_types_are_listed_and_empty_ones_are_not(filled, redis_url, namespace, clock, monkeypatch):
    monkeypatch.setattr(checking, "ADD_TYPE_SECONDS", 0)
    types = Keys(namespace).types
    await filled.srem(types, "vm")
    await filled.sadd(types, "empty")
    found = await faults(redis_url, namespace, now=clock)
    assert [(fault.code, fault.name) for fault in found] == [("not_listed", "vm"), ("empty_type", "empty")]
    # Of one type only that is looked at.
    found = await faults(redis_url, namespace, now=clock, types=["vm"])
    assert [(fault.code, fault.name) for fault in found] == [("not_listed", "vm")]
    with pytest.raises(errors.Refused, match="there is no type 'none'"):
        await faults(redis_url, namespace, now=clock, types=["vm", "none"])
    assert await faults(redis_url, namespace, now=clock, types=["empty"]) == []
    await faults(redis_url, namespace, now=clock, repair=True)
    assert await filled.smembers(types) == {"vm"}


async def test_empty_types_are_waited_for_once(filled, redis_url, namespace, clock, monkeypatch):
    """And one to which someone comes meanwhile is listed again."""
    monkeypatch.setattr(checking, "ADD_TYPE_SECONDS", 0.5)
    keys, empty = Keys(namespace), [f"t{n}" for n in range(40)]
    await filled.sadd(keys.types, *empty)
    async with asyncio.timeout(15):
        looking = asyncio.create_task(faults(redis_url, namespace, now=clock, repair=True))
        while await filled.smembers(keys.types) != {"vm"}:  # noqa: ASYNC110 - Redis has no event for it
            await asyncio.sleep(0.01)
        await filled.hset(keys.of("t7", "settings"), "paused", "1")
        found = await looking
    assert {fault.name: fault.mended for fault in found} == {name: name != "t7" for name in empty}
    assert await filled.smembers(keys.types) == {"vm", "t7"}


async def test_keys_of_no_type_are_looked_at(filled, redis_url, namespace, clock):
    keys = Keys(namespace)
    await filled.delete(keys.types)
    await filled.set(keys.types, "x")
    await filled.set(keys.callback_secret, "whsec_short")
    await filled.set(keys.inbox, "x")
    found = await faults(redis_url, namespace, now=clock)
    assert sorted(fault.code for fault in found) == ["not_listed", "secret", "wrong_kind", "wrong_kind"]
    await faults(redis_url, namespace, now=clock, repair=True)
    assert await faults(redis_url, namespace, now=clock) == []
    assert await filled.get(f"{{{keys.types}}}:damaged") == "x"
    await filled.delete(*(f"{{{key}}}:damaged" for key in (keys.types, keys.callback_secret, keys.inbox)))


async def test_the_list_of_types_is_named_where_one_type_is_asked_for(filled, redis_url, namespace, clock):
    types = Keys(namespace).types
    await filled.delete(types)
    await filled.set(types, "x")
    for repair in (False, True):
        found = await faults(redis_url, namespace, now=clock, types=["vm"], repair=repair)
        assert {(fault.code, fault.key) for fault in found} == {("wrong_kind", types), ("not_listed", types)}
    assert await filled.smembers(types) == {"vm"}
    await filled.delete(f"{{{types}}}:damaged")


async def test_a_key_of_no_type_that_would_vanish_stays(filled, redis_url, namespace, clock):
    keys = Keys(namespace)
    await filled.set(keys.callback_secret, f"whsec_{'A' * 32}", ex=1000)
    await filled.lpush(keys.inbox, "x")
    await filled.set(keys.replicated, "x", ex=1000)
    for key in (keys.inbox, keys.types):
        await filled.expire(key, 1000)
    found = await faults(redis_url, namespace, now=clock, repair=True)
    assert {(fault.code, fault.key) for fault in found} == {
        ("expires", key) for key in (keys.types, keys.callback_secret, keys.inbox)
    }
    assert await faults(redis_url, namespace, now=clock) == []
    assert [await filled.ttl(key) for key in (keys.types, keys.callback_secret, keys.inbox)] == [-1] * 3


async def test_a_lease_that_never_lapses_lapses(filled, redis_url, namespace, clock):
    key = Keys(namespace).of
    await _never_due(filled, lambda name: key("vm", name))
    await faults(redis_url, namespace, now=clock, repair=True)
    assert await filled.zscore(key("vm", "due"), "ran") == clock() // 1000 + 60_000


async def test_a_name_that_is_no_text_is_told(filled, redis_url, namespace, clock):
    await filled.set(Keys(namespace).of("vm", "job:").encode() + b"\xff", "x")
    (fault,) = await faults(redis_url, namespace, now=clock, repair=True)
    assert (fault.code, fault.mended) == ("foreign_key", False)


async def test_a_called_job_that_nobody_would_call_is_called_again(filled, redis_url, namespace, clock):
    await filled.zrem(Keys(namespace).of("vm", "due"), "called")
    async with connect(redis_url) as pipeline:
        store = Store(pipeline, namespace, clock)
        clock.forward(10)
        assert (await store.due("vm", CLAIM_MS)).turns == ()
        await faults(redis_url, namespace, now=clock, repair=True)
        (turn,) = (await store.due("vm", CLAIM_MS)).turns
        assert turn.request_id == "called"


async def test_every_fault_has_a_test():
    tried = {code for _, expected in [*EDITS.values(), *LIVE_EDITS.values()] for code, _ in expected}
    assert set(FAULTS) - tried == {"not_listed", "empty_type", "secret"}


@pytest.mark.parametrize("repair", [False, True])
async def test_what_the_service_does_meanwhile_is_no_fault(real_redis, redis_url, namespace, repair):
    """Two replicas work as fast as they can; nothing is found, and nothing is broken."""
    stop = asyncio.Event()

    async def work(of: str) -> None:
        async with connect(redis_url) as pipeline:
            store, n = Store(pipeline, namespace), 0
            while not stop.is_set():
                n += 1
                names = [f"{of}-{n}-{i}" for i in range(3)]
                await store.create("vm", [new(name, owner_id=of) for name in names])
                await store.move("vm", names[2], "front")
                turns = (await store.admit("vm", "default", CLAIM_MS)).turns
                for turn in turns:
                    await _tried(store.transition("vm", turn.request_id, ACCEPTED, turn.admission))
                    await _tried(store.transition("vm", turn.request_id, DELETE))
                await store.put_pool("vm", Pool(f"of-{of}", BUSY))
                await store.delete_pool("vm", f"of-{of}")
                await _tried(store.transition("vm", names[n % 3], DELETE))

    async with connect(redis_url) as pipeline:
        await Store(pipeline, namespace).put_pool("vm", Pool("default", BUSY))
        async with asyncio.TaskGroup() as group:
            for of in "ab":
                group.create_task(work(of))
            found, looked = [], []
            for _ in range(4):
                check = Check(pipeline, namespace, repair, looked=looked.append)
                found += [fault async for fault in check.faults()]
            stop.set()
    assert found == []
    assert sum(looked) > 100
    await invariants.check(real_redis, namespace)
    await invariants.capacity_kept(real_redis, namespace)


async def _tried(work: Awaitable[Any]) -> None:
    with suppress(errors.Conflict, errors.Missing):
        await work


NAMES = st.sampled_from([f"j{n}" for n in range(6)])
PLACES = st.sampled_from(["queue", "running", "ended", "due", "owner:x", "pool:one", "callbacks", "used:one"])
OTHERS = st.sampled_from(["heads", "wake", "seq", "pools", "capacity:one", "settings", "events", "projects"])
FIELDS = st.sampled_from(
    ["ID", "Status", "Priority", "Rank", "Demand", "Placement", "Pool", "OwnerID", "Data"]
)
VALUES = st.sampled_from(["", "nan", "-1", "1", "9" * 30, "queued", "running", "done", "[[1", b"\xff"])
SCORES = st.sampled_from(["inf", "-inf", "0.5", "7"])


class Edited(Machine):
    """The service and a person with redis-cli, in any order."""

    @initialize()
    def begin(self):
        self.run(self.store.put_pool("vm", Pool("one", {"h": {"slots": 2}}, ("x",))))

    def attempt(self, coroutine):
        try:
            return self.run(coroutine)
        except (errors.Conflict, errors.Missing, errors.StoreDamaged):
            return None

    def by_hand(self, command, name, *words):
        key = Keys(self.namespace).of("vm", name)
        try:
            self.run(self.redis.execute_command(command, key, *words))
        except ResponseError:
            # It is of another kind by now.
            return

    @rule(name=NAMES)
    def create(self, name):
        self.attempt(self.store.create("vm", [new(name, "x", project="x")]))

    @rule(name=NAMES, where=st.sampled_from(["front", "back"]))
    def move(self, name, where):
        self.attempt(self.store.move("vm", name, where))

    @rule(name=NAMES, first=NAMES)
    def move_before(self, name, first):
        self.attempt(self.store.move("vm", name, "before", first))

    @rule(name=NAMES, moves=st.sampled_from([CONFIRM, FINISH, DELETE, REQUEUE]))
    def transition(self, name, moves):
        self.attempt(self.store.transition("vm", name, moves))

    @rule()
    def admit(self):
        self.attempt(self.store.admit("vm", "one", CLAIM_MS))

    @rule(seconds=st.sampled_from([6, 700]))
    def time_goes_on(self, seconds):
        self.clock.forward(seconds)
        self.attempt(self.store.due("vm", CLAIM_MS))

    @rule(name=NAMES, field=FIELDS, value=VALUES)
    def edit_a_job(self, name, field, value):
        self.by_hand("HSET", f"job:{name}", field, value)

    @rule(name=NAMES)
    def delete_a_job(self, name):
        self.by_hand("DEL", f"job:{name}")

    @rule(place=PLACES, name=NAMES, score=SCORES)
    def edit_a_place(self, place, name, score):
        member = name if place in ("ended", "due") else f"00000000100000:{name}"
        self.by_hand("ZADD", place, score, member)

    @rule(place=st.one_of(PLACES, OTHERS))
    def delete_a_key(self, place):
        self.by_hand("DEL", place)

    @rule(place=st.one_of(PLACES, OTHERS))
    def make_a_key_another(self, place):
        self.by_hand("SET", place, "x")

    @rule()
    def mend(self):
        check = Check(self.pipeline, self.namespace, True, now=self.clock)

        async def found(checked):
            return [fault async for fault in checked.faults()]

        self.run(found(check))
        left = self.run(found(Check(self.pipeline, self.namespace, now=self.clock)))
        assert left == []
        self.check()

    def teardown(self):
        try:
            self.mend()
        finally:
            self.run(self._leave())
            self.loop.close()


def test_after_any_edits_all_is_mended(redis_url):
    drive(Edited, redis_url, runs=15, steps=30)


@pytest.mark.thorough
@pytest.mark.timeout(300)
def test_after_many_edits_all_is_mended(redis_url):
    drive(Edited, redis_url, runs=80, steps=40)
