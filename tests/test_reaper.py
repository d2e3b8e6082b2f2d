"""rqueue.reaper: who goes next is called, and called again; what time brings; what survives.

On a real server with real receivers. The reaper's own clock is off: it acts when it is woken, and
ticks when a test says so.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from rqueue.errors import LostClaim
from rqueue.reaper import CALLS_PER_TARGET, IDLE_TICKS, TYPES_AT_ONCE, Reaper
from rqueue.store.embedded import embedded
from rqueue.store.keys import Keys
from tests.conftest import Service, config_of, new, serving
from tests.invariants import capacity_kept, check


@pytest.fixture(autouse=True)
def no_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rqueue.reaper.TICK_SECONDS", 3600)


async def declare(service: Service, slots: int = 1) -> None:
    hosts = {"hosts": {"n1": {"slots": slots}}}
    assert (await service.call("PUT", "/queues/vm/pools/default", hosts))[0] == 200


async def configure(service: Service, **settings: Any) -> None:
    assert (await service.call("PUT", "/queues/vm", settings))[0] == 200


async def post(service: Service, url: str, *request_ids: str) -> None:
    jobs = [{"request_id": i, "owner_id": "y", "callback": f"{url}/{i}"} for i in request_ids]
    assert (await service.call("POST", "/v1/vm/", jobs))[0] == 201


async def change(service: Service, request_id: str, status: str) -> None:
    assert (await service.call("POST", f"/v1/vm/{request_id}", {"status": status}))[0] == 200


async def seen(service: Service, request_id: str) -> dict[str, Any]:
    status, answer = await service.call("GET", f"/v1/vm/{request_id}")
    assert status == 200
    return answer["data"]


async def status_of(service: Service, *request_ids: str) -> list[str]:
    return [(await seen(service, i))["Status"] for i in request_ids]


def called(receiver: Any) -> list[str]:
    return [path.strip("/") for path, _, _ in receiver.calls]


@dataclass
class Dead:
    """A receiver that takes connections and never answers."""

    url: str = ""
    open: int = 0
    most: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        self.changed.set()
        try:
            while await reader.read(65536):
                pass
        except OSError:
            return
        finally:
            self.open -= 1
            writer.close()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(20):
            while self.open < count:
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def dead_receiver() -> AsyncIterator[Dead]:
    dead = Dead()
    writers = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await dead.take(reader, writer)

    server = await asyncio.start_server(take, "127.0.0.1", 0, backlog=1000)
    dead.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield dead
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


class Held:
    """Answers that wait until a test lets them go."""

    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.gate = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.Response:
        await self.gate.wait()
        return web.Response(status=self.status)


# --- who goes next -----------------------------------------------------------------------------------


async def test_a_job_that_fits_is_called_at_once(service, receiver, real_redis, namespace):
    await declare(service, 3)
    for count, request_id in enumerate("abc", 1):
        await post(service, receiver.url, request_id)
        await receiver.until(count)
    await service.reaper.drain()
    assert called(receiver) == ["a", "b", "c"]
    assert await status_of(service, *"abc") == ["running"] * 3
    await check(real_redis, namespace)


async def test_capacity_that_appears_lets_jobs_go_at_once(service, receiver):
    await post(service, receiver.url, "a", "b", "c")
    assert await status_of(service, *"abc") == ["queued"] * 3
    await declare(service, 2)
    await receiver.until(2)
    await service.reaper.drain()
    assert await status_of(service, *"abc") == ["running", "running", "queued"]
    await declare(service, 3)
    await receiver.until(3)


async def test_a_pause_that_ends_lets_jobs_go_at_once(service, receiver):
    await declare(service)
    await configure(service, paused=True)
    await post(service, receiver.url, "a")
    await service.settle()
    assert called(receiver) == []
    await configure(service, paused=False)
    await receiver.until(1)


@pytest.mark.parametrize("how", ["done", "delete", "410"])
async def test_what_ends_a_job_lets_the_next_one_go_at_once(service, receiver, real_redis, namespace, how):
    if how == "410":
        receiver.answer = lambda request: web.Response(status=410 if request.path == "/a" else 200)
    await declare(service)
    await post(service, receiver.url, "a", "b")
    await receiver.until(1)
    if how == "done":
        await change(service, "a", "done")
    elif how == "delete":
        assert (await service.call("DELETE", "/v1/vm/a"))[0] == 200
    await receiver.until(2)
    await service.reaper.drain()
    assert called(receiver) == ["a", "b"]
    assert await status_of(service, "a", "b") == ["cancelled" if how == "410" else "done", "running"]
    await check(real_redis, namespace)
    await capacity_kept(real_redis, namespace)


async def test_a_job_is_calling_while_it_is_called(service, receiver):
    receiver.answer = held = Held()
    await declare(service)
    await post(service, receiver.url, "a")
    await receiver.until(1)
    job = await seen(service, "a")
    assert (job["Status"], job["Attempts"], job["Placement"]) == ("calling", 1, ["n1"])
    held.gate.set()
    await service.reaper.drain()
    assert await status_of(service, "a") == ["running"]


# --- a receiver that fails ---------------------------------------------------------------------------


async def test_a_failing_receiver_is_called_again_with_the_same_id(
    service, receiver, clock, real_redis, namespace
):
    receiver.answer = lambda _: web.Response(status=500)
    await declare(service)
    await post(service, receiver.url, "a")
    await receiver.until(1)
    await service.reaper.drain()
    job = await seen(service, "a")
    assert (job["Status"], job["Attempts"], job["LastError"]) == (
        "calling",
        1,
        "the receiver answered 500",
    )
    due_ms = await real_redis.zscore(f"{namespace}:{{vm}}:due", "a")
    assert 0 <= due_ms - clock.now / 1000 <= 2000
    await check(real_redis, namespace)

    tries = len(receiver.calls)
    receiver.answer = None
    clock.forward(2)
    await service.settle()
    job = await seen(service, "a")
    assert (job["Status"], job["Attempts"]) == ("running", 2)
    assert len(receiver.calls) == tries + 1
    (message_id,) = {headers["webhook-id"] for _, headers, _ in receiver.calls}
    assert re.fullmatch(r"adm_[0-9a-f]{17,}-1", message_id)
    await check(real_redis, namespace)


async def test_retry_after_is_honoured(service, receiver, clock):
    receiver.answer = lambda _: web.Response(status=503, headers={"Retry-After": "30"})
    await declare(service)
    await post(service, receiver.url, "a")
    await receiver.until(1)
    await service.reaper.drain()
    clock.forward(29.9)
    await service.settle()
    assert len(receiver.calls) == 1
    clock.forward(0.1)
    await service.settle()
    assert len(receiver.calls) == 2


async def test_a_new_turn_has_a_new_id(service, receiver):
    await declare(service)
    await post(service, receiver.url, "a")
    await receiver.until(1)
    await service.reaper.drain()
    await change(service, "a", "queued")
    await receiver.until(2)
    first, second = (headers["webhook-id"] for _, headers, _ in receiver.calls)
    assert first != second


async def test_at_the_deadline_a_job_fails_and_the_next_one_goes(
    service, receiver, clock, real_redis, namespace
):
    def answer(request: web.Request) -> web.Response:
        return web.Response(status=503 if request.path == "/a" else 200, headers={"Retry-After": "3600"})

    receiver.answer = answer
    await declare(service)
    await configure(service, call_deadline=60)
    await post(service, receiver.url, "a", "b")
    await receiver.until(1)
    await service.reaper.drain()
    clock.forward(59.9)
    await service.settle()
    assert await status_of(service, "a", "b") == ["calling", "queued"]
    clock.forward(0.1)
    await service.settle()
    assert await status_of(service, "a", "b") == ["failed", "running"]
    assert (await seen(service, "a"))["LastError"] == "the receiver answered 503"
    assert called(receiver) == ["a", "b"]
    await check(real_redis, namespace)
    await capacity_kept(real_redis, namespace)


async def test_a_call_that_hangs_holds_its_capacity_no_longer_than_the_deadline(
    redis_url, real_redis, namespace, clock, receiver
):
    config = config_of(namespace, callback_timeout=30)
    async with serving(config, redis_url, clock) as service, dead_receiver() as dead:
        await declare(service)
        await configure(service, call_deadline=10)
        await post(service, dead.url, "dead")
        await dead.until(1)
        await post(service, receiver.url, "live")
        clock.forward(9.9)
        await service.reaper.tick()
        assert await status_of(service, "dead", "live") == ["calling", "queued"]
        clock.forward(0.1)
        await service.reaper.tick()
        await receiver.until(1)
        job = await seen(service, "dead")
        assert (job["Status"], job["Attempts"]) == ("failed", 1)
        assert job["LastError"] == "no answer within the call_deadline"
        assert dead.open == 1
    await check(real_redis, namespace)


async def test_a_target_that_must_not_be_called_fails_at_once_and_frees_its_capacity(
    redis_url, real_redis, namespace, clock, receiver
):
    config = config_of(namespace, callback_deny=("127.0.0.0/8", "::1"))
    async with serving(config, redis_url, clock) as service:
        await declare(service)
        await post(service, receiver.url.replace("127.0.0.1", "localhost"), "a", "b")
        async with asyncio.timeout(20):
            while await status_of(service, "a", "b") != ["failed", "failed"]:
                await service.reaper.drain()
        assert "must not be called" in (await seen(service, "a"))["LastError"]
    assert receiver.calls == []
    await check(real_redis, namespace)


# --- leases ------------------------------------------------------------------------------------------


async def test_a_lease_that_lapses_expires_the_job_and_the_next_one_goes(
    service, receiver, clock, real_redis, namespace
):
    await declare(service)
    await configure(service, lease_seconds=10)
    await post(service, receiver.url, "a", "b")
    await receiver.until(1)
    await service.reaper.drain()
    clock.forward(9.9)
    await service.settle()
    assert await status_of(service, "a", "b") == ["running", "queued"]
    await change(service, "a", "running")
    clock.forward(9.9)
    await service.settle()
    assert await status_of(service, "a", "b") == ["running", "queued"]
    clock.forward(0.1)
    await service.settle()
    assert await status_of(service, "a", "b") == ["expired", "running"]
    assert called(receiver) == ["a", "b"]
    await check(real_redis, namespace)


async def test_an_ended_job_is_forgotten_after_its_retention(service, receiver, clock, real_redis, namespace):
    await configure(service, retention=100)
    await post(service, receiver.url, "a")
    assert (await service.call("DELETE", "/v1/vm/a"))[0] == 200
    clock.forward(99.9)
    await service.settle()
    assert await status_of(service, "a") == ["cancelled"]
    clock.forward(0.2)
    await service.settle()
    assert (await service.call("GET", "/v1/vm/a"))[0] == 404
    assert await check(real_redis, namespace) == {}


# --- while the callback is still being answered ------------------------------------------------------


@pytest.mark.parametrize("answer", [200, 500, 410])
@pytest.mark.parametrize(("asked", "status"), [("running", "running"), ("done", "done"), ("DELETE", "done")])
async def test_a_client_need_not_answer_first(
    service, receiver, clock, real_redis, namespace, asked, status, answer
):
    receiver.answer = held = Held(answer)
    await declare(service)
    await post(service, receiver.url, "a")
    await receiver.until(1)
    if asked == "DELETE":
        assert (await service.call("DELETE", "/v1/vm/a"))[0] == 200
    else:
        await change(service, "a", asked)
    held.gate.set()
    await service.reaper.drain()
    tries = len(receiver.calls)
    clock.forward(601)
    await service.settle()
    assert await status_of(service, "a") == [status]
    assert len(receiver.calls) == tries
    await check(real_redis, namespace)


async def test_the_answer_to_an_earlier_turn_changes_nothing(service, receiver, real_redis, namespace):
    early = Held(410)
    receiver.answer = lambda request: early(request) if len(receiver.calls) == 1 else web.Response()
    await declare(service)
    await post(service, receiver.url, "a")
    await receiver.until(1)
    await change(service, "a", "running")
    await change(service, "a", "queued")
    await receiver.until(2)
    early.gate.set()
    await service.reaper.drain()
    job = await seen(service, "a")
    assert (job["Status"], job["Attempts"]) == ("running", 1)
    assert "LastError" not in job
    await check(real_redis, namespace)


# --- slow receivers ----------------------------------------------------------------------------------


async def test_a_thousand_calls_to_a_dead_receiver_do_not_delay_a_live_one(
    redis_url, real_redis, namespace, clock, receiver
):
    config = config_of(namespace, callback_timeout=30)
    async with serving(config, redis_url, clock) as service, dead_receiver() as dead:
        await declare(service, 2000)
        await post(service, dead.url, *(f"dead{n}" for n in range(1000)))
        await dead.until(CALLS_PER_TARGET)
        await post(service, receiver.url, "live")
        await receiver.until(1)
        assert (dead.open, dead.most) == (CALLS_PER_TARGET, CALLS_PER_TARGET) == (32, 32)
        assert await status_of(service, "dead0", "dead999") == ["calling", "calling"]


async def test_a_slow_receiver_has_at_most_32_calls_at_once(service, receiver):
    at_once, most = 0, 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        return web.Response()

    receiver.answer = answer
    await declare(service, 200)
    await post(service, receiver.url, *(f"j{n}" for n in range(200)))
    await receiver.until(200)
    await service.reaper.drain()
    assert most == 32
    assert Counter(called(receiver)) == {f"j{n}": 1 for n in range(200)}


async def test_those_who_wait_for_a_slow_receiver_are_called_once_though_their_claims_lapse(
    redis_url, real_redis, namespace, clock, receiver
):
    receiver.answer = held = Held()
    async with serving(config_of(namespace, callback_timeout=30), redis_url, clock) as service:
        await declare(service, 40)
        await post(service, receiver.url, *(f"j{n}" for n in range(40)))
        await receiver.until(32)
        clock.forward(66)
        await service.reaper.tick()
        held.gate.set()
        await receiver.until(40)
        await service.reaper.drain()
        calls = Counter(called(receiver))
        assert [calls[f"j{n}"] for n in range(32, 40)] == [1] * 8
        await service.settle()
        assert set(await status_of(service, *(f"j{n}" for n in range(40)))) == {"running"}
        # Each was called once, and so many attempts it says.
        assert {(await seen(service, f"j{n}"))["Attempts"] for n in range(40)} == {1}
    await check(real_redis, namespace)


async def test_nobody_is_called_after_the_deadline_who_was_to_be_called_at_once(
    service, receiver, clock, real_redis, namespace
):
    """A job that stood in line for less than what needs no second look, but longer than its deadline."""
    receiver.answer = held = Held()
    await declare(service, 40)
    await configure(service, call_deadline=1)
    await post(service, receiver.url, *(f"j{n}" for n in range(33)))
    await receiver.until(32)
    clock.forward(1.001)
    await asyncio.sleep(1.001)  # the reaper's own clock, by which it knows what is fresh
    held.gate.set()
    await service.reaper.drain()
    assert len(receiver.calls) == 32
    await service.settle()
    assert set(await status_of(service, *(f"j{n}" for n in range(33)))) <= {"running", "failed"}
    assert await status_of(service, "j32") == ["failed"]
    await check(real_redis, namespace)


# --- replicas ----------------------------------------------------------------------------------------


async def test_two_replicas_call_each_job_once(redis_url, real_redis, namespace, clock, receiver):
    config = config_of(namespace)
    async with (
        serving(config, redis_url, clock) as one,
        serving(config, redis_url, clock) as other,
    ):

        async def finish(request: web.Request) -> web.Response:
            service = (one, other)[len(receiver.calls) % 2]
            await change(service, request.path.strip("/"), "done")
            return web.Response()

        receiver.answer = finish
        await declare(one, 20)
        jobs = [f"j{n}" for n in range(200)]
        await asyncio.gather(
            *(post((one, other)[n % 2], receiver.url, *jobs[n : n + 10]) for n in range(0, 200, 10)),
            *(service.reaper.tick() for service in (one, other) for _ in range(10)),
        )
        await receiver.until(200)
        for service in (one, other):
            await service.settle()
        assert Counter(called(receiver)) == dict.fromkeys(jobs, 1)
        assert set(await status_of(one, *jobs)) == {"done"}
    await check(real_redis, namespace)
    await capacity_kept(real_redis, namespace)


# --- types in which nothing happens ------------------------------------------------------------------


async def _left_woken(redis: Any, namespace: str, types: list[str]) -> set[str]:
    """Of these types those in which a wake is left that nobody has taken up."""
    key = Keys(namespace).of
    return {type_ for type_ in types if await redis.exists(key(type_, "wake"))}


async def test_idle_types_are_looked_at_in_turn(service, real_redis, namespace):
    """But for those in which something happens here, or jobs are called or run."""
    types = [f"t{n}" for n in range(100)]
    await real_redis.sadd(Keys(namespace).types, *types)
    await declare(service)
    await post(service, "http://127.0.0.1:9", "a")
    await service.reaper.tick()

    async def left_by_another(*types: str) -> None:
        for type_ in types:
            await real_redis.sadd(Keys(namespace).of(type_, "wake"), "default")

    await left_by_another(*types, "vm")
    for type_ in types[:30]:
        service.reaper.wake(type_, "other")
    await service.reaper.tick(idle_ones=False)
    left = await _left_woken(real_redis, namespace, [*types, "vm"])
    assert left
    assert left < set(types[30:])
    for _ in range(IDLE_TICKS - 1):
        await service.reaper.tick(idle_ones=False)
    assert await _left_woken(real_redis, namespace, types) == set()


async def test_a_type_in_which_something_is_done_here_is_looked_at_at_the_next_tick(
    service, real_redis, namespace
):
    types = [f"t{n}" for n in range(TYPES_AT_ONCE)]
    await real_redis.sadd(Keys(namespace).types, *types)
    ticking = asyncio.create_task(service.reaper.tick())
    while not ticking.done():
        for type_ in types:
            service.reaper.wake(type_, "other")
        await asyncio.sleep(0)
    for type_ in types:
        await real_redis.sadd(Keys(namespace).of(type_, "wake"), "default")
    await service.reaper.tick(idle_ones=False)
    assert await _left_woken(real_redis, namespace, types) == set()


async def test_what_is_woken_is_admitted_while_a_tick_goes_on(service, real_store, real_redis, namespace):
    types = [f"t{n}" for n in range(TYPES_AT_ONCE * 20)]
    await real_redis.sadd(Keys(namespace).types, *types)
    reaper = Reaper(real_store, service.reaper._callbacks)
    made = reaper.ticked
    await real_redis.sadd(Keys(namespace).of("vm", "wake"), "default")
    reaper.wake("vm", "default")
    ticking = asyncio.create_task(reaper.tick())
    while await _left_woken(real_redis, namespace, ["vm"]):  # noqa: ASYNC110 - Redis has no event for it
        await asyncio.sleep(0)
    assert reaper.ticked == made
    await ticking


@pytest.mark.parametrize("died", ["after the admission", "after it wrote that it calls"])
async def test_a_job_whose_replica_died_is_called_by_another(
    service, real_store, receiver, clock, died, real_redis, namespace
):
    await configure(service, paused=True)
    await declare(service)
    await real_store.create("vm", [new("a", callback=f"{receiver.url}/a")])
    await real_store.configure("vm", {"paused": False})
    (turn,) = (await real_store.admit("vm", "default", claim_ms=20_000)).turns
    if died == "after it wrote that it calls":
        await real_store.call(turn, claim_ms=20_000)
    clock.forward(19.9)
    await service.settle()
    assert called(receiver) == []
    clock.forward(0.1)
    await service.settle()
    assert called(receiver) == ["a"]
    assert receiver.calls[0][1]["webhook-id"] == f"adm_{turn.admission}"
    assert await status_of(service, "a") == ["running"]
    await check(real_redis, namespace)


async def test_a_replica_that_was_thought_dead_changes_nothing(service, real_store, receiver, clock):
    receiver.answer = held = Held()
    await declare(service)
    await real_store.create("vm", [new("a", callback=f"{receiver.url}/a")])
    (turn,) = (await real_store.admit("vm", "default", claim_ms=1000)).turns
    clock.forward(1)
    await service.reaper.tick()
    await receiver.until(1)
    before = await seen(service, "a")
    with pytest.raises(LostClaim):
        await real_store.call(turn, claim_ms=1000)
    with pytest.raises(LostClaim):
        await real_store.retry(turn, 0, "too late")
    assert await seen(service, "a") == before
    held.gate.set()
    await service.settle()
    assert await status_of(service, "a") == ["running"]
    assert called(receiver) == ["a"]


async def test_a_wake_that_a_dead_replica_left_is_taken_up(service, real_store, receiver):
    await declare(service)
    await service.settle()
    _, pools = await real_store.create("vm", [new("a", callback=f"{receiver.url}/a")])
    assert pools == ["default"]
    await service.settle()
    assert called(receiver) == ["a"]


async def test_a_replica_that_stops_leaves_what_it_did_not_call_to_the_others(
    redis_url, namespace, clock, receiver, real_redis
):
    receiver.answer = held = Held()
    config = config_of(namespace, callback_timeout=30)
    async with (
        serving(config, redis_url, clock) as stopping,
        serving(config, redis_url, clock) as other,
    ):
        await declare(stopping, 40)
        jobs = [f"j{n}" for n in range(40)]
        await post(stopping, receiver.url, *jobs)
        await receiver.until(32)
        stopped = asyncio.create_task(stopping.reaper.stop(grace=20))
        async with asyncio.timeout(10):
            while len(receiver.calls) < 40:
                await other.reaper.tick()
                await asyncio.sleep(0.01)
        held.gate.set()
        await stopped
        await other.reaper.drain()
        assert Counter(called(receiver)) == dict.fromkeys(jobs, 1)
        assert set(await status_of(other, *jobs)) == {"running"}
        assert {(await seen(other, job))["Attempts"] for job in jobs} == {1}
    await check(real_redis, namespace)


# --- Redis goes away ---------------------------------------------------------------------------------


@asynccontextmanager
async def on_own_server(tmp_path, namespace, clock, monkeypatch) -> AsyncIterator[tuple[Service, Any]]:
    """A service whose server a test may end and start: `server.stop()`, `server.start()`."""
    monkeypatch.setattr("rqueue.reaper.TICK_SECONDS", 0.05)

    class Server:
        def start(self) -> str:
            self.running = embedded(tmp_path / "data")
            return self.running.__enter__()

        def stop(self) -> None:
            self.running.__exit__(None, None, None)

    server = Server()
    url = server.start()
    try:
        async with serving(config_of(namespace, callback_timeout=10), url, clock) as service:
            yield service, server
    finally:
        server.stop()


async def ready(service: Service) -> bool:
    return (await service.call("GET", "/readyz"))[0] == 200


async def until(condition) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - there is no event to wait for over HTTP
            await asyncio.sleep(0.02)


async def test_the_reaper_goes_on_when_redis_is_back(tmp_path, namespace, clock, monkeypatch, receiver):
    receiver.answer = lambda _: web.Response(status=503, headers={"Retry-After": "30"})
    async with on_own_server(tmp_path, namespace, clock, monkeypatch) as (service, server):
        await until(lambda: ready(service))
        await declare(service)
        await post(service, receiver.url, "a", "b")
        await receiver.until(1)
        await service.reaper.drain()
        server.stop()
        for method, path, body in [
            ("GET", "/v1/vm/a", None),
            ("GET", "/v1/vm/", None),
            ("POST", "/v1/vm/", {"request_id": "c", "owner_id": "y", "callback": "http://h.test/"}),
            ("POST", "/v1/vm/a", {"status": "done"}),
            ("DELETE", "/v1/vm/b", None),
            ("GET", "/queues/", None),
            ("GET", "/readyz", None),
        ]:
            async with service.client.request(method, service.url + path, json=body) as response:
                answer = await response.json()
                assert (response.status, answer["ok"]) == (503, False), path
                assert int(response.headers["Retry-After"]) > 0
        assert (await service.call("GET", "/healthz"))[0] == 200
        receiver.answer = None
        clock.forward(30)
        server.start()
        await receiver.until(2)
        await until(lambda: ready(service))
        await service.reaper.drain()
        assert called(receiver) == ["a", "a"]
        assert await status_of(service, "a", "b") == ["running", "queued"]
        await change(service, "a", "done")
        await receiver.until(3)


async def test_an_answer_that_comes_while_redis_is_away_is_kept(
    tmp_path, namespace, clock, monkeypatch, receiver
):
    receiver.answer = held = Held()
    async with on_own_server(tmp_path, namespace, clock, monkeypatch) as (service, server):
        await declare(service)
        await post(service, receiver.url, "a")
        await receiver.until(1)
        server.stop()
        held.gate.set()
        await until(lambda: _is_away(service))
        server.start()
        await service.reaper.drain()
        assert await status_of(service, "a") == ["running"]
        assert called(receiver) == ["a"]


async def _is_away(service: Service) -> bool:
    return (await service.call("GET", "/v1/vm/a"))[0] == 503


# --- the end -----------------------------------------------------------------------------------------


async def test_it_stops_whatever_it_is_at(redis_url, real_redis, namespace):
    for steps in range(60):
        async with asyncio.timeout(5) as limit, serving(config_of(namespace), redis_url):
            for _ in range(steps):
                await asyncio.sleep(0)
        assert not limit.expired(), f"it does not stop when it is told to after {steps} steps"


async def test_stopping_gives_up_all_claims_though_one_is_lost(
    redis_url, namespace, clock, receiver, real_redis
):
    receiver.answer = held = Held()
    config = config_of(namespace, callback_timeout=30)
    async with serving(config, redis_url, clock) as stopping, serving(config, redis_url, clock) as other:
        await declare(stopping, 40)
        await post(stopping, receiver.url, *(f"j{n}" for n in range(40)))
        await receiver.until(32)
        # The first of those that stand in line is ended by its client.
        waiting = [f"j{n}" for n in range(40) if f"j{n}" not in called(receiver)]
        assert (await stopping.call("DELETE", f"/v1/vm/{waiting[0]}"))[0] == 200
        held.gate.set()
        stopped = asyncio.create_task(stopping.reaper.stop(grace=20))
        async with asyncio.timeout(10):
            while len(receiver.calls) < 39:
                await other.reaper.tick()
                await asyncio.sleep(0.01)
        await stopped
        await other.settle()
    assert sorted(called(receiver)) == sorted({f"j{n}" for n in range(40)} - {waiting[0]})


async def test_a_secret_in_redis_that_is_none_is_said_and_mended(
    redis_url, namespace, clock, receiver, real_redis, monkeypatch, caplog
):
    monkeypatch.setattr("rqueue.app.TICK_SECONDS", 0.05)
    key = f"{namespace}:callback_secret"
    await real_redis.set(key, "nonsense")
    async with serving(config_of(namespace), redis_url, clock) as service:
        await until(lambda: _said(caplog, "no signing secret"))
        assert f"{key} is not what it should be" in caplog.text
        assert "rqueue check --repair" in caplog.text
        assert "RQUEUE_CALLBACK_SECRETS" not in caplog.text
        await declare(service)
        await post(service, receiver.url, "a")
        assert receiver.calls == []
        # Nor does a release let somebody go, who would be called without a signature.
        assert service.reaper.claim_ms() == 0
        await real_redis.delete(key)
        await receiver.until(1)
        assert service.reaper.claim_ms() > 0


async def _said(caplog, words: str) -> bool:
    return words in caplog.text
