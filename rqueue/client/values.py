"""What the service answers, as values. All have `document`: the JSON as it came, with what is not named here.

A newer service may know more words: those (`status`, `reason`, `what`) are text, and none is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

Document = Mapping[str, Any]


class Failed(Exception):
    """A call that did not succeed.

    `status` is that of the answer, 0 where there was none; `code` and `field` are as the answer has them.
    `tries` is how often it was sent, 0 where nobody was reached: from 2 on an earlier try may have been done.
    """

    def __init__(
        self, message: str, status: int = 0, code: str = "", field: str | None = None, tries: int = 0
    ) -> None:
        super().__init__(message)
        self.message, self.status, self.code, self.field, self.tries = message, status, code, field, tries


@dataclass(frozen=True, slots=True)
class Job:
    """A job. What is None does not apply, or was not asked for: a list has no `position`.

    `data` is what the client gave, with `host_aggregate` (its pool); empty where a hand edit left no JSON
    object there. `placement` is the host of each instance, in the order of `data["instances"]`.
    """

    id: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    request_id: str
    type: str
    owner_id: str
    data: Mapping[str, Any]
    callback: str
    priority: int
    status: str
    position: int | None
    ahead: int | None
    reason: str | None
    estimated_start: datetime | None
    estimated_spread: tuple[datetime, datetime] | None
    estimate_basis: str | None
    placement: tuple[str, ...] | None
    attempts: int | None
    last_error: str | None
    document: Document = field(repr=False)

    @classmethod
    def read(cls, document: Document) -> "Job":
        """Raises KeyError, TypeError or ValueError for what is no job."""
        placement, spread = document.get("Placement"), document.get("EstimatedSpread")
        return cls(
            id=document["ID"],
            created_at=_moment(document["CreatedAt"]),
            updated_at=_moment(document["UpdatedAt"]),
            deleted_at=_moment_or_none(document["DeletedAt"]),
            request_id=document["RequestID"],
            type=document["Type"],
            owner_id=document["OwnerID"],
            data=_data(document["Data"]),
            callback=document["Callback"],
            priority=document["Priority"],
            status=document["Status"],
            position=document.get("Position"),
            ahead=document.get("Ahead"),
            reason=document.get("Reason"),
            estimated_start=_moment_or_none(document.get("EstimatedStart")),
            estimated_spread=None if spread is None else (_moment(spread[0]), _moment(spread[1])),
            estimate_basis=document.get("EstimateBasis"),
            placement=None if placement is None else tuple(placement),
            attempts=document.get("Attempts"),
            last_error=document.get("LastError"),
            document=document,
        )


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. `id` is its place in the stream; texts are empty where there is nothing."""

    id: str
    at: datetime
    what: str
    request_id: str
    owner_id: str
    from_: str
    to: str
    actor: str
    why: str
    document: Document = field(repr=False)

    @classmethod
    def read(cls, document: Document) -> "Event":
        """Raises KeyError, TypeError or ValueError for what is no event."""
        return cls(
            id=document["id"],
            at=_moment(document["at"]),
            what=document["what"],
            request_id=document["request_id"],
            owner_id=document["owner_id"],
            from_=document["from"],
            to=document["to"],
            actor=document["actor"],
            why=document["why"],
            document=document,
        )


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue: its settings by name, how many of its jobs wait, run and have ended, its pools by name.

    Of one that a hand edit damaged there is `error` only, and the rest is empty.
    """

    type: str
    settings: Mapping[str, Any]
    queued: int
    running: int
    ended: int
    pools: tuple[str, ...]
    error: str | None
    document: Document = field(repr=False)

    @classmethod
    def read(cls, document: Document) -> "Queue":
        """Raises KeyError, TypeError or ValueError for what is no queue."""
        if "error" in document:
            return cls(document["type"], {}, 0, 0, 0, (), document["error"]["message"], document)
        counts = document["counts"]
        return cls(
            type=document["type"],
            settings={
                name: value for name, value in document.items() if name not in ("type", "counts", "pools")
            },
            queued=counts["queued"],
            running=counts["running"],
            ended=counts["ended"],
            pools=tuple(document["pools"]),
            error=None,
            document=document,
        )


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool: of each host its `capacity`, `used`, `free` (resource → amount), of a live one `seen` too.

    `source`, `observed` and `error` are those of a pool that is read from a cluster: how it is found, when it
    was read, and why not lately.
    """

    name: str
    hosts: Mapping[str, Mapping[str, Mapping[str, int | str]]]
    projects: tuple[str, ...]
    waiting: int
    quotas: Mapping[str, Mapping[str, int | str]]
    usage: Mapping[str, Mapping[str, int | str]]
    source: Mapping[str, Any] | None
    observed: datetime | None
    error: str | None
    document: Document = field(repr=False)

    @classmethod
    def read(cls, document: Document) -> "Pool":
        """Raises KeyError, TypeError or ValueError for what is no pool."""
        return cls(
            name=document["pool"],
            hosts=document["hosts"],
            projects=tuple(document["projects"]),
            waiting=document["waiting"],
            quotas=document["quotas"],
            usage=document["usage"],
            source=document.get("source"),
            observed=_moment_or_none(document.get("observed")),
            error=document.get("error"),
            document=document,
        )


def _moment(written: str) -> datetime:
    return datetime.fromisoformat(written)


def _moment_or_none(written: str | None) -> datetime | None:
    return None if written is None else _moment(written)


def _data(written: str) -> Mapping[str, Any]:
    try:
        read = orjson.loads(written)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}
