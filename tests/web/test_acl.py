"""A user of Redis that may do no more than the documents say is enough for the service."""

import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis.exceptions import NoPermissionError

from rqueue import errors
from rqueue.domain.caller import Caller, Role
from rqueue.domain.job import CONFIRM, DELETE, FINISH
from rqueue.domain.pool import Pool
from rqueue.store import store as storing
from rqueue.store.check import Check
from rqueue.store.connect import connect
from rqueue.store.keys import Keys
from rqueue.store.scripts import needed
from rqueue.store.store import Store
from tests.conftest import config_of, new, redis_at, serving
from tests.web.wire import ask, job, refused

CLAIM_MS = 5000
PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
DOCUMENTED = re.search(r"^ACL SETUSER rqueue on >password (.*)$", PAGE.read_text(), re.MULTILINE)


def url_of(redis_url: str, user: str) -> str:
    return f"unix://{quote(user)}:pw@{redis_url.removeprefix('unix://')}"


@pytest.fixture
async def user(real_redis: Any, namespace: str) -> Any:
    """Makes the documented user, for this test's namespace, with more or fewer commands."""
    assert DOCUMENTED is not None
    rules = DOCUMENTED[1].replace("rqueue:*", f"{namespace}:*").split()

    async def make(*changes: str) -> str:
        await real_redis.execute_command("ACL", "SETUSER", namespace, "on", ">pw", *rules, *changes)
        return namespace

    yield make
    await real_redis.execute_command("ACL", "DELUSER", namespace)


async def test_the_documented_user_is_enough_for_all_there_is(
    user: Any, redis_url: str, namespace: str, receiver: Any
) -> None:
    url = url_of(redis_url, await user())
    async with serving(config_of(namespace), url) as service:
        pool = {"hosts": {"h": {"slots": 1}}, "projects": ["p"]}
        assert (await ask(service, "PUT", "/queues/vm/pools/default", pool)).status == 200
        for name in "abc":
            body = job(name, callback=f"{receiver.url}/{name}")
            assert (await ask(service, "POST", "/v1/vm/", body)).status == 201
        await receiver.until(1)
        for method, path, body in (
            ("GET", "/readyz", None),
            ("GET", "/v1/vm/b", None),
            ("POST", "/v1/vm/c", {"position": "front"}),
            ("POST", "/v1/vm/b", {"data": {"project": "p"}}),
            ("PUT", "/queues/vm", {"lease_seconds": 100}),
            ("DELETE", "/v1/vm/a", None),
        ):
            assert (await ask(service, method, path, body)).status == 200
        await receiver.until(2)
        for path in ("/v1/vm/", "/v1/vm/?status=done", "/queues/", "/queues/vm/pools/default", "/inbox/"):
            assert (await ask(service, "GET", path)).status == 200
        assert "rqueue_redis_up 1.0" in (await ask(service, "GET", "/metrics")).text
        assert (await ask(service, "DELETE", "/queues/vm/pools/default")).status == 200
        await service.settle()


@pytest.mark.parametrize(
    "words", [("FLUSHALL",), ("KEYS", "*"), ("GET", "another:key"), ("CONFIG", "GET", "*")]
)
async def test_the_documented_user_may_do_no_harm(user: Any, redis_url: str, words: tuple[str, ...]) -> None:
    async with redis_at(url_of(redis_url, await user())) as redis:
        with pytest.raises(NoPermissionError):
            await redis.execute_command(*words)


@pytest.mark.parametrize("missing", ["-time", "-zadd", "-evalsha"])
async def test_a_user_that_may_too_little_is_no_damage(
    user: Any, redis_url: str, namespace: str, missing: str
) -> None:
    url = url_of(redis_url, await user(missing))
    async with serving(config_of(namespace), url) as service:
        message = refused(await ask(service, "POST", "/v1/vm/", job()), 503, "redis_unavailable")
        assert "Redis refuses" in message


@pytest.fixture
async def limited(user: Any, redis_url: str, real_redis: Any, namespace: str) -> Any:
    """A store by a user that lacks some commands; a job waits, one runs, one is due, one has ended."""
    async with connect(redis_url) as pipeline:
        store = Store(pipeline, namespace)
        await store.put_pool("vm", Pool("default", {"h": {"slots": 2}}, ()))
        await store.create("vm", [new(name) for name in ("ended", "ran", "waits")])
        await store.admit("vm", "default", CLAIM_MS)
        await store.transition("vm", "ran", CONFIRM)
        await store.transition("vm", "ended", FINISH)
    async with AsyncExitStack() as stack:

        async def make(*missing: str) -> Store:
            url = url_of(redis_url, await user(*missing))
            return Store(await stack.enter_async_context(connect(url)), namespace)

        yield make


