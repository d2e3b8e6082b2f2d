"""A Redis Cluster: all that the store does, done there, and what a cluster does while it is done."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.crc import key_slot
from redis.exceptions import ResponseError

from rqueue import errors
from rqueue.domain.caller import ANYONE
from rqueue.domain.job import CONFIRM, FINISH
from rqueue.domain.pool import Observation, Pool
from rqueue.store import cluster, scripts
from rqueue.store.check import Check
from rqueue.store.cluster import Cluster, slot_of
from rqueue.store.connect import connect
from rqueue.store.gauges import GaugeReader
from rqueue.store.keys import Keys
from rqueue.store.live import Live
from rqueue.store.pipeline import Replicas
from rqueue.store.scripts import Scripts
from rqueue.store.store import Store
from tests import invariants
from tests.conftest import config_of, new, serving
from tests.faults.cluster_servers import HOST, Nodes, clustered, until
from tests.store.machine import drive
from tests.store.test_invariants import Anything

TYPES = [f"t{n}" for n in range(9)]


@pytest.fixture
def server(nodes: Nodes) -> str:
    """In place of every kind of server in turn."""
    return nodes.url


@pytest.fixture
async def way(nodes: Nodes) -> AsyncIterator[Cluster]:
    async with connect(nodes.url) as way:
        assert isinstance(way, Cluster)
        yield way


def test_all_keys_agree_after_anything_at_all(nodes):
    drive(Anything, nodes.url, runs=8, steps=40)


async def test_every_script_runs_there(store, pipeline, namespace, clock, nodes):
    await store.configure("vm", {"retention": 50})
    await store.put_pool("vm", Pool("p", {"n": {"slots": 2}}))
    await store.create("vm", [new(name, host_aggregate="p") for name in "abcdef"])
    await store.create("vm", [new("u", host_aggregate="other")])
    first, _ = (await store.admit("vm", "p", 60_000)).turns
    await store.call(first, 60_000)
    clock.forward(100)
    turn, _ = (await store.due("vm", 60_000)).turns
    await store.retry(turn, 0)
    await store.redeliver("vm", "b")
    await store.transition("vm", "a", CONFIRM)
    _, work = await store.transition("vm", "a", FINISH, claim_ms=9)
    assert [turn.request_id for turn in work.turns] == ["c"]
    await store.move("vm", "f", "front")
    await store.update("vm", "e", "http://c/new", None)
    assert (await store.get("vm", "f")).position == 0
    assert len((await store.page("vm")).jobs) == 6
    await GaugeReader(pipeline, namespace, clock).read()
    told, _ = await store.events.last("vm")
    assert (await store.events.after("vm", told[0].id)).events == told[1:]
    assert (await store.events.of_job("vm", "f", ANYONE))[-1].what == "moved"
    await store.delete_pool("vm", "p")
    arguments = {"priority": "1", "low": "0", "size": "16", "side": "right", "done": "0", "most": 1}
    await Scripts(pipeline, Keys(namespace)).run("spread", "vm", **arguments)
    await store.configure("vm", {"source": "openstack"})
    await store.put_pool("vm", Pool("p", {}, source="openstack", found_by={"aggregate": "a"}))
    live = Live(pipeline, namespace, "r", clock)
    claim = await live.claim("vm", 60_000)
    await live.failed(claim, "p", "not now")
    assert await live.observe(claim, "p", Observation({"n": {"slots": 9}}, {}))
    found = await store.dry.simulate("vm", [], {"p": {"m": {"slots": 1}}}, [], "", ANYONE)
    assert found.admitted
    await _repaired(pipeline, nodes, namespace)
    # Those that are only run dry stand in another one's text.
    names = [name for name in scripts.names() if name not in ("set_hosts", "simulate")]
    ran = await asyncio.to_thread(
        nodes.owner("{vm}").client.script_exists, *(scripts.load(name).sha for name in names)
    )
    assert dict(zip(names, ran, strict=True)) == dict.fromkeys(names, True)


async def _repaired(pipeline: Cluster, nodes: Nodes, namespace: str) -> None:
    """What is broken by hand, of all kinds of scripts that mend, and mended."""
    key = f"{namespace}:{{vm}}:"
    owner = nodes.owner("{vm}").client
    await asyncio.to_thread(owner.set, f"{key}heads", "no hash")
    with pytest.raises(errors.StoreDamaged, match="heads"):
        await Store(pipeline, namespace).admit("vm", "p", 1)
    await asyncio.to_thread(owner.set, f"{key}seq", 0)
    await asyncio.to_thread(owner.set, f"{key}nonsense", "x")
    await asyncio.to_thread(owner.hset, f"{key}used:p", "n/slots", 77)
    await asyncio.to_thread(owner.zadd, f"{key}queue", {"stranger": 1})
    found = {fault.code async for fault in Check(pipeline, namespace, repair=True).faults()}
    assert {"wrong_kind", "foreign_key", "used", "seq"} <= found
    assert [fault async for fault in Check(pipeline, namespace).faults()] == []


async def test_nodes_that_forgot_the_scripts_are_told_again(store, nodes):
    await store.create("vm", [new("a")])
    for node in nodes.all:
        node.client.script_flush()
    await asyncio.gather(*(store.create(type_, [new("b")]) for type_ in ("vm", *TYPES)))
    assert (await store.get("vm", "b")).position == 1


async def test_types_are_spread_over_the_nodes_and_found_again(store, way, namespace, nodes):
    await asyncio.gather(*(store.create(type_, [new("a")]) for type_ in TYPES))
    assert await store.types() == TYPES
    owners = {nodes.owner(f"{{{type_}}}").port for type_ in TYPES}
    assert len(owners) == 3
    found = set()
    for primary in await way.primaries():
        cursor = "0"
        while True:
            cursor, names = await primary.call("SCAN", cursor, "MATCH", f"{namespace}:*", "COUNT", 1000)
            found.update(names)
            if cursor == "0":
                break
    assert {f"{namespace}:{{{type_}}}:job:a" for type_ in TYPES} < found
    _, of_one = await way.call("SCAN", 0, "MATCH", f"{namespace}:{{t1}}:*", "COUNT", 10_000)
    assert f"{namespace}:{{t1}}:job:a" in of_one


async def test_what_is_in_other_slots_than_a_type(store):
    made, other = (f"whsec_{letter * 32}" for letter in "AB")
    assert await store.callback_secret(made) == await store.callback_secret(other) == made
    for n in range(4):
        await store.put_arrival(f"{n}", 3)
    assert await store.arrivals() == ["3", "2", "1"]
    await store.check()


async def test_the_type_is_there_before_its_first_job(way, namespace):
    """A crash between the two leaves a type without jobs, not jobs that no replica looks at."""
    keys = Keys(namespace)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await way.calls(("SET", keys.types, "no set"), ("SADD", keys.types, "t1"), ("SET", "{t1}x", 1))
    assert await way.call("EXISTS", "{t1}x") == 0
    await way.call("DEL", keys.types)


# --- what a cluster says ---------------------------------------------------------------------------------


async def test_who_moved_is_followed(way, store, nodes, namespace):
    """Resharded at once, as Valkey 9 does it: nothing is refused, and the next answer is the new node's."""
    await store.create("vm", [new("a")])
    before = nodes.owner("{vm}")
    await asyncio.to_thread(nodes.move_slot, "{vm}", nodes.other("{vm}"), True)
    assert nodes.owner("{vm}") is not before
    await store.create("vm", [new("b")])
    assert [job.request_id for job in (await store.page("vm")).jobs] == ["a", "b"]
    assert nodes.owner("{vm}").client.exists(Keys(namespace).of("vm", "job:b"))


