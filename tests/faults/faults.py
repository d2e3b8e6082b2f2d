"""What breaks, and on leaving is mended: each is a context on a stage."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

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
