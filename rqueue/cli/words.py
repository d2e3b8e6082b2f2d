"""Jobs, queues and events in words, as tables and lines have them."""

from collections.abc import Sequence
from typing import Any

import orjson

from rqueue.cli.output import STYLES, Cell, Column, age, at
from rqueue.client import Event, Job
from rqueue.domain.demand import demand
from rqueue.domain.reason import amounts
from rqueue.errors import InvalidDemand

JOB_COLUMNS = (
    Column("#", right=True),
    Column("JOB", least=16),
    Column("OWNER", least=8),
    Column("STATUS"),
    Column("AGE", right=True),
    Column("POOL", least=8),
    Column("ASKS FOR", least=10, roomy=True),
    Column("WHY, OR WHERE", least=16),
)
EVENT_COLUMNS = (
    Column("TIME"),
    Column("WHAT"),
    Column("JOB", least=12),
    Column("FROM → TO", least=12),
    Column("BY", least=6),
    Column("WHY", least=8),
)


def job_row(job: Job, position: int | None = None) -> Sequence[str | Cell]:
    """A job as a row of JOB_COLUMNS."""
    place = job.position if job.position is not None else position
    return (
        "" if place is None else str(place),
        job.request_id,
        job.owner_id,
        (job.status, STYLES.get(job.status, "")),
        age(job.created_at),
        pool_of(job),
        asked(job),
        job.last_error or job.reason or ", ".join(dict.fromkeys(job.placement or ())),
    )


def event_row(event: Event) -> Sequence[str | Cell]:
    """An event as a row of EVENT_COLUMNS."""
    way = " → ".join(filter(None, (event.from_, event.to)))
    return (
        at(event.at),
        (event.what, STYLES.get(event.what, "")),
        event.request_id,
        way,
        event.actor,
        event.why,
    )


def pool_of(job: Job) -> str:
    """Where a job waits or runs."""
    return str(job.data.get("host_aggregate", ""))


def asked(job: Job) -> str:
    """What a job asks for: `2 of 4 VCPU, 8192 Memory`."""
    try:
        runs: list[tuple[int, dict[str, int]]] = orjson.loads(demand(job.data))
    except InvalidDemand:
        return "?"
    each = [f"{count} of {amounts(shape)}" if count > 1 else amounts(shape) for count, shape in runs]
    return " + ".join(each)


def place(job: Job) -> str:
    """Where a job is in its life, and in the line."""
    if job.position is not None:
        return f"position {job.position}"
    hosts = ", ".join(dict.fromkeys(job.placement or ()))
    return f"{job.status} on {hosts}" if hosts else job.status


def shown(value: Any) -> str:
    """A setting's value."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()
