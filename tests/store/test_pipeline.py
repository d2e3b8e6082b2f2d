"""The way to Redis: one pipeline for all that is asked in a turn, and nobody is disturbed by another."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from redis import exceptions
from redis.exceptions import ResponseError

from rqueue.errors import Refused
from rqueue.store import pipeline as room
from rqueue.store.connect import connect
from rqueue.store.pipeline import AT_ONCE, CONNECTIONS, SENT_AGAIN, Pipeline
from tests.faults.proxy import proxied
from tests.faults.server import server

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def real(redis_url: str) -> AsyncIterator[Pipeline]:
    async with connect(redis_url) as pipeline:
        yield pipeline


async def test_a_thousand_callers_at_once_get_their_own_answers_on_few_connections(real, real_redis):
    before = (await real_redis.info("clients"))["connected_clients"]
    found = await asyncio.gather(*(real.call("ECHO", f"é{n}") for n in range(1000)))
    assert found == [f"é{n}" for n in range(1000)]
    assert (await real_redis.info("clients"))["connected_clients"] <= before + CONNECTIONS


async def test_commands_of_one_turn_are_written_together():
    """Counted at the other end: what arrives at once has been written at once."""
    arrived = []

    async def answer(data: bytes, writer: asyncio.StreamWriter) -> None:
        arrived.append(data)
        writer.write(b"+OK\r\n" * data.count(b"ECHO"))

    async with _server(answer) as pipeline:
        await pipeline.call("ECHO", "first")
        await asyncio.gather(*(pipeline.call("ECHO", n) for n in range(50)))
    assert sum(data.count(b"ECHO") for data in arrived) == 51
    assert len(arrived) <= 1 + 50 / AT_ONCE + 1


async def test_an_error_stays_with_its_command(real, namespace, real_redis):
    await real_redis.set(f"{namespace}:text", "a")
    found = await asyncio.gather(
        real.call("GET", f"{namespace}:text"),
        real.call("HGETALL", f"{namespace}:text"),
        real.call("NOTHING"),
        real.call("GET", f"{namespace}:text"),
        return_exceptions=True,
    )
    assert found[0] == found[3] == "a"
    assert isinstance(found[1], ResponseError)
    assert str(found[1]).startswith("WRONGTYPE")
    assert isinstance(found[2], ResponseError)
    assert "unknown command" in str(found[2])


async def test_calls_raise_the_first_error_and_run_the_others(real, namespace, real_redis):
    with pytest.raises(ResponseError, match="wrong number"):
        await real.calls(("SET", f"{namespace}:a", 1), ("GET",), ("SET", f"{namespace}:b", 2))
    assert await real_redis.mget(f"{namespace}:a", f"{namespace}:b") == ["1", "2"]


async def test_what_is_called_together_runs_in_its_order_on_one_connection(real, namespace):
    """However many others ask in the same turn."""
    keys = [f"{namespace}:{n}" for n in range(100)]
    found = await asyncio.gather(
        *(real.calls(("SET", key, key), ("GET", key), ("CLIENT", "ID"), ("CLIENT", "ID")) for key in keys)
    )
    assert [replies[1] for replies in found] == keys
    assert all(replies[2] == replies[3] for replies in found)
    assert len({replies[2] for replies in found}) > 1


async def test_who_is_cancelled_disturbs_nobody(real):
    async with asyncio.timeout(10):
        await real.call("PING")
        tasks = [asyncio.create_task(real.call("ECHO", n)) for n in range(300)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()  # before it is written
        await asyncio.sleep(0)
        for task in tasks[1::3]:
            task.cancel()  # after
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert found[2::3] == [str(n) for n in range(300)][2::3]
        assert all(isinstance(one, asyncio.CancelledError | str) for one in found)
        assert any(isinstance(one, asyncio.CancelledError) for one in found)
        assert await real.call("ECHO", "after") == "after"


async def test_a_connection_that_breaks_is_made_anew_and_what_was_on_it_is_sent_once_more(
    real, real_redis, namespace
):
    await asyncio.gather(*(real.call("PING") for _ in range(10)))
    mine = await real.call("CLIENT", "ID")
    await real_redis.client_kill_filter(_id=mine)
    found = await asyncio.gather(*(real.call("INCR", f"{namespace}:n") for _ in range(50)))
    assert sorted(found) == list(range(1, 51))


async def test_a_server_that_breaks_each_time_is_asked_a_few_times_and_no_more():
    asked = []

    async def answer(data: bytes, writer: asyncio.StreamWriter) -> None:
        asked.append(data)
        writer.close()

    async with _server(answer) as pipeline:
        with pytest.raises(exceptions.ConnectionError, match="was lost"):
            await pipeline.call("ECHO", "a")
    assert len(asked) == SENT_AGAIN + 1


async def test_a_connection_that_breaks_while_it_is_made_is_made_again(tmp_path):
    """The reply to what redis-py says at first is lost: nobody's command was sent, so nobody is told."""
    async with server(tmp_path) as redis, proxied(redis.port) as wire:
        async with connect(f"redis://127.0.0.1:{wire.port}") as pipeline:
            wire.swallow()
            assert await pipeline.call("PING") == "PONG"
        assert wire.connections == 2