async def test_a_type_that_moves_key_by_key_is_not_served_meanwhile(way, store, nodes, namespace, redis):
    """A script that is sent after its keys would find half of them, and take the rest for not there."""
    await store.create("vm", [new(f"j{n}") for n in range(50)])
    source, target, slot = nodes.owner("{vm}"), nodes.other("{vm}"), key_slot(b"vm")
    target.cluster("SETSLOT", slot, "IMPORTING", source.id)
    source.cluster("SETSLOT", slot, "MIGRATING", target.id)
    keys = source.cluster("GETKEYSINSLOT", slot, 1000)
    moved = sorted(keys)[::2]
    source.client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *moved)
    creating = asyncio.create_task(store.create("vm", [new("late")]))
    await asyncio.sleep(0.5)
    assert not creating.done()
    # What is one key is found where it is.
    for key in moved[:1] + sorted(keys)[1:2]:
        assert await way.call("TYPE", key) != "none"
    rest = sorted(keys)[1::2]
    source.client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *rest)
    for node in (target, source):
        node.cluster("SETSLOT", slot, "NODE", target.id)
    await creating
    assert (await store.get("vm", "late")).position == 50
    jobs = await invariants.check(redis, namespace)
    assert sorted(int(job["ID"]) for job in jobs.values()) == list(range(1, 52))


