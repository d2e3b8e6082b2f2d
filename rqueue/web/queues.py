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
from rqueue.web import shapes
from rqueue.web.answers import answer, body
from rqueue.web.auth import caller_of, typed
from rqueue.web.context import READ_SOURCE, STORE, WAKE
from rqueue.web.operation import operation

TYPES_AT_ONCE = 32
_QUEUE, _POOL = shapes.ref("Queue"), shapes.ref("Pool")


@operation(data=shapes.list_of({"oneOf": [_QUEUE, shapes.ref("DamagedQueue")]}))
async def list_queues(request: web.Request) -> web.Response:
    """GET /queues/: every queue there is, of those that the caller may use; a damaged one says what is."""
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


@operation(data=_QUEUE)
async def get_queue(request: web.Request) -> web.Response:
    """GET /queues/<type>: one queue; one that nobody has used yet has the defaults."""
    return answer(_document(await request.app[STORE].queue(*typed(request))))


@operation(data=_QUEUE, body=shapes.ref("Settings"), refuses=(UnknownField, WrongSource))
async def put_queue(request: web.Request) -> web.Response:
    """PUT /queues/<type>: change the settings that are named; null gives one its default back."""
    (type_,), caller, store = typed(request), caller_of(request), request.app[STORE]
    asked = await _object(request)
    for name in asked:
        if name != "paused":
            caller.must(Right.WRITE_QUEUES, name)
    for pool in await store.configure(type_, asked, caller):
        request.app[WAKE](type_, pool)
    return answer(_document(await store.queue(type_)))


@operation(data=_POOL, refuses=(PoolNotFound,))
async def get_pool(request: web.Request) -> web.Response:
    """GET /queues/<type>/pools/<pool>: its hosts with capacity, used and free."""
    return answer((await request.app[STORE].pool(*typed(request))).document())


@operation(
    data=_POOL,
    body=shapes.ref("PoolBody"),
    refuses=(UnknownField, InvalidDemand, ProjectTaken, PoolNotFound, WrongSource),
)
async def put_pool(request: web.Request) -> web.Response:
    """PUT /queues/<type>/pools/<pool>: say what its hosts are, in place of what was said before."""
    type_, name = typed(request)
    store = request.app[STORE]
    pool = pools.read(name, await _object(request))
    await store.put_pool(type_, pool, caller_of(request))
    request.app[WAKE](type_, name)
    if pool.found_by:
        request.app[READ_SOURCE](pool.source)
    return answer((await store.pool(type_, name)).document())


@operation(data=shapes.NOTHING, refuses=(PoolNotFound,))
async def delete_pool(request: web.Request) -> web.Response:
    """DELETE /queues/<type>/pools/<pool>: forget it; what runs there goes on."""
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
