"""What Redis answered, as values and as errors.

The only place that knows how a hash, a reply or an error of redis-py looks.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, overload

import orjson
import redis.exceptions

from rqueue import errors
from rqueue.domain import reason as words
from rqueue.domain.demand import MAX_AMOUNT, exceeds
from rqueue.domain.estimate import Estimate, estimate
from rqueue.domain.job import MAX_MOMENT, MAX_PRIORITY, Draft, Job, Reason, Status
from rqueue.domain.policy import Settings
from rqueue.domain.reason import Lack
from rqueue.store.pipeline import NotReplicated
from rqueue.store.scripts import DamagedKey, ScriptError


@dataclass(frozen=True, slots=True)
class Turn:
    """An admitted job that is to be called, and the claim under which the holder alone may call it.

    `first` where it was admitted just now: this attempt is written down already, and `job` is there, so
    that nothing more is asked of Redis before the call.
    """

    type: str
    request_id: str
    callback: str
    admission: str
    claim: int
    first: bool = False
    job: Job | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """What a script found to do: jobs to call, pools to examine, and whether there is more of it.

    `quiet` where time can bring nothing to the type but that ended jobs are forgotten.
    """

    more: bool
    pools: tuple[str, ...]
    turns: tuple[Turn, ...]
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs in order; `cursor` is where to go on, or empty at the end."""

    jobs: list[Job]
    cursor: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue with its settings and how many jobs it holds; `running` counts calling ones too."""

    type: str
    settings: Settings
    queued: int
    running: int
    ended: int
    pools: tuple[str, ...]


STATUSES = {status.value: status for status in Status}
REASONS = {reason.value: reason for reason in Reason}

# Answers of a server that is there and does not serve us now; any other refusal is for what a key holds.
_AWAY = re.compile(
    "ASK|BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|MOVED|NOAUTH|NOPERM|NOREPLICAS|OOM|READONLY|TRYAGAIN"
    "|command not allowed when used memory|(ERR )?(The user executing the script|ACL failure in script)"
)


def job_of(
    type_: str,
    request_id: str,
    flat: Sequence[str],
    position: int | None = None,
    ahead: int | None = None,
    reason: str | None = None,
    bounds: str = "",
    *numbers: Any,
    lack: Lack | None = None,
) -> Job:
    """A job from its hash. Raises StoreDamaged, naming the job, where the hash is no job.

    With a pool's bounds, it waits because it never fits where it exceeds them. The `numbers` are for the
    words of its reason, and so is what it lacks.
    """
    try:
        fields = mapping(flat)
        found = fields.get
        why = None if reason is None else REASONS[reason]
        if bounds and exceeds(found("Demand", ""), bounds):
            why = Reason.NEVER_FITS
        placement, attempts, priority = found("Placement"), found("Attempts"), int(fields["Priority"])
        if not -MAX_PRIORITY <= priority <= MAX_PRIORITY:
            raise ValueError(f"{priority} is no priority")
        # By position, in the order of Job's fields: names would cost as much as all the rest.
        return Job(
            _counted(fields["ID"]),
            _moment(fields["CreatedAt"]),
            _moment(fields["UpdatedAt"]),
            _moment(found("DeletedAt")),
            request_id,
            type_,
            fields["OwnerID"],
            fields["Data"],
            fields["Callback"],
            priority,
            STATUSES[fields["Status"]],
            fields["Pool"],
            None if not placement else _hosts(placement),
            None if attempts is None else _counted(attempts),
            found("LastError"),
            found("Admission"),
            _moment(found("AdmittedAt")),
            position,
            ahead,
            why,
            found("Traceparent"),
            None if why is None else _words(why, type_, fields, ahead or 0, bounds, numbers, lack),
            _estimate(fields, ahead or 0, bounds, *numbers)
            if len(numbers) == 3 and why in _IN_TURN
            else None,
            moment_of(found("NextCall")),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise errors.StoreDamaged(
            f"the hash of job {request_id!r} of type {type_!r} is damaged: {error!r}"
        ) from error


_IN_TURN = (Reason.BEHIND, Reason.WAITING_FOR_CAPACITY)


def _estimate(
    fields: Mapping[str, str], ahead: int, bounds: str, now: str, ring: str, sampled: str
) -> Estimate | None:
    return estimate(
        int(now), ahead, fields.get("Demand", ""), sampled.split("\n") if sampled else [], ring, bounds
    )


def _words(
    why: Reason,
    type_: str,
    fields: Mapping[str, str],
    ahead: int,
    bounds: str,
    numbers: Sequence[Any],
    lack: Lack | None,
) -> str:
    pool = fields["Pool"]
    if why is Reason.BEHIND:
        return words.behind(ahead, pool)
    if why is Reason.WAITING_FOR_CAPACITY:
        return words.waiting_for_capacity(pool, lack)
    if why is Reason.PAUSED:
        return words.paused(type_)
    if why is Reason.NO_POOL:
        return words.no_pool(pool)
    if why is Reason.SOURCE_STALE:
        age, stale_after, said = numbers
        return words.source_stale(pool, int(age) if age else None, stale_after, said)
    if why is Reason.OVER_QUOTA:
        resource, used, limit, asked = numbers
        return words.over_quota(fields["OwnerID"], pool, resource, int(used), int(limit), int(asked))
    try:
        return words.never_fits(pool, fields["Demand"], bounds)
    except (ValueError, TypeError, AttributeError, KeyError):
        # By a hand edit.
        return f"what it asks for, or what pool {pool} has, cannot be read"


def lack_of(found: Sequence[Any]) -> Lack | None:
    """What explain.lua found out."""
    if not found:
        return None
    asked, room, shape, resource, most, host = found
    return Lack(asked, room, shape, resource, int(most), host)


def _counted(written: str) -> int:
    if not 0 <= (number := int(written)) <= MAX_AMOUNT:
        raise ValueError(f"{written[:40]} is no count")
    return number


def _hosts(written: str) -> tuple[str, ...]:
    if not isinstance(read := orjson.loads(written), list):
        raise ValueError(f"{written[:40]} is no list of hosts")
    return tuple(read)


@overload
def _moment(written: str) -> int: ...
@overload
def _moment(written: None) -> None: ...
def _moment(written: str | None) -> int | None:
    if written is None:
        return None
    if not 0 <= (moment := int(written)) <= MAX_MOMENT:
        raise ValueError(f"{written} is no moment")
    return moment


def created(type_: str, drafts: Sequence[Draft], at: int, found: Sequence[str]) -> list[Job]:
    """The jobs that drafts have become: of each its ID, Priority and Pool, which is JSON as in its Data."""
    jobs = []
    for draft, id_, priority, pool in zip(drafts, found[::3], found[1::3], found[2::3], strict=True):
        request_id, owner_id, callback, _, _, _, _, head, tail = draft
        # By position, as in job_of.
        jobs.append(
            Job(
                int(id_),
                at,
                at,
                None,
                request_id,
                type_,
                owner_id,
                f"{head}{pool}{tail}",
                callback,
                int(priority),
                Status.QUEUED,
                orjson.loads(pool),
            )
        )
    return jobs


def mapping(flat: Sequence[str]) -> dict[str, str]:
    """A hash as a map, from the list of names and values that HGETALL answers."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def turns_of(type_: str, found: Sequence[Sequence[Any]]) -> tuple[Turn, ...]:
    """The jobs to call that a script answered. One that a hand edit damaged is without its job."""
    turns = []
    for request_id, callback, admission, claim, *flat in found:
        job = None
        with suppress(errors.StoreDamaged):
            job = job_of(type_, request_id, *flat) if flat else None
        turns.append(Turn(type_, request_id, callback, admission, int(claim), bool(flat), job))
    return tuple(turns)