async def test_who_asks_too_long_of_a_type_that_moves_is_told(store, nodes, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 0.3)
    await store.create("t2", [new("a")])
    source, target, slot = nodes.owner("{t2}"), nodes.other("{t2}"), key_slot(b"t2")
    source.cluster("SETSLOT", slot, "MIGRATING", target.id)
    try:
        with pytest.raises(errors.RedisUnavailable, match="ASK"):
            await store.get("t2", "a")
    finally:
        source.cluster("SETSLOT", slot, "STABLE")
    assert (await store.get("t2", "a")).position == 0


async def test_who_asks_too_long_is_told_though_others_are_answered(way, nodes, namespace, monkeypatch):
    """Of a slot that moves, one key is read again and again while a script waits for the rest."""
    store = Store(way, namespace)
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 0.5)
    await store.create("t5", [new("a")])
    key = Keys(namespace).of("t5", "seq")
    source, target, slot = nodes.owner("{t5}"), nodes.other("{t5}"), key_slot(b"t5")
    source.cluster("SETSLOT", slot, "MIGRATING", target.id)
    try:
        async with asyncio.timeout(5):
            asked = asyncio.create_task(store.get("t5", "a"))
            while not asked.done():
                assert await way.call("GET", key) == "1"
                await asyncio.sleep(0.01)
            with pytest.raises(errors.RedisUnavailable, match="ASK"):
                await asked
    finally:
        source.cluster("SETSLOT", slot, "STABLE")


async def test_a_cluster_that_is_down_for_a_moment_is_waited_for(store, nodes):
    await store.create("t4", [new("a")])
    owner = nodes.owner("{t4}")
    # Not all slots are served in its eyes: it serves none.
    first, *_ = next(row for row in owner.cluster("SLOTS") if row[2][1] == owner.port)
    owner.cluster("DELSLOTS", first)
    asked = asyncio.create_task(store.get("t4", "a"))
    await asyncio.sleep(0.5)
    assert not asked.done()
    owner.cluster("ADDSLOTS", first)
    assert (await asked).position == 0


async def test_what_is_asked_of_two_nodes_while_it_moves(way, store, nodes):
    """Several plain commands on keys of one type, of which some have moved."""
    await store.put_pool("t3", Pool("p", {"n": {"slots": 2}}, ("project",)))
    source, target, slot = nodes.owner("{t3}"), nodes.other("{t3}"), key_slot(b"t3")
    target.cluster("SETSLOT", slot, "IMPORTING", source.id)
    source.cluster("SETSLOT", slot, "MIGRATING", target.id)
    keys = sorted(source.cluster("GETKEYSINSLOT", slot, 1000))
    source.client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys[::2])
    found = await store.pool("t3", "p")
    source.client.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys[1::2])
    for node in (target, source):
        node.cluster("SETSLOT", slot, "NODE", target.id)
    assert found == await store.pool("t3", "p")
    assert found.capacity == {"n": {"slots": 2}}
    assert found.projects == ("project",)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("EVALSHA", "x", 1, "ns:{vm}:", "a"), "vm"),
        (("EVAL", "return 1", 1, "ns:{vm}:"), "vm"),
        (("HGETALL", "ns:{vm}:settings"), "vm"),
        (("SADD", "ns:types", "vm"), "ns:types"),
        (("SCAN", 0, "MATCH", "ns:{vm}:job:*", "COUNT", 10), "vm"),
        (("SCAN", 0, "MATCH", "ns:{a\\*b\\\\}:*"), "a*b\\"),
        (("GET", "ns:{é %7B}:seq"), "é %7B"),
    ],
)
def test_where_a_command_goes(words, key):
    assert slot_of(words) == key_slot(key.encode())


