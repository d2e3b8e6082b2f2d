"""A pool: a set of hosts with whole amounts per resource, and what is used of them.

Knows no packing: which host takes which instance is decided in one place, the admitting script.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rqueue.domain.demand import quantity


@dataclass(frozen=True, slots=True)
class Pool:
    """Amounts are host → resource → whole number of the resource's unit.

    `quotas` are the most that an owner may hold, `*` for those without one of their own; `usage` is what
    each holds.
    """

    name: str
    capacity: Mapping[str, Mapping[str, int]]
    projects: tuple[str, ...] = ()
    used: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    waiting: int = 0
    quotas: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    usage: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def bounds(self) -> dict[str, tuple[int, int]]:
        """Of each resource, what the largest host has and what all hosts have together."""
        bounds: dict[str, tuple[int, int]] = {}
        for amounts in self.capacity.values():
            for resource, amount in amounts.items():
                most, all_ = bounds.get(resource, (0, 0))
                bounds[resource] = (max(most, amount), all_ + amount)
        return bounds

    def document(self) -> dict[str, Any]:
        """The pool as operators see it; a host that is gone but still charged shows capacity 0."""
        hosts = {}
        for host in sorted({*self.capacity, *self.used}):
            capacity, used = self.capacity.get(host, {}), self.used.get(host, {})
            names = sorted({*capacity, *used})
            hosts[host] = {
                "capacity": {name: quantity(name, capacity.get(name, 0)) for name in names},
                "used": {name: quantity(name, used.get(name, 0)) for name in names},
                "free": {name: quantity(name, capacity.get(name, 0) - used.get(name, 0)) for name in names},
            }
        return {
            "pool": self.name,
            "hosts": hosts,
            "projects": list(self.projects),
            "waiting": self.waiting,
            "quotas": _shown(self.quotas),
            "usage": _shown(self.usage),
        }


def _shown(amounts: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int | str]]:
    return {
        owner: {name: quantity(name, amount) for name, amount in sorted(of.items())}
        for owner, of in sorted(amounts.items())
    }


@dataclass(frozen=True, slots=True)
class Observation:
    """What a live source says of a pool: host → resource → whole number of the resource's unit.

    `capacity` is what could be used if the host were empty, `taken` what is used of it, whoever uses it.
    `projects` where the source says who may use the pool; None where it does not tell.
    """

    capacity: Mapping[str, Mapping[str, int]]
    taken: Mapping[str, Mapping[str, int]]
    projects: tuple[str, ...] | None = None
