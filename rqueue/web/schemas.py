"""What clients may send, field by field. All that marshmallow finds becomes one of our errors."""

import base64
import binascii
import re
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import orjson
from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates_schema

from rqueue.domain.demand import demand
from rqueue.domain.event import is_id
from rqueue.domain.job import MAX_CALLBACK_BYTES, MAX_NAME_BYTES, MAX_PRIORITY, Draft, Status
from rqueue.errors import Invalid, UnknownField

MAX_BATCH = 1000
# So many moves, jobs and pools of one simulation.
MAX_TRIED = 100
SHORT_DATA = 1024
MAX_LIMIT = 10_000
# Of so many jobs it is told at once where they stand.
MAX_STANDING = 200
MAX_EVENTS = 1000
# So many unknown fields are looked at; marshmallow takes half a second for a megabyte of them.
MAX_NAMED = 40
_WAYS = "priority, position, before, after, after and before, status, data and/or callback"
# A score is whole, unless a hand edit made it another.
_CURSOR = re.compile(
    r"[0-9]{0,18}:-?(?:[0-9]{1,17}(?:\.[0-9]{1,20})?(?:e[+-][0-9]{1,3})?|inf):.{1,300}", re.DOTALL
)


class Name(fields.String):
    """A non-empty string of at most so many bytes; `said` is what it names."""

    def __init__(self, said: str, most: int = MAX_NAME_BYTES, **kwargs: Any) -> None:
        description = f"{said} 1 to {most} bytes of UTF-8."
        metadata = {"minLength": 1, "maxLength": most, "description": description}
        super().__init__(metadata=metadata, **kwargs)
        self._most = most

    def accepts(self, value: Any) -> bool:
        """Whether the value is read, and as it is."""
        return isinstance(value, str) and 0 < len(value.encode()) <= self._most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not isinstance(value, str):
            raise ValidationError("expected a string")
        if not self.accepts(value):
            raise ValidationError(f"expected 1 to {self._most} bytes, got {len(value.encode())}")
        return value


class Priority(fields.Field[int]):
    """A whole number that a double holds exactly."""

    def __init__(self, said: str, **kwargs: Any) -> None:
        bounds = {"minimum": -MAX_PRIORITY, "maximum": MAX_PRIORITY}
        super().__init__(metadata={**bounds, "description": said}, **kwargs)

    def accepts(self, value: Any) -> bool:
        """Whether the value is read, and as it is."""
        return type(value) is int and -MAX_PRIORITY <= value <= MAX_PRIORITY

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not self.accepts(value):
            raise ValidationError(f"expected a whole number from -{MAX_PRIORITY} to {MAX_PRIORITY}")
        return int(value)


class Map(fields.Dict):
    """A JSON object, whatever is in it."""

    def accepts(self, value: Any) -> bool:
        """Whether the value is read, and as it is."""
        return isinstance(value, dict)


class Choice(fields.String):
    """One of some words; `said` is what they choose."""

    def __init__(self, *choices: str, said: str, **kwargs: Any) -> None:
        expected = f"expected {', '.join(choices[:-1])} or {choices[-1]}"
        one_of = validate.OneOf(choices, error=expected)
        super().__init__(validate=one_of, metadata={"description": said}, **kwargs)
        self._choices = choices

    def accepts(self, value: Any) -> bool:
        """Whether the value is read, and as it is."""
        return isinstance(value, str) and value in self._choices


