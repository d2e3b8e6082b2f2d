"""What breaks, and on leaving is mended: each is a context on a stage."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.faults.stage import LEASE_SECONDS, TICK_SECONDS, Stage

Fault = Callable[[Stage], AbstractAsyncContextManager[None]]


LOADING_US = 1_500_000
PAUSE_US = 60  # what the shortest one takes
COMMAND_BYTES = 100


# --- Redis is away -------------------------------------------------------------------------------------


@asynccontextmanager
async def refused(on: Stage) -> AsyncIterator[None]:
    await on.wire.refuse()
    yield
    await on.wire.open()


@asynccontextmanager
async def dropped(on: Stage) -> AsyncIterator[None]:
    on.wire.hang()
    yield
    # What was on its way is lost with its connections.
    on.wire.reset()
    on.wire.flow()


@asynccontextmanager
async def stopped(on: Stage) -> AsyncIterator[None]:
    on.redis.send(signal.SIGSTOP)
    yield
    on.redis.send(signal.SIGCONT)


@asynccontextmanager
async def killed(on: Stage) -> AsyncIterator[None]:
    await on.redis.end(signal.SIGKILL)
    yield
    await on.redis.start()


@asynccontextmanager
async def loading(on: Stage) -> AsyncIterator[None]:
    async with on.redis.client() as redis:
        size = (await redis.info("persistence"))["aof_current_size"]
    await on.redis.end(signal.SIGTERM)
    # A second or two in all: a pause before each command, or before one in so many, where the shortest is too
    # long; and a look at its clients after so many bytes.
    commands = size / COMMAND_BYTES
    each = LOADING_US / commands
    pause = str(int(each) if each > PAUSE_US else -int(PAUSE_US / each))
    slowly = {"key-load-delay": pause, "loading-process-events-interval-bytes": "1024"}
    await on.redis.start(until_ready=False, **slowly)
    yield
    await on.redis.until_ready()


@asynccontextmanager
async def busy(on: Stage) -> AsyncIterator[None]:
    async def spin() -> None:
        async with on.redis.client() as redis:
            with suppress(RedisError):
                await redis.eval("while true do end", 0)

    async with on.redis.client() as redis:
        await redis.config_set("busy-reply-threshold", 50)
        spinning = asyncio.create_task(spin())
        yield
        await redis.script_kill()
        await spinning


@asynccontextmanager
async def demoted(on: Stage) -> AsyncIterator[None]:
    async with on.redis.client() as redis:
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        yield
        await redis.execute_command("REPLICAOF", "NO", "ONE")


def configured(name: str, broken: str, sound: str) -> Fault:
    """The server with another value of a setting."""

    @asynccontextmanager
    async def fault(on: Stage) -> AsyncIterator[None]:
        async with on.redis.client() as redis:
            await redis.config_set(name, broken)
            yield
            await redis.config_set(name, sound)

    return fault


# In which requests that wait for a reply get none: they are told after a while.
SILENT: dict[str, Fault] = {
    "the network to Redis drops everything": dropped,
    "Redis hangs (SIGSTOP)": stopped,
}
AWAY: dict[str, Fault] = {
    "connections to Redis are refused": refused,
    **SILENT,
    "Redis is killed, and starts again from its file": killed,
    "Redis is asked to end, and reads its file (LOADING)": loading,
    "a script of another holds Redis (BUSY)": busy,
    "Redis becomes a replica of nobody (READONLY)": demoted,
    "Redis is out of memory (OOM)": configured("maxmemory", "1", "0"),
}


# --- what lasts a moment ---------------------------------------------------------------------------------


@asynccontextmanager
async def reset(on: Stage) -> AsyncIterator[None]:
    on.wire.reset()
    yield


@asynccontextmanager
async def replies_lost(on: Stage) -> AsyncIterator[None]:
    on.wire.swallow()
    yield


@asynccontextmanager
async def forgotten(on: Stage) -> AsyncIterator[None]:
    async with on.redis.client() as redis:
        await redis.script_flush()
    yield


MOMENTS: dict[str, Fault] = {
    "connections to Redis are reset": reset,
    "scripts ran, and their replies are lost": replies_lost,
    "scripts are forgotten (SCRIPT FLUSH)": forgotten,
}


# --- replicas of the service -------------------------------------------------------------------------------


@asynccontextmanager
async def replica_killed(on: Stage) -> AsyncIterator[None]:
    await on.replicas.pop(0).kill()
    yield
    await on.add()
    on.route()


@asynccontextmanager
async def all_replicas_killed(on: Stage) -> AsyncIterator[None]:
    gone, on.replicas = on.replicas, []
    await asyncio.gather(*(service.kill() for service in gone))
    yield
    for _ in gone:
        await on.add()
    on.route()


@asynccontextmanager
async def replica_rolled(on: Stage) -> AsyncIterator[None]:
    """As a deployment does it: another starts, and one is asked to end when it gets no more requests."""
    await on.add()
    gone = on.replicas.pop(0)
    on.route()
    yield
    assert await gone.end() == 0


@asynccontextmanager
async def replica_stopped(on: Stage) -> AsyncIterator[None]:
    """For longer than a claim lasts. It gets no requests meanwhile, since it is not ready."""
    one = on.replicas.pop(0)
    on.route()
    one.process.send_signal(signal.SIGSTOP)
    yield
    await asyncio.sleep(LEASE_SECONDS + 2 * TICK_SECONDS)
    one.process.send_signal(signal.SIGCONT)
    on.replicas.append(one)
    on.route()


REPLICAS: dict[str, Fault] = {
    "one of three replicas is killed": replica_killed,
    "all three replicas are killed at once": all_replicas_killed,
    "a replica is rolled": replica_rolled,
    "one of three replicas stops past its lease and wakes up (SIGSTOP)": replica_stopped,
}


# --- hands in Redis ----------------------------------------------------------------------------------------

_VM = "rqueue:{vm}:"


async def checked(on: Stage, *options: str) -> int:
    """Run `rqueue check` beside the service; returns its exit status."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RQUEUE_")}
    environment |= {"RQUEUE_REDIS_URL": on.redis.url}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "rqueue", "check", *options),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