async def test_a_refused_charge_admits_nobody(
    limited: Any, user: Any, real_redis: Any, namespace: str
) -> None:
    store = await limited("-hincrby")
    for _ in range(3):
        with pytest.raises(errors.RedisUnavailable, match="hincrby"):
            await store.admit("vm", "default", CLAIM_MS)
    with pytest.raises(errors.RedisUnavailable, match="hincrby"):
        await store.transition("vm", "ran", FINISH)
    assert (await store.get("vm", "waits")).status == "queued"
    await user("+hincrby")
    assert [turn.request_id for turn in (await store.admit("vm", "default", CLAIM_MS)).turns] == ["waits"]
    await store.transition("vm", "ran", FINISH)
    assert await real_redis.hgetall(f"{namespace}:{{vm}}:used:default") == {"h/slots": "1"}


async def test_what_may_not_be_read_is_not_taken_for_missing(
    limited: Any, real_redis: Any, namespace: str
) -> None:
    due = f"{namespace}:{{vm}}:due"
    await real_redis.zadd(due, {"ended": 1, "ran": 1})
    store = await limited("-hmget")
    with pytest.raises(errors.RedisUnavailable, match="hmget"):
        await store.due("vm", CLAIM_MS)
    assert await real_redis.zcard(due) == 2
    with pytest.raises(errors.RedisUnavailable, match="hmget"):
        await store.transition("vm", "waits", DELETE)


async def test_a_job_that_may_not_be_read_whole_is_no_damage(limited: Any) -> None:
    store = await limited("-hgetall")
    for asked in (store.get("vm", "ran"), store.page("vm")):
        with pytest.raises(errors.RedisUnavailable, match="hgetall"):
            await asked


async def test_whose_a_job_is_may_not_be_read(limited: Any) -> None:
    caller = Caller("someone", Role.CLIENT, owners=["y"])
    store = await limited("-hget")
    with pytest.raises(errors.RedisUnavailable, match="hget"):
        await store.get("vm", "ran", caller)


async def test_events_that_may_not_be_written_are_not_lost_silently(limited: Any) -> None:
    store = await limited("-xadd")
    with pytest.raises(errors.RedisUnavailable, match="xadd"):
        await store.move("vm", "waits", "priority", 5)


@pytest.mark.parametrize("command", [*sorted(needed()), "EVALSHA"])
async def test_readiness_names_each_command_that_is_missing(
    user: Any, redis_url: str, real_redis: Any, namespace: str, command: str
) -> None:
    async with connect(url_of(redis_url, await user(f"-{command}"))) as pipeline:
        store = Store(pipeline, namespace)
        for _ in range(2):
            with pytest.raises(errors.NotReady, match=rf"may not run {command}: see docs/settings\.md"):
                await store.check()
        await user(f"+{command}")
        await store.check()
    assert not await real_redis.keys(f"{namespace}:*")


async def test_readiness_looks_at_commands_once_in_a_while(
    user: Any, redis_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(url_of(redis_url, await user())) as pipeline:
        store = Store(pipeline, namespace)
        await store.check()
        await user("-hdel", "-hincrby")
        await store.check()
        monkeypatch.setattr(storing, "MAY_RUN_SECONDS", 0.0)
        with pytest.raises(errors.NotReady, match="may not run HDEL, HINCRBY:"):
            await store.check()


async def test_the_documented_user_may_repair_all_there_is(
    user: Any, redis_url: str, real_redis: Any, namespace: str
) -> None:
    keys = Keys(namespace)
    for key in (keys.types, keys.callback_secret, keys.inbox):
        await real_redis.hset(key, "x", "y")
    for name in ("queue", "pool:x", "job:x", "notes"):
        await real_redis.set(keys.of("vm", name), "x", ex=1000)
    async with connect(url_of(redis_url, await user())) as pipeline:
        mended = [fault async for fault in Check(pipeline, namespace, repair=True).faults()]
        assert {fault.code for fault in mended} >= {"wrong_kind", "expires", "foreign_key", "not_listed"}
        assert all(fault.mended for fault in mended)
        assert [fault async for fault in Check(pipeline, namespace).faults()] == []
    await real_redis.delete(*(f"{{{key}}}:damaged" for key in (keys.types, keys.callback_secret, keys.inbox)))
