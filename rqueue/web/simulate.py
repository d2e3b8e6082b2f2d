"""The handler of POST /queues/<type>/simulate: what would be, if some things were different."""

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from rqueue.capacity import declared
from rqueue.domain.caller import Right
from rqueue.domain.job import Job
from rqueue.errors import (
    DuplicateRequestID,
    IllegalTransition,
    Invalid,
    InvalidDemand,
    JobNotFound,
    NeighbourIsSelf,
    NeighbourNotQueued,
    NeighboursReversed,
    QueueFull,
    RqueueError,
    UnknownField,
)
from rqueue.store import steps
from rqueue.web import examples, schemas, shapes
from rqueue.web.answers import answer, body
from rqueue.web.auth import caller_of, typed
from rqueue.web.context import STORE
from rqueue.web.operation import operation

_TRIED = {"maxItems": schemas.MAX_TRIED}
_BODY: shapes.Shape = {
    "type": "object",
    "description": "What would be different; it is done in this order, and then nothing of it has happened.",
    "properties": {
        "moves": {
            "type": "array",
            "items": schemas.MoveBody,
            "description": "Jobs that would stand elsewhere, one after the other.",
            **_TRIED,
        },
        "pools": shapes.map_of(
            {
                "type": "object",
                "properties": {
                    "hosts": shapes.map_of(
                        {"oneOf": [shapes.ref("Amounts"), {"type": "null"}]},
                        description="What a host would have; null takes it away. The others stay.",
                    )
                },
                "required": ["hosts"],
                "additionalProperties": False,
            },
            maxProperties=schemas.MAX_TRIED,
            description="Pool → what its hosts would have.",
        ),
        "jobs": {
            "type": "array",
            "items": schemas.TriedJobBody,
            "description": "Jobs that would be new. Nobody is called, so they have no callback.",
            **_TRIED,
        },
        "pool": shapes.NAME | {"description": "Examine only this one."},
    },
    "additionalProperties": False,
}
_EXAMPLE: shapes.Shape = {
    "moves": [{"request_id": "d", "position": "front"}],
    "pools": {"p1": {"hosts": {"node-5": {"VCPU": 64, "Memory": 262144}, "node-1": None}}},
    "jobs": [{"request_id": "new", "owner_id": "y", "data": {"instances": [{"VCPU": 4}]}}],
}
_PLACE: shapes.Shape = {
    "RequestID": shapes.text("The job's name."),
    "OwnerID": shapes.text("Whose it is."),
    "Pool": shapes.text("The pool that it is for."),
}
_DATA = shapes.record(
    {
        "admitted": shapes.list_of(
            shapes.record(
                {
                    **_PLACE,
                    "Placement": shapes.list_of(shapes.TEXT, description="The host of each instance."),
                }
            ),
            maxItems=steps.MOST_ADMITTED,
            description="Who would be admitted now, in order.",
        ),
        "waiting": shapes.list_of(
            shapes.record(
                {
                    **_PLACE,
                    "Position": shapes.COUNT | {"description": "How many would be before it; 0 is next."},
                    "Ahead": shapes.COUNT | {"description": "How many of them for the same pool."},
                    "Reason": shapes.text("Why it would wait: a code, a colon, and words for people."),
                }
            ),
            description="Those of the moved and new ones that would wait, and the first of each pool.",
        ),
        "more": {"type": "boolean", "description": "Not all was looked at."},
    }
)


@operation(
    data=_DATA,
    body=_BODY,
    body_examples={"a move, hosts and a new job": {"value": _EXAMPLE}, "as it is": {"value": {}}},
    answer_examples={"some of each": examples.answered(examples.SIMULATED)},
    refuses=(
        UnknownField,
        InvalidDemand,
        JobNotFound,
        IllegalTransition,
        NeighbourNotQueued,
        NeighbourIsSelf,
        NeighboursReversed,
        DuplicateRequestID,
        QueueFull,
    ),
)
async def simulate(request: web.Request) -> web.Response:
    """POST /queues/<type>/simulate: who would be admitted, and who would wait, if this were so.

    Nothing of it happens. The pools that have reason to be are examined as ever, by what admits jobs: at most
    20 pools, and 100 jobs are admitted. Moves, hosts and new jobs each take the right to move jobs, to read
    queues, and to create jobs.
    """
    (type_,), caller = typed(request), caller_of(request)
    asked = schemas.simulation(await body(request))
    if asked["moves"]:
        caller.must(Right.MOVE_JOBS, "moves")
    if asked["pools"]:
        # What fits where tells of what others hold.
        caller.must(Right.READ_QUEUES, "pools")
    for index, draft in enumerate(asked["drafts"]):
        caller.must(Right.WRITE_JOBS, "jobs")
        caller.must_own(draft.owner_id, f"jobs.{index}.owner_id")
        if draft.priority is not None:
            caller.must(Right.MOVE_JOBS, f"jobs.{index}.priority")
    outcome = await request.app[STORE].dry.simulate(
        type_,
        [(move.pop("request_id"), *schemas.where(move)) for move in asked["moves"]],
        {name: _hosts(name, written) for name, written in asked["pools"].items()},
        asked["drafts"],
        asked["pool"],
        caller,
    )
    admitted = [{**_named(job), "Placement": job.placement} for job in outcome.admitted]
    waiting = [
        {**_named(job), "Position": job.position, "Ahead": job.ahead, "Reason": job.document()["Reason"]}
        for job in outcome.waiting
    ]
    return answer({"admitted": admitted, "waiting": waiting, "more": outcome.more})


def _named(job: Job) -> dict[str, Any]:
    return {"RequestID": job.request_id, "OwnerID": job.owner_id, "Pool": job.pool}


def _hosts(name: str, written: Any) -> dict[str, Mapping[str, int]]:
    """Host → resource → amount, nothing for a host that is taken away. Raises as declared.read."""
    field = f"pools.{name[:40]}"
    if not isinstance(written, dict) or set(written) != {"hosts"} or not isinstance(written["hosts"], dict):
        raise Invalid('expected {"hosts": {host: its amounts, or null}}', field)
    hosts = written["hosts"]
    gone = {host: {"-": 0} for host, amounts in hosts.items() if amounts is None}
    try:
        read = declared.read(name, {"hosts": {**hosts, **gone}})
    except RqueueError as error:
        error.field = f"{field}.{error.field}"
        raise
    return {host: {} if host in gone else amounts for host, amounts in read.capacity.items()}
