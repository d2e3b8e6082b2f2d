"""The service itself: is it there, is it ready, what it says without Redis, and whatever it is sent."""

import asyncio
import socket
from contextlib import ExitStack

import pytest
import uvloop
from aiohttp import web

from rqueue.store.embedded import embedded
from rqueue.web.server import listening
from tests import invariants
from tests.conftest import config_of, redis_at, serving
from tests.web.wire import ask, job, refused

POOL = {"hosts": {"h": {"slots": 1}}}


@pytest.mark.parametrize("path", ["/healthz", "/healthz/", "/readyz", "/readyz/"])
async def test_a_service_with_its_redis_is_ready(service, path):
    await service.settle()
    assert (await ask(service, "GET", path, allow_redirects=False)).text == '{"data":{},"ok":true}'


async def test_without_redis_every_route_says_so_and_when_to_come_again(namespace):
    async with serving(config_of(namespace), "redis://127.0.0.1:1") as service:
        for method, path, body in [
            ("GET", "/readyz", None),
            ("GET", "/v1/vm/", None),
            ("GET", "/v1/vm/?limit=5&status=done", None),
            ("POST", "/v1/vm/", job()),
            ("POST", "/v1/vm/", [job("a"), job("b")]),
            ("GET", "/v1/vm/a", None),
            ("POST", "/v1/vm/a", {"priority": 5}),
            ("POST", "/v1/vm/a", {"status": "done"}),
            ("POST", "/v1/vm/a", {"data": {}}),
            ("DELETE", "/v1/vm/a", None),
            ("GET", "/queues/", None),
            ("GET", "/queues/vm", None),
            ("PUT", "/queues/vm", {"paused": True}),
            ("GET", "/queues/vm/pools/p", None),
            ("PUT", "/queues/vm/pools/p", POOL),
            ("DELETE", "/queues/vm/pools/p", None),
        ]:
            answer = await ask(service, method, path, body)
            assert "Redis" in refused(answer, 503, "redis_unavailable")
            assert int(answer.headers["Retry-After"]) >= 1
        assert (await ask(service, "GET", "/healthz")).data == {}
        refused(await ask(service, "POST", "/v1/vm/", {}), 422, "invalid", "request_id")


async def test_a_redis_that_may_delete_jobs_is_not_ready(tmp_path, namespace):
    with embedded(tmp_path) as url:
        async with redis_at(url) as redis, serving(config_of(namespace), url) as service:
            await service.settle()
            assert (await ask(service, "GET", "/readyz")).data == {}
            await redis.config_set("maxmemory-policy", "allkeys-lru")
            message = refused(await ask(service, "GET", "/readyz"), 503, "not_ready")
            assert "allkeys-lru" in message
            assert "noeviction" in message
            await redis.config_set("maxmemory-policy", "noeviction")
            assert (await ask(service, "GET", "/readyz")).data == {}


async def test_a_redis_that_is_full_is_not_there(tmp_path, namespace):
    """Nothing is half written: what was refused may be asked again when there is room.

    A script that frees memory before it takes some is let through, and then as a whole.
    """
    with embedded(tmp_path) as url:
        async with redis_at(url) as redis, serving(config_of(namespace), url) as service:
            await ask(service, "POST", "/v1/vm/", job("a"))
            await redis.config_set("maxmemory", "1")
            refused(await ask(service, "POST", "/v1/vm/", job("b")), 503, "redis_unavailable")
            refused(await ask(service, "PUT", "/queues/vm/pools/p", POOL), 503, "redis_unavailable")
            refused(await ask(service, "POST", "/v1/vm/a", {"priority": 1}), 503, "redis_unavailable")
            assert (await ask(service, "POST", "/v1/vm/a", {"data": {"project": "p"}})).status == 200
            await invariants.check(redis, namespace)
            assert [found["RequestID"] for found in (await ask(service, "GET", "/v1/vm/")).data] == ["a"]
            assert (await ask(service, "DELETE", "/v1/vm/a")).status == 200
            assert (await ask(service, "GET", "/v1/vm/a")).data["Status"] == "cancelled"
            await invariants.check(redis, namespace)
            await redis.config_set("maxmemory", "0")
            assert (await ask(service, "POST", "/v1/vm/", job("b"))).status == 201


async def test_a_redis_that_wants_a_password_is_away_and_comes_back(tmp_path, namespace):
    with embedded(tmp_path) as url:
        async with redis_at(url) as redis, serving(config_of(namespace), url) as service:
            assert (await ask(service, "POST", "/v1/vm/", job("a"))).status == 201
            await redis.config_set("requirepass", "secret")
            await redis.client_kill_filter(_type="normal", skipme=True)
            message = refused(await ask(service, "GET", "/v1/vm/a"), 503, "redis_unavailable")
            assert "Authentication required" in message
            await redis.config_set("requirepass", "")
            assert (await ask(service, "GET", "/v1/vm/a")).status == 200


async def test_scripts_that_redis_has_forgotten_are_sent_again(tmp_path, namespace):
    with embedded(tmp_path) as url:
        async with redis_at(url) as redis, serving(config_of(namespace), url) as service:
            for name in "ab":
                assert (await ask(service, "POST", "/v1/vm/", job(name))).status == 201
                await redis.script_flush()
            assert (await ask(service, "GET", "/v1/vm/b")).data["Position"] == 1


async def test_a_type_whose_keys_are_of_another_kind_is_damaged_and_the_others_go_on(
    service, real_redis, namespace
):
    await real_redis.set(f"{namespace}:{{vm}}:queue", "a string")
    refused(await ask(service, "POST", "/v1/vm/", job()), 503, "store_damaged")
    refused(await ask(service, "GET", "/v1/vm/"), 503, "store_damaged")
    await ask(service, "PUT", "/queues/kube/pools/default", POOL)
    await ask(service, "POST", "/v1/kube/", job())
    await service.settle()
    assert (await ask(service, "GET", "/v1/kube/a")).data["Status"] == "running"


async def test_a_service_stops_wherever_its_reaper_is(redis_url, real_redis, namespace):
    """Each stop meets the reaper at another step; none may wait for a cancellation that was lost."""
    for turns in range(30):
        async with asyncio.timeout(5), serving(config_of(namespace), redis_url) as service:
            await ask(service, "GET", "/nope")
            for _ in range(turns):
                await asyncio.sleep(0)


def test_connections_that_come_at_once_are_not_accepted_one_a_turn():
    """Else the last of many waits for as many turns of a busy loop: turns are counted, not time."""
    turns, served, clients = 0, 0, 50

    async def main() -> None:
        nonlocal turns
        everyone, loop = asyncio.Event(), asyncio.get_running_loop()

        async def handle(_: web.Request) -> web.Response:
            nonlocal served
            served += 1
            if served == clients:
                everyone.set()
            return web.Response()

        def turn() -> None:
            nonlocal turns
            turns += 1
            if not everyone.is_set():
                loop.call_soon(turn)

        app = web.Application()
        app.router.add_get("/", handle)
        with socket.create_server(("127.0.0.1", 0)) as sock, ExitStack() as stack:
            async with listening(app, sock, grace=0.1):
                for _ in range(clients):
                    client = stack.enter_context(socket.create_connection(sock.getsockname()))
                    client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                loop.call_soon(turn)
                await everyone.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(main())
    assert turns < clients
