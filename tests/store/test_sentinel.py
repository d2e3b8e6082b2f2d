"""Redis Sentinel on real servers: the primary is another one, and the service goes on without a restart."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import pytest_asyncio
from redis.asyncio.connection import Connection
from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import RedisError, ResponseError

from rqueue.store.connect import connect
from rqueue.store.pipeline import CONNECTIONS, Pipeline
from rqueue.store.sentinel import SentinelPipeline
from tests.conftest import config_of, serving
from tests.faults.servers import Watched, in_step, watched

HOSTS = {"hosts": {"n": {"slots": 10}}}
# An answer, be it a 503.
BOUND = 7.5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def all_of_them(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    async with watched(tmp_path_factory.mktemp("sentinel")) as found:
        yield found


@pytest.fixture
async def redis(all_of_them: Watched) -> Watched:
    """A primary and a replica in step, and sentinels that are at one about it."""
    primary = await all_of_them.primary()
    await all_of_them.until_known(primary)
    await in_step(primary)
    return all_of_them


async def port(pipeline: Pipeline) -> int:
    """Of the server that answers."""
    for line in (await pipeline.call("INFO", "server")).splitlines():
        if line.startswith("tcp_port:"):
            return int(line.partition(":")[2])
    raise AssertionError


async def test_a_primary_that_became_a_replica_is_left_at_its_first_refusal(redis, namespace):
    """Though nobody has said anything of it, and its connections do not break by themselves."""
    primary = await redis.primary()
    ports = [redis.other(primary).port] * CONNECTIONS

    def make() -> Connection:
        return Connection(port=ports.pop() if ports else primary.port, protocol=2)

    async with Pipeline(make) as pipeline:
        await asyncio.gather(*(pipeline.call("PING") for _ in range(50)))
        assert not ports
        counting = ("INCR", f"{namespace}:n")
        found, together = await asyncio.gather(
            asyncio.gather(*(pipeline.call(*counting, write=True) for _ in range(30))),
            asyncio.gather(*(pipeline.calls(counting, write=True) for _ in range(30))),
        )
        assert sorted([*found, *(n for (n,) in together)]) == [*range(1, 61)]
        assert await port(pipeline) == primary.port


async def test_a_replica_that_stays_one_is_asked_anew_once_a_second_and_reads_go_on(redis, namespace):
    replica = redis.other(await redis.primary())
    async with connect(replica.url) as pipeline, replica.client() as client:
        before = (await client.info("stats"))["total_connections_received"]
        for _ in range(100):
            with pytest.raises(ResponseError, match="READONLY"):
                await pipeline.call("INCR", f"{namespace}:n", write=True)
            assert await pipeline.call("GET", f"{namespace}:n") is None
        after = (await client.info("stats"))["total_connections_received"]
    # Each of them was made twice, and those of the sentinels come on top.
    assert after - before <= 2 * CONNECTIONS + 10


SOUND = {"ip": "h", "flags": "master", "num-other-sentinels": 2}


@pytest.mark.parametrize(
    ("states", "found"),
    [
        ([{"port": 1, "config-epoch": 1}] * 3, 1),
        # One that was cut off goes on naming the old primary.
        ([{"port": 1, "config-epoch": 1}, {"port": 2, "config-epoch": 2}, {"port": 1, "config-epoch": 1}], 2),
        ([{"port": 2, "config-epoch": 10}, {"port": 1, "config-epoch": 9}, None], 2),
        ([None, None, {"port": 1, "config-epoch": 1}], 1),
        # It is down for one of them, which is one only.
        ([{"port": 1, "config-epoch": 1, "flags": "s_down,master"}, {"port": 1, "config-epoch": 1}], 1),
        # The old one is no better because the new one is down.
        (
            [{"port": 2, "config-epoch": 2, "flags": "s_down,o_down,master"}, {"port": 1, "config-epoch": 1}],
            None,
        ),
        ([None, None], None),
    ],
)
async def test_the_newest_configuration_counts_not_the_first_to_answer(states, found):
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(_sentinel(state)) for state in states]
        pipeline = connect(f"redis+sentinel://{','.join(f'127.0.0.1:{n}' for n in ports)}/m")
        assert isinstance(pipeline, SentinelPipeline)
        asked = pipeline._sentinels
        stack.push_async_callback(asked.aclose)
        if found:
            assert await asked.discover_master("m") == ("h", found)
        else:
            with pytest.raises(MasterNotFoundError):
                await asked.discover_master("m")


@asynccontextmanager
async def _sentinel(state: dict[str, object] | None) -> AsyncIterator[int]:
    """A port at which this is said of a primary named m; or nothing, though it takes connections."""
    words = [str(w) for pair in {"name": "m", **SOUND, **(state or {})}.items() for w in pair]
    reply = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                writer.write(b"+OK\r\n" * data.count(b"SETINFO"))
                if b"MASTERS" in data and state:
                    writer.write(f"*1\r\n*{len(words)}\r\n{reply}".encode())
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_one_sentinel_is_enough_and_one_that_hangs_holds_nobody_up(redis, namespace):
    hung = redis.sentinels[0]
    hung.send(signal.SIGSTOP)
    try:
        async with connect(redis.url) as pipeline:
            began = time.monotonic()
            assert await pipeline.call("PING") == "PONG"
            assert time.monotonic() - began < 2
    finally:
        hung.send(signal.SIGCONT)


async def test_where_no_sentinel_answers_or_none_knows_the_name_it_is_said_at_once(redis):
    for url, said in (
        ("redis+sentinel://127.0.0.1:1,127.0.0.1:2/mymaster", "none of 2 sentinels answers"),
        (redis.url.replace("mymaster", "other"), "none of 3 sentinels answers and knows"),
    ):
        async with connect(url) as pipeline:
            began = time.monotonic()
            with pytest.raises(RedisError, match=said):
                await pipeline.call("PING")
            assert time.monotonic() - began < 2


async def test_the_service_goes_on_when_its_primary_is_killed(tmp_path, namespace, receiver):
    async with watched(tmp_path) as redis, serving(config_of(namespace), redis.url) as service:

        async def ask(method: str, path: str, body: object = None) -> int:
            """The status, once it is no 503 any more."""
            while True:
                began = time.monotonic()
                status, _ = await service.call(method, path, body)
                assert time.monotonic() - began < BOUND
                if status != 503:
                    return status

        assert await ask("PUT", "/queues/vm/pools/default", HOSTS) == 200
        body = {"owner_id": "y", "callback": f"{receiver.url}/a", "request_id": "a"}
        assert await ask("POST", "/v1/vm/", body) == 201
        await receiver.until(1)
        await in_step(redis.servers[0])
        await redis.servers[0].end()
        began = time.monotonic()
        body = {**body, "callback": f"{receiver.url}/b", "request_id": "b"}
        assert await ask("POST", "/v1/vm/", body) == 201
        assert time.monotonic() - began < 15
        await receiver.until(2)
        assert await ask("GET", "/v1/vm/a") == 200
        assert await ask("GET", "/readyz") == 200
        assert await redis.primary() is redis.servers[1]


async def test_a_primary_that_hung_is_left_and_not_used_again_when_it_comes_back(redis, namespace):
    """It thinks itself the primary still, and takes what nobody will ever see."""
    old = await redis.primary()
    new = redis.other(old)
    async with connect(redis.url) as pipeline:
        await asyncio.gather(*(pipeline.call("PING") for _ in range(50)))
        assert await port(pipeline) == old.port
        old.send(signal.SIGSTOP)
        # What was on its way is sent once more, to the new one.
        assert await pipeline.call("SET", f"{namespace}:a", 1, write=True) == "OK"
        old.send(signal.SIGCONT)
        assert await port(pipeline) == new.port
    async with new.client() as client:
        assert await client.get(f"{namespace}:a") == "1"
    await redis.until_known(new)