async def _line_loses_one(redis: "Redis") -> None:
    for member in await redis.zrange(f"{_VM}pool:default", -1, -1):
        await redis.zrem(f"{_VM}pool:default", member)


async def _nobody_calls(redis: "Redis") -> None:
    for member in await redis.zrange(f"{_VM}running", 0, -1):
        name = member.partition(":")[2]
        if await redis.hget(f"{_VM}job:{name}", "Status") == "calling":
            await redis.zrem(f"{_VM}due", name)


async def _host_is_full(redis: "Redis") -> None:
    await redis.hset(f"{_VM}used:default", "n0/slots", 48)


async def _pool_sleeps(redis: "Redis") -> None:
    await redis.hset(f"{_VM}heads", "default", "-9007199254740992:")
    await redis.srem(f"{_VM}wake", "default")


async def _type_is_gone(redis: "Redis") -> None:
    await redis.srem("rqueue:types", "vm")


async def _strangers(redis: "Redis") -> None:
    await redis.zadd(f"{_VM}queue", {"stranger": 1})
    await redis.zadd(f"{_VM}due", {"stranger": 1})
    await redis.hset(f"{_VM}callbacks", "http://stranger/", "stranger")
    await redis.set(f"{_VM}job:stranger", "x")


def edited(*edits: Callable[["Redis"], Awaitable[None]]) -> Fault:
    """Edits by hand, and on leaving `rqueue check --repair`, which finds all of them."""

    @asynccontextmanager
    async def fault(on: Stage) -> AsyncIterator[None]:
        async with on.redis.client() as redis:
            for edit in edits:
                await edit(redis)
        yield
        assert await checked(on, "--repair") == 0

    return fault


HANDS: dict[str, Fault] = {
    "keys are edited by hand; rqueue check --repair": edited(
        _line_loses_one, _nobody_calls, _host_is_full, _pool_sleeps, _type_is_gone, _strangers
    ),
}
