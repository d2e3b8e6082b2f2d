"""Live sources: who reads them, how often, and what becomes of errors; the source is the tests' own."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from rqueue import metrics, sources
from rqueue.domain.pool import Observation, Pool
from rqueue.errors import Refused, SourceUnavailable
from rqueue.sources import Reading
from rqueue.store.connect import connect
from rqueue.store.live import Live
from tests import invariants
from tests.conftest import config_of, serving
from tests.store.line import create

PERIOD = 10
LEASE_SECONDS = 2 * PERIOD + PERIOD + 5


class Cluster:
    """Aggregates with hosts whose amounts a test sets; a source that is asked for them."""

    def __init__(self):
        self.has = {}
        self.errors = {}
        self.down = None
        self.asked = []
        self.entered = self.left = 0
        self.bell = asyncio.Event()
        self.hangs = None
        self.reached = asyncio.Event()

    async def observe(self, wanted):
        self.asked.append(dict(wanted))
        self.bell.clear()
        self.reached.set()
        if self.hangs:
            await self.hangs.wait()
        if self.down:
            raise self.down
        return {
            name: self.errors.get(found_by["aggregate"])
            or Observation(self.has.get(found_by["aggregate"], {}), {})
            for name, found_by in wanted.items()
        }

    async def changed(self):
        await self.bell.wait()

    def set(self, aggregate, **hosts):
        self.has[aggregate] = hosts
        self.bell.set()

    @asynccontextmanager
    async def connected(self):
        self.entered += 1
        yield self
        self.left += 1


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
async def replica(redis_url, namespace, clock):
    """Makes a replica's reader of a cluster, and what it woke."""
    async with connect(redis_url) as pipeline:

        def made(name, source, period=PERIOD):
            woken = []
            live = Live(pipeline, namespace, name, clock)
            factory = source if callable(source) else source.connected
            reading = Reading("openstack", factory, live, lambda *pool: woken.append(pool), period)
            reading.woken = woken
            return reading

        yield made


async def declare(store, type_="vm", **aggregates):
    await store.configure(type_, {"source": "openstack"})
    for pool, aggregate in aggregates.items():
        put = Pool(pool, {}, source="openstack", found_by={"aggregate": aggregate})
        await store.put_pool(type_, put)


async def test_what_a_source_has_is_written_and_the_pool_woken(real_store, replica, cluster):
    await declare(real_store, p="a")
    cluster.set("a", n={"slots": 3})
    reading = replica("one", cluster)
    await create(real_store, "j", host_aggregate="p")
    await reading.read()
    pool = await real_store.pool("vm", "p")
    assert pool.capacity == {"n": {"slots": 3}}
    assert reading.woken == [("vm", "p")]
    await reading.stop()
    assert (cluster.entered, cluster.left) == (1, 1)


async def test_all_pools_of_all_types_are_read_together(real_store, replica, cluster):
    await declare(real_store, "vm", p="a", q="b")
    await declare(real_store, "v/m %2F", p="c")
    reading = replica("one", cluster)
    await reading.read()
    (asked,) = cluster.asked
    assert sorted(found_by["aggregate"] for found_by in asked.values()) == ["a", "b", "c"]


async def test_where_there_is_no_live_pool_the_source_is_not_even_made(real_store, replica, cluster):
    reading = replica("one", cluster)
    await reading.read()
    assert cluster.entered == 0
    await declare(real_store, p="a")
    await reading.read()
    assert (cluster.entered, cluster.left) == (1, 0)
    await real_store.delete_pool("vm", "p")
    await reading.read()
    assert (cluster.entered, cluster.left) == (1, 1)


async def test_one_replica_reads_and_when_it_dies_another_takes_over(real_store, replica, cluster, clock):
    await declare(real_store, p="a")
    one, two = replica("one", cluster), replica("two", cluster)
    for _ in range(3):
        await one.read()
        await two.read()
        clock.forward(PERIOD)
    assert len(cluster.asked) == 3
    # It has died: nobody gives anything up.
    clock.forward(LEASE_SECONDS - PERIOD - 1)
    await two.read()
    assert len(cluster.asked) == 3
    clock.forward(1)
    await two.read()
    assert len(cluster.asked) == 4
    # And is not dead after all.
    await one.read()
    assert len(cluster.asked) == 4


async def test_who_stops_is_followed_at_once(real_store, replica, cluster):
    await declare(real_store, p="a")
    one, two = replica("one", cluster), replica("two", cluster)
    await one.read()
    await one.stop()
    await two.read()
    assert len(cluster.asked) == 2


