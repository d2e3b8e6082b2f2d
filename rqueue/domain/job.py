"""A job: its states, its legal moves, and the form in which clients see it.

A job is a value; the store acts. This module knows neither Redis's keys nor HTTP, and has no clock:
times are whole microseconds since 1970, as the store hands them over.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

from rqueue.domain.estimate import Estimate

# The largest number that a double, and so a sorted set's score, tells from its neighbours.
MAX_PRIORITY = 2**53 - 1
MAX_NAME_BYTES = 256
MAX_CALLBACK_BYTES = 2048

MAX_MOMENT = 253_402_300_799_999_999  # the last microsecond of the year 9999

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Status(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    CALLING = "calling"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"
    EXPIRED = "expired"


ENDED = (Status.DONE, Status.CANCELLED, Status.FAILED, Status.EXPIRED)

# What may be asked of a job: the status it has → the status it gets. All else is illegal.
Moves = dict[Status, Status]
CONFIRM: Moves = {Status.CALLING: Status.RUNNING, Status.RUNNING: Status.RUNNING}
FINISH: Moves = {Status.CALLING: Status.DONE, Status.RUNNING: Status.DONE}
DELETE: Moves = {Status.QUEUED: Status.CANCELLED, **FINISH}
REQUEUE: Moves = {
    Status.RUNNING: Status.QUEUED,
    Status.FAILED: Status.QUEUED,
    Status.EXPIRED: Status.QUEUED,
}
REDELIVER: Moves = {Status.CALLING: Status.CALLING}
ACCEPTED: Moves = {Status.CALLING: Status.RUNNING}
UNWANTED: Moves = {Status.CALLING: Status.CANCELLED}
UNREACHABLE: Moves = {Status.CALLING: Status.FAILED}
# What a client may write as {"status": …}.
ASKED: dict[Status, Moves] = {
    Status.RUNNING: CONFIRM,
    Status.DONE: FINISH,
    Status.QUEUED: REQUEUE,
    Status.CALLING: REDELIVER,
}


class Reason(StrEnum):
    """Why a job waits."""

    PAUSED = "paused"
    NO_POOL = "no_pool"
    SOURCE_STALE = "source_stale"
    NEVER_FITS = "never_fits"
    OVER_QUOTA = "over_quota"
    BEHIND = "behind"
    WAITING_FOR_CAPACITY = "waiting_for_capacity"


# Tuples, not dataclasses: a frozen dataclass of 20 fields takes 10 times as long to make.
class Draft(NamedTuple):
    """A job that a client asks for, checked and normalised, before it has an ID or a place.

    `data_head` and `data_tail` are the job's Data as JSON text, cut where the name of its pool goes,
    so that the script that resolves the pool need not read what a client wrote. `pool` is empty
    where the client named none; then `project` and the owner decide.
    """

    request_id: str
    owner_id: str
    callback: str
    priority: int | None
    demand: str
    pool: str
    project: str
    data_head: str
    data_tail: str


class Job(NamedTuple):
    """A job as it is in Redis. Fields from `placement` on are set only where they apply."""

    id: int
    created_at: int
    updated_at: int
    deleted_at: int | None
    request_id: str
    type: str
    owner_id: str
    data: str
    callback: str
    priority: int
    status: Status
    pool: str
    placement: tuple[str, ...] | None = None
    attempts: int | None = None
    last_error: str | None = None
    admission: str | None = None
    admitted_at: int | None = None
    position: int | None = None
    ahead: int | None = None
    reason: Reason | None = None
    traceparent: str | None = None
    words: str | None = None
    estimate: Estimate | None = None
    next_call: int | None = None

    def document(self) -> dict[str, Any]:
        """The job as clients see it: the seed's fields in the seed's order, then what applies."""
        created = written(self.created_at)
        document: dict[str, Any] = {
            "ID": self.id,
            "CreatedAt": created,
            "UpdatedAt": created if self.updated_at == self.created_at else written(self.updated_at),
            "DeletedAt": None if self.deleted_at is None else written(self.deleted_at),
            "RequestID": self.request_id,
            "Type": self.type,
            "OwnerID": self.owner_id,
            "Data": self.data,
            "Callback": self.callback,
            "Priority": self.priority,
            "Status": self.status,
        }
        if self.position is not None:
            document["Position"] = self.position
            document["Ahead"] = self.ahead
            document["Reason"] = f"{self.reason}: {self.words}" if self.words else self.reason
            document["EstimatedStart"] = None
            if (found := self.estimate) is not None:
                document["EstimatedStart"] = written(found.start)
                document["EstimatedSpread"] = [written(found.early), written(found.late)]
                document["EstimateBasis"] = found.basis(self.pool)
        if self.placement is not None:
            document["Placement"] = self.placement
        if self.attempts is not None:
            document["Attempts"] = self.attempts
        if self.last_error is not None:
            document["LastError"] = self.last_error
        if self.next_call is not None:
            document["NextCall"] = written(self.next_call)
        return document


def written(microseconds: int) -> str:
    """A moment in RFC 3339 with fraction and offset, such as `2018-08-27T11:27:08.564319+00:00`.

    Adds whole seconds and microseconds: a float of seconds would round the last digit.
    """
    seconds, fraction = divmod(microseconds, 1_000_000)
    return f"{_second(seconds)}.{fraction:06d}+00:00"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    # Many moments share a second, and to write one costs more than all the rest of a job.
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
