"""The body of PUT /queues/<type>/pools/<pool>: a pool of whatever source, which one field tells."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rqueue.capacity import declared, kubernetes, openstack
from rqueue.domain.pool import Pool
from rqueue.errors import Invalid

# What a pool of any source may say beside how its hosts are found.
COMMON = ("projects", "quotas")
# The field that tells a live source → its name, and its reader.
LIVE: dict[str, tuple[str, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "aggregate": ("openstack", openstack.read),
    "selector": ("kubernetes", kubernetes.read),
}


def read(name: str, body: Mapping[str, Any]) -> Pool:
    """Read a pool. Raises Invalid, InvalidDemand or UnknownField, naming the field."""
    first, *others = [field for field in ("hosts", *LIVE) if field in body] or ["hosts"]
    if others:
        raise Invalid(f"expected one of hosts, {', '.join(LIVE)}; there is {first} already", others[0])
    if first == "hosts":
        return declared.read(name, body)
    source, reader = LIVE[first]
    common = {field: body[field] for field in COMMON if field in body}
    found_by = reader({field: value for field, value in body.items() if field not in COMMON})
    return replace(declared.read(name, {"hosts": {}, **common}), source=source, found_by=found_by)
