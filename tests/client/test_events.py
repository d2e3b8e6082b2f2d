"""Events as a client follows them: over connections that break, and past what is not there any more."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import count
from typing import Any

import pytest
from aiohttp import web

from rqueue.client import Client, Event, Failed, calling, connected, connected_sync
from rqueue.client.client import messages
from tests.conftest import Service
from tests.faults.proxy import Proxy, proxied

EVENT = (
    '{"id": "%s", "at": "2026-11-23T18:50:37.773000+00:00", "what": "moved", "request_id": "d",'
    ' "owner_id": "y", "from": "1", "to": "2", "actor": "alice", "why": ""}'
)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "PAUSE_SECONDS", 0.01)


@pytest.fixture
async def client(service: Service) -> AsyncIterator[Client]:
    async with connected(service.url, "", tries=1) as client:
        yield client


@pytest.fixture
async def wire(service: Service) -> AsyncIterator[Proxy]:
    async with proxied(int(service.url.rpartition(":")[2])) as wire:
        yield wire


async def post(client: Client, *names: str) -> None:
    for name in names:
        callback = f"http://127.0.0.1:9/{name}"
        await client.create("vm", owner_id=f"of-{name}", data={}, callback=callback, request_id=name)


async def some(events: AsyncIterator[Event], number: int) -> list[Event]:
    async with asyncio.timeout(20):
        return [await anext(events) for _ in range(number)]


async def test_what_happened_is_listed(client):
    assert await client.last_events("vm") == []
    await post(client, "a", "b")
    await client.front("vm", "b")
    events = await client.last_events("vm")
    assert [(event.what, event.request_id) for event in events] == [
        ("created", "a"),
        ("created", "b"),
        ("moved", "b"),
    ]
    assert (events[0].owner_id, events[0].to, events[0].from_, events[0].why) == ("of-a", "queued", "", "")
    assert events[0].document["at"].startswith("20")
    assert await client.last_events("vm", 1) == events[2:]
    assert await client.last_events("vm", 1, before=events[2].id) == events[1:2]
    assert [event.what for event in await client.history("vm", "b")] == ["created", "moved"]
    with pytest.raises(Failed) as failed:
        await client.history("vm", "c")
    assert failed.value.code == "job_not_found"


async def test_what_happens_is_followed(client):
    await post(client, "a")
    async with aclosing(client.events("vm")) as events, aclosing(client.events("vm", owner_id="of-c")) as own:
        coming, mine = asyncio.create_task(some(events, 2)), asyncio.create_task(some(own, 1))
        # They begin with what happens once they have asked: it happens until it is seen.
        async with asyncio.timeout(20):
            for number in count():
                if coming.done() and mine.done():
                    break
                callback = f"http://127.0.0.1:9/{number}"
                await client.create("vm", owner_id="of-c", data={}, callback=callback)
                await asyncio.sleep(0.05)
    assert {event.what for event in await coming} == {"created"}
    assert (await mine)[0].owner_id == "of-c"


async def test_a_connection_that_breaks_loses_nothing_and_repeats_nothing(client, wire):
    async with (
        connected(f"http://127.0.0.1:{wire.port}", "") as far,
        aclosing(far.events("vm", after="0-0")) as events,
    ):
        await post(client, "a")
        assert [event.request_id for event in await some(events, 1)] == ["a"]
        for name in "bcd":
            wire.reset()
            await post(client, name)
            assert [event.request_id for event in await some(events, 1)] == [name]
        await wire.refuse()
        await post(client, "e", "f")
        coming = asyncio.create_task(some(events, 2))
        await asyncio.sleep(0.1)
        await wire.open()
        assert [event.request_id for event in await coming] == ["e", "f"]


async def test_what_is_not_there_any_more_is_said_to_be_missed(client, real_redis, namespace):
    await post(client, "a", "b", "c")
    first = (await client.last_events("vm"))[0].id
    await real_redis.xtrim(f"{namespace}:{{vm}}:events", maxlen=1, approximate=False)
    async with aclosing(client.events("vm", after=first)) as events:
        missed, last = await some(events, 2)
    assert (missed.what, last.request_id) == ("missed", "c")


async def test_threads_follow_too(service, client):
    def follow() -> list[str]:
        with connected_sync(service.url, "") as waiting:
            events = waiting.events("vm", after="0-0")
            return [next(events).request_id, next(events).request_id]

    following = asyncio.create_task(asyncio.to_thread(follow))
    await post(client, "a", "b")
    assert await following == ["a", "b"]


async def test_a_refusal_is_told_and_so_is_nobody_there(receiver):
    receiver.answer = lambda _: web.json_response(
        {"ok": False, "error": {"code": "forbidden", "message": "no"}}, status=403
    )
    async with connected(receiver.url, "") as client:
        with pytest.raises(Failed, match="no"):
            await anext(client.events("vm", after="1-0"))
    async with connected("http://127.0.0.1:9", "", tries=1) as client:
        with pytest.raises(Failed, match="cannot be asked"):
            await anext(client.events("vm", after="1-0"))


def streaming(*texts: str, newest: str = "") -> Any:
    """Answers lists with the newest event, and streams with one text after the other."""
    left = list(texts)

    async def answer(request: web.Request) -> web.StreamResponse:
        if "text/event-stream" not in request.headers.get("Accept", ""):
            events = [json.loads(EVENT % newest)] if newest else []
            return web.json_response({"data": events, "ok": True, "next": None})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(left.pop(0).encode())
        return response

    return answer


@pytest.mark.parametrize("newest", ["", "4-0"])
async def test_it_goes_on_from_the_last_id(receiver, newest):
    broken = f"id: 5-0\ndata: {EVENT % '5-0'}\n\n: half of one\nid: 6-0\ndata: {{"
    receiver.answer = streaming("", broken, f"data: {EVENT % '7-0'}\n\n", newest=newest)
    async with connected(receiver.url, "") as client:
        found = await some(client.events("vm", request_id="d/e"), 2)
    assert [event.id for event in found] == ["5-0", "7-0"]
    asked = [headers["Last-Event-ID"] for _, headers, _ in receiver.calls if "Last-Event-ID" in headers]
    # Nothing had come yet when the first connection broke, and the place to go on from is known all the same.
    begun = newest or "0-0"
    assert asked == [begun, begun, "5-0"]


@pytest.mark.parametrize("text", ["data: {\n\n", "data: 5\n\n", "data: " + "x" * 3_000_000 + "\n\n"])
async def test_what_is_no_event_ends_it(receiver, text):
    receiver.answer = streaming(text)
    async with connected(receiver.url, "") as client:
        with pytest.raises(Failed, match="does not answer as rqueue does"):
            await some(client.events("vm"), 1)


async def test_messages_are_read_as_the_standard_has_them():
    async def lines() -> AsyncIterator[bytes]:
        for line in (
            b": a comment\n",
            b"retry: 1000\n",
            b"\n",
            b"id: 1\r\n",
            b"data:one\r\n",
            b"data:  two\r\n",
            b"\r\n",
            b"event: x\n",
            b"data\n",
            b"\n",
            b"id: a\0b\n",
            b"data: \xc3\xbc: y\n",
            b"\n",
            b"id\n",
            b"data: z\n",
            b"\n",
            b"data: cut off\n",
        ):
            yield line

    found = [message async for message in messages(lines())]
    assert found == [("1", "one\n two"), ("1", ""), ("1", "ü: y"), ("", "z")]
