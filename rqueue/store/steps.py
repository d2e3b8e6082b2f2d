"""Every change of a job as a script's name, the rest of its arguments, and those with names.

Made here for who makes the change and for who only asks what it would do.
"""

from collections.abc import Mapping, Sequence

import orjson

from rqueue.domain.caller import Caller
from rqueue.domain.job import Draft, Moves
from rqueue.domain.policy import Settings
from rqueue.store.scripts import Step

DEFAULTS = Settings()
# So many hosts, with some four resources each, are looked at for the words of a reason.
MOST_HOSTS = 2000
# A simulation examines so many pools, admits so many jobs, and shows so many that wait of each pool.
MOST_POOLS = 20
MOST_ADMITTED = 100
FIRST_OF_POOL = 10


def create(drafts: Sequence[Draft], nonce: str, caller: Caller, traceparent: str = "") -> Step:
    """Put jobs in line, all or none."""
    rest = ["" if value is None else value for draft in drafts for value in draft]
    return (
        "create",
        rest,
        {
            "nonce": nonce,
            "default_pool": DEFAULTS.default_pool,
            "actor": caller.name,
            "owners": caller.owned,
            "traceparent": traceparent,
        },
    )


def move(request_id: str, where: str, first: str | int, second: str, want: bool, caller: Caller) -> Step:
    """Give a waiting job another place; `where` as in move.lua."""
    return (
        "move",
        (),
        {
            "request_id": request_id,
            "where": where,
            "first": first,
            "second": second,
            "want": int(want),
            "actor": caller.name,
        },
    )


def spread(priority: str, low: str, size: str, side: str, done: str, most: int) -> Step:
    """Give some members of a range of ranks their even share of it."""
    arguments: dict[str, str | int] = {
        "priority": priority,
        "low": low,
        "size": size,
        "side": side,
        "done": done,
        "most": most,
    }
    return "spread", (), arguments


def update(request_id: str, callback: str | None, draft: Draft | None, caller: Caller) -> Step:
    """Change a waiting job's callback, or its data as in the draft."""
    return (
        "update",
        (),
        {
            "request_id": request_id,
            "callback": callback or "",
            "demand": draft.demand if draft else "",
            "pool": draft.pool if draft else "",
            "project": draft.project if draft else "",
            "data_head": draft.data_head if draft else "",
            "data_tail": draft.data_tail if draft else "",
            "default_pool": DEFAULTS.default_pool,
            "actor": caller.name,
            "owners": caller.owned,
        },
    )


def transition(
    request_id: str,
    moves: Moves,
    nonce: str,
    caller: Caller,
    admission: str = "",
    error: str = "",
    want: bool = True,
) -> Step:
    """Give a job the status that `moves` has for its present one."""
    return (
        "transition",
        (),
        {
            "request_id": request_id,
            "moves": " ".join(f"{a}:{b}" for a, b in moves.items()),
            "admission": admission,
            "nonce": nonce,
            "last_error": error,
            "lease_seconds": DEFAULTS.lease_seconds or "",
            "hold_seconds": DEFAULTS.hold_seconds,
            "retention": DEFAULTS.retention,
            "want": int(want),
            "actor": caller.name,
            "owners": caller.owned,
        },
    )


def redeliver(request_id: str, nonce: str, claim_ms: int, want: bool, caller: Caller) -> Step:
    """Have a calling job called now."""
    return (
        "redeliver",
        (),
        {
            "request_id": request_id,
            "nonce": nonce,
            "claim_ms": claim_ms,
            "want": int(want),
            "actor": caller.name,
            "owners": caller.owned,
        },
    )


def get(request_id: str, caller: Caller) -> Step:
    """One job."""
    return (
        "get",
        (),
        {"request_id": request_id, "stale_after": DEFAULTS.stale_after, "owners": caller.owned},
    )


def set_hosts(pool: str, hosts: Mapping[str, Mapping[str, int]]) -> Step:
    """Change hosts of a pool; one without amounts is taken away."""
    return "set_hosts", (), {"pool": pool, "hosts_of": orjson.dumps(hosts).decode()}


def explain(request_id: str) -> Step:
    """What the first waiting job of a pool lacks."""
    return "explain", (), {"request_id": request_id, "most_hosts": MOST_HOSTS}


def simulate(names: Sequence[str], pool: str, nonce: str, caller: Caller) -> Step:
    """Examine pools, or one of them, and show these jobs and the first of each pool. For a dry run only."""
    return (
        "simulate",
        list(names),
        {
            "pool": pool,
            "owners": caller.owned,
            "nonce": nonce,
            "call_deadline": DEFAULTS.call_deadline,
            "patience": DEFAULTS.patience,
            "stale_after": DEFAULTS.stale_after,
            "claim_ms": 1,
            "most": MOST_ADMITTED,
            "most_pools": MOST_POOLS,
            "first_of": FIRST_OF_POOL,
            "most_hosts": MOST_HOSTS,
        },
    )
