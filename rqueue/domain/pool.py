"""A pool: a set of hosts with whole amounts per resource, and what is used of them.

Knows no packing: which host takes which instance is decided in one place, the admitting script.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rqueue.domain.demand import quantity
from rqueue.domain.job import written

MAX_HOSTS = 5_000


@dataclass(frozen=True, slots=True)
class Pool:
    """Amounts are host → resource → whole number of the resource's unit.

    `quotas` are the most that an owner may hold, `*` for those without one of their own; `usage` is what
    each holds.
    `source` is what says what its hosts have: declared, or one that is live. Of a live pool `found_by` says
    how the source finds it, `seen` what is used of it as the source sees it, `observed` when (µs) that was
    read, None before the first time, and `error` why not lately.
    """

    name: str
    capacity: Mapping[str, Mapping[str, int]]
    projects: tuple[str, ...] = ()
    used: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    waiting: int = 0
    quotas: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    usage: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    source: str = "declared"
    found_by: Mapping[str, Any] = field(default_factory=dict)
    seen: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    observed: int | None = None
    error: str | None = None

    def bounds(self) -> dict[str, tuple[int, int]]:
        """Of each resource, what the largest host has and what all hosts have together."""
        return bounds_of(self.capacity)

    def document(self) -> dict[str, Any]:
        """The pool as operators see it; a host that is gone but still charged shows capacity 0."""
        hosts = {}
        for host in sorted({*self.capacity, *self.seen, *self.used}):
            has, seen, used = (of.get(host, {}) for of in (self.capacity, self.seen, self.used))
            names = sorted({*has, *seen, *used})
            free = {name: has.get(name, 0) - seen.get(name, 0) - used.get(name, 0) for name in names}
            hosts[host] = {
                "capacity": _shown(has, names),
                **({"seen": _shown(seen, names)} if self.found_by else {}),
                "used": _shown(used, names),
                "free": _shown(free, names),
            }
        document: dict[str, Any] = {
            "pool": self.name,
            "hosts": hosts,
            "projects": list(self.projects),
            "waiting": self.waiting,
            "quotas": _by_owner(self.quotas),
            "usage": _by_owner(self.usage),
        }
        if self.found_by:
            document |= {
                "source": dict(self.found_by),
                "observed": written(self.observed) if self.observed else None,
                "error": self.error,
            }
        return document


def _shown(amounts: Mapping[str, int], names: Sequence[str]) -> dict[str, int | str]:
    return {name: quantity(name, amounts.get(name, 0)) for name in names}


def _by_owner(amounts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int | str]]:
    return {owner: _shown(amounts[owner], sorted(amounts[owner])) for owner in sorted(amounts)}


def bounds_of(
    capacity: Mapping[str, Mapping[str, int]], limits: Mapping[str, Mapping[str, int]] | None = None
) -> dict[str, tuple[int, int]]:
    """Of each resource, the most that one instance can take of a host, and what all hosts have together."""
    bounds: dict[str, tuple[int, int]] = {}
    for host, amounts in capacity.items():
        limit = (limits or {}).get(host, {})
        for resource, amount in amounts.items():
            most, all_ = bounds.get(resource, (0, 0))
            bounds[resource] = (max(most, min(amount, limit.get(resource, amount))), all_ + amount)
    return bounds


@dataclass(frozen=True, slots=True)
class Observation:
    """What a live source says of a pool: host → resource → whole number of the resource's unit.

    `capacity` is what could be used if the host were empty, `taken` what is used of it, whoever uses it.
    `projects` where the source says who may use the pool; None where it does not tell. `limits` is the most
    that one instance can take of a host, of resources where that is less than what the host has.
    """

    capacity: Mapping[str, Mapping[str, int]]
    taken: Mapping[str, Mapping[str, int]]
    projects: tuple[str, ...] | None = None
    limits: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
