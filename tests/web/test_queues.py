"""Queues and pools over HTTP: settings, counts, capacity, and the inbox at the end of it."""

import asyncio
import json

import pytest
from aiohttp.test_utils import make_mocked_request

from rqueue.app import build
from rqueue.errors import Forbidden, InvalidCallback
from rqueue.store.keys import Keys
from rqueue.web.context import CHECK_CALLBACK
from rqueue.web.inbox import near, take_inbox
from tests.conftest import config_of
from tests.invariants import capacity_kept, check
from tests.web.wire import ask, job, refused

DEFAULTS = {
    "policy": "strict",
    "patience": 600,
    "paused": False,
    "call_deadline": 600,
    "lease_seconds": None,
    "retention": 86400,
    "default_pool": "default",
    "source": "declared",
    "hold_seconds": 300,
    "stale_after": 60,
    "max_queued": None,
}
NONE = {"queued": 0, "running": 0, "ended": 0}


@pytest.mark.parametrize("path", ["/queues/vm", "/queues/vm/"])
async def test_a_queue_that_nobody_has_used_has_the_defaults(service, path):
    expected = {"type": "vm", **DEFAULTS, "counts": NONE, "pools": []}
    assert (await ask(service, "GET", path, allow_redirects=False)).data == expected
    assert (await ask(service, "GET", "/queues", allow_redirects=False)).data == []


@pytest.mark.parametrize(
    "asked",
    [
        {"paused": True},
        {"call_deadline": 1, "lease_seconds": 2, "retention": 0, "max_queued": 0},
        {"default_pool": "123"},
        {"default_pool": "a/b 虛"},
        {"policy": "strict", "source": "declared"},
        {},
    ],
)
async def test_settings_are_changed_one_by_one_and_null_takes_them_back(service, asked):
    expected = {"type": "vm", **DEFAULTS, **asked, "counts": NONE, "pools": []}
    assert (await ask(service, "PUT", "/queues/vm", asked)).data == expected
    assert (await ask(service, "PUT", "/queues/vm", {})).data == expected
    assert (await ask(service, "GET", "/queues/")).data == [expected]
    back = (await ask(service, "PUT", "/queues/vm", dict.fromkeys(asked))).data
    assert back == {"type": "vm", **DEFAULTS, "counts": NONE, "pools": []}


async def test_many_queues_are_read_some_at_a_time(service, real_redis, namespace):
    types = sorted(f"t{n}" for n in range(200))
    await real_redis.sadd(Keys(namespace).types, *types)
    await real_redis.set(Keys(namespace).of("t7", "settings"), "x")
    # How often the server was sent something, of one or more commands.
    before = (await real_redis.info("stats"))["total_reads_processed"]
    data = (await ask(service, "GET", "/queues/")).data
    assert (await real_redis.info("stats"))["total_reads_processed"] - before < 150
    assert [queue["type"] for queue in data] == types
    assert [queue["type"] for queue in data if "error" in queue] == ["t7"]


async def test_queues_are_listed_with_their_counts_and_pools(service):
    await ask(service, "PUT", "/queues/kube/pools/b", {"hosts": {}})
    await ask(service, "PUT", "/queues/kube/pools/a", {"hosts": {"h": {"slots": 1}}})
    await ask(service, "POST", "/v1/kube/", [job(n, data={"host_aggregate": "a"}) for n in "123"])
    await service.settle()
    await ask(service, "DELETE", "/v1/kube/3")
    await ask(service, "POST", "/v1/vm/", job())
    listed = (await ask(service, "GET", "/queues/")).data
    assert [(q["type"], q["counts"], q["pools"]) for q in listed] == [
        ("kube", {"queued": 1, "running": 1, "ended": 1}, ["a", "b"]),
        ("vm", {"queued": 1, "running": 0, "ended": 0}, []),
    ]


