"""What the OpenAPI document shows: answers and refusals of one small queue of virtual machines.

Nothing here is read by the service. Tests hold all of it to the schemas.
"""

from typing import Any

from rqueue.web.shapes import Shape

_AT = "2027-01-15T08:00:00.{}+00:00"

WAITING: Shape = {
    "ID": 8,
    "CreatedAt": _AT.format("288817"),
    "UpdatedAt": _AT.format("288817"),
    "DeletedAt": None,
    "RequestID": "d",
    "Type": "vm",
    "OwnerID": "y",
    "Data": '{"host_aggregate":"p1","instances":[{"Disk":1,"Memory":1,"VCPU":1}],"project":"project id"}',
    "Callback": "https://portal.example/called/d",
    "Priority": 1800000000288817,
    "Status": "queued",
}
NEXT: Shape = WAITING | {
    "Position": 0,
    "Ahead": 0,
    "Reason": "waiting_for_capacity: pool p1 has no host with 1 VCPU free (most is 0 on node-1)",
    "EstimatedStart": _AT.format("5").replace("08:00", "08:20"),
    "EstimatedSpread": [_AT.format("5").replace("08:00", f"08:{minute}") for minute in (12, 31)],
    "EstimateBasis": "40 releases of pool p1 in 58 min in which others waited",
}
RUNNING: Shape = WAITING | {
    "ID": 7,
    "UpdatedAt": _AT.format("912004"),
    "RequestID": "c",
    "Callback": "https://portal.example/called/c",
    "Priority": 1800000000101322,
    "Status": "running",
    "Placement": ["node-1"],
    "Attempts": 1,
}
CANCELLED: Shape = WAITING | {
    "UpdatedAt": _AT.format("912004"),
    "DeletedAt": _AT.format("912004"),
    "Status": "cancelled",
}
QUEUE: Shape = {
    "type": "vm",
    "policy": "strict",
    "patience": 600,
    "paused": False,
    "call_deadline": 600,
    "lease_seconds": None,
    "retention": 86400,
    "default_pool": "default",
    "source": "declared",
    "hold_seconds": 300,
    "stale_after": 60,
    "max_queued": None,
    "counts": {"queued": 1, "running": 1, "ended": 12},
    "pools": ["p1"],
}
DAMAGED: Shape = {
    "type": "gpu",
    "error": {"code": "store_damaged", "message": "rqueue:{gpu}:settings holds 'x' for patience"},
}
HOSTS: Shape = {"node-1": {"VCPU": 64, "Memory": 262144, "Disk": 2000}}
POOL: Shape = {
    "pool": "p1",
    "hosts": {
        "node-1": {
            "capacity": {"Disk": 2000, "Memory": 262144, "VCPU": 64},
            "used": {"Disk": 1, "Memory": 1, "VCPU": 1},
            "free": {"Disk": 1999, "Memory": 262143, "VCPU": 63},
        }
    },
    "projects": ["project id"],
    "waiting": 1,
    "quotas": {"*": {"VCPU": 8}},
    "usage": {"y": {"Disk": 1, "Memory": 1, "VCPU": 1}},
}
LIVE: Shape = {
    "pool": "p2",
    "hosts": {
        "compute-1": {
            "capacity": {"VCPU": 64},
            "seen": {"VCPU": 60},
            "used": {"VCPU": 0},
            "free": {"VCPU": 4},
        }
    },
    "projects": [],
    "waiting": 0,
    "quotas": {},
    "usage": {},
    "source": {"aggregate": "gpu-hosts"},
    "observed": _AT.format("5"),
    "error": None,
}
SESSION: Shape = {
    "name": "alice",
    "role": "operator",
    "rights": [
        "create, confirm and end jobs",
        "move jobs",
        "pause queues",
        "read jobs",
        "read queues",
    ],
    "types": None,
    "owners": None,
    "csrf": "",
}
SIMULATED: Shape = {
    "admitted": [{"RequestID": "new", "OwnerID": "y", "Pool": "p1", "Placement": ["node-5"]}],
    "waiting": [
        {
            "RequestID": "d",
            "OwnerID": "y",
            "Pool": "p1",
            "Position": 0,
            "Ahead": 0,
            "Reason": "waiting_for_capacity: pool p1 has no host with 1 VCPU free (most is 0 on node-1)",
        }
    ],
    "more": False,
}
CALLED: Shape = {"type": "job.admitted", "timestamp": _AT.format("912004"), "data": RUNNING}
ARRIVED: Shape = {
    "at": _AT.format("912004"),
    "path": "/inbox/called/c",
    "headers": {"webhook-id": "msg_7c1e", "webhook-timestamp": "1800000000", "webhook-signature": "v1,…"},
    "body": '{"type": "job.admitted", …}',
}
EVENT: Shape = {
    "id": "1800000000912-0",
    "at": _AT.format("912"),
    "what": "moved",
    "request_id": "d",
    "owner_id": "y",
    "from": "1800000000288817",
    "to": "1800000000101321",
    "actor": "alice",
    "why": "",
}
# Code → its message, and the field where one is to blame. Those that are not here say what errors.py has.
REFUSED: dict[str, tuple[str, str]] = {
    "bad_request": ("the path is not percent-encoded UTF-8", ""),
    "duplicate_callback": ("this callback is taken by job 'd' of type 'vm'", "callback"),
    "duplicate_request_id": ("request_id 'd' of type 'vm' is taken by job 'd'", "request_id"),
    "forbidden": ("alice is operator, who may not change queues and pools", "patience"),
    "headers_too_large": ("Its head is larger than 32768 bytes", ""),
    "illegal_transition": ("job 'd' of type 'vm' is cancelled, which does not allow this", "status"),
    "invalid": ("owner_id: expected 1 to 256 bytes, got 257", "owner_id"),
    "invalid_callback": ("scheme 'ftp'; expected http://host/… or https://host/…", "callback"),
    "invalid_demand": ("expected at least one resource", "data.instances.0"),
    "job_not_found": ("there is no job 'd' of type 'vm'", ""),
    "method_not_allowed": ("PATCH is not among DELETE, GET, HEAD, POST", ""),
    "neighbour_is_self": ("job 'd' of type 'vm' cannot stand next to itself", ""),
    "neighbour_not_queued": ("job 'x' of type 'vm' is not there; a neighbour must be queued", ""),
    "neighbours_reversed": ("job 'z' does not stand before job 'y': nothing is between them", ""),
    "not_found": ("there is nothing at /v2/", ""),
    "not_json": ("the body is empty; expected JSON", ""),
    "pool_not_found": ("there is no pool 'p9' of type 'vm'", ""),
    "project_taken": ("project 'project id' belongs to pool 'p1'", "projects"),
    "queue_full": ("queue 'vm' may hold 0 waiting jobs (max_queued), and would hold more", ""),
    "rate_limited": ("alice may send 1000 requests a second", ""),
    "request_timeout": ("the body did not arrive within 20 s", ""),
    "too_large": ("the body is larger than 1048576 bytes (RQUEUE_MAX_BODY)", ""),
    "unknown_field": ("colour: Unknown field.", "colour"),
    "unsupported_media_type": ("expected application/json, got text/plain", ""),
    "uri_too_long": ("its target is longer than 8190 bytes", ""),
    "wrong_source": (
        "the source of queue 'vm' is declared; it can be changed only while it has no pools",
        "source",
    ),
}


def answered(data: Any, **beside: Any) -> Shape:
    """An example of a good answer."""
    return {"value": {"data": data, "ok": True, **beside}}


def refused(code: str, by_itself: str) -> Shape:
    """An example of a refusal; `by_itself` is what its code says where nothing better is known."""
    message, field = REFUSED.get(code, (by_itself, ""))
    error = {"code": code, "message": message} | ({"field": field} if field else {})
    return {"value": {"ok": False, "error": error}}
