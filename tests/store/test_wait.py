"""Writes that are answered when replicas have them: on a real primary with a real replica."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.exceptions import ResponseError

from rqueue.domain.job import Status
from rqueue.errors import DuplicateRequestID, NotReplicated, RedisUnavailable
from rqueue.store import pipeline as room
from rqueue.store.check import Check
from rqueue.store.connect import connect
from rqueue.store.keys import Keys
from rqueue.store.pipeline import CONNECTIONS, Pipeline, Replicas
from rqueue.store.store import Store
from tests.conftest import START, Clock, Receiver, config_of, new, serving
from tests.faults.server import Server
from tests.faults.servers import in_step, replicated

TIMEOUT_MS = 300
# A request waits for the batch before it, and for its own; the rest is the machine's.
BOUND = 2 * TIMEOUT_MS / 1000 + 0.5
HOSTS = {"hosts": {"n": {"slots": 1}}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Server, Server]]:
    async with replicated(tmp_path_factory.mktemp("two")) as servers:
        yield servers


@pytest.fixture
def primary(two: tuple[Server, Server]) -> Server:
    return two[0]


@pytest.fixture
async def replica(two: tuple[Server, Server]) -> AsyncIterator[Server]:
    """In step when a test begins, whatever the one before has left."""
    two[1].send(signal.SIGCONT)
    await in_step(two[0])
    yield two[1]
    two[1].send(signal.SIGCONT)


def waiting(server: Server, namespace: str, count: int = 1) -> Pipeline:
    return connect(server.url, replicas=Replicas(count, TIMEOUT_MS, Keys(namespace).replicated))


@pytest.fixture
async def store(primary: Server, replica: Server, namespace: str) -> AsyncIterator[Store]:
    async with waiting(primary, namespace) as pipeline:
        yield Store(pipeline, namespace)


async def test_a_write_that_is_answered_is_in_the_replica(store, replica, namespace):
    await asyncio.gather(*(store.create("vm", [new(f"a{n}")]) for n in range(50)))
    async with replica.client() as redis:
        assert await redis.zcard(f"{namespace}:{{vm}}:queue") == 50


async def test_without_its_replica_a_write_is_an_error_in_bounded_time_and_reads_are_answered(
    store, primary, replica
):
    await store.create("vm", [new("a")])
    replica.send(signal.SIGSTOP)
    began = time.monotonic()
    writing = asyncio.create_task(store.create("vm", [new("b")]))
    await asyncio.sleep(0.05)
    for _ in range(20):
        assert (await store.get("vm", "a")).status == Status.QUEUED
    assert not writing.done()
    with pytest.raises(NotReplicated, match=r"0 of 1 replicas said so within 300 ms"):
        await writing
    assert TIMEOUT_MS / 1000 <= time.monotonic() - began < BOUND
    # It is on the primary all the same.
    assert (await store.get("vm", "b")).request_id == "b"
    replica.send(signal.SIGCONT)
    with pytest.raises(DuplicateRequestID, match="taken by job 'b'"):
        await store.create("vm", [new("b")])
    await store.create("vm", [new("c")])


async def test_more_replicas_than_there_are_never_confirm(primary, replica, namespace):
    async with waiting(primary, namespace, 2) as pipeline:
        with pytest.raises(NotReplicated, match="1 of 2 replicas"):
            await Store(pipeline, namespace).create("vm", [new("a")])


async def test_who_finds_the_work_done_waits_for_it_too(store, primary, replica, namespace):
    """A WAIT on a connection that has written nothing is answered at once, whatever the replica has."""
    await store.create("vm", [new("a"), new("b")])
    replica.send(signal.SIGSTOP)
    with pytest.raises(NotReplicated):
        await store.move("vm", "b", "front")
    async with waiting(primary, namespace) as fresh:
        again = Store(fresh, namespace)
        with pytest.raises(NotReplicated):
            await again.move("vm", "b", "front")
        with pytest.raises(NotReplicated):
            await again.create("vm", [new("b")])
        replica.send(signal.SIGCONT)
        await again.move("vm", "b", "front")
    async with replica.client() as redis:
        assert (await redis.zrange(f"{namespace}:{{vm}}:queue", 0, 0))[0].endswith(":b")


async def test_a_check_that_only_looks_waits_for_nobody_and_what_is_mended_is_confirmed(
    store, primary, replica, namespace
):
    keys = Keys(namespace)
    await store.configure("kube", {"paused": True})
    async with primary.client() as redis:
        await redis.srem(keys.types, "kube")
    await in_step(primary)
    replica.send(signal.SIGSTOP)
    async with waiting(primary, namespace) as pipeline:
        found = [fault.code async for fault in Check(pipeline, namespace).faults()]
        assert found == ["not_listed"]
        with pytest.raises(NotReplicated):
            # Nor is it told as mended while no replica has it.
            await anext(Check(pipeline, namespace, repair=True).faults())


async def test_what_frees_memory_is_taken_and_confirmed_where_the_server_is_full(store, primary, namespace):
    async with waiting(primary, namespace) as pipeline, primary.client() as redis:
        await pipeline.call("SET", f"{namespace}:a", "a", write=True)
        await redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(ResponseError, match="OOM"):
                await pipeline.call("SET", f"{namespace}:b", "b", write=True)
            assert await pipeline.call("DEL", f"{namespace}:a", write=True) == 1
        finally:
            await redis.config_set("maxmemory", 0)


async def test_where_there_is_nothing_to_wait_for_nothing_is_confirmed(primary, replica, namespace):
    """A full server does not take the mark that is not there yet."""
    async with waiting(primary, namespace) as pipeline, primary.client() as redis:
        await redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(room.NotReplicated):
                await pipeline.call("DEL", f"{namespace}:a", write=True)
        finally:
            await redis.config_set("maxmemory", 0)


async def test_a_refusal_waits_for_nobody_and_says_more_than_that_nobody_confirmed(
    store, primary, replica, namespace
):
    async with waiting(primary, namespace) as pipeline, primary.client() as redis:
        await pipeline.call("SET", f"{namespace}:text", "a", write=True)
        await redis.script_flush()
        replica.send(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(ResponseError, match="not an integer"):
            await pipeline.call("INCR", f"{namespace}:text", write=True)
        assert time.monotonic() - began < TIMEOUT_MS / 1000
        # That the script is not known comes with a type that is not confirmed: it is sent all the same.
        with pytest.raises(NotReplicated):
            await store.create("vm", [new("a")])
        assert (await store.get("vm", "a")).request_id == "a"


async def test_who_waits_behind_a_batch_that_got_no_reply_is_told_with_it(
    store, primary, replica, namespace, monkeypatch
):
    monkeypatch.setattr(room, "REPLY_SECONDS", 0.6)
    await asyncio.gather(*(store.create("vm", [new(f"a{n}")], indexed=True) for n in range(50)))
    primary.send(signal.SIGSTOP)
    try:
        began = time.monotonic()
        writing = []
        for n in range(50):
            writing.append(asyncio.create_task(store.create("vm", [new(f"b{n}")], indexed=True)))
            await asyncio.sleep(0.002)
        found = await asyncio.gather(*writing, return_exceptions=True)
        assert time.monotonic() - began < 1.1
    finally:
        primary.send(signal.SIGCONT)
    assert all(isinstance(one, RedisUnavailable) for one in found)


async def test_many_writes_go_by_one_wait(store, primary):
    async with primary.client() as redis:
        await store.create("vm", [new("warm")])
        await redis.config_resetstat()
        await asyncio.gather(
            *(store.create("vm", [new(f"a{n}", priority=n)], indexed=True) for n in range(200))
        )
        told = await redis.info("commandstats")
    scripts = told["cmdstat_evalsha"]["calls"]
    assert scripts >= 200
    # The first ones find idle connections, the rest is together behind them.
    assert told["cmdstat_wait"]["calls"] <= 4 * CONNECTIONS


async def test_nobody_waits_longer_than_for_two_batches(store, primary, replica):
    await store.create("vm", [new("warm")])
    replica.send(signal.SIGSTOP)

    async def took(number: int) -> float:
        await asyncio.sleep(number * 0.01)
        began = time.monotonic()
        with pytest.raises(NotReplicated):
            await store.create("vm", [new(f"a{number}")])
        return time.monotonic() - began

    async with primary.client() as redis:
        asking = [asyncio.create_task(took(number)) for number in range(100)]
        blocked = 0
        while not all(task.done() for task in asking):
            blocked = max(blocked, (await redis.info("clients"))["blocked_clients"])
            await asyncio.sleep(0.02)
        assert 1 <= blocked <= CONNECTIONS
    assert max(task.result() for task in asking) < BOUND


async def test_a_connection_that_breaks_before_the_replica_confirmed_is_made_anew(store, primary, replica):
    await store.create("vm", [new("warm")])
    replica.send(signal.SIGSTOP)
    writing = asyncio.create_task(store.create("vm", [new("a")]))
    async with primary.client() as redis:
        async with asyncio.timeout(5):
            while not (blocked := [one["id"] for one in await redis.client_list() if "b" in one["flags"]]):
                pass
        await redis.client_kill_filter(_id=blocked[0])
        replica.send(signal.SIGCONT)
    jobs, _ = await writing
    assert [job.request_id for job in jobs] == ["a"]


async def test_who_is_cancelled_or_closed_out_disturbs_nobody(primary, replica, namespace):
    async with waiting(primary, namespace) as pipeline:
        store = Store(pipeline, namespace)
        await store.create("vm", [new("warm")])
        replica.send(signal.SIGSTOP)
        first = asyncio.create_task(pipeline.call("INCR", f"{namespace}:n", write=True))
        await asyncio.sleep(0.05)
        tasks = [asyncio.create_task(pipeline.call("INCR", f"{namespace}:n", write=True)) for _ in range(20)]
        await asyncio.sleep(0.05)
        for task in tasks[::2]:
            task.cancel()
        replica.send(signal.SIGCONT)
        assert await first == 1
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(one, int) for one in found[1::2])
        replica.send(signal.SIGSTOP)
        last = [asyncio.create_task(pipeline.call("INCR", f"{namespace}:n", write=True)) for _ in range(20)]
        await asyncio.sleep(0.05)
    replica.send(signal.SIGCONT)
    for task in last:
        with pytest.raises(Exception, match=r"closed|cannot connect"):
            await task


async def test_the_answer_is_a_503_that_says_so(primary, replica, namespace):
    config = config_of(namespace, wait_replicas=1, wait_timeout_ms=TIMEOUT_MS)
    body = {"request_id": "a", "owner_id": "y", "callback": "http://127.0.0.1:9/a"}
    async with serving(config, primary.url) as service:
        async with asyncio.timeout(10):
            while (await service.call("GET", "/readyz"))[0] != 200:
                pass
        replica.send(signal.SIGSTOP)
        async with service.client.post(f"{service.url}/v1/vm/", json=body) as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "1")
            assert (await response.json())["error"]["code"] == "not_replicated"
        assert (await service.call("GET", "/v1/vm/a"))[0] == 200
        assert (await service.call("GET", "/readyz"))[0] == 200
        replica.send(signal.SIGCONT)
        status, answer = await service.call("POST", "/v1/vm/", body)
        assert (status, answer["error"]["code"]) == (409, "duplicate_request_id")


async def test_nobody_is_called_whose_admission_is_not_replicated(
    primary, replica, receiver: Receiver, namespace
):
    """Its claim lapses, and `due` brings it again."""
    clock = Clock()
    config = config_of(namespace, wait_replicas=1, wait_timeout_ms=100)
    body = {"request_id": "a", "owner_id": "y", "callback": f"{receiver.url}/a"}
    async with serving(config, primary.url, clock) as service:
        await service.call("PUT", "/queues/vm/pools/default", HOSTS)
        replica.send(signal.SIGSTOP)
        assert (await service.call("POST", "/v1/vm/", body))[0] == 503
        service.reaper.wake("vm", "default")
        await service.settle()
        assert (await service.call("GET", "/v1/vm/a"))[1]["data"]["Status"] == "calling"
        # Nor by a claim that is not replicated.
        clock.forward(120)
        await service.settle()
        assert receiver.calls == []
        replica.send(signal.SIGCONT)
        await in_step(primary)
        clock.forward(120)
        await service.settle()
        assert [path for path, _, _ in receiver.calls] == ["/a"]
        assert (await service.call("GET", "/v1/vm/a"))[1]["data"]["Status"] == "running"
        assert clock() > START


async def test_who_is_admitted_by_a_release_that_is_not_replicated_is_not_called(
    primary, replica, receiver: Receiver, namespace
):
    clock = Clock()
    config = config_of(namespace, wait_replicas=1, wait_timeout_ms=100)
    async with serving(config, primary.url, clock) as service:
        await service.call("PUT", "/queues/vm/pools/default", HOSTS)
        for name in ("a", "b"):
            body = {"request_id": name, "owner_id": "y", "callback": f"{receiver.url}/{name}"}
            assert (await service.call("POST", "/v1/vm/", body))[0] == 201
        await service.settle()
        replica.send(signal.SIGSTOP)
        assert (await service.call("DELETE", "/v1/vm/a"))[0] == 503
        await service.settle()
        assert (await service.call("GET", "/v1/vm/b"))[1]["data"]["Status"] == "calling"
        assert [path for path, _, _ in receiver.calls] == ["/a"]
        replica.send(signal.SIGCONT)
        await in_step(primary)
        clock.forward(120)
        await service.settle()
        assert [path for path, _, _ in receiver.calls] == ["/a", "/b"]


async def test_the_reaper_says_once_that_replicas_do_not_confirm(primary, replica, caplog, namespace):
    caplog.set_level(logging.INFO)
    config = config_of(namespace, wait_replicas=1, wait_timeout_ms=50)
    async with serving(config, primary.url) as service:
        await service.call("PUT", "/queues/vm/pools/default", HOSTS)
        replica.send(signal.SIGSTOP)
        for _ in range(3):
            await service.reaper.tick()
        replica.send(signal.SIGCONT)
        await in_step(primary)
        for _ in range(2):
            await service.reaper.tick()
    said = [one.getMessage() for one in caplog.records if one.name == "rqueue.reaper"]
    assert [one.split(":")[0] for one in said] == ["nobody is called meanwhile", "replicas confirm again"]