async def test_a_server_that_hangs_is_given_up_and_asked_once(monkeypatch):
    monkeypatch.setattr(room, "REPLY_SECONDS", 0.2)
    asked = []

    async def answer(data: bytes, writer: asyncio.StreamWriter) -> None:
        asked.append(data)

    async with _server(answer) as pipeline, asyncio.timeout(10):
        with pytest.raises(exceptions.TimeoutError, match=r"no reply within 0\.2 s"):
            await pipeline.call("ECHO", "a")
    assert len(asked) == 1


async def test_a_server_that_takes_connections_and_says_nothing_is_given_up_soon(monkeypatch):
    monkeypatch.setattr(room, "CONNECT_SECONDS", 0.2)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, connect(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}") as pipeline:
        async with asyncio.timeout(2):
            with pytest.raises(exceptions.ConnectionError, match=r"cannot connect: no answer within 0\.2 s"):
                await pipeline.call("PING")


@pytest.mark.parametrize("together", [False, True])
async def test_a_server_that_breaks_and_then_hangs_is_not_waited_for_twice(monkeypatch, together):
    monkeypatch.setattr(room, "ANSWER_SECONDS", 0.5)
    asked = []

    async def answer(data: bytes, writer: asyncio.StreamWriter) -> None:
        asked.append(data)
        if len(asked) == 1:
            writer.close()

    async with _server(answer) as pipeline, asyncio.timeout(2):
        with pytest.raises(exceptions.TimeoutError, match=r"no reply within 0\.5 s"):
            await (pipeline.calls(("ECHO", "a")) if together else pipeline.call("ECHO", "a"))
    assert len(asked) == 2


async def test_nonsense_breaks_the_connection_not_the_caller():
    async def answer(data: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200\r\n")

    async with _server(answer) as pipeline, asyncio.timeout(10):
        with pytest.raises(exceptions.ConnectionError, match="cannot be understood"):
            await pipeline.call("ECHO", "a")


async def test_a_server_that_is_not_there_is_said_at_once(tmp_path):
    async with connect(f"unix://{tmp_path}/none.sock") as pipeline, asyncio.timeout(5):
        with pytest.raises(exceptions.ConnectionError, match="cannot connect"):
            await pipeline.call("PING")
        with pytest.raises(exceptions.ConnectionError, match="cannot connect"):
            await pipeline.calls(("PING",), ("PING",))


async def test_closing_ends_who_still_waits(real, redis_url):
    pipeline = connect(redis_url)
    await pipeline.call("PING")
    waiting = asyncio.create_task(pipeline.call("BLPOP", "nothing-here", 30))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await pipeline.__aexit__()
    with pytest.raises(exceptions.ConnectionError, match=r"closed|cannot connect"):
        await waiting
    # Nobody would close what is opened from now on.
    with pytest.raises(exceptions.ConnectionError, match="closed"):
        await pipeline.call("PING")


@pytest.mark.parametrize(
    "url", ["http://a", "redis+nothing://a:1", "redis://a:port", "redis://a/?socket_timeout=x"]
)
def test_a_url_that_cannot_be_read_is_refused_without_being_shown(url):
    with pytest.raises(Refused) as raised:
        connect(url)
    assert url not in raised.value.message


@asynccontextmanager
async def _server(answer: Answer) -> AsyncIterator[Pipeline]:
    """A server that answers as told, chunk by chunk, and the way to it."""

    tasks = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with suppress(ConnectionError):
            while not writer.is_closing() and (data := await reader.read(1 << 20)):
                # What redis-py says of itself when it connects.
                writer.write(b"+OK\r\n" * data.count(b"SETINFO"))
                if b"ECHO" in data:
                    await answer(data, writer)
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with connect(f"redis://127.0.0.1:{port}") as pipeline:
            yield pipeline
    finally:
        server.close()
        await asyncio.gather(*tasks)
        await server.wait_closed()
