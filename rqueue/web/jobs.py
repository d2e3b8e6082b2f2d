"""Handlers of /v1/: the jobs."""

import asyncio
import logging
import time
from typing import Any

import orjson
from aiohttp import web

from rqueue.domain.caller import Right
from rqueue.domain.job import ASKED, DELETE, REDELIVER, Job, Moves, Status
from rqueue.errors import (
    DuplicateCallback,
    DuplicateRequestID,
    Forbidden,
    IllegalTransition,
    InvalidCallback,
    InvalidDemand,
    JobNotFound,
    NeighbourIsSelf,
    NeighbourNotQueued,
    NeighboursReversed,
    QueueFull,
    RqueueError,
    UnknownField,
)
from rqueue.store.store import PAGE
from rqueue.web import examples, schemas, shapes
from rqueue.web.answers import answer, body, query
from rqueue.web.auth import caller_of, typed
from rqueue.web.context import CHECK_CALLBACK, CLAIM, FOLLOW, STORE, TRACES, WAKE
from rqueue.web.operation import operation

log = logging.getLogger("rqueue.web")

# So many jobs one page of a search looks at.
SEARCHED = 1000
_JOB = shapes.ref("Job")
_PREFER: shapes.Shape = {
    "Prefer": {
        "type": "string",
        "description": "With `return=representation` the answer is the job itself.",
        "examples": ["return=representation"],
    }
}
# Where a job that was created is found again.
_LINKS: shapes.Shape = {
    name: {
        "operationId": name,
        "parameters": {"type": "$request.path.type", "request_id": "$response.body#/data/RequestID"},
    }
    for name in ("get_job", "change_job", "delete_job")
}
_BODY: shapes.Shape = {
    "request_id": "d",
    "owner_id": "y",
    "data": {"instances": [{"VCPU": 1, "Memory": 1, "Disk": 1}], "project": "project id"},
    "callback": "https://portal.example/called/d",
}
_CHANGED: shapes.Shape = {
    "as usual": examples.answered({}),
    "the job, where the client prefers it": examples.answered(examples.CANCELLED),
}
_CALLED: shapes.Shape = {
    "job.admitted": {
        "{$request.body#/callback}": {
            "post": {
                "operationId": "job_admitted",
                "summary": "The job's turn has come, and it holds what it asked for",
                "description": (
                    "Sent by the service, signed by the Standard Webhooks scheme, at least once, and always"
                    " with the same webhook-id for one admission."
                ),
                "tags": ["jobs"],
                "security": [],
                "parameters": [
                    {
                        "in": "header",
                        "name": name,
                        "required": True,
                        "description": said,
                        "schema": {"type": "string"},
                    }
                    for name, said in shapes.SIGNED.items()
                ],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": shapes.ref("Called"),
                            "examples": {"admitted": {"value": examples.CALLED}},
                        }
                    },
                },
                "responses": {
                    "2XX": {"description": "It runs."},
                    "410": {"description": "Nobody wants it any more: it is cancelled."},
                    "default": {"description": "It is called again, until `call_deadline`."},
                },
            }
        }
    }
}


@operation(
    data=shapes.list_of(_JOB),
    beside={"next": {"type": ["string", "null"], "description": "With `limit`: the next page's cursor."}},
    query=schemas.ListQuery,
    answer_examples={
        "all": examples.answered([examples.RUNNING, examples.WAITING]),
        "the first page": examples.answered([examples.RUNNING], next="MTgwMDAwMDAwMDEwMTMyMjpj"),
    },
)
async def list_jobs(request: web.Request) -> web.StreamResponse:
    """GET /v1/<type>/: live jobs in order, or those of a status; streamed page by page.

    Without a status these are all jobs that have not ended, calling and running ones too, in one order by
    priority. Ended jobs are listed by their status only, in the order in which they ended. Pages neither
    repeat nor skip a job that did not move. An answer that breaks off without its last bracket means that
    Redis went away.
    """
    (type_,), caller = typed(request), caller_of(request)
    asked = schemas.list_query(query(request))
    if asked["owner_id"]:
        caller.must_own(asked["owner_id"], "owner_id")
    if (position := asked["position"]) is not None and caller.owners is not None:
        raise Forbidden(
            f"{caller.name} is bound to some owners, and this is about the whole line", "position"
        )
    store, left, after, search = request.app[STORE], asked["limit"], asked["cursor"], asked["search"]
    # A page of a search may hold none, so that who waits for an answer does not wait for the end of the line.
    looks = SEARCHED // PAGE if search and left is not None else -1
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    separator = b""
    while True:
        try:
            most = min(left or PAGE, PAGE)
            page = await store.page(
                type_, asked["owner_id"], asked["status"], after, most, caller, position, search
            )
            jobs = page.jobs
            if asked["standing"] == "true":
                jobs = await store.standing(jobs, caller)
        except RqueueError as error:
            if not response.prepared:
                raise
            # Too late for a status: the answer breaks off, so that nobody takes it for the whole.
            log.warning("a list was cut short: %s", error.message)
            if request.transport is not None:
                request.transport.abort()
            return response
        if not response.prepared:
            await response.prepare(request)
            if request.method == "HEAD":
                return response
            await response.write(b'{"data":[')
        if jobs:
            await response.write(separator + b",".join(orjson.dumps(job.document()) for job in jobs))
            separator = b","
        after, position, looks = page.cursor, None, looks - 1
        if left is not None:
            left -= len(jobs)
        if not after or left == 0 or looks == 0:
            break
    tail: dict[str, Any] = {"ok": True}
    if left is not None:
        tail["next"] = schemas.cursor(after) if after else None
    await response.write(b"]," + orjson.dumps(tail)[1:])
    await response.write_eof()
    return response