async def test_what_one_reads_that_was_dead_for_a_while_is_refused(real_store, replica, cluster, clock):
    await declare(real_store, p="a")
    slow, hangs = Cluster(), asyncio.Event()
    slow.hangs = hangs
    slow.set("a", n={"slots": 9})
    one, two = replica("one", slow), replica("two", cluster)
    reading = asyncio.create_task(one.read())
    await slow.reached.wait()
    clock.forward(LEASE_SECONDS)
    cluster.set("a", n={"slots": 1})
    await two.read()
    hangs.set()
    await reading
    assert (await real_store.pool("vm", "p")).capacity == {"n": {"slots": 1}}


async def test_one_pool_that_cannot_be_read_holds_up_no_other(real_store, replica, cluster, caplog):
    await declare(real_store, p="a", q="b")
    cluster.set("b", n={"slots": 1})
    cluster.errors["a"] = SourceUnavailable("there is no aggregate 'a'")
    reading = replica("one", cluster)
    before = metrics.SOURCE_ERRORS.cell("openstack")[0]
    for _ in range(3):
        await reading.read()
    assert (await real_store.pool("vm", "p")).error == "there is no aggregate 'a'"
    assert (await real_store.pool("vm", "q")).error is None
    assert (await real_store.pool("vm", "q")).capacity == {"n": {"slots": 1}}
    assert metrics.SOURCE_ERRORS.cell("openstack")[0] == before + 3
    del cluster.errors["a"]
    await reading.read()
    assert (await real_store.pool("vm", "p")).error is None
    said = [r.message for r in caplog.records if r.name == "rqueue.sources" and r.levelname == "WARNING"]
    assert len(said) == 1


async def test_a_source_that_is_down_is_asked_less_and_less_often(real_store, replica, cluster, monkeypatch):
    await declare(real_store, p="a")
    asked, now = [], [1000.0]
    monkeypatch.setattr(sources, "full_jitter", lambda n, longest: asked.append(n) or min(longest, 2.0**n))
    monkeypatch.setattr(sources.time, "monotonic", lambda: now[0])
    cluster.down = SourceUnavailable("keystone is away")
    reading = replica("one", cluster)
    for _ in range(200):
        await reading.read()
        now[0] += 1
    assert asked == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (await real_store.pool("vm", "p")).error == "keystone is away"
    cluster.down = None
    now[0] += 60
    await reading.read()
    assert (await real_store.pool("vm", "p")).error is None


@pytest.mark.parametrize(
    "error", [Refused("pip install 'rqueue[openstack]'"), ValueError("what?"), OSError("x")]
)
async def test_a_source_that_cannot_be_made_is_its_pools_error(real_store, replica, error):
    def fails():
        raise error

    await declare(real_store, p="a")
    await replica("one", fails).read()
    assert str(error) in (await real_store.pool("vm", "p")).error


async def test_a_source_that_hangs_is_given_up(real_store, replica, cluster, monkeypatch):
    monkeypatch.setattr(sources, "READ_SECONDS", 0.01)
    await declare(real_store, p="a")
    cluster.hangs = asyncio.Event()
    await replica("one", cluster, period=0.001).read()
    assert (await real_store.pool("vm", "p")).error == "it did not answer within 0.01 s"


async def test_a_hand_edit_of_one_pool_or_type_holds_up_no_other(
    real_store, replica, cluster, real_redis, namespace
):
    await declare(real_store, p="a", q="b")
    await declare(real_store, "other", p="a")
    await real_redis.hset(f"{namespace}:{{vm}}:sources", "p", "no json")
    await real_redis.set(f"{namespace}:{{vm}}:seen:q", "no hash")
    await real_redis.lpush(f"{namespace}:{{third}}:sources", "no hash")
    await real_redis.sadd(f"{namespace}:types", "third")
    cluster.set("a", n={"slots": 1})
    await replica("one", cluster).read()
    assert (await real_store.pool("other", "p")).capacity == {"n": {"slots": 1}}
    error = await real_redis.hget(f"{namespace}:{{vm}}:source_errors", "p")
    assert error == "how the pool is found cannot be read; put the pool again"


# --- the service -------------------------------------------------------------------------------------


async def _written(service, pool):
    """Until the service has read a pool: it does so beside the answer to the PUT."""
    async with asyncio.timeout(10):
        while (await service.store.pool("vm", pool)).observed is None:  # noqa: ASYNC110 - as a user would look
            await asyncio.sleep(0.01)