async def test_a_pool_shows_what_each_host_has_and_what_is_used(service, real_redis, namespace):
    body = {
        "hosts": {"n2": {"cpu": 4, "memory": "8Gi"}, "n1": {"cpu": "1500m", "memory": 1}},
        "projects": ["q", "p"],
    }
    shown = (await ask(service, "PUT", "/queues/vm/pools/gold", body)).data
    assert shown == (await ask(service, "GET", "/queues/vm/pools/gold/", allow_redirects=False)).data
    assert shown == {
        "pool": "gold",
        "hosts": {
            "n1": {
                "capacity": {"cpu": "1500m", "memory": 1},
                "used": {"cpu": 0, "memory": 0},
                "free": {"cpu": "1500m", "memory": 1},
            },
            "n2": {
                "capacity": {"cpu": 4, "memory": 8 * 2**30},
                "used": {"cpu": 0, "memory": 0},
                "free": {"cpu": 4, "memory": 8 * 2**30},
            },
        },
        "projects": ["p", "q"],
        "waiting": 0,
        "quotas": {},
        "usage": {},
    }
    demand = {"project": "p", "instances": [{"cpu": "250m", "memory": "1Gi"}]}
    await ask(service, "POST", "/v1/vm/", [job("a", data=demand), job("b", owner_id="q", data={})])
    await service.settle()
    after = (await ask(service, "GET", "/queues/vm/pools/gold")).data
    assert after["hosts"]["n2"]["used"] == {"cpu": "250m", "memory": 2**30}
    assert after["hosts"]["n2"]["free"] == {"cpu": "3750m", "memory": 7 * 2**30}
    assert after["waiting"] == 1
    await check(real_redis, namespace)
    await capacity_kept(real_redis, namespace)


async def test_a_pool_is_declared_in_place_of_what_it_was(service):
    await ask(service, "PUT", "/queues/vm/pools/p", {"hosts": {"a": {"x": 1}}, "projects": ["one", "two"]})
    shown = (
        await ask(service, "PUT", "/queues/vm/pools/p", {"hosts": {"b": {"y": 2}}, "projects": ["two"]})
    ).data
    assert (list(shown["hosts"]), shown["projects"]) == (["b"], ["two"])
    answer = await ask(service, "PUT", "/queues/vm/pools/q", {"hosts": {}, "projects": ["one"]})
    assert answer.data["projects"] == ["one"]
    message = refused(
        await ask(service, "PUT", "/queues/vm/pools/q", {"hosts": {}, "projects": ["two"]}),
        *(409, "project_taken", "projects"),
    )
    assert "'two'" in message
    assert "'p'" in message


@pytest.mark.parametrize(
    ("changes", "pool"),
    [
        ({"data": {"host_aggregate": "own", "project": "p"}, "owner_id": "o"}, "own"),
        ({"data": {"project": "p"}, "owner_id": "o"}, "of-p"),
        ({"data": {"project": "unknown"}, "owner_id": "o"}, "of-o"),
        ({"data": {"project": 5}, "owner_id": "o"}, "of-o"),
        ({"data": {"host_aggregate": None}, "owner_id": "o"}, "of-o"),
        ({"data": {"project": "unknown"}, "owner_id": "u"}, "usual"),
        ({"owner_id": "u"}, "usual"),
    ],
)
async def test_a_job_belongs_to_one_pool_and_says_so_in_its_data(service, changes, pool):
    await ask(service, "PUT", "/queues/vm/pools/of-p", {"hosts": {}, "projects": ["p"]})
    await ask(service, "PUT", "/queues/vm/pools/of-o", {"hosts": {}, "projects": ["o"]})
    await ask(service, "PUT", "/queues/vm", {"default_pool": "usual"})
    made = (await ask(service, "POST", "/v1/vm/", job(**changes))).data
    assert json.loads(made["Data"]) == {**changes.get("data", {}), "host_aggregate": pool}


