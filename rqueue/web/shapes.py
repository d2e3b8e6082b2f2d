"""What goes over the wire, as JSON Schema: the answers, and those bodies that no marshmallow schema reads.

The OpenAPI document is made of these and of schemas.py. Bounds come from the modules that hold to them.
"""

import re
from dataclasses import fields
from typing import Any

from rqueue.capacity import declared, openstack, scheduling
from rqueue.domain import demand, policy
from rqueue.domain.job import MAX_NAME_BYTES, MAX_PRIORITY, Reason, Status
from rqueue.domain.pool import MAX_HOSTS
from rqueue.errors import StoreDamaged

Shape = dict[str, Any]

TEXT: Shape = {"type": "string"}


def ref(name: str) -> Shape:
    """The shape of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def record(required: Shape, optional: Shape | None = None, **more: Any) -> Shape:
    """An object with these fields."""
    shape = {"type": "object", "properties": required | (optional or {}), **more}
    return shape | {"required": list(required)} if required else shape


def map_of(values: Shape, **more: Any) -> Shape:
    """An object with names that are the clients' own."""
    return {"type": "object", "additionalProperties": values, **more}


def list_of(items: Shape, **more: Any) -> Shape:
    """An array of these."""
    return {"type": "array", "items": items, **more}


def text(description: str) -> Shape:
    """A text, and what it says."""
    return TEXT | {"description": description}


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


def named(description: str, example: str) -> Shape:
    """A name, and what it names."""
    said = f"{description} 1 to {MAX_NAME_BYTES} bytes of UTF-8."
    return NAME | {"description": said, "examples": [example]}


