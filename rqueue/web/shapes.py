"""What goes over the wire, as JSON Schema: the answers, and those bodies that no marshmallow schema reads.

The OpenAPI document is made of these and of schemas.py. Bounds come from the modules that hold to them.
"""

import re
from dataclasses import fields
from typing import Any

from rqueue.capacity import declared, openstack, pools, scheduling
from rqueue.domain import demand, policy
from rqueue.domain.job import MAX_NAME_BYTES, MAX_PRIORITY, Reason, Status
from rqueue.domain.pool import MAX_HOSTS
from rqueue.errors import StoreDamaged

Shape = dict[str, Any]


def ref(name: str) -> Shape:
    """The shape of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(required: Shape, optional: Shape | None = None, **more: Any) -> Shape:
    """An object with these fields."""
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        **more,
    }


def map_of(values: Shape, **more: Any) -> Shape:
    """An object with names that are the clients' own."""
    return {"type": "object", "additionalProperties": values, **more}


def list_of(items: Shape, **more: Any) -> Shape:
    """An array of these."""
    return {"type": "array", "items": items, **more}


def or_null(shape: Shape) -> Shape:
    """The same, or null."""
    nullable = shape | {"type": [shape["type"], "null"]}
    if "enum" in shape:
        nullable["enum"] = [*shape["enum"], None]
    return nullable


def _settings() -> dict[str, Shape]:
    said = dict(re.findall(r"^ {4}(\w+) {2,}(.+)$", policy.Settings.__doc__ or "", re.MULTILINE))
    shapes = {}
    for setting in fields(policy.Settings):
        name, default = setting.name, setting.default
        shape: Shape
        if name in policy.BOUNDS:
            low, high = policy.BOUNDS[name]
            shape = {"type": "integer", "minimum": low, "maximum": high}
        elif name in policy.CHOICES:
            shape = {"type": "string", "enum": list(policy.CHOICES[name])}
        elif isinstance(default, bool):
            shape = {"type": "boolean"}
        else:
            shape = NAME
        shapes[name] = shape | {"description": said[name].replace("None", "null"), "default": default}
    return shapes


NAME: Shape = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_NAME_BYTES,
    "description": f"Any text of 1 to {MAX_NAME_BYTES} bytes of UTF-8.",
}
TEXT: Shape = {"type": "string"}
NOTHING: Shape = {"type": "object", "maxProperties": 0}
MOMENT: Shape = {"type": "string", "format": "date-time"}
COUNT: Shape = {"type": "integer", "minimum": 0}

AMOUNT: Shape = {
    "description": (
        "A whole number of the resource's own unit, or a Kubernetes quantity that is one. `cpu` is counted in"
        f" millicores. Not more than {demand.MAX_AMOUNT} (2^53 - 1) units."
    ),
    "oneOf": [
        {"type": "integer", "minimum": 0, "maximum": demand.MAX_AMOUNT},
        {"type": "string", "pattern": f"^{demand.QUANTITY.pattern}$"},
    ],
    "examples": [1, "500m", "2Gi"],
}
AMOUNTS = map_of(
    ref("Amount"),
    minProperties=1,
    maxProperties=demand.MAX_RESOURCES,
    propertyNames={"minLength": 1, "maxLength": demand.MAX_NAME_BYTES},
    description="Resource → amount.",
)
# Of what is used, free is not always more than none, and cpu may be a quantity.
COUNTED = map_of({"oneOf": [{"type": "integer"}, {"type": "string", "pattern": "^-?[0-9]+m$"}]})

DATA: Shape = {
    "type": "object",
    "description": (
        "Anything; kept as it is, as JSON text with sorted keys. Integers of up to 64 bits, at most some 250"
        " levels deep. What rqueue itself reads of it is below."
    ),
    "properties": {
        "instances": list_of(
            ref("Amounts"),
            minItems=1,
            maxItems=demand.MAX_INSTANCES,
            description=(
                "What the job asks for: each instance whole on one host, all at once. Without it"
                f' `[{{"slots": 1}}]`. At most {demand.MAX_RUNS} changes of shape from one to the next.'
            ),
        ),
        "project": {"description": "A text chooses the pool that has this project."},
        "host_aggregate": or_null(NAME) | {"description": "The pool by its name; else one is chosen."},
    },
}