async def test_a_pool_that_is_forgotten_frees_its_projects_and_admits_nobody(service, real_redis, namespace):
    await ask(service, "PUT", "/queues/vm/pools/default", {"hosts": {"h": {"slots": 1}}, "projects": ["p"]})
    await ask(service, "POST", "/v1/vm/", [job("a"), job("b")])
    await service.settle()
    assert (await ask(service, "DELETE", "/queues/vm/pools/default/")).data == {}
    refused(await ask(service, "GET", "/queues/vm/pools/default"), 404, "pool_not_found")
    assert (await ask(service, "GET", "/queues/vm")).data["pools"] == []
    assert (await ask(service, "GET", "/v1/vm/a")).data["Status"] == "running"
    await ask(service, "DELETE", "/v1/vm/a")
    await service.settle()
    left = (await ask(service, "GET", "/v1/vm/b")).data
    assert (left["Status"], left["Reason"]) == ("queued", "no_pool: pool default is not declared")
    await check(real_redis, namespace)
    again = await ask(service, "PUT", "/queues/vm/pools/q", {"hosts": {}, "projects": ["p"]})
    assert again.data["projects"] == ["p"]


async def test_capacity_that_appears_lets_the_next_go(service):
    await ask(service, "POST", "/v1/vm/", [job("a"), job("b")])
    await service.settle()
    assert (await ask(service, "GET", "/queues/vm")).data["counts"] == {**NONE, "queued": 2}
    for slots in (1, 2):
        await ask(service, "PUT", "/queues/vm/pools/default", {"hosts": {"h": {"slots": slots}}})
        await service.settle()
        counts = (await ask(service, "GET", "/queues/vm")).data["counts"]
        assert counts == {**NONE, "queued": 2 - slots, "running": slots}


async def test_a_paused_queue_takes_jobs_and_admits_none(service):
    await ask(service, "PUT", "/queues/vm", {"paused": True})
    await ask(service, "PUT", "/queues/vm/pools/default", {"hosts": {"h": {"slots": 1}}})
    await ask(service, "POST", "/v1/vm/", job())
    await service.settle()
    waiting = (await ask(service, "GET", "/v1/vm/a")).data
    assert (waiting["Status"], waiting["Reason"]) == ("queued", "paused: queue vm is paused")
    await ask(service, "PUT", "/queues/vm", {"paused": False})
    await service.settle()
    assert (await ask(service, "GET", "/v1/vm/a")).data["Status"] == "running"


async def test_a_full_queue_says_so_and_when_to_come_again(service):
    await ask(service, "PUT", "/queues/vm", {"max_queued": 2})
    answer = await ask(service, "POST", "/v1/vm/", [job("a"), job("b"), job("c")])
    assert "2" in refused(answer, 429, "queue_full")
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await ask(service, "POST", "/v1/vm/", [job("a"), job("b")])).status == 201
    refused(await ask(service, "POST", "/v1/vm/", job("c")), 429, "queue_full")
    assert (await ask(service, "POST", "/v1/kube/", job("c"))).status == 201
    await ask(service, "DELETE", "/v1/vm/a")
    assert (await ask(service, "POST", "/v1/vm/", job("c"))).status == 201


async def test_the_inbox_shows_what_arrived_newest_first(service):
    await ask(service, "PUT", "/queues/vm/pools/default", {"hosts": {"h": {"slots": 2}}})
    for name in ("abc", "a/b%20c"):
        await ask(service, "POST", "/v1/vm/", job(name, callback=name))
        await service.settle()
    newest, oldest = (await ask(service, "GET", "/inbox/")).data
    assert (oldest["path"], newest["path"]) == ("/inbox/abc", "/inbox/a/b c")
    assert {name.lower() for name in oldest["headers"]} == {
        *("webhook-id", "webhook-timestamp", "webhook-signature")
    }
    told = json.loads(oldest["body"])
    assert list(told) == ["type", "timestamp", "data"]
    assert (told["type"], told["data"]["RequestID"], told["data"]["Status"]) == (
        "job.admitted",
        "abc",
        "calling",
    )
    assert told["data"]["Placement"] == ["h"]
    assert (await ask(service, "GET", "/inbox", allow_redirects=False)).data == [newest, oldest]