class Count(fields.Integer):
    """A number of things, in a query: digits, and not all that int() takes for some."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not re.fullmatch("[0-9]{1,9}", value):
            raise self.make_error("invalid")
        return super()._deserialize(value, attr, data, **kwargs)


_NAMED = "The job's name, which no other of its type has."
_OWNED = "Whose it is."
_CALLED = (
    "The URL that is called when its turn has come, which no other job of its type has. One that is not"
    " absolute is resolved against `RQUEUE_CALLBACK_BASE_URL`."
)
_PLACED = "Behind those that have this priority; the smallest goes first."
_SENT = "To the front of the line, or to its back."
_ASKED = (
    "`running` confirms a call, or renews the lease; `done` gives the capacity back; `queued` puts a running,"
    " failed or expired job back in line at its old place."
)
_BEFORE, _AFTER = "Right before this waiting job, by its request_id.", "Right after this one."


class JobBody(Schema):
    """The body of a create."""

    request_id = Name(_NAMED, required=True)
    owner_id = Name(_OWNED, required=True)
    callback = Name(_CALLED, MAX_CALLBACK_BYTES, required=True)
    data = Map(load_default=dict)
    priority = Priority(f"{_PLACED} Without it the job is last.", load_default=None)


class ChangeBody(Schema):
    """The body of a change: one of the ways to change a job."""

    priority = Priority(_PLACED)
    position = Choice("front", "back", said=_SENT)
    before = Name(_BEFORE)
    after = Name(_AFTER)
    status = Choice("running", "done", "queued", "calling", said=_ASKED)
    data = Map()
    callback = Name(_CALLED, MAX_CALLBACK_BYTES)

    WAYS = (
        *({"priority"}, {"position"}, {"before"}, {"after"}, {"before", "after"}),
        *({"status"}, {"data"}, {"callback"}, {"data", "callback"}),
    )

    @validates_schema
    def one_way(self, data: dict[str, Any], **kwargs: Any) -> None:
        """A change that asked for two things at once could be half done."""
        if set(data) not in self.WAYS:
            raise ValidationError(f"expected one of: {_WAYS}")


class ListQuery(Schema):
    """The query of a list."""

    owner_id = Name("Only the jobs of this owner.", load_default="")
    status = fields.Enum(
        Status,
        by_value=True,
        load_default=None,
        allow_none=False,
        metadata={"description": "Only jobs of this status, ended ones too. Without it all live jobs."},
    )
    limit = Count(
        load_default=None,
        allow_none=False,
        validate=validate.Range(1, MAX_LIMIT),
        metadata={
            "description": "At most so many, and `next` beside them. Without it all of them, streamed."
        },
    )
    cursor = fields.String(
        load_default="", metadata={"description": "`next` of the page before, to go on from there."}
    )
    position = Count(
        load_default=None,
        allow_none=False,
        metadata={
            "description": (
                "With `status=queued`: start at the job that has so many before it in line. Not together with"
                " `cursor`, `owner_id` or `search`."
            )
        },
    )
    search = Name(
        "Only jobs in whose request_id, owner_id or Data this is, in whatever case. With `limit` a page may"
        " be empty before the end.",
        load_default="",
    )
    standing = Choice(
        "false",
        "true",
        load_default="false",
        said=f"With `true`, and a `limit` of at most {MAX_STANDING}, each waiting job as *get* has it.",
    )

    @validates_schema
    def together(self, data: dict[str, Any], **kwargs: Any) -> None:
        """What only makes sense with, or without, another."""
        if data["position"] is not None:
            if data["status"] is not Status.QUEUED:
                raise ValidationError("expected with status=queued only: others have no position", "position")
            if other := next((name for name in ("cursor", "owner_id", "search") if data[name]), None):
                raise ValidationError(f"expected without {other}: it counts all that wait", "position")
        if data["standing"] == "true" and not 0 < (data["limit"] or 0) <= MAX_STANDING:
            raise ValidationError(f"expected with a limit of at most {MAX_STANDING}", "standing")


class EventID(fields.String):
    """The ID of an event, in a query."""

    def __init__(self, said: str, **kwargs: Any) -> None:
        metadata = {"pattern": "^[0-9]{1,20}(-[0-9]{1,20})?$", "description": said}
        super().__init__(load_default="", metadata=metadata, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if not is_id(value):
            raise ValidationError("expected the ID of an event")
        return str(value)


class EventsQuery(Schema):
    """The query of events; `before` and `limit` are of a list, `after` is of a stream."""

    request_id = Name("Only events of this job.", load_default="")
    owner_id = Name("Only events of this owner's jobs.", load_default="")
    before = EventID("Of a list: `next` of the page before, to go on with older ones.")
    limit = Count(
        load_default=100,
        allow_none=False,
        validate=validate.Range(1, MAX_EVENTS),
        metadata={"description": "Of a list: the newest, at most so many; 100 without it."},
    )
    after = EventID("Of a stream: go on behind this event. Without it only what happens from now on is told.")


class MoveBody(Schema):
    """One move of a simulation."""

    request_id = Name("The job that would move.", required=True)
    priority = Priority(_PLACED)
    position = Choice("front", "back", said=_SENT)
    before = Name(_BEFORE)
    after = Name(_AFTER)

    @validates_schema
    def one_way(self, data: dict[str, Any], **kwargs: Any) -> None:
        """As ChangeBody has it."""
        if set(data) - {"request_id"} not in ChangeBody.WAYS:
            raise ValidationError("expected one of: priority, position, before, after, after and before")


class TriedJobBody(Schema):
    """One new job of a simulation: nobody is called, so there is no callback."""

    request_id = Name(_NAMED, required=True)
    owner_id = Name(_OWNED, required=True)
    data = Map(load_default=dict)
    priority = Priority(f"{_PLACED} Without it the job is last.", load_default=None)


class DryQuery(Schema):
    """The query of a change."""

    dry_run = Choice(
        "false",
        "true",
        load_default="false",
        said="With `true` nothing changes: the answer is what it would be.",
    )


_JOB, _CHANGE, _LIST = JobBody(unknown=RAISE), ChangeBody(unknown=RAISE), ListQuery(unknown=RAISE)
_DRY, _MOVE, _TRIED = DryQuery(unknown=RAISE), MoveBody(unknown=RAISE), TriedJobBody(unknown=RAISE)
_EVENTS = EventsQuery(unknown=RAISE)
# What makes a body good, from the schemas themselves: field → whether it accepts a value.
_ACCEPTS: dict[Schema, dict[str, Callable[[Any], bool]]] = {
    schema: {name: getattr(field, "accepts") for name, field in schema.fields.items()}  # noqa: B009 - our own fields
    for schema in (_JOB, _CHANGE)
}
_REQUIRED = {name for name, field in _JOB.fields.items() if field.required}


def quick_job(written: Any) -> dict[str, Any] | None:
    """What JobBody reads in a good body, only faster; None where JobBody is to name a fault."""
    if not _accepted(_JOB, written) or not written.keys() >= _REQUIRED:
        return None
    return {"data": {}, "priority": None, **written}


def quick_change(written: Any) -> dict[str, Any] | None:
    """What ChangeBody reads in a good body, only faster; None where ChangeBody is to name a fault."""
    if not _accepted(_CHANGE, written) or written.keys() not in ChangeBody.WAYS:
        return None
    return dict(written)


def _accepted(schema: Schema, written: Any) -> bool:
    if not isinstance(written, dict):
        return False
    fields_of = _ACCEPTS[schema]
    for name, value in written.items():
        accepts = fields_of.get(name)
        if accepts is None or not accepts(value):
            return False
    return True


def drafts(written: Any, check_callback: Callable[[str], object]) -> list[Draft]:
    """Read the body of a create: one job, or a list of them. Raises Invalid or one of its children."""
    if not isinstance(written, list):
        return [_draft(written, "", check_callback)]
    if not 0 < len(written) <= MAX_BATCH:
        raise Invalid(f"{len(written)} jobs; expected 1 to {MAX_BATCH}")
    return [_draft(one, f"{index}.", check_callback) for index, one in enumerate(written)]


def _draft(written: Any, prefix: str, check_callback: Callable[[str], object]) -> Draft:
    read = quick_job(written) or loaded(_JOB, written, prefix)
    try:
        check_callback(read["callback"])
        return draft(read["data"], read["request_id"], read["owner_id"], read["callback"], read["priority"])
    except Invalid as error:
        error.field = prefix + (error.field or "")
        raise


def draft(
    data: dict[str, Any],
    request_id: str = "",
    owner_id: str = "",
    callback: str = "",
    priority: int | None = None,
) -> Draft:
    """Normalise a job's data. Raises Invalid or InvalidDemand, naming the field."""
    pool = data.get("host_aggregate")
    if pool is not None and not (isinstance(pool, str) and 0 < len(pool.encode()) <= MAX_NAME_BYTES):
        raise Invalid(f"expected a string of 1 to {MAX_NAME_BYTES} bytes", "data.host_aggregate")
    try:
        written = orjson.dumps(data)
    except (TypeError, ValueError) as error:
        demand(data)  # names what is wrong with an amount
        raise Invalid(f"cannot be kept: {error}", "data") from None
    # Many jobs ask for the same: what one asked for is remembered, where it is short.
    normalise = _normalised if len(written) <= SHORT_DATA else _normalised.__wrapped__
    return Draft(request_id, owner_id, callback, priority, *normalise(written))