JOB = record(
    {
        "ID": {"type": "integer", "minimum": 1, "description": "Counts up within the type."},
        "CreatedAt": MOMENT,
        "UpdatedAt": MOMENT,
        "DeletedAt": or_null(MOMENT) | {"description": "When it ended."},
        "RequestID": {"type": "string"},
        "Type": {"type": "string"},
        "OwnerID": {"type": "string"},
        "Data": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "The client's data as JSON text with sorted keys; `host_aggregate` is its pool.",
        },
        "Callback": {"type": "string"},
        "Priority": {
            "type": "integer",
            "minimum": -MAX_PRIORITY,
            "maximum": MAX_PRIORITY,
            "description": "The smallest goes first.",
        },
        "Status": {"type": "string", "enum": list(Status)},
    },
    {
        "Position": COUNT | {"description": "Of a waiting job that is asked for by itself; 0 is next."},
        "Ahead": COUNT | {"description": "How many before it wait for the same pool."},
        "Reason": {
            "type": "string",
            "pattern": f"^({'|'.join(Reason)}): .",
            "description": "Why it waits: a code, a colon, and words for people.",
            "examples": ["waiting_for_capacity: pool p1 has no host with 4 VCPU free (most is 3 on n2)"],
        },
        "EstimatedStart": or_null(MOMENT)
        | {"description": "When it will start; null where there is too little to tell from."},
        "EstimatedSpread": list_of(
            MOMENT,
            minItems=2,
            maxItems=2,
            description="With an estimate: between these, four of five jobs start.",
        ),
        "EstimateBasis": {"type": "string", "description": "With an estimate: what it is made from."},
        "Placement": list_of(
            {"type": "string"}, description="The host of each instance, while it holds them."
        ),
        "Attempts": COUNT | {"description": "Rounds of calls, the one under way among them."},
        "LastError": {"type": "string", "description": "Why the last call did not succeed."},
        "NextCall": MOMENT | {"description": "Of a calling job, in *get*: when it is called again."},
    },
    examples=[
        {
            "ID": 8,
            "CreatedAt": "2018-08-29T14:49:03.288817+08:00",
            "UpdatedAt": "2018-08-29T14:49:03.288817+08:00",
            "DeletedAt": None,
            "RequestID": "d",
            "Type": "vm",
            "OwnerID": "y",
            "Data": '{"host_aggregate":"host1","instances":[{"Disk":1,"Memory":1,"VCPU":1}],'
            '"project":"project id"}',
            "Callback": "abc",
            "Priority": 2941082666988554,
            "Status": "queued",
        }
    ],
)