# --- writes that are to be in replicas -------------------------------------------------------------------


@pytest.fixture
async def confirmed(nodes: Nodes, namespace: str, clock) -> AsyncIterator[tuple[Cluster, Store]]:
    """A store whose writes wait for one replica."""
    async with connect(nodes.url, replicas=Replicas(1, 500, f"{namespace}:replicated")) as way:
        yield way, Store(way, namespace, clock)


async def test_each_node_confirms_its_own(confirmed):
    _, store = confirmed
    for name in "ab":
        await asyncio.gather(*(store.create(type_, [new(name)]) for type_ in TYPES))
    assert {(await store.get(type_, "b")).position for type_ in TYPES} == {1}


async def test_the_node_that_sends_away_confirms_nothing(confirmed, nodes):
    """Its replicas have all it has; those of the node that did the work are what counts."""
    _, store = confirmed
    await store.create("t5", [new("a")])
    source, target = nodes.owner("{t5}"), nodes.other("{t5}")
    await asyncio.to_thread(nodes.move_slot, "{t5}", target, True)
    replica = nodes.shard("{t5}")[1]
    assert replica is not source
    replica.signal(signal.SIGSTOP)
    try:
        with pytest.raises(errors.NotReplicated):
            await store.create("t5", [new("b")])
        assert (await store.get("t5", "b")).position == 1
    finally:
        replica.signal(signal.SIGCONT)
    await asyncio.to_thread(until, nodes.whole)
    with pytest.raises(errors.DuplicateRequestID):
        await store.create("t5", [new("b")])
    await store.create("t5", [new("c")])


@pytest.mark.parametrize("atomically", [True, False])
async def test_what_is_written_before_a_wait_may_move(confirmed, nodes, atomically):
    """The slot of the mark moves, and its node goes on to confirm."""
    way, store = confirmed
    await store.create("t6", [new("a")])
    owner, other = nodes.owner("{t6}"), nodes.other("{t6}")
    tag = f"{{{way._tag((HOST, owner.port))}}}"
    assert key_slot(tag.encode()) != key_slot(b"t6")
    if atomically:
        await asyncio.to_thread(nodes.move_slot, tag, other, True)
    else:
        slot = key_slot(tag.encode())
        owner.cluster("SETSLOT", slot, "MIGRATING", other.id)
        for key in owner.cluster("GETKEYSINSLOT", slot, 100):
            owner.client.delete(key)
    async with asyncio.timeout(cluster.PATIENCE_SECONDS):
        await store.create("t6", [new("b")])
        await store.create("t6", [new("c")])
    if not atomically:
        owner.cluster("SETSLOT", slot, "STABLE")


# --- what happens to a cluster ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """A cluster that tests break, and mend again."""
    with clustered(tmp_path_factory.mktemp("breakable")) as nodes:
        yield nodes


@pytest.fixture
async def broken(breakable: Nodes, namespace: str) -> AsyncIterator[Store]:
    """A store on it."""
    async with connect(breakable.url) as way:
        yield Store(way, namespace)
    _mend(breakable)
    await asyncio.to_thread(until, breakable.whole)


def _mend(nodes: Nodes) -> None:
    for node in nodes.all:
        if node.process is None:
            node.start()


