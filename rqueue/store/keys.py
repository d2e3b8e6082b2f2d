"""The names of the keys in Redis: a public interface, built here and nowhere else.

All keys of a type carry its hash tag `{…}`, so that one script touches one slot of a cluster. A name
that ends with a colon is a prefix: a request_id, an owner_id or a pool follows it as it is.
"""

from functools import lru_cache

# name in a script's header → kind, and what it holds
KEYS = {
    "queue": ("zset", "waiting jobs in order: score = priority, member = <rank>:<request_id>"),
    "running": ("zset", "calling and running jobs, in the same form"),
    "ended": ("zset", "ended jobs: score = when (µs), member = request_id"),
    "job:": ("hash", "one job, in the API's field names, with Pool, Demand, Rank and more beside"),
    "history:": (
        "list",
        "what happened to a job after its creation, the last 100: the event's ID, what, from, to, actor and"
        " why, with tabs between",
    ),
    "owner:": ("zset", "the live jobs of an owner, in the form of queue"),
    "pool:": ("zset", "the waiting jobs of a pool, in the form of queue"),
    "capacity:": ("hash", "<host>/<resource> → what a pool's host has"),
    "used:": ("hash", "<host>/<resource> → what calling and running jobs hold of it"),
    "usage:": ("hash", "<owner>/<resource> → what the owner's calling and running jobs hold of a pool"),
    "quotas:": ("hash", "owner, or * for the others → JSON: the most of each resource that it may hold"),
    "passed:": ("zset", "request_id → when (µs) a job of a pool was first passed over"),
    "blocked:": ("set", "demands that do not fit in a pool until somebody makes room"),
    "apart": (
        "string",
        "there where waiting jobs stand by owner too: 1, or the place up to which they are sorted",
    ),
    "line:": ("zset", "the waiting jobs of an owner in a pool (<owner>/<pool>), in the form of queue"),
    "owners:": ("zset", "owners who may go in a pool, in order: member = <place of the first job>:<owner>"),
    "shares:": ("zset", "the same members; score = the owner's dominant share (policy fair)"),
    "firsts:": ("hash", "owner → the place with which it stands in owners"),
    "skipped:": ("set", "owners of a pool whose first jobs may not go"),
    "seen:": (
        "hash",
        "<host>/<resource> → what the source of a live pool says is used of it, whoever uses it",
    ),
    "limits:": ("hash", "<host>/<resource> → the most that one instance takes of it, where that is less"),
    "held:": (
        "zset",
        "running jobs of a live pool: request_id → when (µs) its source sees them; inf: it does",
    ),
    "sources": ("hash", "live pool → JSON: how its source finds it"),
    "observed": ("hash", "live pool → when (µs) its last observation began, 0 before the first"),
    "source_errors": ("hash", "live pool → why it could not be read lately"),
    "reader": ("string", "<until when, ms>:<replica>, who reads the source of these pools"),
    "releases:": (
        "list",
        "the last times a pool released something while others waited: when (µs), a space and the demand;"
        " without one, that somebody began to wait",
    ),
    "due": ("zset", "request_id → when (ms) someone must look at it: redelivery, deadline, lease, purge"),
    "callbacks": ("hash", "callback → the request_id that has it"),
    "pools": ("hash", "declared pool → of each resource, what its largest host has and what all have"),
    "projects": ("hash", "project → the pool it belongs to"),
    "settings": ("hash", "the queue's settings that are not at their default"),
    "seq": ("string", "the ID of the newest job"),
    "heads": ("hash", "pool → <score>:<member>, the place at which an examined pool stands still"),
    "wake": ("set", "pools that have reason to be examined again"),
    "events": (
        "stream",
        "what happened: what, request_id, owner_id, from, to, actor, why; the last 10,000 or so",
    ),
    "damaged:": ("any", "what rqueue check --repair put out of the way; the name that it had follows"),
}
# of all types
TYPES = "types"
SIGNING = "callback_secret"
ARRIVED = "inbox"
READY = "ready"
REPLICATED = "replicated"


class Keys:
    """The keys of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.types = f"{namespace}:{TYPES}"
        self.callback_secret = f"{namespace}:{SIGNING}"
        self.inbox = f"{namespace}:{ARRIVED}"
        self.ready = f"{namespace}:{READY}"
        self.replicated = f"{namespace}:{REPLICATED}"
        self._namespace = namespace

    def type_of(self, key: str) -> tuple[str, str] | None:
        """The type and the name of a key, or None for one that is no type's."""
        begins = f"{self._namespace}:{{"
        tag, end, name = key.removeprefix(begins).partition("}:")
        type_ = tag.replace("%7B", "{").replace("%7D", "}").replace("%25", "%")
        if not (key.startswith(begins) and end and type_) or self.of(type_, name) != key:
            return None
        return type_, name

    def of(self, type_: str, name: str) -> str:
        """The key, or the prefix, of this name for a type; without a name, with what all of them begin."""
        return f"{self._namespace}:{{{_tag(type_)}}}:{name}"


@lru_cache(maxsize=4096)
def _tag(type_: str) -> str:
    # A brace would end the hash tag early; the percent sign keeps the encoding reversible.
    return type_.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
