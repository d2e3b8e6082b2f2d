"""Handlers of events: what happened in a type, as a list or as it happens, and what happened to a job."""

import asyncio
import time

from aiohttp import web

from rqueue import metrics
from rqueue.domain.event import Wanted, is_id
from rqueue.errors import Invalid, JobNotFound, RateLimited
from rqueue.web import examples, schemas, shapes
from rqueue.web.answers import answer, query
from rqueue.web.auth import caller_of, typed
from rqueue.web.context import FEEDS, STILL_KNOWN, STORE
from rqueue.web.feed import Follower, Lagging, comment
from rqueue.web.operation import operation

STREAM = "text/event-stream"
# Something is sent at least so often, and so often it is asked whether the caller may still be told.
COMMENT_SECONDS = 15.0
# A client that has gone is seen by looking.
LOOK_SECONDS = 1.0
# One that takes nothing for so long is dropped.
STALL_SECONDS = 10.0
# How long a client waits before it comes again, in ms.
_RETRY = b"retry: 1000\n\n"

_EVENT = shapes.ref("Event")


@operation(
    data=shapes.list_of(_EVENT),
    beside={"next": {"type": ["string", "null"], "description": "`before` of the page of older ones."}},
    answer_examples={
        "the newest": examples.answered([examples.EVENT], next=examples.EVENT["id"]),
        "the oldest": examples.answered([examples.EVENT], next=None),
    },
    # Where only these are accepted.
    media={STREAM: shapes.TEXT},
    query=schemas.EventsQuery,
    headers={
        "Last-Event-ID": {
            "type": "string",
            "description": "Of a stream: go on behind this event; it counts more than `after`.",
            "examples": [examples.EVENT["id"]],
        }
    },
    refuses=(RateLimited,),
)
async def list_events(request: web.Request) -> web.StreamResponse:
    """GET /queues/<type>/events: what happened in a type, the newest events or, as it happens, a stream.

    A list has the oldest of them first. With `Accept: text/event-stream` they are server-sent events: `id`
    is the event's, `data` the event as JSON; a comment comes every 15 s. Who was away goes on with
    `Last-Event-ID`; where what came next is gone, the first event is `missed`.
    """
    (type_,), caller = typed(request), caller_of(request)
    asked = schemas.events_query(query(request))
    if asked["owner_id"]:
        caller.must_own(asked["owner_id"], "owner_id")
    owners = [asked["owner_id"]] if asked["owner_id"] else caller.owners
    wanted = Wanted(asked["request_id"], None if owners is None else frozenset(owners))
    accepted = request.headers.get("Accept", "")
    if STREAM not in accepted or "application/json" in accepted:
        events, before = await request.app[STORE].events.last(
            type_, asked["before"], asked["limit"], wanted, asked["after"]
        )
        return answer([event.document() for event in events], next=before or None)
    if asked["before"]:
        raise Invalid("a stream goes on behind an event, `after`", "before")
    after = request.headers.get("Last-Event-ID", "") or asked["after"]
    if after and not is_id(after):
        raise Invalid("expected the ID of an event", "Last-Event-ID")
    async with request.app[FEEDS].follow(type_, after, wanted, caller.name) as follower:
        return await _stream(request, follower)


async def _stream(request: web.Request, follower: Follower) -> web.StreamResponse:
    # No proxy keeps it back, none keeps it for later.
    headers = {"Content-Type": STREAM, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    response = web.StreamResponse(headers=headers)
    response.force_close()
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    said: bytes | None = _RETRY
    sent = known = time.monotonic()
    try:
        while said is not None:
            now = time.monotonic()
            if request.transport is None or request.transport.is_closing():
                return response
            if now - known >= COMMENT_SECONDS:
                if not await request.app[STILL_KNOWN](request):
                    break
                known = now
            if not said and now - sent >= COMMENT_SECONDS:
                said = comment()
            if said:
                async with asyncio.timeout(STALL_SECONDS):
                    await response.write(said)
                sent = now
            said = await follower.next(LOOK_SECONDS)
    except (TimeoutError, Lagging) as error:
        metrics.EVENT_STREAMS_DROPPED.count("lagging" if isinstance(error, Lagging) else "stalled")
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response


@operation(
    data=shapes.list_of(_EVENT),
    refuses=(JobNotFound,),
    answer_examples={"a move": examples.answered([examples.EVENT])},
)
async def list_job_events(request: web.Request) -> web.Response:
    """GET /v1/<type>/<request_id>/events: what happened to a job, the oldest first.

    They are kept as long as the job.
    """
    type_, request_id = typed(request)
    events = await request.app[STORE].events.of_job(type_, request_id, caller_of(request))
    return answer([event.document() for event in events])