@pytest.mark.parametrize("callback", ["a%0Ab", "%0A", "a%2F%0D%0Ab", "%00", "a//b", "%ff"])
async def test_the_inbox_takes_any_callback_that_leads_to_it(service, callback):
    await ask(service, "PUT", "/queues/vm/pools/default", {"hosts": {"h": {"slots": 1}}})
    await ask(service, "POST", "/v1/vm", job(callback=callback))
    await service.settle()
    assert (await ask(service, "GET", "/v1/vm/a")).data["Status"] == "running"
    assert len((await ask(service, "GET", "/inbox")).data) == 1


async def test_there_is_no_inbox_beside_a_redis_of_ones_own(redis_url, namespace):
    app = build(config_of(namespace), redis_url)
    assert not [route for route in app.router.routes() if "/inbox" in route.resource.canonical]
    with pytest.raises(InvalidCallback, match="RQUEUE_CALLBACK_BASE_URL"):
        app[CHECK_CALLBACK]("abc")


class CameTo(asyncio.Transport):
    """What a connection to an address of this machine says of it."""

    def __init__(self, address: str) -> None:
        super().__init__({"sockname": (address, 8080)})


@pytest.mark.parametrize("remote", ["10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "localhost", ""])
async def test_the_inbox_takes_nothing_from_other_machines(remote):
    request = make_mocked_request("POST", "/inbox/a", transport=CameTo("10.0.0.2")).clone(remote=remote)
    with pytest.raises(Forbidden):
        await take_inbox(request)


@pytest.mark.parametrize("remote", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "10.0.0.2"])
async def test_the_inbox_takes_what_is_of_this_machine(remote):
    """By its own address too, where RQUEUE_HOST is one: the service calls itself there."""
    request = make_mocked_request("POST", "/inbox/a", transport=CameTo("10.0.0.2"))
    assert near(request.clone(remote=remote))


async def test_the_inbox_keeps_little_of_each(service):
    """Whoever fills it with headers and bodies gets no memory for it."""
    long = {"webhook-id": "i" * 5000, "webhook-other": "x" * 5000}
    async with service.client.post(f"{service.url}/inbox/a", data=b"b" * 100_000, headers=long) as response:
        assert response.status == 200
    (kept,) = (await ask(service, "GET", "/inbox/")).data
    assert {name: len(value) for name, value in kept["headers"].items()} == {"webhook-id": 1024}
    assert len(kept["body"]) == 16 * 1024


async def test_the_inbox_keeps_the_last_thousand(service, real_redis, namespace):
    old = '{"at":"2027-01-15T08:00:00+00:00","path":"/inbox/old","headers":{},"body":""}'
    await real_redis.rpush(f"{namespace}:inbox", *[old] * 1000)
    async with service.client.post(f"{service.url}/inbox/new") as response:
        assert response.status == 200
    paths = [arrived["path"] for arrived in (await ask(service, "GET", "/inbox/")).data]
    assert paths == ["/inbox/new", *["/inbox/old"] * 999]


async def test_the_inbox_takes_bytes_that_are_no_text_and_survives_a_hand_edit(
    service, real_redis, namespace
):
    host, port = service.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = b"POST /inbox/a HTTP/1.1\r\nHost: h\r\nWebhook-Id: \xff\xfe\r\nContent-Length: 1\r\n\r\n"
    writer.write(head + b"\xff")
    assert (await reader.readline()).split()[1] == b"200"
    writer.close()
    await real_redis.lpush(f"{namespace}:inbox", "no JSON")
    (kept,) = (await ask(service, "GET", "/inbox/")).data
    assert (kept["path"], kept["headers"], kept["body"]) == ("/inbox/a", {"webhook-id": "??"}, "\ufffd")