def _factories(cluster):
    return {"openstack": cluster.connected}


async def test_a_new_pool_is_read_and_a_change_is_told_at_once(
    redis_url, real_redis, namespace, cluster, receiver, monkeypatch
):
    """In a period of an hour: by the PUT, and by what the source tells."""
    monkeypatch.setattr(sources, "SHORTEST_SECONDS", 0.02)
    config = config_of(namespace, source_seconds=3600)
    cluster.set("a", n={"slots": 1})
    async with serving(config, redis_url, factories=_factories(cluster)) as service:
        await service.call("PUT", "/queues/vm", {"source": "openstack"})
        status, answer = await service.call("PUT", "/queues/vm/pools/p", {"aggregate": "a"})
        assert status == 200, answer
        for name in ("j1", "j2"):
            body = {"request_id": name, "owner_id": "y", "callback": f"{receiver.url}/{name}"}
            await service.call("POST", "/v1/vm/", {**body, "data": {"host_aggregate": "p"}})
        await receiver.until(1)
        cluster.set("a", n={"slots": 2})
        await receiver.until(2)
        _, answer = await service.call("GET", "/queues/vm/pools/p")
        assert answer["data"]["hosts"]["n"]["used"] == {"slots": 2}
        assert answer["data"]["source"] == {"aggregate": "a"}
    assert cluster.left == 1
    assert await real_redis.exists(f"{namespace}:{{vm}}:reader") == 0
    await invariants.check(real_redis, namespace)


async def test_the_pools_of_a_source_that_is_not_there_say_so(redis_url, real_redis, namespace, clock):
    async with serving(config_of(namespace), redis_url, clock, factories={}) as service:
        await service.call("PUT", "/queues/vm", {"source": "kubernetes"})
        _, answer = await service.call("PUT", "/queues/vm/pools/p", {"selector": "a=b"})
        assert answer["data"]["observed"] is None
        await service.call("PUT", "/queues/vm", {"default_pool": "p"})
        body = {"request_id": "j", "owner_id": "y", "callback": "http://127.0.0.1:9/j"}
        await service.call("POST", "/v1/vm/", body)
        _, answer = await service.call("GET", "/v1/vm/j")
        assert answer["data"]["Reason"] == "source_stale: pool p was never read"


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        ({}, 422, "invalid", "hosts"),
        ({"hosts": {}, "aggregate": "a"}, 422, "invalid", "aggregate"),
        ({"aggregate": "a", "selector": "a"}, 422, "invalid", "selector"),
        ({"aggregate": ""}, 422, "invalid", "aggregate"),
        ({"aggregate": 5}, 422, "invalid", "aggregate"),
        ({"aggregate": "a", "tolerations": []}, 422, "unknown_field", "tolerations"),
        ({"aggregate": "a", "projects": 5}, 422, "invalid", "projects"),
        ({"hosts": {}}, 409, "wrong_source", "source"),
        ({"selector": "a=b"}, 409, "wrong_source", "source"),
    ],
)
async def test_bodies_that_are_refused(redis_url, real_redis, namespace, clock, body, status, code, field):
    async with serving(config_of(namespace), redis_url, clock, factories={}) as service:
        await service.call("PUT", "/queues/vm", {"source": "openstack"})
        found, answer = await service.call("PUT", "/queues/vm/pools/p", body)
        assert (found, answer["error"]["code"], answer["error"]["field"]) == (status, code, field)
        assert (await service.call("GET", "/queues/vm/pools/p"))[0] == 404


async def test_a_scrape_says_how_old_and_how_much(redis_url, real_redis, namespace, clock, cluster):
    cluster.set("a", n={"slots": 5})
    factories = _factories(cluster)
    async with serving(config_of(namespace), redis_url, clock, factories=factories) as service:
        await service.call("PUT", "/queues/vm", {"source": "openstack"})
        await service.call("PUT", "/queues/vm/pools/p", {"aggregate": "a"})
        await _written(service, "p")
        await real_redis.hset(f"{namespace}:{{vm}}:seen:p", "n/slots", "2")
        clock.forward(7)
        async with service.client.get(service.url + "/metrics") as response:
            text = await response.text()
    assert 'rqueue_source_age_seconds{pool="p",type="vm"} 7.0' in text
    assert 'rqueue_free{pool="p",resource="slots",type="vm"} 3.0' in text
    assert 'rqueue_source_seconds_count{source="openstack"}' in text