@operation(
    data={"oneOf": [_JOB, shapes.list_of(_JOB)]},
    status=201,
    body={
        "oneOf": [
            schemas.JobBody,
            {"type": "array", "items": schemas.JobBody, "minItems": 1, "maxItems": schemas.MAX_BATCH},
        ]
    },
    query=schemas.DryQuery,
    headers={
        "traceparent": {
            "type": "string",
            "description": "The trace that the job's way is a part of, as W3C's Trace Context has it.",
            "examples": ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
        }
    },
    refuses=(
        UnknownField,
        InvalidDemand,
        InvalidCallback,
        DuplicateRequestID,
        DuplicateCallback,
        QueueFull,
    ),
    body_examples={
        "one": {"value": _BODY},
        "an array": {"value": [_BODY, {**_BODY, "request_id": "e", "callback": f"{_BODY['callback']}2"}]},
    },
    answer_examples={
        "one": examples.answered(examples.WAITING),
        "an array": examples.answered([examples.WAITING]),
        "tried only": examples.answered(examples.NEXT),
    },
    links=_LINKS,
    callbacks=_CALLED,
)
async def create_jobs(request: web.Request) -> web.Response:
    """POST /v1/<type>/: one job, or a list of them of which all are created or none.

    Each `request_id`, and each `callback`, may be there once within the type until the job is purged. Who got
    no answer sends the same again: 409 `duplicate_request_id` for the own request_id means that it is kept.
    Without a priority a job is last in line. Once its turn has come and what it asks for is free, its
    callback is called.
    """
    (type_,) = typed(request)
    traces = request.app[TRACES]
    if traces is None or "traceparent" not in request.headers:
        return await _create(request, type_)
    with traces.create(request.headers["traceparent"], type_, "/v1/{type}/") as traceparent:
        return await _create(request, type_, traceparent)


async def _create(request: web.Request, type_: str, traceparent: str = "") -> web.Response:
    caller, written = caller_of(request), await body(request)
    drafts = schemas.drafts(written, request.app[CHECK_CALLBACK])
    indexed = isinstance(written, list)
    for index, draft in enumerate(drafts):
        prefix = f"{index}." if indexed else ""
        caller.must_own(draft.owner_id, f"{prefix}owner_id")
        if draft.priority is not None:
            # To say where one stands in line is to move.
            caller.must(Right.MOVE_JOBS, f"{prefix}priority")
    store = request.app[STORE]
    pools: list[str] = []
    if _is_dry(request):
        jobs = await store.dry.create(type_, drafts, indexed, caller)
    else:
        jobs, pools = await store.create(type_, drafts, indexed, caller, traceparent)
    for pool in pools:
        request.app[WAKE](type_, pool)
    documents = [job.document() for job in jobs]
    return answer(documents if indexed else documents[0], 201)


@operation(
    data=_JOB,
    refuses=(JobNotFound,),
    answer_examples={
        "waiting": examples.answered(examples.NEXT),
        "running": examples.answered(examples.RUNNING),
    },
)
async def get_job(request: web.Request) -> web.Response:
    """GET /v1/<type>/<request_id>: one job, and where it stands.

    A waiting job says how many are before it, why it waits, and when it will start, where that can be told.
    An ended one can be read until its queue's `retention` is over.
    """
    type_, request_id = typed(request)
    job = await request.app[STORE].get(type_, request_id, caller_of(request))
    return answer(job.document())


