"""Events over HTTP: as a list, and as they happen; whoever does not read, comes again, or may not know."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from yarl import URL

from rqueue import metrics, tokens
from rqueue.domain.caller import Role
from rqueue.store.embedded import embedded
from rqueue.web import events, feed
from tests.conftest import Receiver, Service, config_of, new, redis_at, serving
from tests.process import running
from tests.web.wire import ask, job, refused

ACCEPT = {"Accept": "text/event-stream"}
SECONDS = 20


class Stream:
    """A stream of events as a client reads it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.comments: list[str] = []

    async def next(self) -> dict[str, Any] | None:
        """The next event; None at the end."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(SECONDS):
            async for line in self.response.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if not name and not value and fields.get("data"):
                    event: dict[str, Any] = orjson.loads(fields["data"])
                    assert event["id"] == fields["id"]
                    assert "event" not in fields
                    return event
                if line.startswith(b":"):
                    self.comments.append(value)
                fields[name] = value
        return None

    async def take(self, count: int) -> list[dict[str, Any]]:
        """The next so many."""
        found = [await self.next() for _ in range(count)]
        assert None not in found
        return [event for event in found if event]

    async def comment(self) -> str:
        """The next comment."""
        async with asyncio.timeout(SECONDS):
            async for line in self.response.content:
                if line.startswith(b":"):
                    return line.decode().strip(": \n")
        raise AssertionError("the stream ended")


@asynccontextmanager
async def following(
    client: aiohttp.ClientSession, url: str, query: str = "", type_: str = "vm", **headers: str
) -> AsyncIterator[Stream]:
    path = URL(f"{url}/queues/{type_}/events{query}", encoded=True)
    async with client.get(path, headers=ACCEPT | headers) as response:
        assert response.status == 200, await response.text()
        yield Stream(response)


def follow(service: Service, query: str = "", **headers: str) -> Any:
    return following(service.client, service.url, query, **headers)


async def fill(redis: Any, namespace: str, count: int, why: str = "", start: int = 0) -> None:
    """Write so many events, as the service would."""
    key = f"{namespace}:{{vm}}:events"
    async with redis.pipeline(transaction=False) as pipe:
        for n in range(start, start + count):
            pipe.xadd(key, {"what": "moved", "request_id": str(n), "owner_id": "y", "why": why or "x"})
        await pipe.execute()


async def test_the_newest_are_listed_and_the_older_ones_page_by_page(service: Service) -> None:
    await ask(service, "PUT", "/queues/vm", {"paused": True})
    for name in "abc":
        await ask(service, "POST", "/v1/vm/", job(name, owner_id=f"o-{name}"))
    await ask(service, "POST", "/v1/vm/c", {"position": "front"})
    first = (await ask(service, "GET", "/queues/vm/events?limit=2")).json
    assert list(first) == ["data", "ok", "next"]
    assert [(one["what"], one["request_id"]) for one in first["data"]] == [("created", "c"), ("moved", "c")]
    older = (await ask(service, "GET", f"/queues/vm/events/?before={first['next']}")).json
    assert [one["what"] for one in older["data"]] == ["settings", "created", "created"]
    assert older["next"] is None
    everything = older["data"] + first["data"]
    assert (await ask(service, "GET", "/queues/vm/events")).data == everything
    assert all(
        list(one) == ["id", "at", "what", "request_id", "owner_id", "from", "to", "actor", "why"]
        for one in everything
    )
    for query, expected in (("request_id=c", everything[3:]), ("owner_id=o-a", everything[1:2])):
        assert (await ask(service, "GET", f"/queues/vm/events?{query}")).data == expected
    history = (await ask(service, "GET", "/v1/vm/c/events/")).data
    assert history[1:] == everything[4:]
    assert [one["what"] for one in history] == ["created", "moved"]
    assert (await ask(service, "GET", "/queues/none/events")).json == {"data": [], "ok": True, "next": None}
    refused(await ask(service, "GET", "/v1/vm/none/events"), 404, "job_not_found")


@pytest.mark.parametrize(
    ("query", "headers", "field"),
    [
        ("limit=0", {}, "limit"),
        ("limit=1001", {}, "limit"),
        ("before=x", {}, "before"),
        (f"before={2**64}", {}, "before"),
        ("before=1-1-1", {}, "before"),
        ("after=1-1", {}, "after"),
        ("after=%2B", ACCEPT, "after"),
        ("before=1-1", ACCEPT, "before"),
        ("", ACCEPT | {"Last-Event-ID": "nonsense"}, "Last-Event-ID"),
        ("owner_id=", ACCEPT, "owner_id"),
    ],
)
async def test_what_is_no_question_is_refused(
    service: Service, query: str, headers: dict[str, str], field: str
) -> None:
    refused(await ask(service, "GET", f"/queues/vm/events?{query}", headers=headers), 422, "invalid", field)


async def test_what_happens_is_told_as_it_does_and_goes_on_where_one_was(service: Service) -> None:
    await ask(service, "PUT", "/queues/vm", {"paused": True})
    async with follow(service) as stream:
        assert stream.response.headers["Content-Type"] == "text/event-stream"
        assert stream.response.headers["Cache-Control"] == "no-store"
        assert stream.response.headers["X-Accel-Buffering"] == "no"
        await ask(service, "POST", "/v1/vm/", job("a", owner_id="虛\n擬"))
        (seen,) = await stream.take(1)
        assert (seen["what"], seen["owner_id"]) == ("created", "虛\n擬")
    for name in "bc":
        await ask(service, "POST", "/v1/vm/", job(name))
    # The header says more than the address, which a browser keeps.
    async with follow(service, "?after=0", **{"Last-Event-ID": seen["id"]}) as stream:
        assert [one["request_id"] for one in await stream.take(2)] == ["b", "c"]
        await ask(service, "POST", "/v1/vm/c", {"position": "front"})
        assert [one["what"] for one in await stream.take(1)] == ["moved"]
    async with follow(service, "?after=0") as stream:
        assert [one["what"] for one in await stream.take(5)] == ["settings", *["created"] * 3, "moved"]
    async with follow(service, "?request_id=b&after=0") as stream:
        await ask(service, "DELETE", "/v1/vm/c")
        await ask(service, "DELETE", "/v1/vm/b")
        assert [one["what"] for one in await stream.take(2)] == ["created", "cancelled"]
    async with service.client.head(service.url + "/queues/vm/events", headers=ACCEPT) as response:
        assert response.headers["Content-Type"] == "text/event-stream"


async def test_nothing_is_lost_or_told_twice_between_what_was_and_what_comes(
    service: Service, real_redis: Any, namespace: str
) -> None:
    await fill(real_redis, namespace, 1200)

    async def go_on() -> None:
        for n in range(1200, 1400, 20):
            await fill(real_redis, namespace, 20, start=n)
            await asyncio.sleep(0.05)

    async with follow(service) as live, follow(service, "?after=0") as stream:
        writing = asyncio.create_task(go_on())
        found = await stream.take(1400)
        assert [int(one["request_id"]) for one in found] == list(range(1400))
        assert [int(one["request_id"]) for one in await live.take(200)] == list(range(1200, 1400))
        await writing
        async with follow(service, f"?after={found[700]['id']}") as other:
            assert await other.take(699) == found[701:]


async def test_where_the_place_is_gone_it_is_said_first(
    service: Service, real_redis: Any, namespace: str
) -> None:
    await fill(real_redis, namespace, 10)
    found = (await ask(service, "GET", "/queues/vm/events")).data
    await real_redis.xtrim(f"{namespace}:{{vm}}:events", minid=found[5]["id"], approximate=False)
    async with follow(service, f"?after={found[2]['id']}&request_id=9") as stream:
        missed, last = await stream.take(2)
        assert (missed["what"], missed["id"], missed["to"]) == ("missed", found[2]["id"], found[5]["id"])
        assert last == found[9]
        # And while one listens.
        key = f"{namespace}:{{vm}}:events"
        async with real_redis.pipeline(transaction=True) as pipe:
            for n in (7, 8, 9):
                pipe.xadd(key, {"what": "moved", "request_id": str(n)})
            pipe.xtrim(key, maxlen=1, approximate=False)
            await pipe.execute()
        missed, last = await stream.take(2)
        assert (missed["what"], last["request_id"]) == ("missed", "9")
    # From a Redis that never had it.
    async with follow(service, f"?after={2**63}") as stream:
        assert (await stream.take(1))[0]["what"] == "missed"
        await fill(real_redis, namespace, 1)
        assert (await stream.take(1))[0]["request_id"] == "0"


async def test_one_is_told_of_one_s_own_only(
    tmp_path: Any, redis_url: str, real_redis: Any, namespace: str
) -> None:
    path, shown = tmp_path / "tokens.yaml", {}
    for name, role, types, owners in (
        ("own", Role.CLIENT, (), ("own",)),
        ("other", Role.VIEWER, ("kube",), ()),
        ("all", Role.VIEWER, (), ()),
    ):
        token, entry = tokens.make(name, role, types, owners)
        tokens.add(path, entry)
        shown[name] = {"Authorization": f"Bearer {token}"}
    config = config_of(namespace, tokens_file=path, token_rate=1000)
    async with serving(config, redis_url) as service:
        store = service.store
        async with follow(service, **shown["own"]) as own, follow(service, **shown["all"]) as all_:
            await store.configure("vm", {"paused": True})
            await store.create("vm", [new("a", "own"), new("x", "other"), new("b", "own")])
            assert [one["request_id"] for one in await own.take(2)] == ["a", "b"]
            assert [one["request_id"] for one in await all_.take(4)] == ["", "a", "x", "b"]
        async with follow(service, "?after=0", **shown["own"]) as own:
            assert [one["request_id"] for one in await own.take(2)] == ["a", "b"]
        listed = await ask(service, "GET", "/queues/vm/events", headers=shown["own"])
        assert [one["request_id"] for one in listed.data] == ["a", "b"]
        for headers in (shown["own"], shown["own"] | ACCEPT):
            answer = await ask(service, "GET", "/queues/vm/events?owner_id=other", headers=headers)
            refused(answer, 403, "forbidden", "owner_id")
            answer = await ask(service, "GET", "/queues/vm/events?request_id=x", headers=shown["own"])
            assert answer.data == []
        refused(await ask(service, "GET", "/v1/vm/x/events", headers=shown["own"]), 404, "job_not_found")
        for headers in (shown["other"], shown["other"] | ACCEPT):
            refused(await ask(service, "GET", "/queues/vm/events", headers=headers), 403, "forbidden")
        refused(await ask(service, "GET", "/queues/vm/events", headers=ACCEPT), 401, "unauthenticated")


async def test_who_is_let_in_no_more_is_told_no_more(
    tmp_path: Any, redis_url: str, real_redis: Any, namespace: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(events, "COMMENT_SECONDS", 0.05)
    monkeypatch.setattr(events, "LOOK_SECONDS", 0.02)
    path, shown = tmp_path / "tokens.yaml", []
    for name in ("goes", "stays"):
        token, entry = tokens.make(name, Role.VIEWER, (), ())
        tokens.add(path, entry)
        shown.append({"Authorization": f"Bearer {token}"})
    async with (
        serving(config_of(namespace, tokens_file=path), redis_url) as service,
        follow(service, **shown[0]) as goes,
        follow(service, **shown[1]) as stays,
    ):
        assert await goes.comment() == ""
        path.unlink()
        tokens.add(path, entry)
        assert await goes.next() is None
        await service.store.configure("vm", {"paused": True})
        assert (await stays.take(1))[0]["what"] == "settings"


async def test_something_is_said_at_least_so_often(service: Service, monkeypatch: Any) -> None:
    monkeypatch.setattr(events, "COMMENT_SECONDS", 0.05)
    monkeypatch.setattr(events, "LOOK_SECONDS", 0.02)
    async with follow(service) as stream:
        assert [await stream.comment() for _ in range(3)] == ["", "", ""]


async def test_many_who_listen_ask_redis_as_one_and_nobody_asks_when_none_does(
    service: Service, real_redis: Any
) -> None:
    async def asked() -> int:
        found = (await real_redis.info("commandstats")).get("cmdstat_xrevrange", {"calls": 0})
        return int(found["calls"])

    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(follow(service)) for _ in range(20)]
        before, began = await asked(), time.monotonic()
        await service.store.configure("vm", {"paused": True})
        for stream in streams:
            assert (await stream.take(1))[0]["what"] == "settings"
        assert await asked() - before <= (time.monotonic() - began) / feed.POLL_SECONDS + 2
    await until_open(service, 0)
    before = await asked()
    await asyncio.sleep(2 * feed.POLL_SECONDS)
    assert await asked() == before


async def until_open(service: Service, count: int) -> None:
    async with asyncio.timeout(SECONDS):
        while service.feeds.open != count:  # noqa: ASYNC110 - a client that has gone is seen by looking
            await asyncio.sleep(0.02)


def dropped(reason: str) -> float:
    return metrics.EVENT_STREAMS_DROPPED.cell(reason)[0]


async def test_who_does_not_read_is_dropped_and_holds_up_nobody(
    service: Service, real_redis: Any, namespace: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(events, "STALL_SECONDS", 0.5)
    url, before = URL(service.url), dropped("stalled") + dropped("lagging")
    with socket.socket() as sock:
        # The window is what it was when the connection was made.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect((url.host, url.port))
        sock.sendall(b"GET /queues/vm/events HTTP/1.1\r\nHost: h\r\nAccept: text/event-stream\r\n\r\n")
        async with follow(service) as reads:
            await until_open(service, 2)
            for n in range(10):
                await fill(real_redis, namespace, 900, why="x" * 1000, start=900 * n)
                assert int((await reads.take(900))[-1]["request_id"]) == 900 * n + 899
                if dropped("stalled") + dropped("lagging") > before:
                    break
            await until_open(service, 1)
            assert dropped("stalled") + dropped("lagging") == before + 1
            await fill(real_redis, namespace, 1, start=7)
            assert (await reads.take(1))[0]["request_id"] == "7"


async def test_who_falls_behind_what_is_remembered_is_dropped() -> None:
    async def read(type_: str, after: str | None) -> feed.Passage:
        return feed.Passage([], "0-0", False)

    told = feed.Feed("vm", read)
    follower = feed.Follower(told, "", feed.Wanted())
    entries = [feed.Event(f"{n}-0", "moved") for n in range(1, feed.KEPT + 2)]
    told._take(feed.Passage(entries, entries[-1].id, False))
    with pytest.raises(feed.Lagging):
        await follower.next(0)


async def test_so_many_are_told_at_once_and_no_more(service: Service, monkeypatch: Any) -> None:
    monkeypatch.setattr(feed, "MAX_STREAMS", 2)
    async with follow(service):
        async with following(service.client, service.url, type_="kube"):
            answer = await ask(service, "GET", "/queues/vm/events", headers=ACCEPT)
            refused(answer, 429, "rate_limited")
            assert answer.headers["Retry-After"] == "5"
            assert (await ask(service, "GET", "/queues/vm/events")).status == 200
            async with service.client.get(service.url + "/metrics") as response:
                assert "rqueue_event_streams 2.0" in await response.text()
        await until_open(service, 1)
        async with follow(service):
            pass


async def test_a_caller_has_a_share_of_them(monkeypatch: Any) -> None:
    monkeypatch.setattr(feed, "MAX_OF_CALLER", 1)

    async def read(type_: str, after: str | None) -> feed.Passage:
        return feed.Passage([], "0-0", False)

    feeds = feed.Feeds(read)
    async with feeds.follow("vm", "", feed.Wanted(), "alice"), feeds.follow("vm", "", feed.Wanted(), "bob"):
        with pytest.raises(feed.RateLimited):
            async with feeds.follow("vm", "", feed.Wanted(), "alice"):
                pass
        assert feeds.open == 2
    assert feeds.open == 0


async def test_a_stream_outlives_redis_and_misses_nothing(tmp_path: Any, namespace: str) -> None:
    with ExitStack() as first:
        url = first.enter_context(embedded(tmp_path))
        async with serving(config_of(namespace), url) as service:
            await service.store.configure("vm", {"paused": True})
            async with follow(service) as stream:
                await service.store.create("vm", [new("a")])
                (seen,) = await stream.take(1)
                first.close()
                assert "Redis" in await stream.comment()
                with embedded(tmp_path) as again:
                    assert again == url
                    async with redis_at(url) as redis:
                        await fill(redis, namespace, 3)
                    found = await stream.take(3)
                    assert [one["request_id"] for one in found] == ["0", "1", "2"]
                    assert found[0]["id"] > seen["id"]
                    assert stream.comments[-1:] == ["redis is back"]


async def test_without_redis_no_stream_begins(namespace: str) -> None:
    async with serving(config_of(namespace), "redis://127.0.0.1:1") as service:
        for headers in ({}, ACCEPT):
            for path in ("/queues/vm/events", "/v1/vm/a/events"):
                refused(await ask(service, "GET", path, headers=headers), 503, "redis_unavailable")
        assert service.feeds.open == 0


async def test_streams_end_with_the_service_and_do_not_hold_it_up(tmp_path: Any) -> None:
    async with (
        running(tmp_path) as service,
        aiohttp.ClientSession() as client,
        following(client, service.url) as stream,
        following(client, service.url, "?after=0") as other,
    ):
        began = time.monotonic()
        ending = asyncio.create_task(service.end())
        assert await stream.next() is None
        assert await other.next() is None
        assert await ending == 0
        # What is in flight is waited for by RQUEUE_CALLBACK_TIMEOUT, 15 s.
        assert time.monotonic() - began < 10


async def test_a_job_is_called_again_at_once_where_somebody_asks(
    service: Service, receiver: Receiver
) -> None:
    later = {"Retry-After": "500"}
    receiver.answer = lambda _: web.Response(status=503, headers=later)
    await ask(service, "PUT", "/queues/vm/pools/default", {"hosts": {"n": {"slots": 1}}})
    await ask(service, "POST", "/v1/vm/", job("a", callback=f"{receiver.url}/a"))
    await service.settle()
    tried = len(receiver.calls)
    receiver.answer = None
    would_be = await ask(service, "POST", "/v1/vm/a?dry_run=true", {"status": "calling"})
    assert would_be.data["Status"] == "calling"
    await service.settle()
    assert len(receiver.calls) == tried
    assert (await ask(service, "POST", "/v1/vm/a", {"status": "calling"})).data == {}
    await receiver.until(tried + 1)
    await service.reaper.drain()
    assert (await ask(service, "GET", "/v1/vm/a")).data["Status"] == "running"
    found = (await ask(service, "GET", "/v1/vm/a/events")).data
    assert [one["what"] for one in found] == [
        *("created", "admitted", "call_failed", "redelivered", "called", "running")
    ]
    assert "503" in found[2]["why"]
    assert len({headers["webhook-id"] for _, headers, _ in receiver.calls}) == 1
    for name, status in (("a", 409), ("none", 404)):
        assert (await ask(service, "POST", f"/v1/vm/{name}", {"status": "calling"})).status == status