@lru_cache(maxsize=1024)
def _normalised(written: bytes) -> tuple[str, str, str, str, str]:
    """What a draft makes of data: demand, pool, project, data_head, data_tail. Raises InvalidDemand."""
    data = orjson.loads(written)
    project = data.get("project")
    # Sorted keys, so what comes before and after the pool's name can be written before it is known.
    before = _inside({key: value for key, value in data.items() if key < "host_aggregate"})
    after = _inside({key: value for key, value in data.items() if key > "host_aggregate"})
    return (
        demand(data),
        data.get("host_aggregate") or "",
        project if isinstance(project, str) else "",
        "{" + (before and before + ",") + '"host_aggregate":',
        (after and "," + after) + "}",
    )


def _inside(part: dict[str, Any]) -> str:
    """The JSON text of a map without its braces."""
    return orjson.dumps(part, option=orjson.OPT_SORT_KEYS).decode()[1:-1]


def change(written: Any) -> dict[str, Any]:
    """Read the body of a change. Raises Invalid or UnknownField."""
    return quick_change(written) or loaded(_CHANGE, written)


def where(asked: dict[str, Any]) -> tuple[str, str | int, str]:
    """The place that a move asks for, as move.lua has it: where, first, second."""
    if "priority" in asked:
        return "priority", asked["priority"], ""
    if "position" in asked:
        return asked["position"], "", ""
    if len(asked) == 2:
        return "between", asked["after"], asked["before"]
    (kind, neighbour), *_ = asked.items()
    return kind, neighbour, ""


