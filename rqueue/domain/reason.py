"""Why a job waits, in words: what a Reason's code does not say. Clients branch on the code before them."""

from collections.abc import Mapping
from typing import NamedTuple

import orjson

from rqueue.domain.demand import quantity


class Lack(NamedTuple):
    """What keeps the first job in line from the hosts of its pool.

    Of `asked` instances of a `shape` (JSON, resource → amount) there is room for `room`. No host has enough
    free of `resource`: the one with most is `host`, which has `most`; "" where each resource alone is there.
    `asked` is 0 where there is room for each shape, and `room` then says whether for all of them at once.
    """

    asked: int
    room: int
    shape: str
    resource: str
    most: int
    host: str


def amounts(shape: Mapping[str, int]) -> str:
    """Amounts as words: `4 VCPU, 8192 Memory`."""
    return ", ".join(
        f"{quantity(name, amount)} {name}" for name, amount in sorted(shape.items(), reverse=True)
    )


def paused(type_: str) -> str:
    """Of a queue that admits nobody."""
    return f"queue {type_} is paused"


def no_pool(pool: str) -> str:
    """Of a pool that nobody declared."""
    return f"pool {pool} is not declared"


def source_stale(pool: str, age: int | None, stale_after: str, error: str) -> str:
    """Of a live pool that its source did not tell of for too long, or never did (`age` None); in seconds."""
    seen = "was never read" if age is None else f"was last seen {age} s ago (stale_after {stale_after})"
    return f"pool {pool} {seen}{': ' if error else ''}{error}"


def behind(ahead: int, pool: str) -> str:
    """Of one that is not the first."""
    return (
        f"{ahead} {'job' if ahead == 1 else 'jobs'} before it wait{'s' if ahead == 1 else ''} for pool {pool}"
    )


def over_quota(owner: str, pool: str, resource: str, used: int, limit: int, asked: int) -> str:
    """Of an owner who would hold too much."""
    held, most = quantity(resource, used), quantity(resource, limit)
    return (
        f"{owner} holds {held} of {most} {resource} in pool {pool}, and asks for {quantity(resource, asked)}"
    )


def never_fits(pool: str, demand: str, bounds: str) -> str:
    """Of what no empty pool could hold; `bounds` are those of the pool, as JSON."""
    limits: dict[str, tuple[int, int]] = orjson.loads(bounds)
    asked: dict[str, int] = {}
    for count, shape in orjson.loads(demand):
        for resource, amount in sorted(shape.items()):
            most, all_ = limits.get(resource, (0, 0))
            asked[resource] = asked.get(resource, 0) + count * amount
            if amount > most:
                wanted, found = quantity(resource, amount), quantity(resource, most)
                return f"no host of pool {pool} has {wanted} {resource} (most is {found})"
            if asked[resource] > all_:
                found = quantity(resource, all_)
                return f"all hosts of pool {pool} together have {found} {resource}, and it asks for more"
    return f"the hosts of pool {pool} could not take it if they were empty"


def waiting_for_capacity(pool: str, lack: Lack | None) -> str:
    """Of the first in line; without a `lack` nobody looked at the hosts."""
    if lack is None:
        return f"pool {pool} has no room for it"
    if not lack.asked:
        if lack.room:
            return f"pool {pool} has room for it, and it is about to be admitted"
        return f"pool {pool} has room for some of its instances, and not for all at once"
    shape: dict[str, int] = orjson.loads(lack.shape)
    if lack.asked > 1:
        return f"pool {pool} has room for {lack.room} of {lack.asked} instances of {amounts(shape)}"
    if not lack.resource:
        return f"pool {pool} has no host with {amounts(shape)} free at once"
    wanted = f"{quantity(lack.resource, shape[lack.resource])} {lack.resource}"
    if not lack.host:
        return f"pool {pool} has no host with {wanted} free"
    most = f"most is {quantity(lack.resource, lack.most)} on {lack.host}"
    return f"pool {pool} has no host with {wanted} free ({most})"
