"""Capacity as OpenStack's Placement says it is: pools are host aggregates."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from rqueue.capacity.source import Source
from rqueue.errors import Invalid, SourceUnavailable, UnknownField

MAX_AGGREGATE = 255
FIELDS = ("aggregate",)


def read(body: Mapping[str, Any]) -> dict[str, Any]:
    """How a pool is found: {"aggregate": name or UUID}. Raises Invalid or UnknownField, naming the field."""
    for field in body:
        if field not in FIELDS:
            raise UnknownField(f"there is no field {field[:40]!r}; there are {', '.join(FIELDS)}", field)
    aggregate = body.get("aggregate")
    if not isinstance(aggregate, str) or not 0 < len(aggregate.strip()) <= MAX_AGGREGATE:
        raise Invalid(f"expected an aggregate's name or UUID of 1 to {MAX_AGGREGATE} characters", "aggregate")
    return {"aggregate": aggregate}


def source() -> AbstractAsyncContextManager[Source]:
    """The cluster, to be entered and asked. Raises SourceUnavailable where it cannot be."""
    raise SourceUnavailable("this build cannot read OpenStack yet")