def simulation(written: Any) -> dict[str, Any]:
    """Read the body of a simulation: `moves` as dicts, `pools` as they came, `drafts`, and `pool` or "".

    Raises Invalid or one of its children, naming the field.
    """
    if not isinstance(written, dict):
        raise Invalid("expected a JSON object")
    for field in written:
        if field not in ("moves", "pools", "jobs", "pool"):
            raise UnknownField("there is no such field; there are moves, pools, jobs and pool", field[:80])
    moves, jobs, pools = written.get("moves", []), written.get("jobs", []), written.get("pools", {})
    for field, given, kind in (("moves", moves, list), ("jobs", jobs, list), ("pools", pools, dict)):
        if not isinstance(given, kind) or len(given) > MAX_TRIED:
            raise Invalid(f"expected a {'list' if kind is list else 'map'} of at most {MAX_TRIED}", field)
    pool = written.get("pool", "")
    for name in (*pools, *([pool] if "pool" in written else [])):
        if not isinstance(name, str) or not 0 < len(name.encode()) <= MAX_NAME_BYTES:
            raise Invalid(f"a pool's name has 1 to {MAX_NAME_BYTES} bytes", "pool")
    return {
        "moves": [loaded(_MOVE, move, f"moves.{index}.") for index, move in enumerate(moves)],
        "pools": pools,
        "drafts": [_tried(job, f"jobs.{index}.") for index, job in enumerate(jobs)],
        "pool": pool,
    }


def _tried(written: Any, prefix: str) -> Draft:
    read = loaded(_TRIED, written, prefix)
    try:
        # One that no other can have.
        return draft(
            read["data"], read["request_id"], read["owner_id"], secrets.token_hex(16), read["priority"]
        )
    except Invalid as error:
        error.field = prefix + (error.field or "")
        raise


def list_query(query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Read the query of a list; the cursor comes back as the store's own. Raises Invalid or UnknownField."""
    read = loaded(_LIST, _once(query))
    if read["cursor"]:
        try:
            read["cursor"] = base64.urlsafe_b64decode(read["cursor"]).decode()
        except (binascii.Error, ValueError):
            read["cursor"] = ""
        if not _CURSOR.fullmatch(read["cursor"]):
            raise Invalid("not a cursor that this service gave", "cursor")
    return read


def events_query(query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Read the query of events. Raises Invalid or UnknownField."""
    return loaded(_EVENTS, _once(query))


def dry_run(query: Sequence[tuple[str, str]]) -> bool:
    """Whether the query of a change says that nothing is to be changed. Raises Invalid or UnknownField."""
    return bool(loaded(_DRY, _once(query))["dry_run"] == "true")


def _once(query: Sequence[tuple[str, str]]) -> dict[str, str]:
    given = Counter(name for name, _ in query)
    if twice := next((name for name, count in given.items() if count > 1), None):
        raise Invalid("given twice", twice[:80])
    return dict(query)


def cursor(place: str) -> str:
    """A place in a list in a form that fits a URL."""
    return base64.urlsafe_b64encode(place.encode()).decode()


def loaded(schema: Schema, written: Any, prefix: str = "") -> dict[str, Any]:
    """What the schema reads. Raises UnknownField or Invalid for the first fault, with all in the message."""
    if not isinstance(written, dict):
        raise Invalid("expected a JSON object", prefix.rstrip(".") or None)
    if len(written) > len(schema.fields) + MAX_NAMED:
        strange = [name for name in written if name not in schema.fields]
        written = {name: written[name] for name in (*schema.fields.keys() & written, *strange[:MAX_NAMED])}
    try:
        return dict(schema.load(written))
    except ValidationError as error:
        faults = {str(name): " ".join(map(str, said)) for name, said in error.messages_dict.items()}
        unknown = [name for name, said in faults.items() if said == schema.error_messages["unknown"]]
        first = (unknown or list(faults))[0]
        said = "; ".join(
            text if name == "_schema" else f"{name[:80]}: {text}" for name, text in faults.items()
        )
        kind = UnknownField if unknown else Invalid
        raise kind(
            said[:500], (prefix.rstrip(".") or None) if first == "_schema" else prefix + first[:80]
        ) from None