@operation(
    data={"oneOf": [_JOB, shapes.NOTHING]},
    body=shapes.ref("ChangeBody"),
    query=schemas.DryQuery,
    headers=_PREFER,
    refuses=(
        UnknownField,
        InvalidDemand,
        InvalidCallback,
        JobNotFound,
        IllegalTransition,
        NeighbourNotQueued,
        NeighbourIsSelf,
        NeighboursReversed,
        DuplicateCallback,
    ),
    body_examples={
        "a priority": {"value": {"priority": 83334}},
        "to the front": {"value": {"position": "front"}},
        "between": {"value": {"after": "x", "before": "y"}},
        "give back": {"value": {"status": "done"}},
        "ask for something else": {"value": {"data": {"instances": [{"VCPU": 2}]}}},
    },
    answer_examples=_CHANGED | {"tried only": examples.answered(examples.NEXT)},
)
async def change_job(request: web.Request) -> web.Response:
    """POST /v1/<type>/<request_id>: move it, change its status, or what it asks for.

    One way at a time: to where it is to stand, what its status is to be, or what it asks for and whom it
    calls. Only waiting jobs move, and only they can ask for something else; one that already stands where it
    is asked to go stays as it is. What its status does not allow is 409 `illegal_transition`.
    """
    (type_, request_id), caller, store = typed(request), caller_of(request), request.app[STORE]
    asked = schemas.change(await body(request))
    if "status" in asked:
        return await _transition(request, type_, request_id, ASKED[Status(asked["status"])])
    want, dry = _wanted(request), _is_dry(request)
    job: Job | None
    if "data" in asked or "callback" in asked:
        if "callback" in asked:
            request.app[CHECK_CALLBACK](asked["callback"])
        draft = schemas.draft(asked["data"]) if "data" in asked else None
        if dry:
            job = await store.dry.update(type_, request_id, asked.get("callback"), draft, caller)
            return answer(job.document())
        job, pools = await store.update(type_, request_id, asked.get("callback"), draft, caller)
    else:
        caller.must(Right.MOVE_JOBS, next(iter(asked)))
        if dry:
            job = await store.dry.move(type_, request_id, *schemas.where(asked), caller=caller)
            return answer(job.document())
        job, pool, _ = await store.move(type_, request_id, *schemas.where(asked), want, caller)
        pools = [pool]
    return _changed(request, type_, job if want else None, pools)


@operation(
    data={"oneOf": [_JOB, shapes.NOTHING]},
    query=schemas.DryQuery,
    headers=_PREFER,
    refuses=(UnknownField, JobNotFound, IllegalTransition),
    answer_examples=_CHANGED,
)
async def delete_job(request: web.Request) -> web.Response:
    """DELETE /v1/<type>/<request_id>: cancel a waiting job, release a running one.

    What a calling or running job holds goes to the next in line. It can still be read, and its names stay
    taken, until its queue's `retention` is over.
    """
    type_, request_id = typed(request)
    return await _transition(request, type_, request_id, DELETE)


async def _transition(request: web.Request, type_: str, request_id: str, moves: Moves) -> web.Response:
    store, caller = request.app[STORE], caller_of(request)
    if _is_dry(request):
        if moves is REDELIVER:
            return answer((await store.dry.redeliver(type_, request_id, caller)).document())
        return answer((await store.dry.transition(type_, request_id, moves, caller)).document())
    asked, claim_ms, want = time.monotonic(), request.app[CLAIM](), _wanted(request)
    if moves is REDELIVER:
        job, work = await store.redeliver(type_, request_id, want, claim_ms, caller)
    else:
        job, work = await store.transition(
            type_, request_id, moves, want=want, claim_ms=claim_ms, caller=caller
        )
    request.app[FOLLOW](type_, work, asked)
    if work.turns:
        # Those whose turn has come are called first, then whoever made room for them is answered.
        await asyncio.sleep(0)
    return answer({} if job is None else job.document())


def _is_dry(request: web.Request) -> bool:
    return request.rel_url.raw_query_string != "" and schemas.dry_run(query(request))


def _wanted(request: web.Request) -> bool:
    return "return=representation" in request.headers.get("Prefer", "").replace(" ", "").split(",")


def _changed(request: web.Request, type_: str, job: Job | None, pools: list[str]) -> web.Response:
    for pool in filter(None, pools):
        request.app[WAKE](type_, pool)
    return answer({} if job is None else job.document())
