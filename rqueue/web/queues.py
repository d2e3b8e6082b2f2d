"""Handlers of /queues/: settings, counts and pools."""

import asyncio
from dataclasses import asdict
from typing import Any

from aiohttp import web

from rqueue.capacity import pools
from rqueue.domain.caller import Right
from rqueue.errors import (
    Invalid,
    InvalidDemand,
    PoolNotFound,
    ProjectTaken,
    StoreDamaged,
    UnknownField,
    WrongSource,
)
from rqueue.store.answers import Queue
from rqueue.store.store import Store
from rqueue.web import examples, shapes
from rqueue.web.answers import answer, body
from rqueue.web.auth import caller_of, typed
from rqueue.web.context import READ_SOURCE, STORE, WAKE
from rqueue.web.operation import operation

TYPES_AT_ONCE = 32
_QUEUE, _POOL = shapes.ref("Queue"), shapes.ref("Pool")
_SHOWN = {"as it is": examples.answered(examples.QUEUE)}


@operation(
    data=shapes.list_of({"oneOf": [_QUEUE, shapes.ref("DamagedQueue")]}),
    answer_examples={"one of them damaged": examples.answered([examples.DAMAGED, examples.QUEUE])},
)
async def list_queues(request: web.Request) -> web.Response:
    """GET /queues/: every queue there is, of those that the caller may use; a damaged one says what is.

    Each with its settings, how many jobs it has, and the names of its pools, all at once.
    """
    store, types = request.app[STORE], caller_of(request).types
    found = [type_ for type_ in await store.types() if types is None or type_ in types]
    shown: list[dict[str, Any]] = []
    for start in range(0, len(found), TYPES_AT_ONCE):
        some = found[start : start + TYPES_AT_ONCE]
        shown += await asyncio.gather(*(_shown(store, type_) for type_ in some))
    return answer(shown)


async def _shown(store: Store, type_: str) -> dict[str, Any]:
    try:
        return _document(await store.queue(type_))
    except StoreDamaged as error:
        # One that a hand edit broke must not hide the others.
        return {"type": type_, "error": {"code": error.code, "message": error.message}}


@operation(data=_QUEUE, answer_examples=_SHOWN)
async def get_queue(request: web.Request) -> web.Response:
    """GET /queues/<type>: one queue; one that nobody has used yet has the defaults.

    Its settings, how many jobs it has, and the names of its pools.
    """
    return answer(_document(await request.app[STORE].queue(*typed(request))))


@operation(
    data=_QUEUE,
    body=shapes.ref("Settings"),
    refuses=(UnknownField, WrongSource),
    body_examples={
        "pause": {"value": {"paused": True}},
        "a lease, and no limit": {"value": {"lease_seconds": 3600, "max_queued": None}},
    },
    answer_examples=_SHOWN,
)
async def put_queue(request: web.Request) -> web.Response:
    """PUT /queues/<type>: change the settings that are named; null gives one its default back.

    The others stay as they are. Settings other than `paused` are for who may change queues and pools. The
    answer is the whole queue.
    """
    (type_,), caller, store = typed(request), caller_of(request), request.app[STORE]
    asked = await _object(request)
    for name in asked:
        if name != "paused":
            caller.must(Right.WRITE_QUEUES, name)
    for pool in await store.configure(type_, asked, caller):
        request.app[WAKE](type_, pool)
    return answer(_document(await store.queue(type_)))


@operation(
    data=_POOL,
    refuses=(PoolNotFound,),
    answer_examples={
        "declared": examples.answered(examples.POOL),
        "live": examples.answered(examples.LIVE),
    },
)
async def get_pool(request: web.Request) -> web.Response:
    """GET /queues/<type>/pools/<pool>: its hosts with capacity, used and free.

    With how many jobs wait for it, what each owner may hold and holds, and of a live pool what its source
    sees used, and when.
    """
    return answer((await request.app[STORE].pool(*typed(request))).document())


@operation(
    data=_POOL,
    body=shapes.ref("PoolBody"),
    refuses=(UnknownField, InvalidDemand, ProjectTaken, PoolNotFound, WrongSource),
    body_examples={
        "declared": {"value": {"hosts": examples.HOSTS, "projects": ["project id"]}},
        "with quotas": {"value": {"hosts": examples.HOSTS, "quotas": {"*": {"VCPU": 8}}}},
        "from OpenStack": {"value": {"aggregate": "gpu-hosts"}},
        "from Kubernetes": {"value": {"selector": "gpu=true"}},
    },
    answer_examples={"declared": examples.answered(examples.POOL)},
)
async def put_pool(request: web.Request) -> web.Response:
    """PUT /queues/<type>/pools/<pool>: say what its hosts are, in place of what was said before.

    Or how its queue's source finds them. What runs on a host that is gone goes on, and is charged to it. The
    answer is the whole pool.
    """
    type_, name = typed(request)
    store = request.app[STORE]
    pool = pools.read(name, await _object(request))
    await store.put_pool(type_, pool, caller_of(request))
    request.app[WAKE](type_, name)
    if pool.found_by:
        request.app[READ_SOURCE](pool.source)
    return answer((await store.pool(type_, name)).document())


@operation(
    data=shapes.NOTHING,
    refuses=(PoolNotFound,),
    answer_examples={"forgotten": examples.answered({})},
)
async def delete_pool(request: web.Request) -> web.Response:
    """DELETE /queues/<type>/pools/<pool>: forget it; what runs there goes on.

    What waits for it waits with the reason `no_pool`, until there is a pool of this name again.
    """
    type_, name = typed(request)
    await request.app[STORE].delete_pool(type_, name, caller_of(request))
    return answer({})


async def _object(request: web.Request) -> dict[str, Any]:
    written = await body(request)
    if not isinstance(written, dict):
        raise Invalid("expected a JSON object")
    return written


def _document(queue: Queue) -> dict[str, Any]:
    return {
        "type": queue.type,
        **asdict(queue.settings),
        "counts": {"queued": queue.queued, "running": queue.running, "ended": queue.ended},
        "pools": queue.pools,
    }
