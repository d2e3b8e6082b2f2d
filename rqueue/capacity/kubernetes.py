"""Capacity as a Kubernetes cluster says it is: pools are the nodes that a label selector matches."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from rqueue.capacity.source import Source
from rqueue.errors import Invalid, SourceUnavailable, UnknownField

MAX_SELECTOR = 4096
MAX_TOLERATIONS = 100
FIELDS = ("selector", "tolerations")


def read(body: Mapping[str, Any]) -> dict[str, Any]:
    """How a pool is found: {"selector": …, "tolerations": […]}.

    Raises Invalid or UnknownField, naming the field.
    """
    for field in body:
        if field not in FIELDS:
            raise UnknownField(f"there is no field {field[:40]!r}; there are {', '.join(FIELDS)}", field)
    selector, tolerations = body.get("selector"), body.get("tolerations", [])
    if not isinstance(selector, str) or len(selector) > MAX_SELECTOR:
        raise Invalid(f"expected a label selector of at most {MAX_SELECTOR} characters", "selector")
    if not isinstance(tolerations, list) or len(tolerations) > MAX_TOLERATIONS:
        raise Invalid(f"expected a list of at most {MAX_TOLERATIONS} tolerations", "tolerations")
    if not all(isinstance(toleration, Mapping) for toleration in tolerations):
        raise Invalid("expected a map for each toleration", "tolerations")
    return {"selector": selector, "tolerations": [dict(toleration) for toleration in tolerations]}


def source() -> AbstractAsyncContextManager[Source]:
    """The cluster, to be entered and asked. Raises SourceUnavailable where it cannot be."""
    raise SourceUnavailable("this build cannot read Kubernetes yet")