def settings_of(written: Mapping[str, str]) -> Settings:
    """A queue's settings from their hash; what a hand edit made unreadable counts as not set."""
    settings = Settings()
    for name, value in written.items():
        with suppress(errors.Invalid):
            settings = settings.changed({name: setting_of(name, value)})
    return settings


def setting_of(name: str, written: str) -> Any:
    """The value of a setting as it stands in its hash; what cannot be read stays text."""
    if name == "paused":
        return written == "1"
    if written.isdecimal() and name != "default_pool":
        # Of more digits than any setting has, Python itself refuses to make a number.
        return int(written[:20])
    return written


def by_host(written: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """host → resource → amount, from a hash of <host>/<resource>; what no amount can be is left out."""
    hosts: dict[str, dict[str, int]] = {}
    for field, amount in written.items():
        host, _, resource = field.partition("/")
        with suppress(ValueError):
            if abs(number := int(amount)) <= MAX_AMOUNT:
                hosts.setdefault(host, {})[resource] = number
    return hosts


def by_owner(written: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """owner → resource → amount, from a hash of <owner>/<resource>, where the owner has %2F for a slash."""
    return {
        owner.replace("%2F", "/").replace("%25", "%"): amounts for owner, amounts in by_host(written).items()
    }


def quotas_of(written: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """owner → resource → the most it may hold; what a hand edit made unreadable is left out."""
    quotas: dict[str, dict[str, int]] = {}
    for owner, limits in written.items():
        with suppress(ValueError, AttributeError):
            quotas[owner] = {
                name: limit for name, limit in orjson.loads(limits).items() if isinstance(limit, int)
            }
    return quotas


def found_by_of(written: str | None) -> dict[str, Any]:
    """How a source finds a pool; nothing where a hand edit left what cannot be read."""
    with suppress(ValueError):
        if isinstance(read := orjson.loads(written or ""), dict):
            return read
    return {}


def moment_of(written: str | None) -> int | None:
    """A moment in µs; None where there was none yet, or where a hand edit left what is none."""
    with suppress(ValueError):
        return _moment(written) or None
    return None


class answers:  # noqa: N801 - it reads as the verb
    """Turn what a script or redis-py raises into this project's errors. `key` is one that is of no type."""

    __slots__ = ("_indexed", "_key", "_request_id", "_type")

    def __init__(self, type_: str, request_id: str = "", indexed: bool = False, key: str = "") -> None:
        self._type, self._request_id, self._indexed, self._key = type_, request_id, indexed, key

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, ScriptError):
            raise _conflict(error.code, error.details, self._type, self._request_id, self._indexed) from None
        if isinstance(error, NotReplicated):
            raise errors.NotReplicated(f"{errors.NotReplicated.__doc__} ({error})") from error
        if isinstance(error, DamagedKey):
            raise errors.StoreDamaged(f"not what it should be is {error}; see rqueue check") from error
        if isinstance(error, redis.exceptions.RedisError):
            if isinstance(error, redis.exceptions.ResponseError) and not _AWAY.match(str(error)):
                named = f"job {self._request_id!r} of " if self._request_id else ""
                what = self._key or f"a key of {named}type {self._type!r}"
                raise errors.StoreDamaged(f"{what} is not what it should be: {error}") from error
            does = "refuses" if isinstance(error, redis.exceptions.ResponseError) else "does not answer"
            raise errors.RedisUnavailable(f"Redis {does}: {type(error).__name__}: {error}") from error


def _conflict(
    code: str, details: Sequence[Any], type_: str, request_id: str, indexed: bool
) -> errors.RqueueError:
    job = f"job {request_id!r} of type {type_!r}"
    if code == "duplicate_request_id":
        index, taken = details
        field = f"{index}.request_id" if indexed else "request_id"
        return errors.DuplicateRequestID(
            f"request_id {taken!r} of type {type_!r} is taken by job {taken!r}", field
        )
    if code == "duplicate_callback":
        index, holder = details
        field = f"{index}.callback" if indexed else "callback"
        # Whose it is, is not for one to know who may not know of that job.
        by = f"by job {holder!r} of type {type_!r}" if holder else "by another's job"
        return errors.DuplicateCallback(f"this callback is taken {by}", field)
    if code == "queue_full":
        return errors.QueueFull(
            f"queue {type_!r} may hold {details[0]} waiting jobs (max_queued), and would hold more"
        )
    if code == "job_not_found":
        return errors.JobNotFound(f"there is no {job}")
    if code == "illegal_transition":
        return errors.IllegalTransition(f"{job} is {details[0]}, which does not allow this", "status")
    if code == "neighbour_is_self":
        return errors.NeighbourIsSelf(f"{job} cannot stand next to itself")
    if code == "neighbour_not_queued":
        name, status = details
        what = f"is {status}" if status else "is not there"
        return errors.NeighbourNotQueued(f"job {name!r} of type {type_!r} {what}; a neighbour must be queued")
    if code == "neighbours_reversed":
        first, second = details
        return errors.NeighboursReversed(
            f"job {first!r} does not stand before job {second!r}: nothing is between them"
        )
    if code == "pool_not_found":
        return errors.PoolNotFound()
    if code == "project_taken":
        project, pool = details
        return errors.ProjectTaken(f"project {project!r} belongs to pool {pool!r}", "projects")
    if code == "wrong_source":
        return errors.WrongSource(
            f"the source of queue {type_!r} is {details[0]}; it can be changed only while it has no pools",
            "source",
        )
    return errors.LostClaim()
