"""The async client, on a running service: every call, what it answers, and what is lost on the way."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import web

from rqueue.client import Client, Failed, Job, calling, connected
from rqueue.client import client as clients
from tests.conftest import Service
from tests.faults.proxy import Proxy, proxied

HOSTS = {"hosts": {"n": {"slots": 1}}}


@pytest.fixture
async def client(service: Service) -> AsyncIterator[Client]:
    async with connected(service.url, tries=1) as client:
        yield client


@pytest.fixture
async def wire(service: Service) -> AsyncIterator[Proxy]:
    """The way from `far` to the service, which a test may cut."""
    async with proxied(int(service.url.rpartition(":")[2])) as wire:
        yield wire


@pytest.fixture
async def far(wire: Proxy) -> AsyncIterator[Client]:
    async with connected(f"http://127.0.0.1:{wire.port}") as client:
        yield client


async def post(client: Client, *names: str, **more: Any) -> None:
    for name in names:
        await client.create(
            "vm", owner_id="y", data={}, callback=f"http://127.0.0.1:9/{quote(name)}", request_id=name, **more
        )


async def line(client: Client) -> list[str]:
    return [job.request_id async for job in client.jobs("vm", status="queued")]


# --- every call --------------------------------------------------------------------------------------


async def test_a_job_is_what_the_service_says_of_it(client, service):
    made = await client.create(
        "vm", owner_id="y", data={"b": 1, "a": [2]}, callback="http://127.0.0.1:9/x", priority=7
    )
    assert len(made.request_id) == 32
    assert (made.type, made.owner_id, made.priority, made.status) == ("vm", "y", 7, "queued")
    assert made.data == {"a": [2], "b": 1, "host_aggregate": "default"}
    assert made.created_at == datetime(2027, 1, 15, 8, 0, tzinfo=UTC) == made.updated_at
    assert made.position is None
    found = await client.get("vm", made.request_id)
    assert (found.position, found.ahead, found.estimated_start) == (0, 0, None)
    assert found.reason == "no_pool: pool default is not declared"
    _, answer = await service.call("GET", f"/v1/vm/{made.request_id}")
    assert found.document == answer["data"]
    # What a hand edit left is no reason to show nothing.
    damaged = Job.read({**found.document, "Data": "{", "Status": "new", "More": 1})
    assert (damaged.data, damaged.status, damaged.document["More"]) == ({}, "new", 1)


async def test_moves_go_where_they_are_asked_to(client):
    await post(client, "a", "b/ü %", "c", "..")
    assert (await client.front("vm", "..")).request_id == ".."
    assert await line(client) == ["..", "a", "b/ü %", "c"]
    await client.back("vm", "a")
    await client.move("vm", "c", before="b/ü %")
    await client.move("vm", "..", after="c", before="b/ü %")
    assert await line(client) == ["c", "..", "b/ü %", "a"]
    moved = await client.move("vm", "a", priority=1, dry_run=True)
    assert (moved.priority, moved.position) == (1, 0)
    assert (await client.front("vm", "a", dry_run=True)).position == 0
    assert (await client.back("vm", "c", dry_run=True)).position == 3
    assert await line(client) == ["c", "..", "b/ü %", "a"]
    with pytest.raises(Failed) as failed:
        await client.move("vm", "a", after="gone")
    assert (failed.value.status, failed.value.code, failed.value.tries) == (409, "neighbour_not_queued", 1)
    with pytest.raises(Failed, match="expected one of"):
        await client.move("vm", "a")


async def test_a_job_lives_its_life(client, service, receiver):
    await client.put_pool("vm", "default", HOSTS)
    receiver.answer = lambda _: web.Response(status=500)
    await client.create("vm", owner_id="y", data={}, callback=f"{receiver.url}/a", request_id="a")
    await receiver.until(1)
    await service.reaper.drain()
    calls = len(receiver.calls)
    assert (await client.redeliver("vm", "a")).status == "calling"
    await receiver.until(calls + 1)
    assert (await client.confirm("vm", "a")).placement == ("n",)
    assert (await client.get("vm", "a")).status == "running"
    receiver.answer = None
    await client.requeue("vm", "a")
    await service.settle()
    assert (await client.get("vm", "a")).status == "running"
    for _ in range(2):
        assert (await client.done("vm", "a")).status == "done"
        assert (await client.cancel("vm", "a")).status == "done"
    with pytest.raises(Failed, match="done") as failed:
        await client.confirm("vm", "a")
    assert failed.value.code == "illegal_transition"
    await client.configure("vm", {"paused": True})
    await post(client, "b")
    changed = await client.update("vm", "b", data={"x": 1}, callback="http://127.0.0.1:9/other")
    assert (changed.data["x"], changed.callback) == (1, "http://127.0.0.1:9/other")
    assert (await client.update("vm", "b", data={}, dry_run=True)).data == {"host_aggregate": "default"}
    with pytest.raises(Failed) as failed:
        await client.done("vm", "b")
    assert failed.value.code == "illegal_transition"
    assert (await client.cancel("vm", "b")).status == (await client.cancel("vm", "b")).status == "cancelled"
    assert [job.request_id async for job in client.jobs("vm", status="cancelled")] == ["b"]


async def test_many_are_created_or_none(client):
    drafts = [{"owner_id": "y", "callback": f"http://127.0.0.1:9/{n}", "data": {"n": n}} for n in range(3)]
    made = await client.create_many(
        "vm", [*drafts, {**drafts[0], "request_id": "own", "callback": "http://h/x"}]
    )
    assert [job.data.get("n") for job in made] == [0, 1, 2, 0]
    assert made[3].request_id == "own"
    assert len({job.request_id for job in made}) == 4
    with pytest.raises(Failed, match="taken") as failed:
        await client.create_many("vm", [{**drafts[0], "callback": "http://h/y"}, drafts[1]])
    assert (failed.value.code, failed.value.field) == ("duplicate_callback", "1.callback")
    tried = await client.create(
        "vm", owner_id="y", data={}, callback="http://h/z", request_id="try", dry_run=True
    )
    assert tried.position == 4
    assert len(await line(client)) == 4


async def test_lists_are_read_page_by_page(client, monkeypatch):
    monkeypatch.setattr(clients, "PAGE", 4)
    await post(client, *"abcdefgh")
    await post(client, "z", priority=1)
    assert [[job.request_id for job in page] async for page in client.pages("vm")] == [
        ["z", "a", "b", "c"],
        ["d", "e", "f", "g"],
        ["h"],
    ]
    for limit in range(5):
        assert len([job async for job in client.jobs("vm", limit=limit)]) == limit
    assert [job async for job in client.jobs("vm", owner_id="other")] == []
    async for job in client.jobs("vm", owner_id="y"):
        assert job.request_id == "z"
        break


async def test_lists_are_searched_and_say_where_each_stands(client, monkeypatch):
    monkeypatch.setattr(clients, "PAGE", 2)
    monkeypatch.setattr(clients, "STANDING_PAGE", 2)
    await post(client, "1x", "2", "3", "4x", "5x")
    found = [job async for job in client.jobs("vm", search="X")]
    assert [job.request_id for job in found] == ["1x", "4x", "5x"]
    assert [job.position for job in found] == [None] * 3
    standing = [job async for job in client.jobs("vm", standing=True, limit=3)]
    assert [(job.position, job.ahead) for job in standing] == [(0, 0), (1, 1), (2, 2)]
    assert standing[0].reason == "no_pool: pool default is not declared"


async def test_queues_and_pools(client):
    queue = await client.configure("a/b", {"paused": True, "retention": 5})
    assert (queue.type, queue.queued, queue.pools, queue.error) == ("a/b", 0, (), None)
    assert (queue.settings["paused"], queue.settings["retention"]) == (True, 5)
    assert (await client.configure("a/b", {"retention": None})).settings["retention"] == 86400
    await post(client, "a")
    pool = await client.put_pool("vm", "default", {**HOSTS, "projects": ["p"], "quotas": {"*": {"slots": 1}}})
    assert (pool.name, pool.projects, pool.quotas) == ("default", ("p",), {"*": {"slots": 1}})
    assert (await client.pool("vm", "default")).hosts["n"]["capacity"] == {"slots": 1}
    assert {(queue.type, queue.pools) for queue in await client.queues()} == {
        ("a/b", ()),
        ("vm", ("default",)),
    }
    tried = await client.simulate("vm", pools={"default": {"hosts": {"m": {"slots": 2}}}}, pool="default")
    assert set(tried) == {"admitted", "waiting", "more"}
    await client.delete_pool("vm", "default")
    with pytest.raises(Failed, match="pool_not_found"):
        await client.delete_pool("vm", "default")


async def test_a_damaged_queue_hides_no_other(client, service, real_redis, namespace):
    await post(client, "a")
    await client.configure("other", {"paused": True})
    await real_redis.delete(f"{namespace}:{{vm}}:queue")
    await real_redis.set(f"{namespace}:{{vm}}:queue", "x")
    queues = {queue.type: queue for queue in await client.queues()}
    assert queues["vm"].error
    assert queues["other"].error is None


# --- tries -------------------------------------------------------------------------------------------


async def test_a_create_whose_answer_was_lost_is_not_created_twice(far, wire, client):
    wire.swallow()
    made = await far.create("vm", owner_id="y", data={}, callback="http://127.0.0.1:9/a", request_id="a")
    assert made.request_id == "a"
    wire.swallow()
    drafts = [{"owner_id": "y", "callback": f"http://127.0.0.1:9/{n}", "data": {}} for n in range(3)]
    many = await far.create_many("vm", drafts)
    assert await line(client) == ["a", *(job.request_id for job in many)]
    # At the first try it is another's.
    with pytest.raises(Failed) as failed:
        await far.create("vm", owner_id="y", data={}, callback="http://127.0.0.1:9/a", request_id="a")
    assert (failed.value.code, failed.value.tries) == ("duplicate_request_id", 1)
    # And so it is at the second, where it is not the same.
    wire.swallow()
    with pytest.raises(Failed) as failed:
        await far.create("vm", owner_id="y", data={}, callback="http://127.0.0.1:9/other", request_id="a")
    assert (failed.value.code, failed.value.tries) == ("duplicate_request_id", 2)


async def test_what_is_asked_twice_is_done_once(far, wire, client):
    await post(client, "a", "b")
    await client.configure("vm", {"paused": True})
    await client.put_pool("vm", "default", HOSTS)
    for asked in (
        lambda: far.front("vm", "b"),
        lambda: far.update("vm", "b", data={"x": 1}),
        lambda: far.cancel("vm", "b"),
        lambda: far.delete_pool("vm", "default"),
        lambda: far.configure("vm", {"paused": False}),
    ):
        wire.swallow()
        await asked()
    assert (await client.get("vm", "b")).status == "cancelled"
    assert (await client.queue("vm")).pools == ()


async def test_what_must_not_be_done_twice_is_not_sent_twice(far, wire, client, service, receiver, caplog):
    caplog.set_level(logging.DEBUG, "aiohttp_retry")
    await client.put_pool("vm", "default", HOSTS)
    await client.create("vm", owner_id="y", data={}, callback=f"{receiver.url}/a", request_id="a")
    await receiver.until(1)
    await service.settle()
    wire.swallow()
    with pytest.raises(Failed) as failed:
        await far.requeue("vm", "a")
    assert (failed.value.status, failed.value.tries) == (0, 1)
    await receiver.until(2)
    await service.settle()
    assert (await client.get("vm", "a")).status == "running"
    # Where nobody was reached it cannot have been done.
    await wire.refuse()
    requeued = asyncio.create_task(far.requeue("vm", "a"))
    async with asyncio.timeout(20):
        while "ConnectorError" not in caplog.text:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)
    await wire.open()
    assert (await requeued).status in ("queued", "calling")


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
async def test_a_service_that_is_away_for_a_while_is_asked_again(receiver, status):
    answers = [
        web.Response(status=status, headers={"Retry-After": "0"}, text="<html>"),
        web.json_response({"data": [], "ok": True}),
    ]
    receiver.answer = lambda _: answers.pop(0)
    async with connected(receiver.url) as client:
        assert await client.queues() == []
    assert len(receiver.calls) == 2


async def test_an_answer_says_when_to_come_again(receiver):
    answers = [
        web.Response(status=503, headers={"Retry-After": "1"}),
        web.json_response({"data": [], "ok": True}),
    ]
    receiver.answer = lambda _: answers.pop(0)
    began = time.monotonic()
    async with connected(receiver.url) as client:
        await client.queues()
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (503, {"code": "not_replicated", "message": "m"}, {"Retry-After": "0"}),
        (429, {"code": "queue_full", "message": "m"}, {"Retry-After": "0"}),
        (503, {"code": "redis_unavailable", "message": "m"}, {"Retry-After": "3600"}),
        (500, {"code": "internal", "message": "m"}, {}),
        (301, {"code": "moved", "message": "m"}, {"Location": "/queues/"}),
    ],
)
async def test_what_will_not_change_soon_is_told_at_once(receiver, status, body, headers):
    receiver.answer = lambda _: web.json_response(
        {"ok": False, "error": body}, status=status, headers=headers
    )
    async with connected(receiver.url) as client:
        with pytest.raises(Failed) as failed:
            await client.queues()
    assert (failed.value.status, failed.value.code, failed.value.message) == (
        status,
        body["code"],
        f"m ({body['code']})",
    )
    assert len(receiver.calls) == 1


async def test_tries_and_their_time_are_bounded(receiver, monkeypatch):
    monkeypatch.setattr(calling, "PAUSE_SECONDS", 0.001)
    receiver.answer = lambda _: web.Response(status=503)
    async with connected(receiver.url, tries=4) as client:
        with pytest.raises(Failed, match="does not answer as rqueue does") as failed:
            await client.queues()
    assert failed.value.tries == len(receiver.calls) == 4
    monkeypatch.setattr(calling, "MAX_SECONDS", 0.2)
    receiver.answer = lambda _: asyncio.sleep(10)
    async with connected(receiver.url) as client:
        with pytest.raises(Failed, match="cannot be asked: TimeoutError"):
            await client.queues()


async def test_pauses_grow_to_a_bound_and_are_random():
    for attempt in range(1, 12):
        pauses = {calling.pause(attempt) for _ in range(100)}
        assert len(pauses) == 100
        assert max(pauses) <= min(16, 0.25 * 2**attempt)


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"{", b'{"ok": true}', b'{"ok": true, "data": 5}', b'{"data":[{}],"ok":true}']
)
async def test_what_is_no_rqueue_is_said_to_be_none(receiver, answer):
    receiver.answer = lambda _: web.Response(body=answer)
    async with connected(receiver.url) as client:
        with pytest.raises(Failed, match="does not answer as rqueue does"):
            await client.queues()


async def test_nobody_there(monkeypatch):
    monkeypatch.setattr(calling, "PAUSE_SECONDS", 0.001)
    async with connected("http://127.0.0.1:9", tries=2) as client:
        with pytest.raises(Failed, match=r"http://127\.0\.0\.1:9 cannot be asked") as failed:
            await client.queues()
    assert (failed.value.status, failed.value.tries) == (0, 0)
    with pytest.raises(Failed, match="RQUEUE_URL is 'ftp://x'"):
        async with connected("ftp://x"):
            pass


async def test_url_and_token_are_the_environments(receiver, monkeypatch):
    receiver.answer = lambda _: web.json_response({"data": [], "ok": True})
    monkeypatch.setenv("RQUEUE_URL", receiver.url + "/below/")
    monkeypatch.setenv("RQUEUE_TOKEN", "t")
    for token in (None, "", "other"):
        async with connected(token=token) as client:
            await client.queues()
    assert [path for path, _, _ in receiver.calls] == ["/below/queues"] * 3
    shown = [headers.get("Authorization") for _, headers, _ in receiver.calls]
    assert shown == ["Bearer t", None, "Bearer other"]