SETTINGS_BODY: Shape = {
    "type": "object",
    "description": "The settings to change; null gives one its default back.",
    "properties": {name: or_null(shape) for name, shape in _settings().items()},
    "additionalProperties": False,
    "examples": [{"paused": True}, {"lease_seconds": 3600, "max_queued": None}],
}
QUEUE = record(
    {
        "type": {"type": "string"},
        **{
            name: or_null(shape) if shape["default"] is None else shape for name, shape in _settings().items()
        },
        "counts": record({"queued": COUNT, "running": COUNT, "ended": COUNT}),
        "pools": list_of({"type": "string"}, description="Those that are declared."),
    }
)
DAMAGED_QUEUE = record(
    {
        "type": {"type": "string"},
        "error": record({"code": {"const": StoreDamaged.code}, "message": {"type": "string"}}),
    },
    description="One that a hand edit broke.",
)
TOLERATION = record(
    {},
    {
        "key": {"type": "string"},
        "operator": {"enum": list(scheduling.OPERATORS)},
        "value": {"type": "string"},
        "effect": {"enum": list(scheduling.EFFECTS)},
        "tolerationSeconds": {"type": "integer"},
    },
    description="As a pod has it.",
    additionalProperties=False,
)
POOL_BODY = record(
    {},
    {
        "hosts": map_of(
            ref("Amounts"),
            maxProperties=MAX_HOSTS,
            propertyNames={"minLength": 1, "maxLength": MAX_NAME_BYTES, "pattern": "^[^/]*$"},
            description=f"Host → what it has. A host's name has 1 to {MAX_NAME_BYTES} bytes and no slash.",
        ),
        "aggregate": {
            "type": "string",
            "minLength": 1,
            "maxLength": openstack.MAX_AGGREGATE,
            "description": "Of a queue whose source is openstack: a host aggregate's name or UUID.",
        },
        "selector": {
            "type": "string",
            "maxLength": scheduling.MAX_SELECTOR,
            "description": "Of a queue whose source is kubernetes: the label selector of its nodes.",
        },
        "tolerations": list_of(TOLERATION, maxItems=scheduling.MAX_TOLERATIONS),
        "projects": list_of(NAME, maxItems=declared.MAX_PROJECTS),
        "quotas": map_of(
            ref("Amounts"),
            maxProperties=declared.MAX_QUOTAS,
            propertyNames={"minLength": 1, "maxLength": MAX_NAME_BYTES},
            description="Owner, or `*` for those without one of their own → the most that it may hold.",
        ),
    },
    oneOf=[{"required": [field]} for field in ("hosts", *pools.LIVE)],
    additionalProperties=False,
    examples=[
        {"hosts": {"node-1": {"VCPU": 64, "Memory": 262144, "Disk": 2000}}, "projects": ["project id"]}
    ],
)
POOL = record(
    {
        "pool": {"type": "string"},
        "hosts": map_of(record({"capacity": COUNTED, "used": COUNTED, "free": COUNTED}, {"seen": COUNTED})),
        "projects": list_of({"type": "string"}),
        "waiting": COUNT,
        "quotas": map_of(COUNTED),
        "usage": map_of(COUNTED),
    },
    {
        "source": {"type": "object", "description": "Of a live pool: how its source finds it."},
        "observed": or_null(MOMENT) | {"description": "When its last reading began."},
        "error": or_null({"type": "string"}) | {"description": "Why it could not be read lately."},
    },
)
EVENT = record(
    {
        "id": {"type": "string", "description": "Of its entry in the stream; later ones have larger ones."},
        "at": MOMENT,
        "what": {"type": "string", "examples": ["created", "moved", "admitted", "running", "settings"]},
        "request_id": {
            "type": "string",
            "description": "The job; this and what follows is empty where there is none.",
        },
        "owner_id": {"type": "string"},
        "from": {"type": "string"},
        "to": {"type": "string"},
        "actor": {
            "type": "string",
            "description": "Who asked for it; empty where the service did it by itself.",
        },
        "why": {"type": "string", "description": "For people."},
    },
    examples=[
        {
            "id": "1795459837773-0",
            "at": "2026-11-23T18:50:37.773000+00:00",
            "what": "moved",
            "request_id": "d",
            "owner_id": "y",
            "from": "1795459837773251",
            "to": "1795459837773249",
            "actor": "alice",
            "why": "",
        }
    ],
)
ERROR = record(
    {
        "ok": {"const": False},
        "error": record(
            {
                "code": {"type": "string"},
                "message": {"type": "string", "description": "For people."},
            },
            {"field": {"type": "string", "description": "The one to blame, with the index in an array."}},
        ),
    },
    examples=[
        {
            "ok": False,
            "error": {
                "code": "duplicate_request_id",
                "message": "request_id 'd' of type 'vm' is taken by job 'd'",
                "field": "request_id",
            },
        }
    ],
)
CALLBACK_BODY = record(
    {
        "type": {"const": "job.admitted"},
        "timestamp": MOMENT,
        "data": ref("Job"),
    }
)

NAMED: dict[str, Shape] = {
    "Amount": AMOUNT,
    "Amounts": AMOUNTS,
    "Data": DATA,
    "Job": JOB,
    "Settings": SETTINGS_BODY,
    "Queue": QUEUE,
    "DamagedQueue": DAMAGED_QUEUE,
    "PoolBody": POOL_BODY,
    "Pool": POOL,
    "Event": EVENT,
    "Error": ERROR,
    "Called": CALLBACK_BODY,
}