async def test_when_a_node_dies_the_one_that_takes_its_place_is_asked(broken, breakable):
    await broken.create("vm", [new("a")])
    owner = breakable.owner("{vm}")
    await asyncio.to_thread(until, breakable.whole)
    owner.kill()
    async with asyncio.timeout(cluster.PATIENCE_SECONDS):
        await broken.create("vm", [new("b")])
        assert [job.request_id for job in (await broken.page("vm")).jobs] == ["a", "b"]


async def test_when_a_node_hangs_the_one_that_takes_its_place_is_asked(broken, breakable):
    """Also what was under way to it."""
    await broken.create("vm", [new("a")])
    # All connections are there, so that none is refused.
    await asyncio.gather(*(broken.get("vm", "a") for _ in range(50)))
    owner = breakable.owner("{vm}")
    owner.signal(signal.SIGSTOP)
    try:
        async with asyncio.timeout(cluster.PATIENCE_SECONDS):
            # Nothing else is asked that would say that something is wrong.
            found = await asyncio.gather(*(broken.get("vm", "a") for _ in range(20)))
            await asyncio.gather(*(broken.create("vm", [new(f"b{n}")]) for n in range(20)))
        assert {job.position for job in found} == {0}
    finally:
        owner.signal(signal.SIGCONT)
    await asyncio.to_thread(until, breakable.whole)
    assert len((await broken.page("vm")).jobs) == 21


async def test_when_the_cluster_is_down_that_is_said_and_it_is_served_again(broken, breakable, monkeypatch):
    await broken.create("vm", [new("a")])
    shard = breakable.shard("{vm}")
    for node in shard:
        node.kill()
    rest = breakable.alive
    await asyncio.to_thread(until, lambda: not any(node.is_ok() for node in rest))
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 0.3)
    elsewhere = next(type_ for type_ in TYPES if breakable.shard(f"{{{type_}}}")[0] in rest)
    for type_, said in (("vm", "cannot connect"), (elsewhere, "CLUSTERDOWN")):
        with pytest.raises(errors.RedisUnavailable, match=said):
            await broken.get(type_, "a")
    # Those that come later do not wait once more.
    began = time.monotonic()
    for _ in range(5):
        with pytest.raises(errors.RedisUnavailable):
            await broken.get(elsewhere, "a")
    assert time.monotonic() - began < 0.3
    for node in shard:
        node.start()
    await asyncio.to_thread(until, breakable.whole)
    assert (await broken.get("vm", "a")).position == 0
    await broken.check()


async def test_types_of_nodes_that_are_gone_keep_no_others_from_being_served(breakable, namespace, receiver):
    """Where the cluster is told to serve what it can."""
    home = breakable.shard(Keys(namespace).types)
    ready = breakable.shard(Keys(namespace).ready)
    shards = {type_: breakable.shard(f"{{{type_}}}") for type_ in TYPES}
    lost = next(type_ for type_, shard in shards.items() if shard not in (home, ready))
    kept = next(type_ for type_, shard in shards.items() if shard != shards[lost])
    for node in breakable.all:
        node.client.config_set("cluster-require-full-coverage", "no")
    async with serving(config_of(namespace), breakable.url) as service:
        for type_ in (lost, kept):
            await service.store.put_pool(type_, Pool("default", {"n": {"slots": 9}}))
        for node in shards[lost]:
            node.kill()

        async def create(type_: str, name: str) -> int:
            body = {"request_id": name, "owner_id": "y", "callback": f"{receiver.url}/{name}", "data": {}}
            return (await service.call("POST", f"/v1/{type_}/", body))[0]

        assert await create(lost, "a") == 503
        for calls, name in enumerate("bcd", start=1):
            assert await create(kept, name) == 201
            service.reaper.wake(lost, "default")
            await service.reaper.tick()
            await receiver.until(calls)
        assert (await service.call("GET", "/readyz"))[0] == 200
        _mend(breakable)
        await asyncio.to_thread(until, breakable.whole)
        assert await create(lost, "a") == 201
        await receiver.until(4)
