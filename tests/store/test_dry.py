"""A dry run: it says what the change would do, and does nothing, whatever comes of it."""

import asyncio

import fakeredis
import pytest

from rqueue import errors
from rqueue.domain.caller import ANYONE, Caller, Role
from rqueue.domain.job import DELETE, FINISH, REQUEUE
from rqueue.store import scripts, steps
from rqueue.store.connect import connect
from rqueue.store.embedded import embedded
from rqueue.store.keys import Keys
from rqueue.store.store import Store
from tests.conftest import new, redis_at
from tests.store.line import create, declare, line, running
from tests.store.machine import drive
from tests.store.test_invariants import Anything

DRY = ("create", "move", "spread", "update", "transition", "release", "admit", "put_pool", "get")


async def everything(redis, namespace):
    """All keys with what they hold, and how a job's hash is kept."""
    read = {
        "hash": redis.hgetall,
        "set": redis.smembers,
        "string": redis.get,
        "list": lambda key: redis.lrange(key, 0, -1),
        "zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
        "stream": redis.xrange,
    }
    found = {}
    async for key in redis.scan_iter(f"{namespace}:*", count=1000):
        held = await read[await redis.type(key)](key)
        # The order of a job's fields too.
        if ":job:" in key:
            faked = isinstance(redis, fakeredis.FakeAsyncRedis)
            held = (list(held.items()), None if faked else await redis.object("ENCODING", key))
        found[key] = held
    return found


class Trying:
    """A store that tries each change of a job first, and holds the trial to what it then does."""

    def __init__(self, store, redis, namespace):
        self._store, self._redis, self._namespace = store, redis, namespace

    def __getattr__(self, name):
        return getattr(self._store, name)

    async def _tried(self, dry, real, *request_ids):
        before = await everything(self._redis, self._namespace)
        try:
            would = await dry
        except errors.RqueueError as refused:
            would = (type(refused), refused.message, refused.field)
        assert await everything(self._redis, self._namespace) == before
        try:
            done = await real
        except errors.RqueueError as refused:
            assert would == (type(refused), refused.message, refused.field)  # noqa: PT017 - and raised
            raise
        jobs = [await self._store.get("vm", request_id) for request_id in request_ids]
        assert would == (jobs if isinstance(would, list) else jobs[0])
        return done

    async def create(self, type_, drafts):
        return await self._tried(
            self._store.dry.create(type_, drafts, False, ANYONE),
            self._store.create(type_, drafts),
            *(draft.request_id for draft in drafts),
        )

    async def move(self, type_, name, *where):
        return await self._tried(
            self._store.dry.move(type_, name, *where, caller=ANYONE),
            self._store.move(type_, name, *where),
            name,
        )

    async def update(self, type_, name, callback, draft):
        return await self._tried(
            self._store.dry.update(type_, name, callback, draft, ANYONE),
            self._store.update(type_, name, callback, draft),
            name,
        )

    async def transition(self, type_, name, moves, admission=""):
        if admission:
            return await self._store.transition(type_, name, moves, admission)
        return await self._tried(
            self._store.dry.transition(type_, name, moves, ANYONE),
            self._store.transition(type_, name, moves),
            name,
        )


class Tried(Anything):
    """All that may happen, each change of a job tried before it is made."""

    def __init__(self):
        super().__init__()
        self.store = Trying(self.store, self.redis, self.namespace)


def test_what_is_tried_changes_nothing_and_says_what_would_be(redis_url):
    drive(Tried, redis_url, runs=8, steps=25)


@pytest.mark.thorough
@pytest.mark.timeout(300)
def test_what_is_tried_changes_nothing_however_often(redis_url):
    drive(Tried, redis_url, runs=150, steps=60)


def test_what_is_run_dry_writes_only_what_can_be_taken_back():
    """And by commands that the Redis user has in any case."""
    undone = set(scripts._COMMAND.findall("".join(scripts.load(name).text for name in DRY))) - scripts.READS
    text = (scripts._LUA / "_dry.lua").read_text()
    assert {name for name in undone if f"  {name} = " not in text} <= {
        *("EXISTS", "GET", "HEXISTS", "HKEYS", "HLEN", "SISMEMBER", "SMEMBERS", "XADD")
    }
    own = {word for word in scripts._TRIED if f'"{word}"' in text}
    assert own <= scripts.needed()
    assert {"TYPE", "GET", "SMEMBERS", "DEL"} <= own


async def test_a_type_that_nobody_uses_is_not_made(store, redis, namespace):
    (job,) = await store.dry.create("vm", [new("a")], False, ANYONE)
    assert (job.position, job.ahead, job.id) == (0, 0, 1)
    assert [key async for key in redis.scan_iter(f"{namespace}:*")] == []
    assert await store.types() == []


async def test_a_job_is_as_small_afterwards_as_it_was(real_store, real_redis, namespace):
    """A hash that held a long field for a moment would keep the larger form."""
    await create(real_store, "a")
    key = f"{namespace}:{{vm}}:job:a"
    assert await real_redis.object("ENCODING", key) == "listpack"
    long = new("", note="x" * 5000)
    job = await real_store.dry.update("vm", "a", None, long, ANYONE)
    assert len(job.data) > 5000
    assert await real_redis.object("ENCODING", key) == "listpack"


async def test_all_of_a_large_array_is_taken_back(store, redis, namespace):
    await create(store, "there")
    before = await everything(redis, namespace)
    jobs = await store.dry.create("vm", [new(f"j{n}") for n in range(1000)], True, ANYONE)
    assert [job.position for job in jobs] == list(range(1, 1001))
    assert await everything(redis, namespace) == before


