"""Handlers of /queues/: settings, counts and pools."""

from dataclasses import asdict
from typing import Any

from aiohttp import web

from rqueue.capacity import declared
from rqueue.errors import Invalid
from rqueue.store.answers import Queue
from rqueue.web.answers import answer, body, names
from rqueue.web.context import STORE, WAKE


async def list_queues(request: web.Request) -> web.Response:
    """GET /queues/: every queue there is."""
    store = request.app[STORE]
    return answer([_document(await store.queue(type_)) for type_ in await store.types()])


async def get_queue(request: web.Request) -> web.Response:
    """GET /queues/<type>: one queue; one that nobody has used yet has the defaults."""
    return answer(_document(await request.app[STORE].queue(*names(request))))


async def put_queue(request: web.Request) -> web.Response:
    """PUT /queues/<type>: change the settings that are named; null gives one its default back."""
    (type_,) = names(request)
    store = request.app[STORE]
    for pool in await store.configure(type_, await _object(request)):
        request.app[WAKE](type_, pool)
    return answer(_document(await store.queue(type_)))


async def get_pool(request: web.Request) -> web.Response:
    """GET /queues/<type>/pools/<pool>: its hosts with capacity, used and free."""
    return answer((await request.app[STORE].pool(*names(request))).document())


async def put_pool(request: web.Request) -> web.Response:
    """PUT /queues/<type>/pools/<pool>: declare its hosts and projects, in place of what was declared."""
    type_, name = names(request)
    store = request.app[STORE]
    await store.put_pool(type_, declared.read(name, await _object(request)))
    request.app[WAKE](type_, name)
    return answer((await store.pool(type_, name)).document())


async def delete_pool(request: web.Request) -> web.Response:
    """DELETE /queues/<type>/pools/<pool>: forget it; what runs there goes on."""
    await request.app[STORE].delete_pool(*names(request))
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
