"""Store.queue and configure: a queue's settings and counts."""

import pytest

from rqueue import errors
from rqueue.domain.job import DELETE
from rqueue.domain.policy import Settings
from rqueue.store.answers import Queue
from tests.store.line import admit, create, declare


async def test_an_unused_queue_has_the_defaults(store):
    assert await store.queue("vm") == Queue("vm", Settings(), 0, 0, 0, ())
    assert await store.types() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("policy", "strict"),
        ("paused", True),
        ("call_deadline", 30),
        ("lease_seconds", 3600),
        ("retention", 0),
        ("default_pool", "12"),
        ("default_pool", "虛擬機"),
        ("source", "declared"),
        ("max_queued", 0),
        ("max_queued", 2**53 - 1),
    ],
)
async def test_a_setting_is_kept_until_null_gives_the_default_back(store, redis, namespace, name, value):
    await store.configure("vm", {name: value})
    assert (await store.queue("vm")).settings == Settings(**{name: value})
    await store.configure("vm", {name: None})
    assert (await store.queue("vm")).settings == Settings()
    assert await redis.hgetall(f"{namespace}:{{vm}}:settings") == {}
    assert await store.types() == ["vm"]


async def test_what_is_not_asked_for_stays(store):
    await store.configure("vm", {"retention": 5, "paused": True})
    await store.configure("vm", {"paused": False, "max_queued": 7})
    assert (await store.queue("vm")).settings == Settings(retention=5, max_queued=7)
    assert (await store.queue("kube")).settings == Settings()


@pytest.mark.parametrize(
    ("asked", "error", "field"),
    [
        ({"haste": 5}, errors.UnknownField, "haste"),
        ({"": 5}, errors.UnknownField, ""),
        ({"policy": "lottery"}, errors.Invalid, "policy"),
        ({"source": "vmware"}, errors.Invalid, "source"),
        ({"paused": 1}, errors.Invalid, "paused"),
        ({"paused": "true"}, errors.Invalid, "paused"),
        ({"call_deadline": 0}, errors.Invalid, "call_deadline"),
        ({"lease_seconds": 0}, errors.Invalid, "lease_seconds"),
        ({"lease_seconds": 1.5}, errors.Invalid, "lease_seconds"),
        ({"retention": -1}, errors.Invalid, "retention"),
        ({"retention": True}, errors.Invalid, "retention"),
        ({"retention": "5"}, errors.Invalid, "retention"),
        ({"max_queued": 2**53}, errors.Invalid, "max_queued"),
        ({"default_pool": ""}, errors.Invalid, "default_pool"),
        ({"default_pool": "p" * 257}, errors.Invalid, "default_pool"),
        ({"retention": 5, "paused": "x"}, errors.Invalid, "paused"),
    ],
)
async def test_what_is_not_understood_changes_nothing(store, asked, error, field):
    with pytest.raises(error) as raised:
        await store.configure("vm", asked)
    assert raised.value.field == field
    assert (await store.queue("vm")).settings == Settings()


async def test_it_counts_its_jobs(store):
    await declare(store)
    await declare(store, pool="another")
    await create(store, "a", "b", "c", "d")
    await admit(store)
    await store.transition("vm", "d", DELETE)
    queue = await store.queue("vm")
    assert (queue.queued, queue.running, queue.ended) == (2, 1, 1)
    assert queue.pools == ("another", "default")


async def test_what_a_hand_edit_made_unreadable_counts_as_not_set(store, redis, namespace):
    written = {
        "retention": "long",
        "call_deadline": "-5",
        "policy": "?",
        "unheard of": "1",
        "max_queued": "7",
    }
    await redis.hset(f"{namespace}:{{vm}}:settings", mapping=written)
    assert (await store.queue("vm")).settings == Settings(max_queued=7)