async def test_what_fails_in_the_middle_is_taken_back_too(real_store, real_redis, namespace):
    """Here the pool's line is no zset: a create finds out after it has written."""
    store, redis = real_store, real_redis
    await create(store, "a")
    await redis.delete(f"{namespace}:{{vm}}:pool:default")
    await redis.set(f"{namespace}:{{vm}}:pool:default", "by hand")
    before = await everything(redis, namespace)
    with pytest.raises(errors.StoreDamaged, match="pool:default"):
        await store.dry.create("vm", [new("b")], False, ANYONE)
    with pytest.raises(errors.StoreDamaged, match="pool:default"):
        await store.dry.move("vm", "a", "priority", 1, caller=ANYONE)
    assert await everything(redis, namespace) == before


async def test_several_steps_see_what_those_before_them_did(store, pipeline, redis, namespace, clock):
    await declare(store, 1)
    await create(store, "a", "b")
    before = await everything(redis, namespace)
    dry = scripts.Scripts(pipeline, Keys(namespace), clock)
    moved, admitted = await dry.dry(
        "vm",
        steps.move("b", "front", "", "", False, ANYONE),
        (
            "admit",
            (),
            {
                "pool": "default",
                "nonce": "n",
                "call_deadline": 9,
                "patience": 9,
                "stale_after": 9,
                "claim_ms": 9,
                "most": 9,
            },
        ),
    )
    assert moved[0] == "default"
    assert [turn[0] for turn in admitted[1:]] == ["b"]
    assert await everything(redis, namespace) == before


async def test_another_is_told_no_more_than_by_the_real_call(store):
    await create(store, "a", owner_id="other")
    client = Caller("c", Role.CLIENT, owners=["mine"])
    for asked in (
        store.dry.transition("vm", "a", DELETE, client),
        store.dry.update("vm", "a", "http://c/", None, client),
    ):
        with pytest.raises(errors.JobNotFound):
            await asked
    with pytest.raises(errors.DuplicateCallback, match="another's job"):
        await store.dry.create(
            "vm", [new("b", owner_id="mine", callback="http://127.0.0.1:9/a")], False, client
        )


@pytest.mark.parametrize("moves", [FINISH, DELETE, REQUEUE])
async def test_who_would_end_still_holds_what_it_holds(store, redis, namespace, moves):
    await running(store, "a")
    before = await everything(redis, namespace)
    job = await store.dry.transition("vm", "a", moves, ANYONE)
    assert job.status == moves[(await store.get("vm", "a")).status]
    assert job.placement is None
    assert await everything(redis, namespace) == before


async def test_a_move_for_which_ranks_are_spread_is_taken_back(real_store, real_redis, namespace):
    """Between two neighbours of one priority, at the left one each: ranks run out again and again."""
    store, touched = real_store, 0
    await create(store, "first", "last", priority=5)
    for n in range(30):
        await create(store, f"j{n}")
        before = await everything(real_redis, namespace)
        would = await store.dry.move("vm", f"j{n}", "between", "first", "last", caller=ANYONE)
        assert await everything(real_redis, namespace) == before
        touched += (await store.move("vm", f"j{n}", "between", "first", "last"))[2]
        assert (await store.get("vm", f"j{n}")) == would
    assert touched
    assert (await line(store))[:2] == ["first", "j29"]


async def test_a_server_that_is_full_has_nothing_of_it(tmp_path, clock):
    """What is refused first is refused; after the first write nothing is, and so all is taken back."""
    with embedded(tmp_path) as url:
        async with redis_at(url) as redis, connect(url) as pipeline:
            store = Store(pipeline, "test", clock)
            await running(store, "a")
            await create(store, "b", "c")
            before = await everything(redis, "test")
            await redis.config_set("maxmemory", "1")
            outcomes = set()
            for asked in (
                store.dry.create("vm", [new("d")], False, ANYONE),
                store.dry.move("vm", "c", "front", caller=ANYONE),
                *(store.dry.transition("vm", name, DELETE, ANYONE) for name in "abc"),
            ):
                try:
                    await asked
                    outcomes.add("would")
                except errors.RedisUnavailable as refused:
                    outcomes.add("maxmemory" if "maxmemory" in refused.message else refused.message)
                assert await everything(redis, "test") == before
            assert outcomes == {"would", "maxmemory"}


async def test_after_a_restart_nothing_is_there_of_it(tmp_path, clock):
    """All of a script reaches the file, and replicas, as one."""
    with embedded(tmp_path) as url:
        async with redis_at(url) as redis, connect(url) as pipeline:
            store = Store(pipeline, "test", clock)
            await running(store, "a")
            await create(store, "b", "c")
            before = await everything(redis, "test")
            await asyncio.gather(
                store.dry.create("vm", [new(f"j{n}") for n in range(50)], True, ANYONE),
                store.dry.move("vm", "c", "front", caller=ANYONE),
                store.dry.transition("vm", "a", FINISH, ANYONE),
            )
    with embedded(tmp_path) as url:
        async with redis_at(url) as redis:
            assert await everything(redis, "test") == before


async def test_who_is_bound_to_owners_is_told_of_no_other(store):
    """Neither that another would be admitted, nor that another waits."""
    await declare(store, 1)
    await create(store, "a", "b", owner_id="other")
    client = Caller("c", Role.CLIENT, owners=["mine"])
    mine = [new("c", owner_id="mine")]
    told = await store.dry.simulate("vm", [], {}, mine, "", client)
    assert ([job.request_id for job in told.admitted], [job.request_id for job in told.waiting]) == (
        [],
        ["c"],
    )
    told = await store.dry.simulate("vm", [], {}, mine, "", ANYONE)
    assert [job.request_id for job in told.admitted] == ["a"]
    assert [job.request_id for job in told.waiting] == ["c", "b"]