# The headers of a callback, by the Standard Webhooks scheme.
SIGNED = {
    "webhook-id": "The same at every try of one admission: do what it is about once for each.",
    "webhook-timestamp": "When this try was sent, in seconds since 1970.",
    "webhook-signature": (
        "`v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body`; two while secrets are rotated."
    ),
}
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
        "CreatedAt": MOMENT | {"description": "When it was created."},
        "UpdatedAt": MOMENT | {"description": "When it was changed last."},
        "DeletedAt": or_null(MOMENT) | {"description": "When it ended, or null."},
        "RequestID": text("Its name, as the client gave it."),
        "Type": text("The queue that it is of."),
        "OwnerID": text("Whose it is, as the client gave it."),
        "Data": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "The client's data as JSON text with sorted keys; `host_aggregate` is its pool.",
        },
        "Callback": text("What is called when its turn has come, as the client gave it."),
        "Priority": {
            "type": "integer",
            "minimum": -MAX_PRIORITY,
            "maximum": MAX_PRIORITY,
            "description": "The smallest goes first.",
        },
        "Status": {
            "type": "string",
            "enum": list(Status),
            "description": (
                "queued: it waits; calling: it holds what it asked for, and its callback is called; running:"
                " the client has it; done: it gave it back; cancelled: nobody wants it; failed: nobody"
                " answered its callback in time; expired: its lease ran out."
            ),
        },
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
        "EstimateBasis": text("With an estimate: what it is made from."),
        "Placement": list_of(
            {"type": "string"}, description="The host of each instance, while it holds them."
        ),
        "Attempts": COUNT | {"description": "Rounds of calls, the one under way among them."},
        "LastError": text("Why the last call did not succeed."),
        "NextCall": MOMENT | {"description": "Of a calling job, in *get*: when it is called again."},
    },
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
        "type": text("Its name."),
        **{
            name: or_null(shape) if shape["default"] is None else shape for name, shape in _settings().items()
        },
        "counts": record(
            {
                "queued": COUNT | {"description": "Jobs that wait."},
                "running": COUNT | {"description": "Calling and running jobs."},
                "ended": COUNT | {"description": "Jobs that ended and are not purged yet."},
            },
            description="How many jobs it has.",
        ),
        "pools": list_of(TEXT, description="Those that are declared, by name."),
    }
)
DAMAGED_QUEUE = record(
    {
        "type": text("Its name."),
        "error": record(
            {
                "code": {"const": StoreDamaged.code, "description": "Always the same."},
                "message": text("What is damaged, for people."),
            },
            description="What is wrong with it.",
        ),
    },
    description="One that a hand edit broke.",
)
TOLERATION = record(
    {},
    {
        "key": text("The taint's key; without it any."),
        "operator": TEXT | {"enum": list(scheduling.OPERATORS), "description": "How `value` is compared."},
        "value": text("The taint's value."),
        "effect": TEXT
        | {"enum": list(scheduling.EFFECTS), "description": "The taint's effect; without it any."},
        "tolerationSeconds": {"type": "integer", "description": "As a pod has it; it is not used."},
    },
    description="As a pod has it.",
    additionalProperties=False,
)
# What a pool of any source may say.
_COMMON = {
    "projects": list_of(
        NAME,
        maxItems=declared.MAX_PROJECTS,
        description="The projects and owners whose jobs go here where they name no pool.",
    ),
    "quotas": map_of(
        ref("Amounts"),
        maxProperties=declared.MAX_QUOTAS,
        propertyNames={"minLength": 1, "maxLength": MAX_NAME_BYTES},
        description="Owner, or `*` for those without one of their own → the most that it may hold.",
    ),
}
DECLARED_POOL = record(
    {
        "hosts": map_of(
            ref("Amounts"),
            maxProperties=MAX_HOSTS,
            propertyNames={"minLength": 1, "maxLength": MAX_NAME_BYTES, "pattern": "^[^/]*$"},
            description=f"Host → what it has. A host's name has 1 to {MAX_NAME_BYTES} bytes and no slash.",
        )
    },
    _COMMON,
    description="Of a queue whose source is declared.",
    additionalProperties=False,
)
OPENSTACK_POOL = record(
    {
        "aggregate": text("A host aggregate's name or UUID.")
        | {"minLength": 1, "maxLength": openstack.MAX_AGGREGATE}
    },
    _COMMON,
    description="Of a queue whose source is openstack.",
    additionalProperties=False,
)
KUBERNETES_POOL = record(
    {"selector": text("The label selector of its nodes.") | {"maxLength": scheduling.MAX_SELECTOR}},
    {
        "tolerations": list_of(
            ref("Toleration"),
            maxItems=scheduling.MAX_TOLERATIONS,
            description="Nodes with these taints are of the pool too.",
        ),
        **_COMMON,
    },
    description="Of a queue whose source is kubernetes.",
    additionalProperties=False,
)
POOL_BODY: Shape = {
    "description": "What its hosts are, or how its queue's source finds them.",
    "oneOf": [ref("DeclaredPool"), ref("OpenStackPool"), ref("KubernetesPool")],
}
POOL = record(
    {
        "pool": text("Its name."),
        "hosts": map_of(
            record(
                {
                    "capacity": COUNTED | {"description": "What it has."},
                    "used": COUNTED | {"description": "What calling and running jobs hold of it."},
                    "free": COUNTED | {"description": "What is left."},
                },
                {"seen": COUNTED | {"description": "Of a live pool: what its source sees used of it."}},
            ),
            description="Host → its amounts. One that is gone and still held has no capacity.",
        ),
        "projects": list_of(TEXT, description="The projects and owners whose jobs go here."),
        "waiting": COUNT | {"description": "How many jobs wait for it."},
        "quotas": map_of(COUNTED, description="Owner, or `*` → the most that it may hold."),
        "usage": map_of(COUNTED, description="Owner → what it holds."),
    },
    {
        "source": record(
            {},
            {
                "aggregate": text("The host aggregate's name or UUID."),
                "selector": text("The label selector of its nodes."),
                "tolerations": list_of(ref("Toleration"), description="Which taints its nodes may have."),
            },
            description="Of a live pool: how its source finds it.",
        ),
        "observed": or_null(MOMENT) | {"description": "When its last reading began."},
        "error": or_null(TEXT) | {"description": "Why it could not be read lately."},
    },
)
EVENT = record(
    {
        "id": text("Its place in the stream; later ones have larger ones."),
        "at": MOMENT | {"description": "When it happened."},
        "what": text("What happened.")
        | {"examples": ["created", "moved", "admitted", "running", "settings"]},
        "request_id": text("The job; this and what follows is empty where there is none."),
        "owner_id": text("Whose job it is."),
        "from": text("What was before: a status, a priority, a value."),
        "to": text("What is now."),
        "actor": text("Who asked for it; empty where the service did it by itself."),
        "why": text("For people."),
    }
)
ERROR = record(
    {
        "ok": {"const": False, "description": "It is no good answer."},
        "error": record(
            {
                "code": text("What it is, for programs."),
                "message": text("For people."),
            },
            {"field": text("The one to blame, with the index in an array.")},
            description="What was wrong.",
        ),
    },
)
CALLBACK_BODY = record(
    {
        "type": {"const": "job.admitted", "description": "Always the same."},
        "timestamp": MOMENT | {"description": "When it was sent."},
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
    "Toleration": TOLERATION,
    "DeclaredPool": DECLARED_POOL,
    "OpenStackPool": OPENSTACK_POOL,
    "KubernetesPool": KUBERNETES_POOL,
    "PoolBody": POOL_BODY,
    "Pool": POOL,
    "Event": EVENT,
    "Error": ERROR,
    "Called": CALLBACK_BODY,
}
