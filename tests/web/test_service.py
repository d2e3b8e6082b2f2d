"""The service itself: is it there, is it ready, what it says without Redis, and whatever it is sent."""

import asyncio
import socket
from contextlib import ExitStack

import pytest
import uvloop
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rqueue.store.embedded import embedded
from rqueue.web.server import listening
from tests import invariants
from tests.conftest import config_of, redis_at, serving
from tests.web.wire import ask, job, refused, well_formed

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


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
_name = st.text(min_size=1, max_size=8) | st.sampled_from(["a", "b", "c"]) | _json
_amount = st.integers(-1, 5) | st.sampled_from(["500m", "2Gi", "x", "1.5"]) | _json
_shape = (
    st.dictionaries(st.sampled_from(["slots", "cpu", ""]) | st.text(max_size=3), _amount, max_size=3) | _json
)
_data = (
    st.fixed_dictionaries(
        {},
        optional={
            "instances": st.lists(_shape, max_size=3) | _json,
            "project": _name,
            "host_aggregate": _name,
        },
    )
    | _json
)
_callback = st.sampled_from(["x", "y", "http://127.0.0.1:1/", "//h", "http://[", "http://h:99999"]) | _name


def _body(**known: st.SearchStrategy) -> st.SearchStrategy:
    """A body with any of the known fields, at times with others, at times something else."""
    maps = st.fixed_dictionaries({}, optional=known)
    return (
        maps | st.builds(lambda a, b: {**a, **b}, maps, st.dictionaries(st.text(), _json, max_size=1)) | _json
    )


_create = _body(
    request_id=_name, owner_id=_name, callback=_callback, data=_data, priority=st.integers() | _json
)
_full = st.builds(
    lambda name, callback, data: {"request_id": name, "owner_id": "y", "callback": callback, "data": data},
    *(_name, _callback, _data),
)
_change = (
    st.sampled_from([{"position": "front"}, {"before": "b"}, {"status": "done"}, {"status": "queued"}])
    | st.builds(lambda name, value: {name: value}, st.sampled_from(["before", "after", "callback"]), _name)
    | st.builds(lambda data: {"data": data}, _data)
    | st.builds(lambda number: {"priority": number}, st.integers())
    | _body(
        priority=_json, position=_json, before=_name, after=_name, status=_json, data=_data, callback=_name
    )
)
_queue = _body(
    paused=st.booleans(),
    policy=_json,
    call_deadline=st.integers(-1, 10**9),
    lease_seconds=st.integers(-1, 10**9) | st.none(),
    retention=st.integers(),
    default_pool=_name,
    max_queued=st.integers() | st.none(),
)
_pool = _body(
    hosts=st.dictionaries(st.text(max_size=5), _shape, max_size=3) | _json,
    projects=st.lists(_name, max_size=3) | _json,
)
_requests = st.one_of(
    st.tuples(st.just("POST"), st.just("/v1/vm/"), _full | _create | st.lists(_full | _create, max_size=3)),
    st.tuples(st.just("POST"), st.sampled_from(["/v1/vm/a", "/v1/vm/b/", "/v1/vm/c"]), _change),
    st.tuples(st.just("DELETE"), st.sampled_from(["/v1/vm/a", "/v1/vm/b"]), st.none()),
    st.tuples(st.just("PUT"), st.just("/queues/vm"), _queue),
    st.tuples(st.just("PUT"), st.sampled_from(["/queues/vm/pools/a", "/queues/vm/pools/default"]), _pool),
    st.tuples(
        st.just("GET"), st.sampled_from(["/v1/vm/", "/v1/vm/a", "/queues/", "/queues/vm/pools/a"]), st.none()
    ),
)


@settings(
    max_examples=1200,
    deadline=None,
    database=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(request=_requests)
async def test_whatever_is_sent_the_answer_is_no_fault_and_has_the_one_shape(service, request):
    method, path, body = request
    answer = await ask(service, method, path, body)
    well_formed(answer)
    assert answer.status in (200, 201, 400, 404, 409, 422, 429), answer.text


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
